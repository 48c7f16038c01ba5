/* SPDX-License-Identifier: Apache-2.0 */
/* Joining a communicator can take as long as the slowest rank needs to come, and the C call does
 * not return for a signal. So it runs in a thread of its own, and this one looks for Ctrl-C
 * meanwhile, gives up the creation when it comes, and sees the thread end. */
#include "extension.h"

#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <time.h>

struct join {
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t ended_cond;
    int ended;                 /* guarded by lock */
    int cancel;                /* for the configuration; atomic */
    struct manta_comm *parent; /* split; NULL: create */
    int colour, key;
    struct manta_config config;
    struct manta_comm *comm;
    int result;
    struct manta_error_info info;
};

static void join_open(struct join *join)
{
    pthread_condattr_t monotonic;
    pthread_mutex_init(&join->lock, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&join->ended_cond, &monotonic);
    pthread_condattr_destroy(&monotonic);
}

static void join_close(struct join *join)
{
    pthread_cond_destroy(&join->ended_cond);
    pthread_mutex_destroy(&join->lock);
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
    pthread_cond_signal(&join->ended_cond);
    pthread_mutex_unlock(&join->lock);
    return NULL;
}

/* Wait a slice for the thread; 1 when it has ended. */
static int has_ended(struct join *join)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    uint64_t ns = (uint64_t)until.tv_nsec + MT_PYTHON_SLICE_NS;
    until.tv_sec += (time_t)(ns / UINT64_C(1000000000));
    until.tv_nsec = (long)(ns % UINT64_C(1000000000));
    pthread_mutex_lock(&join->lock);
    int rc = 0;
    while (!join->ended && rc == 0)
        rc = pthread_cond_timedwait(&join->ended_cond, &join->lock, &until);
    int ended = join->ended;
    pthread_mutex_unlock(&join->lock);
    return ended;
}

/* The thread ends within a second of this. */
static void give_up(struct join *join)
{
    if (join->parent)
        manta_comm_abort(join->parent, "a signal handler of this rank raised an exception");
    else
        __atomic_store_n(&join->cancel, 1, __ATOMIC_RELEASE);
}

/* With the GIL released, in slices, until the thread is gone. -1 with a signal handler's exception;
 * then there is no communicator. */
static int wait_for(struct join *join)
{
    int ended = 0, rc = 0;
    while (!ended && rc == 0) {
        Py_BEGIN_ALLOW_THREADS;
        ended = has_ended(join);
        Py_END_ALLOW_THREADS;
        if (!ended)
            rc = PyErr_CheckSignals();
    }
    Py_BEGIN_ALLOW_THREADS;
    if (rc != 0)
        give_up(join);
    pthread_join(join->thread, NULL);
    if (rc != 0)
        manta_comm_destroy(join->comm);
    Py_END_ALLOW_THREADS;
    return rc;
}

/* In a thread that takes no signals. 0 or an errno. */
static int start_thread(struct join *join)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int rc = pthread_create(&join->thread, NULL, run, join);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return rc;
}

static int finish(struct join *join, struct manta_comm **comm_out)
{
    *comm_out = NULL;
    int failed = start_thread(join);
    if (failed != 0) {
        PyErr_Format(PyExc_RuntimeError, "cannot start a thread: %s", strerror(failed));
        return -1;
    }
    if (wait_for(join) != 0)
        return -1;
    *comm_out = join->comm;
    if (join->result == 0)
        return 0;
    if (join->info.code != join->result)
        join->info = (struct manta_error_info){.code = join->result, .rank = -1};
    mt_python_raise_info(&join->info);
    return -1;
}

int mt_python_join_create(const struct manta_config *config, struct manta_comm **comm_out)
{
    struct join join = {.config = *config};
    join.config.cancel = &join.cancel;
    join_open(&join);
    int rc = finish(&join, comm_out);
    join_close(&join);
    return rc;
}

int mt_python_join_split(struct manta_comm *parent, int colour, int key,
                         struct manta_comm **comm_out)
{
    struct join join = {.parent = parent, .colour = colour, .key = key};
    join_open(&join);
    int rc = finish(&join, comm_out);
    join_close(&join);
    return rc;
}
