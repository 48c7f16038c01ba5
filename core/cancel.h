/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A creation that its caller may give up, by a flag that another thread or a signal handler sets.
 * The service thread looks at it 20 times a second, and wakes what waits. Until rank 0 has welcomed
 * all ranks, who gives up is as though it had not come, and may come again. Afterwards the others
 * are told: the group fails.
 */
#ifndef MT_CORE_CANCEL_H
#define MT_CORE_CANCEL_H

#include "core/service.h"

struct mt_control;

struct mt_cancel {
    const volatile int *flag; /* the caller's; NULL: cannot be given up */
    uint32_t rank;
    struct mt_service_timer timer;
    uint64_t since_ns;          /* when the flag was seen; 0: not yet */
    struct mt_control *control; /* to be failed; NULL: none yet */
};

/* What the flag says now; NULL: 0. Any thread, no lock. */
static inline int mt_cancel_is_wanted(const volatile int *flag)
{
    return flag && __atomic_load_n(flag, __ATOMIC_ACQUIRE) != 0;
}

/* The rest under the service's lock. */
void mt_cancel_watch(struct mt_cancel *cancel, const volatile int *flag, uint32_t rank);
void mt_cancel_unwatch(struct mt_cancel *cancel);
/* The links stand: from now on the group fails when its creation is given up. */
void mt_cancel_fails(struct mt_cancel *cancel, struct mt_control *control);
static inline int mt_cancel_is_set(const struct mt_cancel *cancel)
{
    return cancel && cancel->since_ns != 0;
}
/* For how long who gives up goes on where others count on it already, so as to tell them. */
uint64_t mt_cancel_until(const struct mt_cancel *cancel, uint64_t deadline_ns);
/* MANTA_EABORTED, in words. */
int mt_cancel_word(const struct mt_cancel *cancel, struct mt_error *error);

#endif
