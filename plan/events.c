/* SPDX-License-Identifier: Apache-2.0 */
#include "plan/events.h"

#include <stdlib.h>

#include <manta/manta.h>

enum { WIDTH = 4 };

static int before(const struct mt_event *x, const struct mt_event *y)
{
    return x->time_ns != y->time_ns ? x->time_ns < y->time_ns : x->key < y->key;
}

int mt_events_push(struct mt_events *events, struct mt_event event)
{
    if (events->count == events->capacity) {
        size_t capacity = events->capacity ? events->capacity * 2 : 1024;
        struct mt_event *larger = realloc(events->at, capacity * sizeof(*larger));
        if (!larger)
            return MANTA_ENOMEM;
        events->at = larger;
        events->capacity = capacity;
    }
    size_t i = events->count++;
    while (i > 0 && before(&event, &events->at[(i - 1) / WIDTH])) {
        events->at[i] = events->at[(i - 1) / WIDTH];
        i = (i - 1) / WIDTH;
    }
    events->at[i] = event;
    return 0;
}

/* The first of the events below place i, or `count` when there is none. */
static size_t first_below(const struct mt_events *events, size_t i)
{
    size_t first = i * WIDTH + 1, end = first + WIDTH;
    if (first >= events->count)
        return events->count;
    for (size_t k = first + 1; k < end && k < events->count; k++)
        if (before(&events->at[k], &events->at[first]))
            first = k;
    return first;
}

struct mt_event mt_events_pop(struct mt_events *events)
{
    struct mt_event top = events->at[0], last = events->at[--events->count];
    size_t i = 0;
    for (;;) {
        size_t below = first_below(events, i);
        if (below == events->count || !before(&events->at[below], &last))
            break;
        events->at[i] = events->at[below];
        i = below;
    }
    events->at[i] = last;
    return top;
}
