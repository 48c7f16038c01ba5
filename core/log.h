/* SPDX-License-Identifier: Apache-2.0 */
/* Log lines on stderr: "manta[rank] level: sentence". Level from MANTA_LOG (error, warn, info,
 * debug; default warn). The sink and the level are the process's; the rank is given by the caller,
 * -1 for none. Each line is written by one write(2). Any thread, at any time; errno is kept. */
#ifndef MT_CORE_LOG_H
#define MT_CORE_LOG_H

enum mt_log_level { MT_LOG_ERROR = 0, MT_LOG_WARN = 1, MT_LOG_INFO = 2, MT_LOG_DEBUG = 3 };

int mt_log_enabled(int level);
/* The level of that name, or -1. */
int mt_log_parse(const char *name);
/* Lines longer than 1,023 bytes are cut; control characters become spaces. */
void mt_log(int level, int rank, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* Log up to this level from now on; -1: what MANTA_LOG says now. */
void mt_log_set_level(int level);
/* Replace stderr by a function (tests); NULL restores it. The line has no newline. When this has
 * returned the earlier function is not called any more; the function must not log. */
void mt_log_sink(void (*sink)(void *arg, const char *line), void *arg);

#endif
