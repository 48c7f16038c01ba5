/* SPDX-License-Identifier: Apache-2.0 */
/* What this process logs, for tests that wait for a line of it. */
#ifndef MT_TESTS_SUPPORT_LOGGED_H
#define MT_TESTS_SUPPORT_LOGGED_H

/* Keep warnings and errors instead of writing them; and no more. */
void logged_begin(void);
void logged_end(void);
void logged_forget(void);
int logged_anything(void);
/* Until there is a line with `first` and, behind it, `then`, for a time. 0, or an errno. */
int logged_await(const char *first, const char *then, int seconds);

#endif
