/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The copies of staged data, in one place, because how they are best done depends on where the
 * bytes are read next. Staging that far members read is written past the caches: what lies in
 * another core's cache, behind another L3, comes to them later than what lies in memory, and the
 * next write would have to call it back. The caller's buffer is written past the caches when the
 * result is longer than they are, so that nothing has to be read first.
 */
#ifndef MT_TRANSPORT_SHM_COPY_H
#define MT_TRANSPORT_SHM_COPY_H

#include <stddef.h>
#include <string.h>

#include "core/reduce.h"
#include "transport/shm/combine.h"
#include "transport/shm/fused.h"

enum { MT_SHM_FAR_BYTES = 2048 }; /* less is not worth the fence */

static inline int mt_shm_goes_far(const struct mt_shm_distance *distance, size_t bytes)
{
    return __builtin_expect(distance->is_far, 0) && bytes >= MT_SHM_FAR_BYTES;
}

/* From the caller's buffer into this rank's segment, for those at that distance. */
static inline void mt_shm_copy_in(const struct mt_shm_distance *distance, void *staging,
                                  const void *user, size_t bytes)
{
    if (mt_shm_goes_far(distance, bytes))
        mt_copy_stream(staging, user, bytes);
    else if (bytes != 0)
        memcpy(staging, user, bytes);
}

/* A few bytes, most often one or two words. */
static inline void mt_shm_copy_short(void *to, const void *from, size_t bytes)
{
    if (bytes == 4)
        memcpy(to, from, 4);
    else if (bytes == 8)
        memcpy(to, from, 8);
    else if (bytes != 0)
        memcpy(to, from, bytes);
}

/* From another rank's segment into the caller's buffer. */
static inline void mt_shm_copy_out(const struct mt_shm_op *op, void *user, const void *staging,
                                   size_t bytes)
{
    if (__builtin_expect(op->past_caches, 0))
        mt_copy_stream(user, staging, bytes);
    else if (bytes != 0)
        mt_copy_fresh(user, staging, bytes);
}

/* From what this rank has at hand into the caller's buffer. */
static inline void mt_shm_copy_own(const struct mt_shm_op *op, void *user, const void *own,
                                   size_t bytes)
{
    if (__builtin_expect(op->past_caches, 0))
        mt_copy_stream(user, own, bytes);
    else if (bytes != 0)
        memcpy(user, own, bytes);
}

/* How to combine so many bytes into the caller's buffer, or into one that is read soon. */
static inline struct mt_shm_combination mt_shm_how(const struct mt_shm_op *op, uint64_t bytes,
                                                   int is_final)
{
    return (struct mt_shm_combination){.dtype = op->dtype,
                                       .op = op->op,
                                       .is_long = bytes >= MT_SHM_LONG_BYTES,
                                       .past_caches =
                                           is_final && op->past_caches && op->dst != op->src};
}

#endif
