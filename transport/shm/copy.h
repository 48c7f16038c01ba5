/* SPDX-License-Identifier: Apache-2.0 */
/* The two copies of staged data, in one place: how they are done may come to depend on how far the
 * cores are from each other. */
#ifndef MT_TRANSPORT_SHM_COPY_H
#define MT_TRANSPORT_SHM_COPY_H

#include <stddef.h>
#include <string.h>

/* From the caller's buffer into this rank's segment. */
static inline void mt_shm_copy_in(void *staging, const void *user, size_t bytes)
{
    if (bytes != 0)
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

/* From a peer's segment into the caller's buffer. */
static inline void mt_shm_copy_out(void *user, const void *staging, size_t bytes)
{
    if (bytes != 0)
        memcpy(user, staging, bytes);
}

#endif
