/* SPDX-License-Identifier: Apache-2.0 */
/* Sessions for ranks that are processes. */
#ifndef TESTS_SUPPORT_JOB_SESSION_H
#define TESTS_SUPPORT_JOB_SESSION_H

#include <stddef.h>

/* A session on loopback whose port nobody else is given until the descriptor that this returns is
 * closed: do that when the job has ended. Ends the test when there is none. */
int job_session_hold(char *text, size_t text_bytes);

#endif
