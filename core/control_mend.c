/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ranks that leave take their links with them, and those that stay might lose sight of each other.
 * So each keeps a link to the next and to the previous one of those that stay on the ring. It is
 * made a moment after a goodbye, so that nothing is dialled when all leave together.
 */
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "core/control_impl.h"

#define QUIET_NS (200 * (uint64_t)MT_MS)
#define AGAIN_NS MT_SECOND

/* The place of a neighbour that has left, or a new one, or NULL. */
static struct mt_neighbour *free_place(struct mt_control *control)
{
    for (uint32_t i = 0; i < control->neighbour_count; i++) {
        struct mt_neighbour *at = &control->neighbours[i];
        if (mt_control_has_left(control, at->rank) && !mt_link_is_open(&at->link) && !at->dial)
            return at;
    }
    if (control->neighbour_count == MT_NEIGHBOURS_MAX)
        return NULL;
    return &control->neighbours[control->neighbour_count];
}

struct mt_neighbour *mt_mend_add(struct mt_control *control, uint32_t rank)
{
    struct mt_neighbour *place = free_place(control);
    if (!place)
        return NULL;
    int32_t index = (int32_t)(place - control->neighbours);
    if ((uint32_t)index < control->neighbour_count) {
        control->neighbour_of[place->rank] = MT_NOBODY;
        mt_link_close(&place->link);
        for (uint32_t r = 0; r < control->group->ranks; r++)
            if (control->way_back[r] == index)
                control->way_back[r] = MT_NOBODY;
    }
    mt_control_set_neighbour(control, (uint32_t)index, rank);
    place->is_mend = 1;
    return place;
}

static void dialled(void *arg)
{
    struct mt_neighbour *neighbour = arg;
    struct mt_control *control = neighbour->control;
    struct mt_error error;
    int fd, rc = mt_stream_dial_test(neighbour->dial, &fd, &error);
    neighbour->dial = NULL;
    if (rc == 0) {
        mt_control_start_link(neighbour, fd);
        return;
    }
    /* It has left or died meanwhile, and others will tell; else try again. */
    if (!neighbour->is_linked)
        mt_service_timer_set(&control->mend, mt_clock_now_ns() + AGAIN_NS);
}

void mt_mend_stop(struct mt_control *control, uint32_t rank)
{
    int32_t index = control->neighbour_of[rank];
    struct mt_neighbour *neighbour = index == MT_NOBODY ? NULL : &control->neighbours[index];
    if (!neighbour || !neighbour->is_mend) /* a link of the beginning must have stood */
        return;
    mt_stream_dial_cancel(neighbour->dial);
    neighbour->dial = NULL;
}

/* Of each pair the lower rank dials, as in the beginning. */
static void mend_with(struct mt_control *control, uint32_t rank)
{
    struct mt_neighbour *neighbour;
    if (rank == control->group->rank)
        return;
    if (control->neighbour_of[rank] == MT_NOBODY)
        neighbour = mt_mend_add(control, rank);
    else
        neighbour = &control->neighbours[control->neighbour_of[rank]];
    if (!neighbour || neighbour->is_linked || neighbour->dial || rank < control->group->rank)
        return;
    /* For as long as anything is waited for here: to give up a stream that the other side, slow as
     * it is, takes for the link would look like a death to it. */
    uint64_t deadline_ns = mt_clock_now_ns() + control->group->timeout_ns;
    if (mt_stream_dial_notify(control->group, rank, MT_STREAM_CONTROL, 0, deadline_ns, dialled,
                              neighbour, &neighbour->dial))
        mt_service_timer_set(&control->mend, mt_clock_now_ns() + AGAIN_NS);
}

static void mend(struct mt_service_timer *timer)
{
    struct mt_control *control = timer->arg;
    uint32_t ranks = control->group->ranks, next = control->group->rank, previous = next;
    if (control->is_leaving)
        return;
    do
        next = (next + 1) % ranks;
    while (next != control->group->rank && mt_control_has_left(control, next));
    do
        previous = (previous + ranks - 1) % ranks;
    while (previous != control->group->rank && mt_control_has_left(control, previous));
    mend_with(control, next);
    mend_with(control, previous);
}

void mt_mend_later(struct mt_control *control)
{
    control->mend.fire = mend;
    control->mend.arg = control;
    if (!control->is_leaving)
        mt_service_timer_set(&control->mend, mt_clock_now_ns() + QUIET_NS);
}

/* What the two sides of a new link may have missed of each other. */
void mt_mend_tell(struct mt_neighbour *neighbour)
{
    struct mt_control *control = neighbour->control;
    struct mt_wire_frame frame = {.target = UINT32_MAX};
    uint8_t bytes[1024];
    struct mt_error error;
    frame.type = MT_WIRE_GOODBYE;
    for (uint32_t r = 0; r < control->group->ranks; r++) {
        frame.origin = r;
        frame.serial = control->seen[r];
        frame.bytes = (uint32_t)mt_goodbye_encode(control->left_after[r], bytes, sizeof bytes);
        if (mt_control_has_left(control, r))
            mt_control_send(control, &neighbour->link, &frame, bytes);
    }
    if (!mt_control_failed(control))
        return;
    mt_control_failure(control, &error);
    frame.type = MT_WIRE_FAIL;
    frame.origin = control->group->rank;
    frame.serial = ++control->serial;
    frame.bytes = (uint32_t)mt_failure_encode(&error, bytes, sizeof bytes);
    mt_control_send(control, &neighbour->link, &frame, bytes);
}
