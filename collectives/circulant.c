/* SPDX-License-Identifier: Apache-2.0 */
/* Träff: Optimal Broadcast Schedules in Logarithmic Time with Applications to Broadcast, Reduction,
 * All-Broadcast and All-Reduction, arXiv 2407.18004; Optimal, Non-pipelined Reduce-scatter and
 * Allreduce Algorithms, arXiv 2410.14234. */
#include "collectives/circulant.h"

uint32_t mt_circulant_skips(uint32_t n, uint32_t skip[MT_CIRCULANT_SKIPS])
{
    uint32_t q = 0;
    while ((UINT64_C(1) << q) < n)
        q++;
    skip[q] = n;
    for (uint32_t k = q; k-- > 0;)
        skip[k] = skip[k + 1] - skip[k + 1] / 2;
    return q;
}

void mt_circulant_reduce_scatter(struct mt_plan_builder *p)
{
    const uint32_t n = plan_ranks(p), me = plan_rank(p);
    uint32_t skip[MT_CIRCULANT_SKIPS], q = mt_circulant_skips(n, skip);
    for (uint32_t k = q; k-- > 0;) {
        uint32_t ahead = (me + skip[k]) % n, behind = (me + n - skip[k]) % n;
        uint32_t count = skip[k + 1] - skip[k];
        plan_send(p, ahead, plan_around(p, ahead, count));
        plan_recv_reduce(p, behind, plan_around(p, me, count));
    }
}

void mt_circulant_allgather(struct mt_plan_builder *p)
{
    const uint32_t n = plan_ranks(p), me = plan_rank(p);
    uint32_t skip[MT_CIRCULANT_SKIPS], q = mt_circulant_skips(n, skip);
    for (uint32_t k = 0; k < q; k++) {
        uint32_t ahead = (me + skip[k]) % n, behind = (me + n - skip[k]) % n;
        uint32_t count = skip[k + 1] - skip[k];
        plan_send(p, behind, plan_around(p, me, count));
        plan_recv(p, ahead, plan_around(p, ahead, count));
    }
}

/* The first piece that reaches v: the smallest skip of the greedy sum of skips that is v. */
static uint32_t base_piece(const uint32_t *skip, uint32_t q, uint32_t v)
{
    for (uint32_t k = q; k-- > 0;) {
        if (skip[k] == v)
            return k;
        if (skip[k] < v)
            v -= skip[k];
    }
    return q; /* v is the root */
}

/* v receives one base piece of others in each of q rounds, in round k from a rank that can have
 * that of a rank between v - skip[k + 1] and v - skip[k]. */
struct search {
    const uint32_t *skip;
    uint32_t q, found;
    uint64_t target, below; /* v + n; the rank found last: the next one is nearer to the root */
    uint64_t unused;        /* a bit for each base piece that v has no round for yet */
    uint32_t piece[MT_CIRCULANT_SKIPS];
};

/* Depth first over the sums of ever smaller skips, from `at` on, with those up to the largest'th.
 * */
static void find_pieces(struct search *s, uint64_t at, uint32_t largest)
{
    for (uint32_t e = largest + 1; e-- > 0 && s->found < s->q;) {
        uint64_t to = at + s->skip[e];
        if (!(s->unused >> e & 1) || to > s->target - s->skip[s->found] || to >= s->below)
            continue;
        if (e > 0 && to <= s->target - s->skip[s->found + 1])
            find_pieces(s, to, e - 1);
        if (s->found == s->q || at > s->target - s->skip[s->found + 1])
            return;
        s->below = to;
        s->piece[s->found++] = e;
        s->unused &= ~(UINT64_C(1) << e);
    }
}

/* The first round that would bring the last piece or one beyond it, along this row. */
static uint64_t full_round(const struct mt_circulant *c, uint32_t k, int64_t base)
{
    int64_t missing = (int64_t)c->pieces - 1 - base;
    uint64_t turns = missing > 0 ? ((uint64_t)missing + c->q - 1) / c->q : 0;
    uint64_t round = turns * c->q + k;
    return round < c->first ? round + c->q : round;
}

static void fill_rows(const struct mt_circulant *c, uint32_t v,
                      struct mt_circulant_row rows[MT_CIRCULANT_SKIPS])
{
    uint32_t n = c->skip[c->q], base = base_piece(c->skip, c->q, v);
    struct search s = {.skip = c->skip, .q = c->q, .target = (uint64_t)v + n};
    uint64_t last_round = UINT64_MAX;
    s.below = 2 * (uint64_t)n;
    s.unused = ((UINT64_C(2) << c->q) - 1) & ~(UINT64_C(1) << base);
    find_pieces(&s, 0, c->q);
    for (uint32_t k = 0; k < c->q; k++) {
        /* Its own base piece comes in the first q rounds, the others q pieces later. */
        int64_t piece = s.piece[k] == c->q ? (int64_t)base : (int64_t)s.piece[k] - c->q;
        rows[k].base = piece - c->first;
        uint64_t round = full_round(c, k, rows[k].base);
        last_round = round < last_round ? round : last_round;
    }
    for (uint32_t k = 0; k < c->q; k++)
        rows[k].last_round = last_round;
}

void mt_circulant_schedule(uint32_t n, uint32_t v, uint32_t pieces, struct mt_circulant *out)
{
    struct mt_circulant_row rows[MT_CIRCULANT_SKIPS];
    *out = (struct mt_circulant){.pieces = pieces};
    out->q = mt_circulant_skips(n, out->skip);
    if (!out->q)
        return;
    /* The last round is the last one of a turn through the skips; the first ones do not take place.
     * */
    out->first = (out->q - (pieces - 1) % out->q) % out->q;
    out->end = out->first + pieces - 1 + out->q;
    fill_rows(out, v, out->mine);
    for (uint32_t k = 0; k < out->q; k++) {
        uint32_t to = (uint32_t)(((uint64_t)v + out->skip[k]) % n);
        fill_rows(out, to, rows);
        out->next[k] = rows[k];
        /* The root receives nothing. */
        if (v == 0)
            out->mine[k].base = INT64_MIN / 2;
        if (to == 0)
            out->next[k].base = INT64_MIN / 2;
    }
}

int64_t mt_circulant_piece(const struct mt_circulant *schedule, const struct mt_circulant_row *rows,
                           uint32_t round)
{
    const struct mt_circulant_row *row = &rows[round % schedule->q];
    int64_t piece = row->base + (int64_t)(round - round % schedule->q);
    if (piece < (int64_t)schedule->pieces - 1)
        return piece < 0 ? -1 : piece;
    return round == row->last_round ? (int64_t)schedule->pieces - 1 : -1;
}
