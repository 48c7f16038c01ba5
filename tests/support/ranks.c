/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/ranks.h"

#include <dirent.h>
#include <pthread.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "collectives/comm.h"
#include "core/clock.h"
#include "core/service.h"
#include "topology/topology.h"

struct rank_thread {
    const struct ranks_options *options;
    const char *session;
    rank_fn *fn;
    void *arg;
    int rank, failed;
    pthread_t thread;
};

int rank_fail(struct manta_comm *comm, const char *format, ...)
{
    va_list arguments;
    char text[512];
    va_start(arguments, format);
    vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    fprintf(stderr, "rank %d of %d: %s\n", manta_comm_rank(comm), manta_comm_size(comm), text);
    return 1;
}

void ranks_hurry(struct manta_comm *comm, uint64_t timeout_ns)
{
    comm->settings.timeout_ns = timeout_ns;
    mt_service_lock();
    comm->group->timeout_ns = timeout_ns;
    mt_service_unlock();
    mt_control_set_record(comm->control, comm->record); /* who looks at deadlines looks anew */
}

int ranks_await_call(struct ranks_watched *watched, uint64_t nth)
{
    const struct mt_record *record = atomic_load(&watched->comm)->record;
    uint64_t until_ns = mt_clock_now_ns() + 20 * MT_SECOND;
    while (mt_record_last_collective(record) < nth && mt_clock_now_ns() < until_ns)
        sched_yield();
    return mt_record_last_collective(record) < nth;
}

void ranks_part(struct ranks_watched *watched, const struct manta_comm *comm)
{
    uint64_t until_ns = mt_clock_now_ns() + 60 * MT_SECOND;
    if (atomic_load(&watched->comm) != comm) {
        atomic_fetch_add(&watched->parted, 1);
        return;
    }
    while (atomic_load(&watched->parted) < manta_comm_size(comm) - 1 &&
           mt_clock_now_ns() < until_ns)
        sched_yield();
    atomic_store(&watched->parted, 0);
}

static int node_of(const struct ranks_options *options, int rank)
{
    int nodes = options->nodes > 1 ? options->nodes : 1;
    return options->seats ? options->seats[rank] : rank * nodes / options->ranks;
}

struct mt_topology *ranks_topology(const struct ranks_options *options)
{
    uint64_t *nodes = calloc((size_t)options->ranks, sizeof(*nodes));
    struct mt_topology *topology = NULL;
    for (int r = 0; nodes && r < options->ranks; r++)
        nodes[r] = (uint64_t)node_of(options, r);
    if (nodes && mt_topology_of_nodes((uint32_t)options->ranks, nodes, &topology))
        topology = NULL;
    free(nodes);
    return topology;
}

int rank_run(const struct ranks_options *options, const char *session, int rank, rank_fn *fn,
             void *arg)
{
    struct manta_config config = MANTA_CONFIG_INIT;
    struct manta_comm *comm;
    char node[32];

    if (options->enter && options->enter(rank, arg)) {
        fprintf(stderr, "rank %d: it cannot be made what the test needs\n", rank);
        return 1;
    }
    config.rank = rank;
    config.ranks = options->ranks;
    config.session = session;
    config.timeout_ns = options->timeout_ns ? options->timeout_ns : 20000000000u;
    config.transports = options->transports;
    if (options->nodes > 1 || options->seats) {
        snprintf(node, sizeof(node), "node%d", node_of(options, rank));
        config.node = node;
    }
    int rc = manta_comm_create(&config, &comm);
    if (rc) {
        struct manta_error_info info = {.size = sizeof(info)};
        manta_comm_error(NULL, &info);
        fprintf(stderr, "rank %d: create: %d %s\n", rank, rc, info.sentence);
        return 1;
    }
    int failed = fn(comm, arg);
    if (!options->keep)
        failed |= manta_comm_destroy(comm) != 0;
    return failed != 0;
}

static void *rank_main(void *arg)
{
    struct rank_thread *self = arg;
    self->failed = rank_run(self->options, self->session, self->rank, self->fn, self->arg);
    return NULL;
}

int ranks_run(const struct ranks_options *options, rank_fn *fn, void *arg)
{
    char session[1024];
    int failed = 0;
    struct rank_thread *threads = calloc((size_t)options->ranks, sizeof(*threads));
    if (!threads || manta_session_create(session, sizeof(session)))
        abort();
    for (int r = 0; r < options->ranks; r++) {
        threads[r] = (struct rank_thread){
            .options = options, .session = session, .fn = fn, .arg = arg, .rank = r};
        if (pthread_create(&threads[r].thread, NULL, rank_main, &threads[r]))
            abort();
    }
    for (int r = 0; r < options->ranks; r++) {
        pthread_join(threads[r].thread, NULL);
        failed += threads[r].failed != 0;
    }
    free(threads);
    return failed;
}

int folder_entries(const char *path)
{
    int count = 0;
    DIR *folder = opendir(path);
    if (!folder)
        return -1;
    while (readdir(folder))
        count++;
    closedir(folder);
    return count;
}
