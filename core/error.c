/* SPDX-License-Identifier: Apache-2.0 */
#include "core/error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* The arguments may point into `error` itself (a cause that is wrapped), so format beside it. */
static void set(struct mt_error *error, int code, int rank, const char *format, va_list arguments)
{
    int cause = errno;
    char sentence[sizeof error->sentence];

    vsnprintf(sentence, sizeof sentence, format, arguments);
    memset(error, 0, sizeof *error);
    error->code = code;
    error->rank = rank;
    error->system_errno = code == MANTA_ESYSTEM ? cause : 0;
    memcpy(error->sentence, sentence, strlen(sentence) + 1);
    errno = cause;
}

int mt_error_set(struct mt_error *error, int code, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    set(error, code, -1, format, arguments);
    va_end(arguments);
    return code;
}

int mt_error_set_rank(struct mt_error *error, int code, int rank, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    set(error, code, rank, format, arguments);
    va_end(arguments);
    return code;
}

int mt_error_is_lack(int system_errno)
{
    return system_errno == EMFILE || system_errno == ENFILE || system_errno == ENOMEM ||
           system_errno == ENOBUFS || system_errno == ETOOMANYREFS;
}

void mt_error_export(const struct mt_error *error, struct manta_error_info *info)
{
    struct manta_error_info full = {.size = info->size,
                                    .code = error->code,
                                    .rank = error->rank,
                                    .system_errno = error->system_errno};

    memcpy(full.transport, error->transport, sizeof full.transport);
    memcpy(full.sentence, error->sentence, sizeof full.sentence);
    memcpy(info, &full, info->size < sizeof full ? info->size : sizeof full);
}

const char *manta_strerror(int code)
{
    switch (code) {
    case MANTA_SUCCESS:
        return "done";
    case MANTA_INPROGRESS:
        return "under way; test or wait again";
#define MANTA_ERROR(name, value, sentence)                                                         \
    case value:                                                                                    \
        return sentence;
#include <manta/errors.def>
#undef MANTA_ERROR
    default:
        return "not a code of this library";
    }
}

int manta_version(void)
{
    return MANTA_VERSION;
}
