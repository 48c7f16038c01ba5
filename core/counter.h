/* SPDX-License-Identifier: Apache-2.0 */
/* Counters with one writer at a time and any readers: no bus lock. */
#ifndef MT_CORE_COUNTER_H
#define MT_CORE_COUNTER_H

#include <stdatomic.h>
#include <stdint.h>

static inline void mt_count(_Atomic uint64_t *counter, uint64_t amount)
{
    uint64_t value = atomic_load_explicit(counter, memory_order_relaxed);
    atomic_store_explicit(counter, value + amount, memory_order_relaxed);
}

#endif
