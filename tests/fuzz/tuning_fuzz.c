/* SPDX-License-Identifier: Apache-2.0 */
/* Tuning files: what is taken can be written and taken again with the same digest; what is refused
 * leaves nothing. */
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "plan/tuning.h"

enum { TEXT = 8192 };

static void check_again(const struct mt_tuning *tuning)
{
    struct mt_tuning again;
    struct mt_error error;
    char text[TEXT], name[MT_TUNING_NAME];
    size_t used = (size_t)snprintf(text, TEXT, "manta-tuning 1\n");
    for (int i = 0; i < MT_TUNING_VALUES; i++) {
        if (!mt_tuning_has(tuning, i))
            continue;
        mt_tuning_name(i, name);
        used +=
            (size_t)snprintf(text + used, TEXT - used, "%s %" PRIu64 "\n", name, tuning->values[i]);
    }
    if (used >= TEXT || mt_tuning_parse(text, "again", &again, &error) ||
        mt_tuning_digest(&again) != mt_tuning_digest(tuning))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t count);
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t count)
{
    struct mt_tuning tuning;
    struct mt_error error;
    char *text = malloc(count + 1);
    if (count)
        memcpy(text, bytes, count);
    text[count] = '\0';
    int rc = mt_tuning_parse(text, "the input", &tuning, &error);
    if (rc == 0)
        check_again(&tuning);
    else if (tuning.given || memchr(error.sentence, '\0', sizeof(error.sentence)) == NULL)
        abort();
    free(text);
    return 0;
}
