/* SPDX-License-Identifier: Apache-2.0 */
/* manta-perf: the benchmark loop over Manta, or, with --bare, over two cache lines. */
#include "perf/manta-perf/bare.h"

#include <stdio.h>
#include <string.h>

#include <manta/manta.h>

#include "collectives/comm.h"

static struct manta_comm *comm;

static int complain(const char *what, int rc)
{
    struct manta_error_info info = {.size = sizeof info};
    if (manta_comm_error(comm, &info) == 0 && info.code != 0)
        fprintf(stderr, "manta-perf: %s: %s\n", what, info.sentence);
    else
        fprintf(stderr, "manta-perf: %s: %s\n", what, manta_strerror(rc));
    return rc;
}

/* Nodes differ by the hash of their name; there is no public call for it. */
static int count_nodes(void)
{
    int count = 0;
    for (uint32_t r = 0; r < comm->ranks; r++) {
        uint32_t first = 0;
        while (comm->nodes[first] != comm->nodes[r])
            first++;
        count += first == r;
    }
    return count;
}

static int open_manta(struct perf_world *world_out)
{
    int rc = manta_comm_create(NULL, &comm);
    if (rc != 0)
        return rc; /* the reason has been logged */
    world_out->rank = manta_comm_rank(comm);
    world_out->ranks = manta_comm_size(comm);
    world_out->nodes = count_nodes();
    return 0;
}

static int share(void *bytes, size_t length)
{
    int rc = manta_broadcast(comm, bytes, length, MANTA_UINT8, 0);
    return rc != 0 ? complain("broadcast", rc) : 0;
}

static int maximum(uint64_t *values, size_t count)
{
    int rc = manta_allreduce(comm, values, values, count, MANTA_UINT64, MANTA_MAX);
    return rc != 0 ? complain("allreduce", rc) : 0;
}

static int run(const struct perf_call *call, const void *src, void *dst)
{
    int rc = 0;
    switch (call->collective) {
    case MANTA_ALLREDUCE:
        rc = manta_allreduce(comm, src, dst, call->count, call->dtype, call->op);
        break;
    case MANTA_BROADCAST:
        rc = manta_broadcast(comm, dst, call->count, call->dtype, call->root);
        break;
    case MANTA_REDUCE:
        rc = manta_reduce(comm, src, dst, call->count, call->dtype, call->op, call->root);
        break;
    case MANTA_ALLGATHER:
        rc = manta_allgather(comm, src, dst, call->count, call->dtype);
        break;
    case MANTA_REDUCE_SCATTER:
        rc = manta_reduce_scatter(comm, src, dst, call->count, call->dtype, call->op);
        break;
    default:
        rc = manta_barrier(comm);
    }
    return rc != 0 ? complain("the call failed", rc) : 0;
}

static const char *lacks(const struct perf_call *call)
{
    (void)call;
    return NULL;
}

static void copy_word(char target[32], const char *from)
{
    size_t length = strcspn(from, " \n");
    snprintf(target, 32, "%.*s", length < 31 ? (int)length : 31, from);
}

/* From the words of manta_explain(): "  ring  12.3 us predicted, chosen", and a line "  shm to 3
 * ranks (memfd; ...)" for each transport. */
static void describe(const struct perf_call *call, char algorithm[32], char transport[32])
{
    char text[4096], *rest = text, *line;
    size_t used = 0;
    strcpy(algorithm, "-");
    transport[0] = '\0';
    if (manta_explain(comm, call->collective, call->count, call->dtype, call->op, call->root, text,
                      sizeof text) != 0)
        return;
    while ((line = strsep(&rest, "\n")) != NULL) {
        const char *words = line + strspn(line, " ");
        if (strstr(line, ", chosen") != NULL)
            copy_word(algorithm, words);
        else if (strstr(line, " to ") != NULL && strstr(line, " rank") != NULL && used < 24)
            used += (size_t)snprintf(transport + used, 32 - used, "%s%.*s", used ? "+" : "",
                                     (int)strcspn(words, " "), words);
    }
}

static void *allocate(size_t bytes)
{
    void *memory;
    int rc = manta_mem_alloc(comm, bytes, &memory);
    if (rc != 0)
        complain("no symmetric memory", rc);
    return memory;
}

static void release(void *memory)
{
    manta_mem_free(memory);
}

static void close_manta(void)
{
    manta_comm_destroy(comm);
}

/* Is --bare among the options? It is taken out. */
static int take_bare(int *argc, char **argv)
{
    int kept = 1;
    for (int i = 1; i < *argc; i++)
        if (strcmp(argv[i], "--bare") != 0)
            argv[kept++] = argv[i];
    int is_there = kept < *argc;
    argv[kept] = NULL;
    *argc = kept;
    return is_there;
}

int main(int argc, char **argv)
{
    static const struct perf_backend manta = {
        .name = "manta-perf",
        .open = open_manta,
        .share = share,
        .maximum = maximum,
        .run = run,
        .lacks = lacks,
        .describe = describe,
        .allocate = allocate,
        .release = release,
        .close = close_manta,
    };
    const struct perf_backend bare = perf_bare(&manta);
    int is_bare = take_bare(&argc, argv);
    return perf_main(is_bare ? &bare : &manta, argc, argv);
}
