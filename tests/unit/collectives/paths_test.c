/* SPDX-License-Identifier: Apache-2.0 */
/* The two lines that each rank logs when its communicator is made. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "collectives/comm.h"
#include "core/log.h"
#include "core/wire.h"
#include "tests/support/comm_processes.h"

static void assert_nodes(const uint64_t *nodes, uint32_t ranks, uint32_t count, const char *wanted)
{
    char text[MT_NODES_TEXT];
    assert_int_equal(mt_paths_nodes(nodes, ranks, text), count);
    assert_string_equal(text, wanted);
}

static void ranks_are_counted_by_node(void **state)
{
    static const uint64_t nodes[] = {7, 7, 9, 9, 3, 3, 5};
    static const uint64_t in_turn[] = {1, 2, 3, 1, 2, 3, 4, 5};
    uint64_t all[1000];
    char text[MT_NODES_TEXT];
    (void)state;
    assert_nodes(nodes, 1, 1, "1");
    assert_nodes(nodes, 4, 2, "2+2");
    assert_nodes(nodes, 5, 3, "2+2+1");
    assert_nodes(nodes, 6, 3, "3x2");
    assert_nodes(nodes, 7, 4, "3x2+1");
    assert_nodes(in_turn, 8, 5, "3x2+1+1");
    for (uint32_t r = 0; r < 1000; r++)
        all[r] = r / 8;
    assert_nodes(all, 1000, 125, "125x8");
    for (uint32_t r = 0, node = 0, left = 1; r < 1000; r++, left--) {
        if (left == 0)
            left = ++node % 2 + 1;
        all[r] = node;
    }
    assert_true(mt_paths_nodes(all, 1000, text) > 600);
    assert_non_null(strstr(text, "1+2+1+2+"));
    assert_string_equal(text + strlen(text) - 4, "+...");
}

static int call(struct manta_comm *comm, struct comm_process *self)
{
    return comm_process_allreduce(comm, self);
}

/* A transport of the default list that this host lacks: there may be a line of it, or none. */
static int is_of_unused(const char *line)
{
    return strncmp(line, "transport verbs is not used: ", 29) == 0 ||
           strncmp(line, "transport ofi is not used: ", 27) == 0;
}

/* The line at level info that has `beginning` after its head; how many lines there are, but for
 * those of transports that are not used. */
static int find_line(const char *log, int rank, const char *beginning, char line[1024])
{
    char head[64];
    int count = 0;
    snprintf(head, sizeof(head), "manta[%d] info: ", rank);
    line[0] = 0;
    for (const char *at = log; (at = strstr(at, head)) != NULL;) {
        at += strlen(head);
        count += !is_of_unused(at);
        if (strncmp(at, beginning, strlen(beginning)) == 0)
            snprintf(line, 1024, "%.*s", (int)strcspn(at, "\n"), at);
    }
    return count;
}

/* What rank 0 logs: the first line is as given, the second has all of these parts, but for those
 * after a '!'. */
static void assert_logged(const struct comm_job *job, const char *size, const char *const *parts)
{
    char line[1024], wanted[128];
    struct comm_process *list = comm_processes_start(job);
    assert_int_equal(comm_processes_wait(list, job->ranks), 0);
    for (int r = 0; r < job->ranks; r++)
        assert_int_equal(list[r].result, 0);
    char *log = comm_process_log(&list[0]);
    assert_non_null(log);
    assert_int_equal(find_line(log, 0, "communicator of ", line), 2);
    snprintf(wanted, sizeof(wanted), "communicator of %s; libmanta %d.%d.%d, protocol %d, Linux ",
             size, MANTA_VERSION_MAJOR, MANTA_VERSION_MINOR, MANTA_VERSION_PATCH, MT_WIRE_PROTOCOL);
    line[strlen(wanted)] = 0;
    assert_string_equal(line, wanted);
    find_line(log, 0, "transports (", line);
    for (; *parts; parts++) {
        if (**parts == '!') { /* not this */
            assert_null(strstr(line, *parts + 1));
            continue;
        }
        if (!strstr(line, *parts))
            print_error("\"%s\" is not in \"%s\"\n", *parts, line);
        assert_non_null(strstr(line, *parts));
    }
    free(log);
    comm_processes_free(list, job->ranks);
}

static void ranks_of_a_node_share_memory(void **state)
{
    static const char *const parts[] = {
        "MANTA_TRANSPORTS=shm,ofi,verbs,tcp): shm to 2 ranks (memfd; rank 1 on "
        "this host, of the same user); fused steps by shm",
        NULL};
    const struct comm_job job = {.ranks = 3, .log_level = MT_LOG_INFO, .body = call};
    (void)state;
    assert_logged(&job, "3 ranks on 1 node", parts);
}

static void enter_node(struct comm_process *self)
{
    setenv("MANTA_NODE", self->rank < 2 ? "a" : "b", 1);
}

static void ranks_of_other_nodes_tell_why_tcp(void **state)
{
    static const char *const parts[] = {": shm to 1 rank (memfd; rank 1 ",
                                        ", tcp to 2 ranks (",
                                        "; rank 2 at ",
                                        "; not shm: rank 2 is on another node)",
                                        "; fused steps on each node by shm",
                                        NULL};
    const struct comm_job job = {
        .ranks = 4, .log_level = MT_LOG_INFO, .enter = enter_node, .body = call};
    (void)state;
    assert_logged(&job, "4 ranks on 2 nodes (2+2)", parts);
}

static void enter_node_of_its_own(struct comm_process *self)
{
    setenv("MANTA_NODE", self->rank == 0 ? "a" : "b", 1);
}

/* Rank 0 has nobody to fuse steps with, though others have. */
static void nothing_is_fused_where_a_rank_is_alone(void **state)
{
    static const char *const parts[] = {": tcp to 2 ranks (", "!fused", NULL};
    const struct comm_job job = {
        .ranks = 3, .log_level = MT_LOG_INFO, .enter = enter_node_of_its_own, .body = call};
    (void)state;
    assert_logged(&job, "3 ranks on 2 nodes (1+2)", parts);
}

/* How many ranks have warned of their list. */
static int count_warnings(const char *transports, void (*enter)(struct comm_process *self),
                          const char *words)
{
    const struct comm_job job = {.ranks = 3,
                                 .transports = transports,
                                 .log_level = MT_LOG_WARN,
                                 .enter = enter,
                                 .body = call};
    struct comm_process *list = comm_processes_start(&job);
    int warnings = 0;
    assert_int_equal(comm_processes_wait(list, job.ranks), 0);
    for (int r = 0; r < job.ranks; r++) {
        assert_int_equal(list[r].result, 0);
        char *log = comm_process_log(&list[r]);
        warnings += strstr(log, "comes before shm") != NULL;
        assert_true(!strstr(log, "comes before shm") || strstr(log, words));
        free(log);
    }
    comm_processes_free(list, job.ranks);
    return warnings;
}

static void a_slow_list_is_warned_of_once(void **state)
{
    (void)state;
    assert_int_equal(count_warnings("tcp,shm", NULL,
                                    "manta[0] warn: MANTA_TRANSPORTS=tcp,shm: tcp comes before "
                                    "shm, so ranks of one node use it with each other, as this one "
                                    "and rank 1 do"),
                     1);
    /* Rank 0 has nobody to share memory with. */
    assert_int_equal(count_warnings("tcp,shm", enter_node_of_its_own,
                                    "manta[1] warn: MANTA_TRANSPORTS=tcp,shm: tcp "),
                     1);
    assert_int_equal(count_warnings("shm,tcp", NULL, "nothing"), 0);
    assert_int_equal(count_warnings("tcp", NULL, "nothing"), 0);
}

static void a_list_of_the_user_is_told(void **state)
{
    static const char *const parts[] = {"(MANTA_TRANSPORTS=tcp): tcp to 1 rank (", "; rank 1 at ",
                                        "fused steps by none", NULL};
    const struct comm_job job = {
        .ranks = 2, .transports = "tcp", .log_level = MT_LOG_INFO, .body = call};
    (void)state;
    assert_logged(&job, "2 ranks on 1 node", parts);
}

static void a_rank_alone_needs_no_transport(void **state)
{
    static const char *const parts[] = {": none needed", NULL};
    const struct comm_job job = {.ranks = 1, .log_level = MT_LOG_INFO, .body = call};
    (void)state;
    assert_logged(&job, "1 rank on 1 node", parts);
}

/* Nothing reaches rank 1: its rank and the reason are named. */
static void no_way_is_told_with_its_reason(void **state)
{
    const struct comm_job job = {.ranks = 3,
                                 .transports = "shm",
                                 .log_level = MT_LOG_ERROR,
                                 .enter = enter_node,
                                 .body = call};
    (void)state;
    struct comm_process *list = comm_processes_start(&job);
    assert_int_equal(comm_processes_wait(list, 3), 0);
    for (int r = 0; r < 3; r++) {
        assert_int_equal(list[r].result, MANTA_ETRANSPORT);
        assert_non_null(strstr(list[r].error.sentence, " is on another node"));
        assert_non_null(strstr(list[r].error.sentence, "MANTA_TRANSPORTS"));
    }
    comm_processes_free(list, 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ranks_are_counted_by_node),
        cmocka_unit_test(ranks_of_a_node_share_memory),
        cmocka_unit_test(ranks_of_other_nodes_tell_why_tcp),
        cmocka_unit_test(nothing_is_fused_where_a_rank_is_alone),
        cmocka_unit_test(a_slow_list_is_warned_of_once),
        cmocka_unit_test(a_list_of_the_user_is_told),
        cmocka_unit_test(a_rank_alone_needs_no_transport),
        cmocka_unit_test(no_way_is_told_with_its_reason),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
