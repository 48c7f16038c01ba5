/* SPDX-License-Identifier: Apache-2.0 */
/* A thread draws, so that those who work need not look at the clock. */
#include "tools/manta/progress.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "core/clock.h"

enum { FIRST_MS = 300, NEXT_MS = 250, LONG_MS = 2000, BAR = 30 };

static struct {
    pthread_mutex_t lock;
    pthread_cond_t ended; /* is_over */
    pthread_t thread;
    int is_running; /* the thread */
    int is_over, is_terminal, is_told;
    int drawn; /* columns and one */
    const char *command;
    uint64_t begin_ns; /* the first time */
    char what[32], doing[64];
    uint64_t done, all;
} state = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void draw(void)
{
    static const char full[BAR + 1] = "##############################";
    uint64_t seconds = (mt_clock_now_ns() - state.begin_ns) / MT_SECOND;
    int filled = state.all > 0 ? (int)(state.done * BAR / state.all) : 0;
    int width = fprintf(stderr, "\r%s %s ", state.what, state.doing);
    if (state.all > 0)
        width += fprintf(stderr, "[%.*s%*s] ", filled, full, BAR - filled, "");
    width += fprintf(stderr, "%u s", (unsigned)seconds);
    if (width < state.drawn)
        fprintf(stderr, "%*s", state.drawn - width, "");
    state.drawn = width;
}

static void tell(void)
{
    if (state.is_terminal)
        draw();
    else if (!state.is_told)
        fprintf(stderr, "%s: %s %s; this takes a while\n", state.command, state.what, state.doing);
    state.is_told = 1;
}

/* Until it is over, or that time has come. */
static void sleep_until(uint64_t when_ns)
{
    const struct timespec when = {.tv_sec = (time_t)(when_ns / MT_SECOND),
                                  .tv_nsec = (long)(when_ns % MT_SECOND)};
    int rc = 0;
    while (!state.is_over && rc == 0)
        rc = pthread_cond_timedwait(&state.ended, &state.lock, &when);
}

static void *watch(void *argument)
{
    (void)argument;
    pthread_mutex_lock(&state.lock);
    sleep_until(state.begin_ns + (state.is_terminal ? FIRST_MS : LONG_MS) * MT_MS);
    while (!state.is_over) {
        tell();
        sleep_until(mt_clock_now_ns() + NEXT_MS * MT_MS);
    }
    pthread_mutex_unlock(&state.lock);
    return NULL;
}

void progress_set(const char *what, const char *doing, uint64_t done, uint64_t all)
{
    pthread_mutex_lock(&state.lock);
    snprintf(state.what, sizeof state.what, "%s", what);
    snprintf(state.doing, sizeof state.doing, "%s", doing);
    state.done = done < all ? done : all;
    state.all = all;
    pthread_mutex_unlock(&state.lock);
}

void progress_begin(const char *command, const char *what, const char *doing)
{
    pthread_condattr_t monotonic;
    sigset_t all, before;
    state.command = command;
    state.is_over = state.drawn = 0;
    progress_set(what, doing, 0, 0);
    state.is_terminal = isatty(STDERR_FILENO);
    if (state.begin_ns == 0)
        state.begin_ns = mt_clock_now_ns();
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&state.ended, &monotonic);
    pthread_condattr_destroy(&monotonic);
    sigfillset(&all); /* signals are for the other thread */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    state.is_running = pthread_create(&state.thread, NULL, watch, NULL) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

void progress_end(void)
{
    if (!state.is_running) /* no thread could be had: nothing is drawn */
        return;
    pthread_mutex_lock(&state.lock);
    state.is_over = 1;
    pthread_cond_signal(&state.ended);
    pthread_mutex_unlock(&state.lock);
    pthread_join(state.thread, NULL);
    pthread_cond_destroy(&state.ended);
    state.is_running = 0;
    if (state.drawn > 0)
        fprintf(stderr, "\r%*s\r", state.drawn - 1, "");
}
