/* SPDX-License-Identifier: Apache-2.0 */
/* Events in the order of time, those of one time in the order of their keys: never by chance. */
#ifndef MT_PLAN_EVENTS_H
#define MT_PLAN_EVENTS_H

#include <stddef.h>
#include <stdint.h>

struct mt_event {
    uint64_t time_ns, key;
    uint64_t value; /* takes no part in the order */
};

/* Begin with zeros; free `at` in the end. */
struct mt_events {
    struct mt_event *at; /* a heap: each event comes before the four below it */
    size_t count, capacity;
};

/* 0 or MANTA_ENOMEM. */
int mt_events_push(struct mt_events *events, struct mt_event event);
/* The next event; there must be one. */
struct mt_event mt_events_pop(struct mt_events *events);

#endif
