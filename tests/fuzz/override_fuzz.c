/* SPDX-License-Identifier: Apache-2.0 */
/* Override strings: what is taken is ascending ranges of well-formed names, and each range's name
 * is forced at both of its ends. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "plan/select.h"

static void check_range(const struct mt_select_override *override, uint32_t index)
{
    const struct mt_select_range *range = &override->ranges[index];
    const char *first = mt_select_forced(override, range->from_bytes);
    const char *last = mt_select_forced(override, range->to_bytes - 1);
    if (range->from_bytes >= range->to_bytes || first != range->algorithm ||
        last != range->algorithm || range->algorithm[0] == '\0' ||
        memchr(range->algorithm, '\0', sizeof(range->algorithm)) == NULL)
        abort();
    if (index > 0 && override->ranges[index - 1].to_bytes > range->from_bytes)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t count);
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t count)
{
    struct mt_select_override override;
    struct mt_error error;
    char *text = malloc(count + 1);
    if (count)
        memcpy(text, bytes, count);
    text[count] = '\0';
    int rc = mt_select_parse(text, &override, &error);
    if (override.count > MT_SELECT_RANGES || (rc && override.count) ||
        (rc && memchr(error.sentence, '\0', sizeof(error.sentence)) == NULL))
        abort();
    for (uint32_t i = 0; i < override.count; i++)
        check_range(&override, i);
    free(text);
    return 0;
}
