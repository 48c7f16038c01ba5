/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/job_session.h"

#include <stdio.h>
#include <stdlib.h>

#include "core/session.h"

void job_session_prepare(char *text, size_t text_bytes)
{
    struct mt_error error;
    if (mt_session_prepare("127.0.0.1", 0, text, text_bytes, &error) == 0)
        return;
    fprintf(stderr, "cannot prepare a session: %s\n", error.sentence);
    exit(1);
}
