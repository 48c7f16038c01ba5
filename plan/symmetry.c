/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ranks that do the same at the same times need to be simulated once. Groups of the highest level
 * that has an uplink (nodes at least) are compared as wholes, rank by rank in their order, because
 * their ranks share links. A rank's colour is a hash of what it does: its steps, their bytes, the
 * levels that its messages cross and where it sits in its group; then, again and again, of the
 * colours of its group and of its messages' other ends, until no more groups are told apart. Two
 * groups of one colour then send and receive, step by step, to and from groups of one colour.
 * Weisfeiler, Leman: The reduction of a graph to canonical form, 1968.
 *
 * Events of one time are in the order of kinds and ranks. That order is the same in groups of one
 * colour as long as nothing comes from another group without taking time: alpha and the core's work
 * must not be zero.
 */
#include <stdlib.h>
#include <string.h>

#include <manta/manta.h>

#include "plan/contribution.h"
#include "plan/simulating.h"

enum { ROUNDS_MOST = 64 };

struct symmetry {
    struct mt_simulating *s;
    const uint32_t *group; /* of each rank, at the level that is compared */
    uint32_t groups;
    uint32_t *index;                 /* [ranks] place within the group */
    uint32_t *lowest;                /* [groups] its first rank */
    uint64_t *colour, *next, *mixed; /* [ranks], [ranks], [groups] */
};

static uint64_t add(uint64_t hash, uint64_t word)
{
    return mt_contribution_mix(hash ^ mt_contribution_mix(word));
}

static uint64_t own_colour(const struct symmetry *y, uint32_t rank)
{
    const struct mt_simulating *s = y->s;
    const struct manta_plan *plan = s->what->plans[rank];
    const struct mt_topology *topology = s->what->model->topology;
    struct mt_simulate_at at = {rank, 0, 0};
    uint64_t hash = add(y->index[rank], plan ? plan->step_count : UINT64_MAX);
    for (int level = 0; level < MT_LEVELS; level++)
        if (s->links.up[level]) /* where the group's first rank is, within the one compared */
            hash = add(hash, topology->group[level][rank] -
                                 topology->group[level][y->lowest[y->group[rank]]]);
    for (; plan && at.step < plan->step_count; at.step++) {
        const struct manta_plan_step *step = &plan->steps[at.step];
        const struct mt_transfer *moves = &s->transfers[s->match.first[rank] + at.step];
        struct mt_simulate_at last = {rank, s->simulated - 1, at.step};
        int local = step->kind != MANTA_PLAN_RECV && step->kind != MANTA_PLAN_FUSED;
        hash = add(hash, (uint64_t)step->kind << 32 | (uint64_t)step->lane << 8 | moves->meet);
        hash = add(hash, moves->bytes);
        hash = add(hash, local ? mt_transfers_bytes(s, &last) : step->number);
        for (uint32_t i = 0; i < step->depend_count; i++)
            hash = add(hash, plan->depends[step->depend_first + i]);
        const struct manta_plan_fused *fused =
            step->kind == MANTA_PLAN_FUSED ? &plan->fused[step->number] : NULL;
        for (uint32_t i = 0; fused && i < fused->member_count; i++) {
            const struct manta_plan_fused_member *m = &fused->members[i];
            hash = add(hash, (uint64_t)y->index[m->rank] << 32 | m->read_count);
            hash = add(hash, m->write_count);
        }
    }
    return hash;
}

static int compare_words(const void *a, const void *b)
{
    const uint64_t *x = a, *y = b;
    return *x < *y ? -1 : *x > *y;
}

/* The colours of groups, and how many there are. sorted: room for [groups]. */
static uint32_t mix_groups(struct symmetry *y, uint64_t *sorted)
{
    uint32_t distinct = 1;
    memset(y->mixed, 0, y->groups * sizeof(*y->mixed));
    for (uint32_t r = 0; r < y->s->what->ranks; r++)
        y->mixed[y->group[r]] = add(y->mixed[y->group[r]], y->colour[r]);
    memcpy(sorted, y->mixed, y->groups * sizeof(*sorted));
    qsort(sorted, y->groups, sizeof(*sorted), compare_words);
    for (uint32_t i = 1; i < y->groups; i++)
        distinct += sorted[i] != sorted[i - 1];
    return distinct;
}

/* What a rank's messages come from and go to. */
static void look_around(struct symmetry *y)
{
    const struct mt_simulating *s = y->s;
    for (uint32_t r = 0; r < s->what->ranks; r++)
        y->colour[r] = add(y->colour[r], y->mixed[y->group[r]]);
    for (uint32_t r = 0; r < s->what->ranks; r++) {
        const struct manta_plan *plan = s->what->plans[r];
        const struct mt_transfer *moves = &s->transfers[s->match.first[r]];
        uint64_t hash = y->colour[r];
        for (uint32_t i = 0; plan && i < plan->step_count; i++)
            if (plan->steps[i].kind <= MANTA_PLAN_RECV)
                hash = add(add(hash, y->colour[moves[i].peer]), moves[i].partner);
        y->next[r] = hash;
    }
    memcpy(y->colour, y->next, s->what->ranks * sizeof(*y->colour));
}

/* Each rank as the one in its place in the lowest group of its colour. */
static void choose(struct symmetry *y, uint64_t *colours, uint32_t *firsts)
{
    struct mt_simulating *s = y->s;
    uint32_t count = 0;
    for (uint32_t g = 0; g < y->groups; g++) {
        uint32_t i = 0;
        while (i < count && colours[i] != y->mixed[g])
            i++;
        if (i == count) {
            colours[count] = y->mixed[g];
            firsts[count++] = g;
        }
        y->mixed[g] = firsts[i];
    }
    uint32_t *nth = y->index; /* ranks of the first groups, by group and place */
    for (uint32_t r = 0; r < s->what->ranks; r++) {
        uint32_t first = (uint32_t)y->mixed[y->group[r]], at = y->lowest[first];
        for (uint32_t skip = nth[r]; y->group[at] != first || skip > 0; at++)
            skip -= y->group[at] == first;
        s->as[r] = at;
    }
}

static int everything_takes_time(const struct mt_topology *topology)
{
    for (int level = 0; level < MT_LEVELS; level++)
        if (!topology->links[level].alpha_ns || !topology->links[level].core_ns)
            return 0;
    return 1;
}

static int open_symmetry(struct symmetry *y)
{
    uint32_t ranks = y->s->what->ranks;
    y->index = calloc(ranks, sizeof(*y->index));
    y->lowest = malloc(y->groups * sizeof(*y->lowest));
    y->colour = calloc((size_t)ranks * 2, sizeof(*y->colour));
    y->mixed = calloc((size_t)y->groups * 2, sizeof(*y->mixed));
    if (!y->index || !y->lowest || !y->colour || !y->mixed)
        return MANTA_ENOMEM;
    y->next = y->colour + ranks;
    uint64_t *sizes = y->mixed; /* for now */
    for (uint32_t r = 0; r < ranks; r++) {
        y->index[r] = (uint32_t)sizes[y->group[r]]++;
        if (y->index[r] == 0)
            y->lowest[y->group[r]] = r;
    }
    for (uint32_t r = 0; r < ranks; r++)
        y->colour[r] = own_colour(y, r);
    return 0;
}

int mt_symmetry_find(struct mt_simulating *s)
{
    const struct mt_topology *topology = s->what->model->topology;
    int level = MT_LEVEL_CLUSTER;
    while (level > MT_LEVEL_NODE && !s->links.up[level])
        level--;
    struct symmetry y = {
        .s = s, .group = topology->group[level], .groups = topology->groups[level]};
    uint32_t distinct = 0, before = UINT32_MAX;
    if (s->what->ranks < topology->ranks || !everything_takes_time(topology))
        return 0;
    uint32_t *firsts = malloc(y.groups * sizeof(*firsts));
    int rc = firsts ? open_symmetry(&y) : MANTA_ENOMEM;
    for (int round = 0; !rc && round < ROUNDS_MOST && distinct != before; round++) {
        before = distinct;
        distinct = mix_groups(&y, y.mixed + y.groups);
        look_around(&y);
    }
    int folds = !rc && distinct == before && distinct < y.groups;
    if (folds) {
        s->as = malloc(s->what->ranks * sizeof(*s->as));
        rc = s->as ? 0 : MANTA_ENOMEM;
    }
    if (folds && !rc)
        choose(&y, y.mixed + y.groups, firsts);
    free(firsts);
    free(y.index);
    free(y.lowest);
    free(y.colour);
    free(y.mixed);
    return rc;
}
