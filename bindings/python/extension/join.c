/* SPDX-License-Identifier: Apache-2.0 */
/* Joining a communicator can take as long as the slowest rank needs to come, and the C call cannot
 * be interrupted. So it runs in a thread of its own, and this one looks for Ctrl-C meanwhile. */
#include "extension.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct join {
    pthread_mutex_t lock;
    pthread_cond_t ended_cond;
    int ended;                 /* guarded by lock */
    int abandoned;             /* guarded by lock: the thread cleans up */
    struct manta_comm *parent; /* split; NULL: create */
    int colour, key;
    struct manta_config config;
    char *session, *transports, *node; /* copies: the thread may outlive the caller's */
    struct manta_comm *comm;
    int result;
    struct manta_error_info info;
};

static void join_free(struct join *join)
{
    pthread_cond_destroy(&join->ended_cond);
    pthread_mutex_destroy(&join->lock);
    free(join->session);
    free(join->transports);
    free(join->node);
    free(join);
}

/* *copy_out is NULL for NULL. */
static int copy_text(const char *text, char **copy_out, const char **field_out)
{
    *copy_out = text ? strdup(text) : NULL;
    *field_out = *copy_out;
    return text && !*copy_out ? -1 : 0;
}

static struct join *join_new(void)
{
    struct join *join = calloc(1, sizeof(*join));
    if (!join)
        return NULL;
    pthread_condattr_t monotonic;
    pthread_mutex_init(&join->lock, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&join->ended_cond, &monotonic);
    pthread_condattr_destroy(&monotonic);
    return join;
}

static void *run(void *argument)
{
    struct join *join = argument;
    join->info.size = sizeof(join->info);
    if (join->parent) {
        join->result = manta_comm_split(join->parent, join->colour, join->key, &join->comm);
        manta_comm_error(join->parent, &join->info);
    } else {
        join->result = manta_comm_create(&join->config, &join->comm);
        manta_comm_error(NULL, &join->info); /* of this thread */
    }
    pthread_mutex_lock(&join->lock);
    join->ended = 1;
    int abandoned = join->abandoned;
    pthread_cond_signal(&join->ended_cond);
    pthread_mutex_unlock(&join->lock);
    if (abandoned) {
        manta_comm_destroy(join->comm);
        join_free(join);
    }
    return NULL;
}

/* Wait for the thread; 1 when it has ended. give_up: leave it to clean up after itself if not. */
static int has_ended(struct join *join, uint64_t wait_ns, int give_up)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    uint64_t ns = (uint64_t)until.tv_nsec + wait_ns;
    until.tv_sec += (time_t)(ns / UINT64_C(1000000000));
    until.tv_nsec = (long)(ns % UINT64_C(1000000000));
    pthread_mutex_lock(&join->lock);
    int rc = 0;
    while (!join->ended && rc == 0)
        rc = pthread_cond_timedwait(&join->ended_cond, &join->lock, &until);
    int ended = join->ended;
    if (!ended && give_up)
        join->abandoned = 1;
    pthread_mutex_unlock(&join->lock);
    return ended;
}

/* With the GIL released, in slices. 0 when the thread has ended, -1 with a signal handler's
 * exception; then the join is freed, now or by its thread. */
static int wait_for(struct join *join)
{
    for (;;) {
        int ended;
        Py_BEGIN_ALLOW_THREADS;
        ended = has_ended(join, MT_PYTHON_SLICE_NS, 0);
        Py_END_ALLOW_THREADS;
        if (ended)
            return 0;
        if (PyErr_CheckSignals() != 0)
            break;
    }
    int ended;
    Py_BEGIN_ALLOW_THREADS;
    if (join->parent) { /* ends within a second of the abort; the parent must not be left in use */
        manta_comm_abort(join->parent, "a signal handler of this rank raised an exception");
        while (!has_ended(join, MT_PYTHON_SLICE_NS, 0))
            ;
        ended = 1;
    } else {
        ended = has_ended(join, 0, 1);
    }
    if (ended) {
        manta_comm_destroy(join->comm);
        join_free(join);
    }
    Py_END_ALLOW_THREADS;
    return -1;
}

/* Start a detached thread that takes no signals. 0 or an errno. */
static int start_thread(struct join *join)
{
    sigset_t all, before;
    pthread_t thread;
    pthread_attr_t detached;
    pthread_attr_init(&detached);
    pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int rc = pthread_create(&thread, &detached, run, join);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&detached);
    return rc;
}

/* Consumes the join. */
static int finish(struct join *join, struct manta_comm **comm_out)
{
    *comm_out = NULL;
    int rc = start_thread(join);
    if (rc != 0) {
        join_free(join);
        PyErr_Format(PyExc_RuntimeError, "cannot start a thread: %s", strerror(rc));
        return -1;
    }
    if (wait_for(join) != 0)
        return -1;
    *comm_out = join->comm;
    if (join->result != 0) {
        if (join->info.code != join->result)
            join->info = (struct manta_error_info){.code = join->result, .rank = -1};
        mt_python_raise_info(&join->info);
    }
    rc = join->result == 0 ? 0 : -1;
    join_free(join);
    return rc;
}

int mt_python_join_create(const struct manta_config *config, struct manta_comm **comm_out)
{
    struct join *join = join_new();
    if (!join) {
        PyErr_NoMemory();
        return -1;
    }
    join->config = *config;
    if (copy_text(config->session, &join->session, &join->config.session) != 0 ||
        copy_text(config->transports, &join->transports, &join->config.transports) != 0 ||
        copy_text(config->node, &join->node, &join->config.node) != 0) {
        join_free(join);
        PyErr_NoMemory();
        return -1;
    }
    return finish(join, comm_out);
}

int mt_python_join_split(struct manta_comm *parent, int colour, int key,
                         struct manta_comm **comm_out)
{
    struct join *join = join_new();
    if (!join) {
        PyErr_NoMemory();
        return -1;
    }
    join->parent = parent;
    join->colour = colour;
    join->key = key;
    return finish(join, comm_out);
}
