/* SPDX-License-Identifier: Apache-2.0 */
#include "core/log.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "core/config.h"

enum { LINE_BYTES = 1024, LEVEL_UNKNOWN = -1, LEVELS = 4, WRITE_WAIT_MS = 1000 };

static const char *const level_names[LEVELS] = {"error", "warn", "info", "debug"};

static _Atomic int current_level = LEVEL_UNKNOWN;

/* The lock is taken only while a sink is set, so that a child forked while another thread logs to
 * stderr can log too. */
static _Atomic int has_sink;
static pthread_mutex_t sink_lock = PTHREAD_MUTEX_INITIALIZER;
static void (*sink_function)(void *arg, const char *line);
static void *sink_arg;

/* A pipe whose reader is gone must not kill the process with SIGPIPE: block it, and take back the
 * one that the write may have left pending (unless there was one before). */
static void write_without_signal(const char *line, size_t bytes)
{
    const struct timespec now = {0, 0};
    sigset_t pipe_set, old, pending;

    sigemptyset(&pipe_set);
    sigaddset(&pipe_set, SIGPIPE);
    sigpending(&pending);
    int was_pending = sigismember(&pending, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &pipe_set, &old);
    ssize_t written;
    do
        written = write(STDERR_FILENO, line, bytes);
    while (written < 0 && errno == EINTR);
    if (written < 0 && errno == EPIPE && !was_pending)
        while (sigtimedwait(&pipe_set, NULL, &now) < 0 && errno == EINTR)
            ;
    pthread_sigmask(SIG_SETMASK, &old, NULL);
}

/* A line is dropped rather than stop the program when nobody reads stderr. */
static void write_stderr(char *line, size_t bytes)
{
    struct pollfd stream = {.fd = STDERR_FILENO, .events = POLLOUT};

    line[bytes] = '\n';
    if (poll(&stream, 1, WRITE_WAIT_MS) == 1)
        write_without_signal(line, bytes + 1);
}

static int pass_to_sink(const char *line)
{
    if (!atomic_load_explicit(&has_sink, memory_order_acquire)) /* pairs with mt_log_sink */
        return 0;
    pthread_mutex_lock(&sink_lock);
    int passed = sink_function != NULL;
    if (passed)
        sink_function(sink_arg, line);
    pthread_mutex_unlock(&sink_lock);
    return passed;
}

static size_t clamp(int printed, size_t room)
{
    return printed < 0 ? 0 : (size_t)printed < room ? (size_t)printed : room - 1;
}

static void emit(int level, int rank, const char *format, va_list arguments)
{
    int saved = errno;
    char line[LINE_BYTES + 1]; /* and the newline */
    size_t used;

    if (rank >= 0)
        used = clamp(snprintf(line, LINE_BYTES, "manta[%d] %s: ", rank, level_names[level]),
                     LINE_BYTES);
    else
        used = clamp(snprintf(line, LINE_BYTES, "manta %s: ", level_names[level]), LINE_BYTES);
    errno = saved; /* for %m */
    used += clamp(vsnprintf(line + used, LINE_BYTES - used, format, arguments), LINE_BYTES - used);
    for (size_t i = 0; i < used; i++)
        if ((unsigned char)line[i] < 0x20 || line[i] == 0x7f)
            line[i] = ' ';
    if (!pass_to_sink(line))
        write_stderr(line, used);
    errno = saved;
}

static void emit_always(int level, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void emit_always(int level, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    emit(level, -1, format, arguments);
    va_end(arguments);
}

int mt_log_parse(const char *name)
{
    int level = LEVELS - 1;
    while (level >= 0 && strcmp(level_names[level], name) != 0)
        level--;
    return level;
}

static int read_level(void)
{
    const char *text = mt_config_string(MT_VAR(LOG));
    int unknown = LEVEL_UNKNOWN;
    int level = mt_log_parse(text);
    int known = level >= 0;
    if (!known)
        level = MT_LOG_WARN;
    /* One thread's reading wins, and only that one complains. */
    if (!atomic_compare_exchange_strong(&current_level, &unknown, level))
        return unknown;
    if (!known)
        emit_always(MT_LOG_WARN, "MANTA_LOG is '%s'; it must be error, warn, info or debug", text);
    return level;
}

int mt_log_enabled(int level)
{
    int current = atomic_load_explicit(&current_level, memory_order_relaxed);
    if (current == LEVEL_UNKNOWN)
        current = read_level();
    return level >= 0 && level <= current;
}

void mt_log(int level, int rank, const char *format, ...)
{
    if (!mt_log_enabled(level))
        return;
    va_list arguments;
    va_start(arguments, format);
    emit(level, rank, format, arguments);
    va_end(arguments);
}

void mt_log_set_level(int level)
{
    if (level > MT_LOG_DEBUG)
        level = MT_LOG_DEBUG;
    atomic_store(&current_level, level < 0 ? LEVEL_UNKNOWN : level);
}

void mt_log_sink(void (*sink)(void *arg, const char *line), void *arg)
{
    pthread_mutex_lock(&sink_lock);
    sink_function = sink;
    sink_arg = arg;
    atomic_store_explicit(&has_sink, sink != NULL, memory_order_release); /* see pass_to_sink */
    pthread_mutex_unlock(&sink_lock);
}
