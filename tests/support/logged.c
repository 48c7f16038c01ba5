/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/logged.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "core/log.h"

static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    char text[65536];
} lines = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

static void keep_line(void *arg, const char *line)
{
    (void)arg;
    pthread_mutex_lock(&lines.lock);
    size_t used = strlen(lines.text);
    snprintf(lines.text + used, sizeof lines.text - used, "%s\n", line);
    pthread_cond_broadcast(&lines.changed);
    pthread_mutex_unlock(&lines.lock);
}

void logged_begin(void)
{
    logged_forget();
    mt_log_set_level(MT_LOG_WARN);
    mt_log_sink(keep_line, NULL);
}

void logged_end(void)
{
    mt_log_sink(NULL, NULL);
}

void logged_forget(void)
{
    pthread_mutex_lock(&lines.lock);
    lines.text[0] = '\0';
    pthread_mutex_unlock(&lines.lock);
}

int logged_anything(void)
{
    pthread_mutex_lock(&lines.lock);
    int is_any = lines.text[0] != '\0';
    pthread_mutex_unlock(&lines.lock);
    return is_any;
}

static int is_there(const char *first, const char *then)
{
    const char *at = strstr(lines.text, first);
    const char *end = at ? strchr(at, '\n') : NULL;
    const char *rest = at ? strstr(at, then) : NULL;
    return rest && end && rest < end;
}

int logged_await(const char *first, const char *then, int seconds)
{
    struct timespec until;
    int rc = 0;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += seconds;
    pthread_mutex_lock(&lines.lock);
    while (!is_there(first, then) && rc == 0)
        rc = pthread_cond_timedwait(&lines.changed, &lines.lock, &until);
    pthread_mutex_unlock(&lines.lock);
    return rc;
}
