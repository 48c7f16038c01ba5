/* SPDX-License-Identifier: Apache-2.0 */
/* Sessions for ranks that are processes. */
#ifndef TESTS_SUPPORT_JOB_SESSION_H
#define TESTS_SUPPORT_JOB_SESSION_H

#include <stddef.h>

/* A session on loopback; ends the test when there is none. */
void job_session_prepare(char *text, size_t text_bytes);

#endif
