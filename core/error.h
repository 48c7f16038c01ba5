/* SPDX-License-Identifier: Apache-2.0 */
/* An error with its detail. It sits on the object that failed; functions that create objects take a
 * `struct mt_error *` (never NULL) and fill it before they return its code. */
#ifndef MT_CORE_ERROR_H
#define MT_CORE_ERROR_H

#include <manta/manta.h>

struct mt_error {
    int code;         /* MANTA_E*, or 0 */
    int rank;         /* at fault, or -1 */
    int system_errno; /* or 0 */
    char transport[16];
    char sentence[512];
};

/* Fill `error` (rank -1, no transport) and return code. Keeps errno in system_errno for ESYSTEM. */
int mt_error_set(struct mt_error *error, int code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* The same, naming the rank at fault. */
int mt_error_set_rank(struct mt_error *error, int code, int rank, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
/* 1 for an errno that says that this process, or its host, has no more of something: descriptors or
 * memory. It will not come by trying again. */
int mt_error_is_lack(int system_errno);
/* Copy into a public struct, honouring info->size. */
void mt_error_export(const struct mt_error *error, struct manta_error_info *info);

#endif
