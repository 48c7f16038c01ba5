/* SPDX-License-Identifier: Apache-2.0 */
/* Times in sentences: more may have passed than a test means, never less. */
#ifndef TESTS_SUPPORT_SECONDS_H
#define TESTS_SUPPORT_SECONDS_H

#include <stdlib.h>
#include <string.h>

/* The number that follows these words; -1: they are not there. */
static inline double seconds_after(const char *sentence, const char *words)
{
    const char *at = strstr(sentence, words);
    return at ? strtod(at + strlen(words), NULL) : -1;
}

#endif
