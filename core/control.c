/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Flooding, failure and goodbye. A message is flooded over the links; each rank passes on what it
 * sees for the first time, known by (origin, serial). Links keep order and every rank passes on in
 * the order of arrival, so an origin's messages arrive everywhere in the order they were sent, and
 * the last serial seen is all there is to remember.
 */
#include "core/control.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/control_impl.h"
#include "core/control_verdict.h"

#define SUSPECT_NS (3 * MT_SECOND)

int mt_control_failed(const struct mt_control *control)
{
    return atomic_load_explicit(&control->failed, memory_order_acquire);
}

const _Atomic int *mt_control_flag(const struct mt_control *control)
{
    return &control->failed;
}

void mt_control_failure(const struct mt_control *control, struct mt_error *error_out)
{
    memset(error_out, 0, sizeof *error_out);
    error_out->rank = -1;
    if (mt_control_failed(control)) /* written once, before `failed` */
        *error_out = control->failure;
}

int mt_control_wake_fd(const struct mt_control *control)
{
    return control->wake_fd;
}

uint32_t mt_control_departures(const struct mt_control *control)
{
    return atomic_load_explicit(&control->departures, memory_order_relaxed);
}

int mt_control_left(const struct mt_control *control, uint32_t rank, uint64_t *sequence_out)
{
    int left = mt_control_has_left(control, rank);
    if (left && sequence_out)
        *sequence_out = control->left_after[rank];
    return left;
}

int mt_control_has_left(const struct mt_control *control, uint32_t rank)
{
    return atomic_load_explicit(&control->left[rank], memory_order_acquire);
}

void mt_control_set_record(struct mt_control *control, const struct mt_record *record)
{
    mt_service_lock();
    control->record = record;
    mt_deadlines_watch(control);
    mt_service_unlock();
}

void mt_control_departed(struct mt_control *control, const struct mt_call *call, uint32_t rank)
{
    struct mt_error error;
    mt_verdict_left(control, call, rank, &error);
    mt_control_fail(control, &error);
}

static void word_no_memory(const struct mt_control *control, const struct mt_link *link,
                           struct mt_error *error)
{
    const struct mt_neighbour *neighbour = link->arg;
    mt_error_set_rank(error, MANTA_ENOMEM, (int)control->group->rank,
                      "rank %u has no memory for what it and rank %u have to tell each other",
                      control->group->rank, neighbour->rank);
}

void mt_control_send(struct mt_control *control, struct mt_link *link,
                     const struct mt_wire_frame *frame, const void *payload)
{
    struct mt_error error;
    if (mt_link_send(link, frame, payload) != MANTA_ENOMEM || control->is_leaving)
        return;
    if (mt_control_failed(control)) { /* not even for the failure */
        mt_link_break(link);
        return;
    }
    word_no_memory(control, link, &error);
    mt_control_fail_locked(control, &error);
}

/* A question from which nothing comes is not worth putting off a verdict: see
 * mt_control_is_silent(). */
static int only_tells(const struct mt_wire_frame *frame, const void *payload)
{
    struct mt_query query;
    return frame->type == MT_WIRE_QUERY && mt_query_decode(payload, frame->bytes, &query) == 0 &&
           query.use == MT_QUERY_TELLS;
}

static void send_to_all(struct mt_control *control, const struct mt_wire_frame *frame,
                        const void *payload, const struct mt_link *but)
{
    int is_spared = only_tells(frame, payload);
    for (uint32_t i = 0; i < control->neighbour_count; i++) {
        struct mt_neighbour *neighbour = &control->neighbours[i];
        int is_in_vain = is_spared && mt_control_is_silent(neighbour);
        if (&neighbour->link != but && !is_in_vain)
            mt_control_send(control, &neighbour->link, frame, payload);
    }
}

void mt_control_flood_frame(struct mt_control *control, const struct mt_wire_frame *frame,
                            const void *payload)
{
    send_to_all(control, frame, payload, NULL);
}

void mt_control_flood(struct mt_control *control, uint32_t type, const void *payload,
                      uint32_t bytes)
{
    struct mt_wire_frame frame = {.bytes = bytes,
                                  .type = type,
                                  .origin = control->group->rank,
                                  .target = UINT32_MAX,
                                  .serial = ++control->serial};
    send_to_all(control, &frame, payload, NULL);
}

/* Is it to be told and heeded? An abort is, once, even when the group has failed: its children may
 * live on. */
static int is_news(const struct mt_control *control, const struct mt_error *error)
{
    return error->code == MANTA_EABORTED ? !control->is_aborted : !mt_control_failed(control);
}

/* The error is news. */
static void fail_here(struct mt_control *control, const struct mt_error *error)
{
    uint64_t one = 1;
    control->is_aborted |= error->code == MANTA_EABORTED;
    if (!mt_control_failed(control)) {
        control->failure = *error;
        atomic_store_explicit(&control->failed, error->code, memory_order_release);
        ssize_t written = write(control->wake_fd, &one, sizeof one);
        (void)written;
    }
    mt_family_failed(control, error);
    mt_service_signal();
}

void mt_control_fail_locked(struct mt_control *control, const struct mt_error *error)
{
    uint8_t bytes[1024];
    if (!is_news(control, error))
        return;
    fail_here(control, error);
    size_t count = mt_failure_encode(error, bytes, sizeof bytes);
    mt_control_flood(control, MT_WIRE_FAIL, bytes, (uint32_t)count);
}

void mt_control_fail(struct mt_control *control, const struct mt_error *error)
{
    mt_service_lock();
    mt_control_fail_locked(control, error);
    mt_service_unlock();
}

void mt_control_abort(struct mt_control *control, const char *reason)
{
    struct mt_error error;
    uint32_t rank = control->group->rank;
    int has_reason = reason && reason[0];
    mt_error_set_rank(&error, MANTA_EABORTED, (int)rank, "rank %u aborted the communicator%s%.400s",
                      rank, has_reason ? ": " : "", has_reason ? reason : "");
    mt_control_fail(control, &error);
}

void mt_control_suspect(struct mt_control *control, const struct mt_error *cause)
{
    uint64_t until_ns = mt_clock_now_ns() + SUSPECT_NS;
    int has_rank = cause->rank >= 0 && (uint32_t)cause->rank < control->group->ranks;
    uint32_t peer = has_rank ? (uint32_t)cause->rank : 0;
    struct mt_error error = *cause;
    mt_service_lock();
    while (!mt_control_failed(control) && !(has_rank && mt_control_has_left(control, peer)) &&
           mt_clock_now_ns() < until_ns)
        mt_service_wait(until_ns);
    if (has_rank && mt_control_has_left(control, peer))
        mt_error_set_rank(&error, MANTA_ELEFT, (int)peer,
                          "rank %u has destroyed its communicator, but rank %u still needs it; "
                          "destroy it after the last call on all ranks",
                          peer, control->group->rank);
    if (error.code >= 0)
        error.code = MANTA_EPEER;
    mt_control_fail_locked(control, &error);
    mt_service_unlock();
}

/* Flooded messages: pass on and act on the first copy only. */
static int is_first_copy(struct mt_control *control, struct mt_link *link,
                         const struct mt_wire_frame *frame, const uint8_t *payload)
{
    if (frame->origin == control->group->rank || frame->serial <= control->seen[frame->origin])
        return 0;
    control->seen[frame->origin] = frame->serial;
    send_to_all(control, frame, payload, link);
    return 1;
}

static void received_goodbye(struct mt_control *control, struct mt_neighbour *neighbour,
                             const struct mt_wire_frame *frame, const uint8_t *payload)
{
    struct mt_wire_frame seen = {.type = MT_WIRE_SEEN, .origin = control->group->rank};
    uint64_t sequence;
    if (frame->origin == neighbour->rank)
        mt_link_send(&neighbour->link, &seen, NULL);
    if (!is_first_copy(control, &neighbour->link, frame, payload) ||
        mt_goodbye_decode(payload, frame->bytes, &sequence) ||
        mt_control_has_left(control, frame->origin))
        return;
    control->left_after[frame->origin] = sequence;
    atomic_store_explicit(&control->left[frame->origin], 1, memory_order_release);
    atomic_fetch_add_explicit(&control->departures, 1, memory_order_relaxed);
    mt_mend_stop(control, frame->origin);
    mt_mend_later(control);
    mt_inquiry_check(control);
    mt_service_signal();
}

/* It is this rank that others hold for dead: nothing from here has come to them. */
static void word_own_death(const struct mt_control *control, uint32_t origin,
                           struct mt_error *error)
{
    char said[400];
    snprintf(said, sizeof said, "%.*s", (int)sizeof said - 1, error->sentence);
    mt_error_set_rank(
        error, error->code, error->rank,
        "rank %u has given this one up, rank %u: \"%s\"; look for what goes from here "
        "and does not arrive",
        origin, control->group->rank, said);
}

static void received_failure(struct mt_control *control, struct mt_link *link,
                             const struct mt_wire_frame *frame, const uint8_t *payload)
{
    struct mt_error error;
    if (!is_first_copy(control, link, frame, payload))
        return;
    if (mt_failure_decode(payload, frame->bytes, &error) ||
        error.rank >= (int)control->group->ranks)
        return;
    if (error.code == MANTA_EPEER && error.rank == (int)control->group->rank)
        word_own_death(control, frame->origin, &error);
    if (is_news(control, &error))
        fail_here(control, &error);
}

static void received_query(struct mt_control *control, struct mt_neighbour *neighbour,
                           const struct mt_wire_frame *frame, const uint8_t *payload)
{
    if (!is_first_copy(control, &neighbour->link, frame, payload))
        return;
    control->way_back[frame->origin] = (int32_t)(neighbour - control->neighbours);
    mt_inquiry_received(control, frame, payload);
}

static void received_answer(struct mt_control *control, const struct mt_wire_frame *frame,
                            const uint8_t *payload)
{
    if (frame->target == control->group->rank) {
        mt_inquiry_answered(control, frame, payload);
        return;
    }
    int32_t way = control->way_back[frame->target];
    if (way != MT_NOBODY)
        mt_control_send(control, &control->neighbours[way].link, frame, payload);
}

void mt_control_received(struct mt_link *link, const struct mt_wire_frame *frame,
                         const uint8_t *payload)
{
    struct mt_neighbour *neighbour = link->arg;
    struct mt_control *control = neighbour->control;
    uint32_t ranks = control->group->ranks;
    if (frame->origin >= ranks || (frame->type == MT_WIRE_ANSWER && frame->target >= ranks)) {
        mt_link_close(link);
        mt_control_lost(link, EPROTO);
        return;
    }
    switch (frame->type) {
    case MT_WIRE_FAIL:
        received_failure(control, link, frame, payload);
        break;
    case MT_WIRE_GOODBYE:
        received_goodbye(control, neighbour, frame, payload);
        break;
    case MT_WIRE_SEEN:
        neighbour->has_seen_goodbye = 1;
        mt_service_signal();
        break;
    case MT_WIRE_QUERY:
        received_query(control, neighbour, frame, payload);
        break;
    case MT_WIRE_ANSWER:
        received_answer(control, frame, payload);
        break;
    case MT_WIRE_PIECE:
        mt_gather_received(control, frame, payload);
        break;
    default:
        mt_link_close(link);
        mt_control_lost(link, EPROTO);
    }
}

/* By the other end, rather than by what is between. */
static int is_closed(int errno_or_0)
{
    return errno_or_0 == 0 || errno_or_0 == ECONNRESET || errno_or_0 == EPIPE;
}

static const char *how_lost(int errno_or_0)
{
    if (is_closed(errno_or_0))
        return "its process ended";
    switch (errno_or_0) {
    case ETIMEDOUT:
    case EHOSTUNREACH:
    case ENETUNREACH:
        return "its host is silent";
    case EPROTO:
        return "its control link carried garbage";
    default:
        return strerror(errno_or_0);
    }
}

static void word_death(const struct mt_control *control, uint32_t rank, int errno_or_0,
                       struct mt_error *error)
{
    const char *or_else =
        is_closed(errno_or_0) ? ", or it gave up while the communicator was made and says why" : "";
    mt_error_set_rank(error, MANTA_EPEER, (int)rank, "rank %u is dead: %s%s (pid %d)", rank,
                      how_lost(errno_or_0), or_else, (int)control->group->members[rank].pid);
    error->system_errno = errno_or_0;
}

void mt_control_lost(struct mt_link *link, int errno_or_0)
{
    struct mt_neighbour *neighbour = link->arg;
    struct mt_control *control = neighbour->control;
    struct mt_error error;
    if (control->is_leaving || mt_control_has_left(control, neighbour->rank))
        return;
    /* Its goodbye may come on another way, and so may its word that it has given this rank up. */
    if (neighbour->is_mend || (control->is_made && is_closed(errno_or_0))) {
        mt_watch_doubt(control, neighbour->rank, errno_or_0);
        return;
    }
    if (errno_or_0 == ENOMEM) /* of this rank; the other one lives */
        word_no_memory(control, link, &error);
    else
        word_death(control, neighbour->rank, errno_or_0, &error);
    mt_control_fail_locked(control, &error);
}
