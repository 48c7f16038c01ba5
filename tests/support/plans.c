/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/plans.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <manta/manta.h>

#include "core/dtype.h"

static int rooted(uint32_t collective)
{
    return collective == MANTA_BROADCAST || collective == MANTA_REDUCE;
}

static int paired(uint32_t collective)
{
    return collective == MANTA_SEND || collective == MANTA_RECV;
}

void plans_seat_open(struct plans_seat *seat, const char *text, uint32_t fuses)
{
    uint64_t nodes[128];
    uint32_t ranks = (uint32_t)strcspn(text, "/");
    snprintf(seat->name, sizeof(seat->name), "%s%s", text, fuses ? " fused" : "");
    seat->fuses = fuses;
    for (uint32_t r = 0; r < ranks; r++)
        nodes[r] = (uint64_t)text[r];
    if (mt_topology_of_nodes(ranks, nodes, &seat->topology))
        fail_msg("no memory");
    if (text[ranks] == '\0')
        return;
    assert_int_equal(strlen(text), 2 * (size_t)ranks + 1);
    uint32_t *racks = seat->topology->group[MT_LEVEL_RACK], count = 0;
    for (uint32_t r = 0; r < ranks; r++) {
        uint32_t first = 0;
        while (text[ranks + 1 + first] != text[ranks + 1 + r])
            first++;
        racks[r] = first < r ? racks[first] : count++;
    }
    seat->topology->groups[MT_LEVEL_RACK] = count;
}

void plans_seat_close(struct plans_seat *seat)
{
    mt_topology_free(seat->topology);
}

static struct mt_plan_request request_of(const struct plans_case *what)
{
    return (struct mt_plan_request){.collective = what->algorithm->collective,
                                    .ranks = what->ranks,
                                    .root = what->root,
                                    .in_place = what->places == PLANS_IN_PLACE,
                                    .parameter = what->parameter,
                                    .topology = what->seat ? what->seat->topology : NULL,
                                    .fuses = what->seat ? what->seat->fuses : 0};
}

int plans_next(const struct mt_algorithm *algorithm, uint32_t ranks, const struct plans_seat *seat,
               uint32_t *at, struct plans_case *case_out)
{
    uint32_t collective = algorithm->collective;
    uint32_t one_buffer = paired(collective) || collective == MANTA_BROADCAST;
    uint32_t roots = rooted(collective) ? ranks : paired(collective) ? ranks - 1 : 1;
    uint32_t places = one_buffer ? 1 : collective == MANTA_REDUCE ? 2 : PLANS_PLACES;
    if (ranks < algorithm->ranks_min || *at >= roots * places)
        return 0;
    *case_out = (struct plans_case){algorithm, ranks, *at / places, *at % places, 0, seat};
    case_out->root += paired(collective);
    ++*at;
    const struct mt_plan_request request = request_of(case_out);
    return !algorithm->unfit || !algorithm->unfit(&request);
}

void plans_compile(const struct plans_case *what, struct manta_plan **plans_out)
{
    struct mt_error error = {0};
    struct mt_plan_request request = request_of(what);
    if (mt_plan_compile_all(what->algorithm, &request, plans_out, &error))
        fail_msg("%s", error.sentence);
    for (uint32_t r = 1; what->places == PLANS_MIXED && r < what->ranks; r += 2) {
        mt_plan_free(plans_out[r]);
        request.rank = r;
        request.in_place = 1;
        if (mt_plan_compile(what->algorithm, &request, &plans_out[r], &error))
            fail_msg("%s", error.sentence);
    }
}

void plans_name(const struct plans_case *what, char *text, size_t text_bytes)
{
    static const char *const places[] = {"", " in place", " mixed"};
    char root[24] = "";
    if (rooted(what->algorithm->collective) || paired(what->algorithm->collective))
        snprintf(root, sizeof(root), " root=%u", what->root);
    int used = snprintf(text, text_bytes, "%s/%s n=%u%s%s%s%s",
                        mt_collective_name((int)what->algorithm->collective), what->algorithm->name,
                        what->ranks, root, places[what->places], what->seat ? " " : "",
                        what->seat ? what->seat->name : "");
    if (what->parameter && (size_t)used < text_bytes)
        snprintf(text + used, text_bytes - (size_t)used, " parameter=%u", what->parameter);
}

/* The executor. A step is waiting, issued, seen (its operands have been read; a receive has spoilt
 * its target, as a message may arrive at any time) and complete. */
enum { WAITING, ISSUED, SEEN, COMPLETE };

struct player {
    const struct manta_plan *plan;
    uint64_t *src, *dst, *scratch; /* in place: src == dst */
    uint32_t *region_first;
    uint8_t *states;
    uint64_t **operands; /* of each step, once seen */
    uint32_t *outstanding;
    uint32_t outstanding_count, complete;
    uint32_t *heads; /* of each lane */
};

struct play {
    struct player *players;
    uint32_t ranks, window, collective;
    uint64_t seed, random;
};

static uint64_t draw(uint64_t *state)
{
    uint64_t x = *state += UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
    return x ^ x >> 31;
}

/* Sums tell how often each input was counted; a barrier's token is one bit for each rank. */
static uint64_t input(const struct play *play, uint32_t rank, uint32_t block)
{
    uint64_t state = play->seed ^ (uint64_t)rank << 32 ^ block;
    if (play->collective == MANTA_BARRIER)
        return UINT64_C(1) << rank;
    return draw(&state);
}

static uint64_t combine(const struct play *play, uint64_t x, uint64_t y)
{
    return play->collective == MANTA_BARRIER ? x | y : x + y;
}

static uint64_t *place(struct player *player, const struct manta_plan_location *at)
{
    if (at->buffer == MANTA_PLAN_SRC)
        return player->src + at->first;
    if (at->buffer == MANTA_PLAN_DST)
        return player->dst + at->first;
    return player->scratch + player->region_first[at->region] + at->first - at->origin;
}

static const struct manta_plan_fused_member *own_member(const struct player *player, uint32_t step)
{
    const struct manta_plan_fused *fused = &player->plan->fused[player->plan->steps[step].number];
    for (uint32_t i = 0; i < fused->member_count; i++)
        if (fused->members[i].rank == player->plan->rank)
            return &fused->members[i];
    return NULL;
}

/* The partner of a message, or of a fused step the step of the same number; NONE if there is none.
 */
static uint32_t counterpart(const struct play *play, const struct player *mine, uint32_t step,
                            uint32_t peer)
{
    const struct manta_plan_step *at = &mine->plan->steps[step];
    const struct manta_plan *plan = play->players[peer].plan;
    uint16_t kind = at->kind == MANTA_PLAN_FUSED  ? MANTA_PLAN_FUSED
                    : at->kind == MANTA_PLAN_SEND ? MANTA_PLAN_RECV
                                                  : MANTA_PLAN_SEND;
    for (uint32_t s = 0; plan && s < plan->step_count; s++)
        if (plan->steps[s].kind == kind && plan->steps[s].number == at->number &&
            (kind == MANTA_PLAN_FUSED || plan->steps[s].peer == mine->plan->rank))
            return s;
    return MANTA_PLAN_NONE;
}

static int fits_window(const struct play *play, const struct player *player, uint32_t lane)
{
    uint32_t used = 0;
    for (uint32_t i = 0; i < player->outstanding_count; i++)
        used += player->plan->steps[player->outstanding[i]].lane == lane;
    return used < play->window;
}

static int try_issue(struct play *play, struct player *player, uint32_t lane)
{
    const struct manta_plan *plan = player->plan;
    uint32_t *head = &player->heads[lane];
    while (*head < plan->step_count && plan->steps[*head].lane != lane)
        ++*head;
    if (*head == plan->step_count || !fits_window(play, player, lane))
        return 0;
    const struct manta_plan_step *step = &plan->steps[*head];
    for (uint32_t i = 0; i < step->depend_count; i++)
        if (player->states[plan->depends[step->depend_first + i]] != COMPLETE)
            return 0;
    player->states[*head] = ISSUED;
    player->outstanding[player->outstanding_count++] = (*head)++;
    return 1;
}

static void see(struct play *play, struct player *player, uint32_t step)
{
    const struct manta_plan *plan = player->plan;
    const struct manta_plan_step *at = &plan->steps[step];
    const struct manta_plan_location *location = plan->locations + at->location_first;
    uint64_t *operands =
        calloc((size_t)plan->blocks * (MANTA_PLAN_LOCATIONS + 1), sizeof(*operands));
    uint64_t *next = player->operands[step] = operands;
    player->states[step] = SEEN;
    if (at->kind == MANTA_PLAN_FUSED) {
        const struct manta_plan_fused_member *me = own_member(player, step);
        if (me->read_count)
            memcpy(operands, place(player, location), me->read_count * sizeof(*operands));
        return;
    }
    for (uint32_t i = 0; i < at->location_count; i++) {
        uint64_t *blocks = place(player, &location[i]);
        for (uint32_t k = 0; k < location[i].count; k++) {
            if (at->kind == MANTA_PLAN_RECV)
                blocks[k] = draw(&play->random);
            else if (at->kind == MANTA_PLAN_SEND || i > 0)
                *next++ = blocks[k];
        }
    }
}

static void write_local(struct play *play, struct player *player, uint32_t step)
{
    const struct manta_plan_step *at = &player->plan->steps[step];
    const struct manta_plan_location *target = player->plan->locations + at->location_first;
    const uint64_t *left = player->operands[step], *right = left + target->count;
    uint64_t *blocks = place(player, target);
    for (uint32_t k = 0; k < target->count; k++)
        blocks[k] = at->kind == MANTA_PLAN_COPY ? left[k] : combine(play, left[k], right[k]);
}

static void write_message(struct player *player, uint32_t step, const uint64_t *data)
{
    const struct manta_plan_step *at = &player->plan->steps[step];
    for (uint32_t i = 0; i < at->location_count; i++) {
        const struct manta_plan_location *to = &player->plan->locations[at->location_first + i];
        memcpy(place(player, to), data, to->count * sizeof(*data));
        data += to->count;
    }
}

static void write_fused(struct play *play, struct player *player, uint32_t step)
{
    const struct manta_plan_fused *fused = &player->plan->fused[player->plan->steps[step].number];
    const struct manta_plan_fused_member *me = own_member(player, step);
    const struct manta_plan_location *at =
        player->plan->locations + player->plan->steps[step].location_first + (me->read_count > 0);
    uint64_t *written = me->write_count ? place(player, at) : NULL;
    for (uint32_t b = me->write_first; b < me->write_first + me->write_count; b++) {
        uint64_t sum = 0;
        for (uint32_t i = 0; i < fused->member_count; i++) {
            const struct manta_plan_fused_member *from = &fused->members[i];
            struct player *theirs = &play->players[from->rank];
            if (b >= from->read_first && b - from->read_first < from->read_count)
                sum = combine(play, sum,
                              theirs->operands[counterpart(play, player, step, from->rank)]
                                              [b - from->read_first]);
        }
        *written++ = sum;
    }
}

/* May the step complete? Messages wait for each other, fused steps for all members. */
static int met(struct play *play, struct player *player, uint32_t step)
{
    const struct manta_plan_step *at = &player->plan->steps[step];
    if (at->kind == MANTA_PLAN_SEND || at->kind == MANTA_PLAN_RECV) {
        uint32_t other = counterpart(play, player, step, at->peer);
        return other != MANTA_PLAN_NONE && play->players[at->peer].states[other] >= SEEN;
    }
    if (at->kind != MANTA_PLAN_FUSED)
        return 1;
    const struct manta_plan_fused *fused = &player->plan->fused[at->number];
    for (uint32_t i = 0; i < fused->member_count; i++) {
        uint32_t other = counterpart(play, player, step, fused->members[i].rank);
        if (other == MANTA_PLAN_NONE || play->players[fused->members[i].rank].states[other] < SEEN)
            return 0;
    }
    return 1;
}

/* Move an outstanding step on by one state. */
static int try_advance(struct play *play, struct player *player, uint32_t index)
{
    uint32_t step = player->outstanding[index];
    const struct manta_plan_step *at = &player->plan->steps[step];
    if (player->states[step] == ISSUED) {
        see(play, player, step);
        return 1;
    }
    if (!met(play, player, step))
        return 0;
    if (at->kind == MANTA_PLAN_RECV) {
        uint32_t send = counterpart(play, player, step, at->peer);
        write_message(player, step, play->players[at->peer].operands[send]);
    } else if (at->kind == MANTA_PLAN_FUSED) {
        write_fused(play, player, step);
    } else if (at->kind != MANTA_PLAN_SEND) {
        write_local(play, player, step);
    }
    player->states[step] = COMPLETE;
    player->complete++;
    player->outstanding[index] = player->outstanding[--player->outstanding_count];
    return 1;
}

static int try_anything(struct play *play, struct player *player)
{
    for (uint32_t lane = 0; player->plan && lane < player->plan->lanes; lane++)
        if (try_issue(play, player, lane))
            return 1;
    for (uint32_t i = 0; i < player->outstanding_count; i++)
        if (try_advance(play, player, i))
            return 1;
    return 0;
}

/* One random move; 0 when no move is left to anybody. */
static int move(struct play *play)
{
    for (int tries = 0; tries < 8; tries++) {
        struct player *player = &play->players[draw(&play->random) % play->ranks];
        uint32_t choices = player->plan ? player->plan->lanes + player->outstanding_count : 0;
        uint32_t choice = choices ? (uint32_t)(draw(&play->random) % choices) : 0;
        if (choices && choice < player->plan->lanes && try_issue(play, player, choice))
            return 1;
        if (choices && choice >= player->plan->lanes &&
            try_advance(play, player, choice - player->plan->lanes))
            return 1;
    }
    uint32_t first = (uint32_t)(draw(&play->random) % play->ranks);
    for (uint32_t i = 0; i < play->ranks; i++)
        if (try_anything(play, &play->players[(first + i) % play->ranks]))
            return 1;
    return 0;
}

static void open_player(struct play *play, uint32_t rank, const struct manta_plan *plan)
{
    struct player *player = &play->players[rank];
    uint32_t scratch = 0;
    player->plan = plan;
    if (!plan)
        return;
    player->region_first = calloc(plan->region_count + 1, sizeof(uint32_t));
    for (uint32_t i = 0; i < plan->region_count; i++) {
        player->region_first[i] = scratch;
        scratch += plan->regions[i].block_count;
    }
    player->dst = calloc(plan->blocks, sizeof(uint64_t));
    player->src = plan->in_place ? player->dst : calloc(plan->blocks, sizeof(uint64_t));
    player->scratch = calloc(scratch + 1, sizeof(uint64_t));
    player->states = calloc(plan->step_count + 1, 1);
    player->operands = calloc(plan->step_count + 1, sizeof(uint64_t *));
    player->outstanding = calloc(plan->step_count + 1, sizeof(uint32_t));
    player->heads = calloc(plan->lanes, sizeof(uint32_t));
    for (uint32_t i = 0; i < scratch; i++)
        player->scratch[i] = draw(&play->random);
    for (uint32_t b = 0; b < plan->blocks; b++) {
        int root_holds = plan->collective == MANTA_BROADCAST && rank == plan->root;
        player->dst[b] = root_holds ? input(play, rank, b) : draw(&play->random);
        if (mt_plan_owns_src(plan, b))
            player->src[b] = input(play, rank, b);
    }
}

static void close_player(struct player *player)
{
    for (uint32_t s = 0; player->plan && s < player->plan->step_count; s++)
        free(player->operands[s]);
    if (player->src != player->dst)
        free(player->src);
    free(player->dst);
    free(player->scratch);
    free(player->region_first);
    free(player->states);
    free(player->operands);
    free(player->outstanding);
    free(player->heads);
}

static uint64_t expected(const struct play *play, const struct manta_plan *plan, uint32_t block)
{
    uint64_t sum = 0;
    if (plan->collective == MANTA_BROADCAST || plan->collective == MANTA_RECV)
        return input(play, plan->root, block);
    if (plan->collective == MANTA_ALLGATHER)
        return input(play, block / (plan->blocks / plan->ranks), block);
    for (uint32_t r = 0; r < play->ranks; r++)
        sum = combine(play, sum, input(play, r, block));
    return sum;
}

static int check(struct play *play, char *why, size_t why_bytes)
{
    for (uint32_t r = 0; r < play->ranks; r++) {
        const struct player *player = &play->players[r];
        const struct manta_plan *plan = player->plan;
        if (plan && player->complete != plan->step_count) {
            snprintf(why, why_bytes, "rank %u is stuck after %u of %u steps", r, player->complete,
                     plan->step_count);
            return -1;
        }
        for (uint32_t b = 0; plan && b < plan->blocks; b++) {
            if (!mt_plan_owns_dst(plan, b) || player->dst[b] == expected(play, plan, b))
                continue;
            snprintf(why, why_bytes, "rank %u has a wrong block %u", r, b);
            return -1;
        }
    }
    return 0;
}

int plans_execute(const struct manta_plan *const *plans, uint32_t ranks, uint64_t seed, char *why,
                  size_t why_bytes)
{
    static const uint32_t windows[] = {MANTA_PLAN_WINDOW, 3, 8, UINT32_MAX};
    struct play play = {.ranks = ranks, .seed = seed, .random = seed};
    play.players = calloc(ranks, sizeof(*play.players));
    for (uint32_t r = 0; r < ranks; r++)
        play.collective = plans[r] ? plans[r]->collective : play.collective;
    play.window = windows[draw(&play.random) % 4];
    for (uint32_t r = 0; r < ranks; r++)
        open_player(&play, r, plans[r]);
    while (move(&play))
        continue;
    int rc = check(&play, why, why_bytes);
    for (uint32_t r = 0; r < ranks; r++)
        close_player(&play.players[r]);
    free(play.players);
    return rc;
}
