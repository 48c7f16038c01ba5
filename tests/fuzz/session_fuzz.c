/* SPDX-License-Identifier: Apache-2.0 */
/* Session strings: what is taken must format to the very same text. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "core/session.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t count);
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t count)
{
    static const char head[] = "manta1:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8@";
    struct mt_session session;
    struct mt_error error;
    char again[2048];
    for (int with_head = 0; with_head <= 1; with_head++) {
        size_t skip = with_head ? sizeof head - 1 : 0;
        char *text = malloc(skip + count + 1);
        memcpy(text, head, skip);
        if (count)
            memcpy(text + skip, bytes, count);
        text[skip + count] = 0;
        if (mt_session_parse(text, &session, &error) == 0 &&
            (mt_session_format(&session, again, sizeof again) || strcmp(again, text) != 0))
            abort();
        free(text);
    }
    return 0;
}
