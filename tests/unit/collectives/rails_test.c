/* SPDX-License-Identifier: Apache-2.0 */
/* Two ranks in network namespaces of their own, joined by two cables: long messages go over both,
 * or over the one that MANTA_INTERFACE names. */
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/log.h"
#include "tests/support/comm_processes.h"
#include "tests/support/shell.h"

enum { NOT_PERMITTED = 77, HERE = 1, LINKED = 2, COUNT = 1 << 20, SENT = 10000, CALLS = 6 };

/* Bytes that this namespace has sent over an interface. */
static uint64_t sent_over(const char *interface)
{
    char line[512];
    uint64_t sent = 0;
    FILE *file = fopen("/proc/thread-self/net/dev", "re");
    while (file && fgets(line, sizeof(line), file)) {
        char *colon = strchr(line, ':');
        char *name = line + strspn(line, " ");
        if (!colon || strncmp(name, interface, strlen(interface)) != 0)
            continue;
        uint64_t field = 0;
        char *at = colon + 1;
        for (int i = 0; i < 9; i++) /* the ninth: bytes transmitted */
            field = strtoull(at, &at, 10);
        sent = field;
    }
    if (file)
        fclose(file);
    return sent;
}

/* Both cables carry a share worth the name, or, where one is named, that one nearly all. */
static int call(struct manta_comm *comm, struct comm_process *self)
{
    float *data = calloc(COUNT, sizeof(*data));
    uint64_t before[2] = {sent_over("rail0"), sent_over("rail1")};
    int rc = 0;
    for (int i = 0; i < CALLS && rc == 0; i++) {
        data[COUNT - 1] = (float)(self->rank + 1);
        rc = manta_allreduce(comm, data, data, COUNT, MANTA_FLOAT32, MANTA_SUM);
        if (rc == 0 && data[COUNT - 1] != 3)
            rc = -100;
    }
    free(data);
    uint64_t over[2] = {sent_over("rail0") - before[0], sent_over("rail1") - before[1]};
    uint64_t all = over[0] + over[1];
    int is_one = getenv("MANTA_INTERFACE") != NULL;
    int is_fair = is_one ? over[1] > all / 10 * 9 : over[0] > all / 10 && over[1] > all / 10;
    if (rc == 0 && !is_fair) {
        fprintf(stderr, "rank %d sent %llu and %llu bytes\n", self->rank,
                (unsigned long long)over[0], (unsigned long long)over[1]);
        rc = -101;
    }
    return rc;
}

/* The control plane is on rail1 and goes on: that nothing passes on rail0 is the transport's to
 * find, long before the deadline. */
static int lose_rail(struct manta_comm *comm, struct comm_process *self)
{
    float *data = calloc(COUNT, sizeof(*data));
    int rc = manta_allreduce(comm, data, data, COUNT, MANTA_FLOAT32, MANTA_SUM);
    if (rc == 0 && self->rank == 1 && shell("ip link set rail0 down"))
        rc = -100;
    for (int i = 0; i < CALLS && rc == 0; i++)
        rc = manta_allreduce(comm, data, data, COUNT, MANTA_FLOAT32, MANTA_SUM);
    free(data);
    if (rc == MANTA_EPEER)
        return 0;
    fprintf(stderr, "rank %d: a rail is dead, and calls give %d\n", self->rank, rc);
    return -101;
}

/* A message over each rail, both asked for beforehand. */
static int pass_two(struct manta_comm *comm, float *data, int is_sender)
{
    struct manta_request *requests[2] = {NULL, NULL};
    int peer = 1 - manta_comm_rank(comm), rc = 0;
    for (int i = 0; i < 2 && rc == 0; i++)
        rc = is_sender
                 ? manta_send(comm, data, SENT, MANTA_FLOAT32, peer)
                 : manta_recv_post(comm, data + i * SENT, SENT, MANTA_FLOAT32, peer, &requests[i]);
    for (int i = 0; i < 2 && !is_sender && rc == 0; i++)
        rc = manta_wait(requests[i], UINT64_MAX);
    return rc;
}

/* A sender whose kernel takes all that it has to say, and who then waits for the answer of a peer
 * that has got half of it: no send is under way, and yet it is told. The control plane is on
 * rail0. */
static int lose_what_is_sent(struct manta_comm *comm, const struct comm_process *self, int sender)
{
    float *data = calloc(COUNT, sizeof(*data));
    int peer = 1 - self->rank, is_sender = self->rank == sender;
    int rc = manta_allreduce(comm, data, data, COUNT, MANTA_FLOAT32, MANTA_SUM);
    if (rc == 0 && self->rank == 1 && shell("ip link set rail1 down"))
        rc = -100;
    rc = rc ? rc : manta_barrier(comm);
    rc = rc ? rc : pass_two(comm, data, is_sender);
    if (rc == 0)
        rc = is_sender ? manta_recv(comm, data, 1, MANTA_FLOAT32, peer)
                       : manta_send(comm, data, 1, MANTA_FLOAT32, peer);
    free(data);
    if (rc == MANTA_EPEER)
        return 0;
    fprintf(stderr, "rank %d: what rank %d sent is lost, and calls give %d\n", self->rank, sender,
            rc);
    return -101;
}

/* Its interface is down: no route is left. */
static int lose_what_1_sends(struct manta_comm *comm, struct comm_process *self)
{
    return lose_what_is_sent(comm, self, 1);
}

/* Its packets go, and do not arrive. */
static int lose_what_0_sends(struct manta_comm *comm, struct comm_process *self)
{
    return lose_what_is_sent(comm, self, 0);
}

static void enter(struct comm_process *self)
{
    if (self->rank == 0)
        return;
    if (unshare(CLONE_NEWNET))
        _exit(1);
    atomic_store(&self->stage, HERE);
    comm_process_await(self, LINKED);
    if (shell("ip link set lo up; for i in 0 1; do ip link set far$i name rail$i; "
              "ip addr add 10.78.$i.2/24 dev rail$i; ip link set rail$i up; done"))
        _exit(1);
}

static void lay_cables(struct comm_process *list)
{
    comm_process_await(&list[1], HERE);
    if (shell("for i in 0 1; do ip link set far$i netns %d; done", (int)list[1].pid))
        print_error("the cables cannot be laid\n");
    atomic_store(&list[1].stage, LINKED);
}

static int over_cables(const char *interface,
                       int (*body)(struct manta_comm *comm, struct comm_process *self))
{
    const struct comm_job job = {.ranks = 2,
                                 .host = "10.78.1.1",
                                 .log_level = MT_LOG_WARN,
                                 .enter = enter,
                                 .started = lay_cables,
                                 .body = body};
    if (unshare(CLONE_NEWNET) ||
        shell("ip link set lo up && for i in 0 1; do "
              "ip link add rail$i type veth peer name far$i 2>/dev/null && "
              "ip addr add 10.78.$i.1/24 dev rail$i && ip link set rail$i up || exit 1; done"))
        return NOT_PERMITTED;
    if (interface)
        setenv("MANTA_INTERFACE", interface, 1);
    struct comm_process *list = comm_processes_start(&job);
    int killed = comm_processes_wait(list, 2);
    int failed = list[0].result != 0 || list[1].result != 0;
    for (int r = 0; r < 2; r++)
        if (list[r].result)
            print_error("rank %d: %d %s\n", r, list[r].result, list[r].error.sentence);
    comm_processes_free(list, 2);
    return killed || failed;
}

/* In a process of its own, with namespaces of its own. */
static pid_t begin_apart(const char *interface,
                         int (*body)(struct manta_comm *comm, struct comm_process *self))
{
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0)
        _exit(over_cables(interface, body));
    assert_true(pid > 0);
    return pid;
}

static int end_apart(pid_t pid)
{
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void apart(const char *interface,
                  int (*body)(struct manta_comm *comm, struct comm_process *self))
{
    int code = end_apart(begin_apart(interface, body));
    if (code == NOT_PERMITTED)
        skip();
    assert_int_equal(code, 0);
}

static void long_messages_take_both_rails(void **state)
{
    (void)state;
    apart(NULL, call);
}

static void a_named_interface_is_the_only_rail(void **state)
{
    (void)state;
    apart("rail1", call);
}

/* They mostly wait, so they wait together. */
static void a_rail_that_dies_is_found(void **state)
{
    (void)state;
    int (*const bodies[])(struct manta_comm *, struct comm_process *) = {
        lose_rail, lose_what_1_sends, lose_what_0_sends};
    pid_t pids[3];
    int codes[3];
    for (int i = 0; i < 3; i++)
        pids[i] = begin_apart(NULL, bodies[i]);
    for (int i = 0; i < 3; i++)
        codes[i] = end_apart(pids[i]);
    if (codes[0] == NOT_PERMITTED)
        skip();
    for (int i = 0; i < 3; i++)
        assert_int_equal(codes[i], 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(long_messages_take_both_rails),
        cmocka_unit_test(a_named_interface_is_the_only_rail),
        cmocka_unit_test(a_rail_that_dies_is_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
