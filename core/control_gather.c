/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The exchange: each rank's piece runs down a binomial tree of the ring of its own. A piece at
 * distance d from its origin goes on to d + 2^k for every 2^k above d; each distance is reached
 * once, from d without its highest bit, after log2(ranks) hops. The service thread passes pieces on
 * whether or not its rank has entered the exchange.
 */
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "core/control_impl.h"
#include "core/control_verdict.h"
#include "core/log.h"
#include "core/notice.h"
#include "core/ranks.h"

/* Pieces go from rank to rank, and the goodbye or the abort of a rank for which the exchange has
 * ended may overtake them; a goodbye by as much as a busy host keeps a rank in between from its
 * CPU. An abort is known to all within a second. */
#define LEAVERS_PIECE_NS (2 * MT_SECOND)
#define ABORTERS_PIECE_NS (500 * (uint64_t)MT_MS)

int mt_gather_init(struct mt_control *control)
{
    for (int i = 0; i < 2; i++) {
        struct mt_gather *gather = &control->gathers[i];
        gather->serial = (uint64_t)i;
        gather->pieces = calloc(control->group->ranks, sizeof *gather->pieces);
        gather->piece_bytes = calloc(control->group->ranks, sizeof *gather->piece_bytes);
        if (!gather->pieces || !gather->piece_bytes)
            return MANTA_ENOMEM;
    }
    return 0;
}

static void free_pieces(struct mt_gather *gather, uint32_t ranks)
{
    for (uint32_t r = 0; gather->pieces && r < ranks; r++) {
        free(gather->pieces[r]);
        gather->pieces[r] = NULL;
    }
    gather->have = 0;
}

void mt_gather_clear(struct mt_control *control)
{
    for (int i = 0; i < 2; i++) {
        free_pieces(&control->gathers[i], control->group->ranks);
        free(control->gathers[i].pieces);
        free(control->gathers[i].piece_bytes);
        control->gathers[i].pieces = NULL;
    }
}

static void pass_on(struct mt_control *control, const struct mt_wire_frame *frame,
                    const uint8_t *payload)
{
    uint32_t ranks = control->group->ranks, rank = control->group->rank;
    uint32_t distance = (rank + ranks - frame->origin) % ranks;
    for (uint32_t hop = 1; hop < ranks; hop *= 2) {
        if (hop <= distance || distance + hop >= ranks)
            continue;
        int32_t index = control->neighbour_of[(rank + hop) % ranks];
        if (index != MT_NOBODY)
            mt_control_send(control, &control->neighbours[index].link, frame, payload);
    }
}

static int keep(struct mt_control *control, const struct mt_wire_frame *frame,
                const uint8_t *payload)
{
    struct mt_gather *gather = &control->gathers[frame->serial & 1];
    if (gather->serial != frame->serial || gather->pieces[frame->origin])
        return MANTA_EINVAL;
    uint8_t *piece = malloc(frame->bytes + 1);
    if (!piece)
        return MANTA_ENOMEM;
    if (frame->bytes)
        memcpy(piece, payload, frame->bytes);
    gather->pieces[frame->origin] = piece;
    gather->piece_bytes[frame->origin] = frame->bytes;
    gather->have++;
    mt_service_signal();
    pass_on(control, frame, payload);
    return 0;
}

void mt_gather_received(struct mt_control *control, const struct mt_wire_frame *frame,
                        const uint8_t *payload)
{
    struct mt_error error;
    int rc = keep(control, frame, payload);
    if (rc == 0)
        return;
    if (rc == MANTA_ENOMEM)
        mt_error_set_rank(&error, rc, (int)control->group->rank,
                          "rank %u has no memory for rank %u's piece of an exchange",
                          control->group->rank, frame->origin);
    else
        mt_error_set_rank(&error, MANTA_EINTERNAL, (int)frame->origin,
                          "rank %u's piece of exchange %llu does not fit on rank %u", frame->origin,
                          (unsigned long long)frame->serial, control->group->rank);
    mt_control_fail_locked(control, &error);
}

/* The lowest rank whose piece will not come because it has left, or MT_NOBODY. */
static int find_departed(const struct mt_control *control, const struct mt_gather *gather)
{
    if (mt_control_departures(control) == 0)
        return MT_NOBODY;
    for (uint32_t r = 0; r < control->group->ranks; r++)
        if (gather->pieces[r] == NULL && mt_control_has_left(control, r))
            return (int)r;
    return MT_NOBODY;
}

static int find_missing(struct mt_control *control, const struct mt_gather *gather, char *who,
                        size_t who_bytes)
{
    uint32_t ranks = control->group->ranks;
    for (uint32_t r = 0; r < ranks; r++)
        control->marked[r] = gather->pieces[r] == NULL;
    int lowest = mt_ranks_describe(control->marked, ranks, who, who_bytes);
    memset(control->marked, 0, ranks);
    return lowest;
}

static void word_missing(struct mt_control *control, const struct mt_gather *gather,
                         struct mt_error *error)
{
    char who[160];
    int lowest = find_missing(control, gather, who, sizeof who);
    mt_error_set_rank(error, MANTA_ETIMEOUT, lowest,
                      "%s did not come to the exchange in which the communicator is set up; "
                      "all ranks must create it, in the same order",
                      who);
}

static void word_departed(const struct mt_control *control, const struct mt_call *call, int rank,
                          struct mt_error *error)
{
    if (call)
        mt_verdict_left(control, call, (uint32_t)rank, error);
    else
        mt_error_set_rank(error, MANTA_ELEFT, rank,
                          "rank %d gave up while the communicator was set up; see its own error",
                          rank);
}

/* A rank that aborts what is not whole here, or destroys it with calls under way, may have had all
 * pieces. */
static int is_after_the_last_piece(const struct mt_control *control)
{
    const struct mt_error *failure = &control->failure;
    return (failure->code == MANTA_EABORTED || failure->code == MANTA_ELEFT) &&
           failure->rank != (int)control->group->rank;
}

/* If it had, they come here, too, and the failure counts from the first call on, as it does there.
 */
static void wait_for_those_under_way(struct mt_control *control, const struct mt_gather *gather)
{
    uint64_t until_ns = mt_clock_now_ns() + ABORTERS_PIECE_NS;
    if (control->is_made || !is_after_the_last_piece(control))
        return;
    while (gather->have < control->group->ranks && mt_clock_now_ns() < until_ns)
        mt_service_wait(until_ns);
}

/* The lowest of those that are here speaks for all. */
static int is_speaker(const struct mt_control *control, const struct mt_gather *gather)
{
    uint32_t r = 0;
    while (r < control->group->rank && gather->pieces[r] == NULL)
        r++;
    return r == control->group->rank;
}

/* Lock held; it is given up to log. */
static void warn_of_missing(struct mt_control *control, const struct mt_gather *gather,
                            const struct mt_notice *notice)
{
    char who[160], whom[224];
    if (!is_speaker(control, gather))
        return;
    find_missing(control, gather, who, sizeof who);
    snprintf(whom, sizeof whom, "%s in the exchange in which the communicator is set up", who);
    mt_notice_log(control->group->rank, whom, notice->last_ns - notice->since_ns,
                  control->group->timeout_ns, "each is stopped, or its host is silent or slow");
}

/* Lock held; it is given up to log. Say on whom we wait, when it is time. 1 if it was. */
static int warn(struct mt_control *control, const struct mt_gather *gather,
                const struct mt_call *call, struct mt_notice *notice)
{
    char whom[MT_WHOM_TEXT];
    uint64_t from_ns = notice->last_ns;
    if (call && mt_control_whom(control, call, whom)) {
        mt_service_unlock();
        mt_log(MT_LOG_WARN, (int)control->group->rank, "%s", whom);
        mt_service_lock();
        return 1;
    }
    if (!mt_notice_is_due(notice, mt_clock_now_ns()))
        return 0;
    if (call)
        mt_control_stuck(control, call, from_ns);
    else
        warn_of_missing(control, gather, notice);
    return 1;
}

/* Lock held. Until all pieces are here, or the group has failed. */
static int wait_for_pieces(struct mt_control *control, const struct mt_gather *gather,
                           const struct mt_exchange *exchange, struct mt_error *error)
{
    const struct mt_call *call = exchange->call;
    uint64_t deadline_ns = exchange->deadline_ns;
    struct mt_notice notice = mt_notice_begin(mt_clock_now_ns(), control->group->warn_ns);
    uint64_t grace_ns = 0; /* until when the piece of one that has left may come */
    while (gather->have < control->group->ranks && !mt_control_failed(control)) {
        int departed = find_departed(control, gather);
        uint64_t now_ns = mt_clock_now_ns();
        int is_late = now_ns >= deadline_ns;
        if (departed == MT_NOBODY)
            grace_ns = 0;
        else if (grace_ns == 0)
            grace_ns = now_ns + LEAVERS_PIECE_NS;
        if (grace_ns != 0 && (now_ns >= grace_ns || is_late)) {
            word_departed(control, call, departed, error);
            mt_control_fail_locked(control, error);
        } else if (is_late && call) {
            mt_inquire_timeout(control, call);
        } else if (is_late) {
            word_missing(control, gather, error);
            mt_control_fail_locked(control, error);
        } else if (!warn(control, gather, call, &notice)) {
            uint64_t until_ns = grace_ns && grace_ns < deadline_ns ? grace_ns : deadline_ns;
            mt_service_wait(mt_notice_until(&notice, until_ns));
        }
    }
    if (mt_control_failed(control))
        wait_for_those_under_way(control, gather);
    if (gather->have == control->group->ranks)
        return 0;
    mt_control_failure(control, error);
    return error->code;
}

/* All pieces are here: lay them out in one block. */
static int hand_over(const struct mt_gather *gather, uint32_t ranks, struct mt_exchange *exchange)
{
    size_t total = 1, at = 0;
    for (uint32_t r = 0; r < ranks; r++)
        total += ((size_t)gather->piece_bytes[r] + 15) / 16 * 16;
    uint8_t *storage = aligned_alloc(16, (total + 15) / 16 * 16);
    if (!storage)
        return MANTA_ENOMEM;
    for (uint32_t r = 0; r < ranks; r++) {
        memcpy(storage + at, gather->pieces[r], gather->piece_bytes[r]);
        exchange->parts[r] = storage + at;
        exchange->part_bytes[r] = gather->piece_bytes[r];
        at += (exchange->part_bytes[r] + 15) / 16 * 16;
    }
    exchange->storage = storage;
    return 0;
}

int mt_control_allgather(struct mt_control *control, struct mt_exchange *exchange,
                         struct mt_error *error)
{
    uint32_t ranks = control->group->ranks;
    size_t bytes = exchange->mine_bytes;
    exchange->storage = NULL;
    if (bytes > MT_PIECE_MAX)
        return mt_error_set(error, MANTA_EINVAL, "an exchange takes at most %d bytes from a rank",
                            MT_PIECE_MAX);
    mt_service_lock();
    struct mt_gather *gather = &control->gathers[control->gather_serial & 1];
    struct mt_wire_frame frame = {.bytes = (uint32_t)bytes,
                                  .type = MT_WIRE_PIECE,
                                  .origin = control->group->rank,
                                  .serial = control->gather_serial++};
    int rc = keep(control, &frame, exchange->mine);
    if (rc)
        mt_error_set(error, rc, "no memory for an exchange of %zu bytes", bytes);
    else
        rc = wait_for_pieces(control, gather, exchange, error);
    if (rc == 0 && hand_over(gather, ranks, exchange))
        rc = mt_error_set(error, MANTA_ENOMEM, "no memory for an exchange of %zu bytes", bytes);
    free_pieces(gather, ranks);
    gather->serial += 2;
    mt_service_unlock();
    return rc;
}
