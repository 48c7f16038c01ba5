/* SPDX-License-Identifier: Apache-2.0 */
/* Arguments that are refused without harm, and what each public function answers. */
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
#include <manta/manta.h>

#include "tests/support/held.h"
#include "tests/support/ranks.h"

/* ThreadSanitizer's run time cannot start threads in a forked child. */
#if defined(__SANITIZE_THREAD__)
#define CHILD_THREADS(test)
#else
#define CHILD_THREADS(test) test,
#endif

static int refused(struct manta_comm *comm, int rc, const char *what)
{
    struct manta_error_info info = {.size = sizeof(info)};
    manta_comm_error(comm, &info);
    if (rc != MANTA_EINVAL || info.code != MANTA_EINVAL || info.sentence[0] == '\0')
        return rank_fail(comm, "%s: %d, '%s'", what, rc, info.sentence);
    return 0;
}

#define REFUSED(call) failed += refused(comm, (call), #call)

/* Each of these is refused on every rank, and afterwards the communicator works as before. */
static int bad_arguments(struct manta_comm *comm, void *arg)
{
    (void)arg;
    float a[64] = {1}, b[64];
    struct manta_comm *child;
    int rank = manta_comm_rank(comm), failed = 0;
    uint64_t too_many = UINT64_C(1) << 62;

    REFUSED(manta_allreduce(comm, NULL, b, 4, MANTA_FLOAT32, MANTA_SUM));
    REFUSED(manta_allreduce(comm, a, NULL, 4, MANTA_FLOAT32, MANTA_SUM));
    REFUSED(manta_allreduce(comm, a, b, 4, MANTA_DTYPE_COUNT, MANTA_SUM));
    REFUSED(manta_allreduce(comm, a, b, 4, -1, MANTA_SUM));
    REFUSED(manta_allreduce(comm, a, b, 4, MANTA_FLOAT32, MANTA_OP_COUNT));
    REFUSED(manta_allreduce(comm, a, b, 4, MANTA_FLOAT32, -1));
    REFUSED(manta_allreduce(comm, a, b, 4, MANTA_FLOAT32, MANTA_BXOR));
    REFUSED(manta_allreduce(comm, a, a + 1, 4, MANTA_FLOAT32, MANTA_SUM));
    REFUSED(manta_allreduce(comm, a, b, too_many, MANTA_FLOAT32, MANTA_SUM));
    REFUSED(manta_allreduce(comm, a, b, UINT64_MAX, MANTA_INT8, MANTA_SUM));
    REFUSED(manta_broadcast(comm, a, 4, MANTA_FLOAT32, -1));
    REFUSED(manta_broadcast(comm, a, 4, MANTA_FLOAT32, 3));
    REFUSED(manta_broadcast(comm, NULL, 4, MANTA_FLOAT32, 0));
    REFUSED(manta_reduce(comm, a, b, 4, MANTA_FLOAT32, MANTA_SUM, 3));
    REFUSED(manta_reduce(comm, NULL, b, 4, MANTA_FLOAT32, MANTA_SUM, 0));
    REFUSED(manta_allgather(comm, a + rank * 4 + 1, a, 4, MANTA_FLOAT32));
    REFUSED(manta_reduce_scatter(comm, a, a + rank * 4 + 1, 4, MANTA_FLOAT32, MANTA_SUM));
    REFUSED(manta_send(comm, a, 4, MANTA_FLOAT32, rank));
    REFUSED(manta_send(comm, a, 4, MANTA_FLOAT32, 3));
    REFUSED(manta_recv(comm, a, 4, MANTA_FLOAT32, -1));
    REFUSED(manta_allreduce_post(comm, a, b, 4, MANTA_FLOAT32, MANTA_SUM, NULL));
    REFUSED(manta_comm_split(comm, 0, 0, NULL));
    REFUSED(manta_comm_split(comm, -2, 0, &child));

    if (manta_reduce(comm, a, rank ? NULL : b, 4, MANTA_FLOAT32, MANTA_SUM, 0) ||
        manta_allreduce(comm, a, b, 4, MANTA_FLOAT32, MANTA_SUM) || b[0] != 3)
        failed += rank_fail(comm, "the communicator does not work any more");
    return failed;
}

static void test_bad_arguments(void **state)
{
    (void)state;
    const struct ranks_options options = {.ranks = 3};
    assert_int_equal(ranks_run(&options, bad_arguments, NULL), 0);
}

static void test_null_everywhere(void **state)
{
    (void)state;
    struct manta_error_info info = {.size = sizeof(info)};
    struct manta_stats stats = {.size = sizeof(stats)};
    struct manta_request *request;
    struct manta_comm *comm;
    char text[16];
    float x = 0;
    assert_int_equal(manta_comm_create(NULL, NULL), MANTA_EINVAL);
    assert_int_equal(manta_comm_destroy(NULL), 0);
    assert_int_equal(manta_comm_rank(NULL), MANTA_EINVAL);
    assert_int_equal(manta_comm_size(NULL), MANTA_EINVAL);
    assert_int_equal(manta_comm_abort(NULL, "why"), MANTA_EINVAL);
    assert_int_equal(manta_comm_stats(NULL, &stats), MANTA_EINVAL);
    assert_int_equal(manta_comm_dump(NULL, NULL), MANTA_EINVAL);
    assert_int_equal(manta_comm_split(NULL, 0, 0, &comm), MANTA_EINVAL);
    assert_int_equal(manta_explain(NULL, 0, 1, 0, 0, 0, text, sizeof(text)), MANTA_EINVAL);
    assert_int_equal(manta_barrier(NULL), MANTA_EINVAL);
    assert_int_equal(manta_allreduce(NULL, &x, &x, 1, MANTA_FLOAT32, MANTA_SUM), MANTA_EINVAL);
    assert_int_equal(manta_comm_error(NULL, &info), 0);
    assert_non_null(strstr(info.sentence, "comm is NULL"));
    assert_int_equal(manta_barrier_post(NULL, &request), MANTA_EINVAL);
    assert_int_equal(manta_test(NULL), MANTA_EINVAL);
    assert_int_equal(manta_wait(NULL, 0), MANTA_EINVAL);
    assert_int_equal(manta_comm_error(NULL, NULL), MANTA_EINVAL);
    assert_int_equal(manta_session_create(NULL, 10), MANTA_EINVAL);
    assert_int_equal(manta_session_create(text, sizeof(text)), MANTA_EINVAL);
}

static void expect_create(struct manta_config config, int wanted, const char *word)
{
    struct manta_comm *comm = (struct manta_comm *)&config;
    struct manta_error_info info = {.size = sizeof(info)};
    assert_int_equal(manta_comm_create(&config, &comm), wanted);
    assert_null(comm);
    assert_int_equal(manta_comm_error(NULL, &info), 0);
    assert_int_equal(info.code, wanted);
    if (!strstr(info.sentence, word))
        fail_msg("'%s' does not speak of '%s'", info.sentence, word);
}

static void test_bad_config(void **state)
{
    (void)state;
    struct manta_config config = MANTA_CONFIG_INIT;
    char session[1024];
    assert_int_equal(manta_session_create(session, sizeof(session)), 0);
    expect_create(config, MANTA_ESCHEDULER, "MANTA_");
    config.rank = 1;
    config.ranks = 2;
    expect_create(config, MANTA_ESCHEDULER, "MANTA_SESSION is not set, but the rest is");
    config.ranks = -1;
    expect_create(config, MANTA_ESCHEDULER, "MANTA_SIZE and MANTA_SESSION are not set");
    config.session = session;
    config.ranks = 2;
    char name[300];
    memset(name, 'n', sizeof(name));
    name[sizeof(name) - 1] = '\0';
    config.node = name;
    expect_create(config, MANTA_EINVAL, "the node's name is longer than 255");
    config.node = NULL;
    config.rank = 2;
    expect_create(config, MANTA_EINVAL, "rank 2 of 2");
    config.rank = 0;
    config.ranks = 1;
    config.session = "manta1:nonsense";
    expect_create(config, MANTA_EINVAL, "session");
    config.session = session;
    config.transports = "pigeon";
    expect_create(config, MANTA_EINVAL, "pigeon");
    config.transports = NULL;
    config.size = 8;
    expect_create(config, MANTA_EINVAL, "MANTA_CONFIG_INIT");
    config.size = sizeof(config);
    setenv("MANTA_TIMEOUT", "soon", 1);
    expect_create(config, MANTA_EINVAL, "MANTA_TIMEOUT");
    unsetenv("MANTA_TIMEOUT");
    setenv("MANTA_ALLREDUCE", "0-4k:", 1);
    expect_create(config, MANTA_EINVAL, "MANTA_ALLREDUCE");
    setenv("MANTA_ALLREDUCE", "0-16:ring,16-:telepathy", 1);
    expect_create(config, MANTA_EINVAL, "there are recursive_doubling, ring, ");
    expect_create(config, MANTA_EINVAL, ", ordered_ring");
    unsetenv("MANTA_ALLREDUCE");
}

/* One rank alone needs neither session nor environment. */
static void test_alone(void **state)
{
    (void)state;
    struct manta_config config = MANTA_CONFIG_INIT;
    struct manta_comm *comm;
    float in = 5, out = 0;
    config.ranks = 1;
    assert_int_equal(manta_comm_create(&config, &comm), 0);
    assert_int_equal(manta_allreduce(comm, &in, &out, 1, MANTA_FLOAT32, MANTA_AVG), 0);
    assert_true(out == 5);
    assert_int_equal(manta_comm_destroy(comm), 0);
}

/* A forced algorithm runs, or the call fails: never another one. */
static int forced(struct manta_comm *comm, void *arg)
{
    float a[8] = {1}, b[8];
    struct manta_error_info info = {.size = sizeof(info)};
    int rc = manta_allreduce(comm, a, b, 8, MANTA_FLOAT32, MANTA_SUM);
    manta_comm_error(comm, &info);
    if (rc != *(int *)arg)
        return rank_fail(comm, "%d: %s", rc, info.sentence);
    return 0;
}

static void test_forced_algorithm(void **state)
{
    (void)state;
    const struct ranks_options tcp = {.ranks = 2, .transports = "tcp"},
                               shm = {.ranks = 2, .transports = "shm"};
    int impossible = MANTA_EALGORITHM, works = 0;
    setenv("MANTA_ALLREDUCE", "fused", 1);
    assert_int_equal(ranks_run(&tcp, forced, &impossible), 0);
    assert_int_equal(ranks_run(&shm, forced, &works), 0);
    unsetenv("MANTA_ALLREDUCE");
}

static int sums_up(struct manta_comm *comm, void *arg)
{
    (void)arg;
    int32_t in = 3, out = 0;
    if (manta_allreduce(comm, &in, &out, 1, MANTA_INT32, MANTA_SUM))
        return 1;
    return out != 3 * manta_comm_size(comm);
}

static int statistics(struct manta_comm *comm, void *arg)
{
    (void)arg;
    struct manta_stats stats = {.size = sizeof(stats)};
    double a[100] = {0}, b[300];
    for (int i = 0; i < 5; i++) {
        if (manta_allreduce(comm, a, b, 100, MANTA_FLOAT64, MANTA_SUM))
            return 1;
    }
    if (manta_allgather(comm, a, b, 100, MANTA_FLOAT64) || manta_barrier(comm) ||
        manta_broadcast(comm, a, 0, MANTA_FLOAT64, 1) || manta_comm_stats(comm, &stats))
        return 1;
    if (stats.calls[MANTA_ALLREDUCE] != 5 || stats.bytes[MANTA_ALLREDUCE] != 4000 ||
        stats.calls[MANTA_ALLGATHER] != 1 || stats.bytes[MANTA_ALLGATHER] != 800 ||
        stats.calls[MANTA_BARRIER] != 1 || stats.bytes[MANTA_BARRIER] != 0 ||
        stats.calls[MANTA_BROADCAST] != 1 || stats.bytes[MANTA_BROADCAST] != 0 ||
        stats.plans_compiled < 3)
        return rank_fail(comm, "statistics are wrong");
    uint64_t compiled = stats.plans_compiled;
    if (manta_allreduce(comm, a, b, 100, MANTA_FLOAT64, MANTA_SUM) ||
        manta_comm_stats(comm, &stats))
        return 1;
    if (stats.plans_compiled != compiled)
        return rank_fail(comm, "a plan was compiled again");
    return 0;
}

static void test_statistics(void **state)
{
    (void)state;
    const struct ranks_options options = {.ranks = 3};
    assert_int_equal(ranks_run(&options, statistics, NULL), 0);
}

static int explains(struct manta_comm *comm, void *arg)
{
    (void)arg;
    char text[2048], small[10];
    if (manta_explain(comm, MANTA_ALLREDUCE, 1000, MANTA_FLOAT32, MANTA_SUM, 0, text, sizeof(text)))
        return 1;
    if (!strstr(text, "chosen") || !strstr(text, "ring") || !strstr(text, "predicted"))
        return rank_fail(comm, "explain says: %s", text);
    if (!strstr(text, "\n  shm to 3 ranks (memfd; "))
        return rank_fail(comm, "explain does not tell the transports: %s", text);
    if (manta_explain(comm, MANTA_ALLREDUCE, 1000, MANTA_FLOAT32, MANTA_SUM, 0, small,
                      sizeof(small)) ||
        strlen(small) != sizeof(small) - 1)
        return rank_fail(comm, "explain does not cut its text");
    if (manta_explain(comm, 99, 1, MANTA_FLOAT32, 0, 0, text, sizeof(text)) != MANTA_EINVAL)
        return rank_fail(comm, "explain takes any collective");
    if (manta_explain(comm, MANTA_BARRIER, 0, -1, -1, -1, text, sizeof(text)) ||
        !strstr(text, "chosen"))
        return rank_fail(comm, "explain minds what a barrier does not take");
    return 0;
}

/* What the call would refuse is refused. */
static int explains_no_refused_call(struct manta_comm *comm, void *arg)
{
    char text[2048];
    int rank = manta_comm_rank(comm), failed = 0;
    (void)arg;
#define EXPLAIN(collective, count, dtype, op, root)                                                \
    REFUSED(manta_explain(comm, collective, count, dtype, op, root, text, sizeof(text)))
    EXPLAIN(MANTA_ALLREDUCE, 4, MANTA_FLOAT32, MANTA_BXOR, 0);
    EXPLAIN(MANTA_ALLREDUCE, 4, MANTA_FLOAT32, MANTA_OP_COUNT, 0);
    EXPLAIN(MANTA_ALLREDUCE, 4, MANTA_DTYPE_COUNT, MANTA_SUM, 0);
    EXPLAIN(MANTA_ALLREDUCE, UINT64_C(1) << 62, MANTA_FLOAT32, MANTA_SUM, 0);
    EXPLAIN(MANTA_ALLGATHER, UINT64_MAX, MANTA_FLOAT64, 0, 0);
    EXPLAIN(MANTA_BROADCAST, 4, MANTA_FLOAT32, 0, 3);
    EXPLAIN(MANTA_REDUCE, 4, MANTA_FLOAT32, MANTA_SUM, -1);
    EXPLAIN(MANTA_SEND, 4, MANTA_FLOAT32, 0, rank);
    EXPLAIN(MANTA_RECV, 4, MANTA_FLOAT32, 0, 3);
#undef EXPLAIN
    return failed;
}

/* The words for the algorithm that an override names must be those of the call's own fate. */
static int explains_forced(struct manta_comm *comm, void *arg)
{
    const char *wanted = arg;
    char text[2048];
    float a[8] = {1}, b[8];
    if (manta_explain(comm, MANTA_ALLREDUCE, 8, MANTA_FLOAT32, MANTA_SUM, 0, text, sizeof(text)))
        return rank_fail(comm, "explain refuses");
    int rc = manta_allreduce(comm, a, b, 8, MANTA_FLOAT32, MANTA_SUM);
    if (!strstr(text, wanted) || !strstr(text, "chosen") != (rc == MANTA_EALGORITHM) ||
        !strstr(text, "refused") != (rc == 0))
        return rank_fail(comm, "explain says, of a call that gives %d: %s", rc, text);
    return 0;
}

static void test_explain(void **state)
{
    (void)state;
    const struct ranks_options options = {.ranks = 4}, three = {.ranks = 3};
    assert_int_equal(ranks_run(&options, explains, NULL), 0);
    assert_int_equal(ranks_run(&three, explains_no_refused_call, NULL), 0);
}

static void test_explain_override(void **state)
{
    (void)state;
    const struct ranks_options tcp = {.ranks = 2, .transports = "tcp"},
                               shm = {.ranks = 2, .transports = "shm"};
    char impossible[] = "refused: the override asks for fused", works[] = "chosen by override";
    setenv("MANTA_ALLREDUCE", "fused", 1);
    assert_int_equal(ranks_run(&tcp, explains_forced, impossible), 0);
    assert_int_equal(ranks_run(&shm, explains_forced, works), 0);
    unsetenv("MANTA_ALLREDUCE");
    setenv("MANTA_REPRODUCIBLE", "1", 1);
    assert_int_equal(ranks_run(&tcp, explains_forced, (char[]){", chosen"}), 0);
    unsetenv("MANTA_REPRODUCIBLE");
}

/* The flight recorder's file holds the calls. */
static int dumps(struct manta_comm *comm, void *arg)
{
    char path[256], text[65536];
    float a = 1, b;
    snprintf(path, sizeof(path), "%s/dump-%d.json", (const char *)arg, manta_comm_rank(comm));
    if (manta_allreduce(comm, &a, &b, 1, MANTA_FLOAT32, MANTA_SUM) || manta_barrier(comm) ||
        manta_comm_dump(comm, path))
        return rank_fail(comm, "no dump");
    FILE *file = fopen(path, "re");
    size_t bytes = file ? fread(text, 1, sizeof(text) - 1, file) : 0;
    text[bytes] = '\0';
    if (file)
        fclose(file);
    unlink(path);
    if (!strstr(text, "allreduce") || !strstr(text, "barrier"))
        return rank_fail(comm, "the dump lacks calls: %s", text);
    if (manta_comm_dump(comm, "/nonexistent/folder/file") != MANTA_ESYSTEM)
        return rank_fail(comm, "a dump to nowhere succeeds");
    return 0;
}

static void test_dump(void **state)
{
    (void)state;
    char folder[] = "/tmp/manta-test-XXXXXX";
    const struct ranks_options options = {.ranks = 2};
    assert_non_null(mkdtemp(folder));
    assert_int_equal(ranks_run(&options, dumps, folder), 0);
    rmdir(folder);
}

/* In a forked child the communicator refuses to work and does no harm; the parent's goes on. */
static int forks(struct manta_comm *comm, void *arg)
{
    (void)arg;
    float a = 1, b = 0;
    if (manta_barrier(comm))
        return 1;
    if (manta_comm_rank(comm) == 0) {
        pid_t pid = fork();
        if (pid == 0) {
            int ok = manta_allreduce(comm, &a, &b, 1, MANTA_FLOAT32, MANTA_SUM) == MANTA_EFORK &&
                     manta_comm_abort(comm, NULL) == MANTA_EFORK && manta_comm_destroy(comm) == 0;
            _exit(ok ? 0 : 1);
        }
        int status;
        if (waitpid(pid, &status, 0) != pid || status != 0)
            return rank_fail(comm, "the child ended with %d", status);
    }
    if (manta_allreduce(comm, &a, &b, 1, MANTA_FLOAT32, MANTA_SUM) || b != 2)
        return rank_fail(comm, "the parent's communicator suffered");
    return 0;
}

static void test_fork(void **state)
{
    (void)state;
    const struct ranks_options options = {.ranks = 2};
    assert_int_equal(ranks_run(&options, forks, NULL), 0);
}

/* A child makes a communicator of its own while the parent's has a call posted. */
static int forks_and_creates(struct manta_comm *comm, void *arg)
{
    (void)arg;
    struct manta_request *request;
    float in = 1, out = 0;
    int rank = manta_comm_rank(comm);
    if (rank == 0) {
        if (manta_allreduce_post(comm, &in, &out, 1, MANTA_FLOAT32, MANTA_SUM, &request))
            return rank_fail(comm, "post");
        pid_t pid = fork();
        if (pid == 0) {
            const struct ranks_options alone = {.ranks = 1};
            _exit(ranks_run(&alone, sums_up, NULL));
        }
        int status;
        if (waitpid(pid, &status, 0) != pid || status != 0)
            return rank_fail(comm, "the child's own communicator: %d", status);
        if (manta_send(comm, &in, 1, MANTA_FLOAT32, 1) || manta_wait(request, UINT64_MAX))
            return rank_fail(comm, "the parent's communicator suffered");
        return out != 2;
    }
    return manta_recv(comm, &in, 1, MANTA_FLOAT32, 0) ||
           manta_allreduce(comm, &in, &out, 1, MANTA_FLOAT32, MANTA_SUM) || out != 2;
}

__attribute__((unused)) static void test_fork_and_create(void **state)
{
    (void)state;
    const struct ranks_options options = {.ranks = 2};
    assert_int_equal(ranks_run(&options, forks_and_creates, NULL), 0);
}

/* The bits of a call do not depend on the calls before it. What the first job finds, the second
 * one, which has made another call before, compares. */
static int is_second_job;

static int same_bits(struct manta_comm *comm, void *arg)
{
    enum { SHORT = 2100, LONG = 3500 };
    float src[LONG], *dst = arg;
    float mine[LONG];
    for (int i = 0; i < LONG; i++)
        src[i] = 1.0f / (float)(1 + i + manta_comm_rank(comm) * 977);
    if (is_second_job && manta_allreduce(comm, src, mine, SHORT, MANTA_FLOAT32, MANTA_SUM))
        return 1;
    if (manta_allreduce(comm, src, mine, LONG, MANTA_FLOAT32, MANTA_SUM))
        return 1;
    if (is_second_job && memcmp(mine, dst, sizeof(mine)) != 0)
        return rank_fail(comm, "other bits after another call");
    if (!is_second_job && manta_comm_rank(comm) == 0)
        memcpy(dst, mine, sizeof(mine));
    return 0;
}

static void test_bits_without_history(void **state)
{
    (void)state;
    static float dst[3500];
    const struct ranks_options options = {.ranks = 4, .transports = "tcp"};
    assert_int_equal(ranks_run(&options, same_bits, dst), 0);
    assert_true(dst[0] != 0);
    is_second_job = 1;
    assert_int_equal(ranks_run(&options, same_bits, dst), 0);
}

/* UINT64_MAX is no limit, not one that has passed. */
static void test_no_limit(void **state)
{
    (void)state;
    const struct ranks_options options = {.ranks = 2, .timeout_ns = UINT64_MAX};
    assert_int_equal(ranks_run(&options, sums_up, NULL), 0);
}

static int splits(struct manta_comm *comm, void *arg)
{
    (void)arg;
    int rank = manta_comm_rank(comm), ranks = manta_comm_size(comm);
    struct manta_comm *half, *none;
    int32_t mine = rank, sum;
    if (manta_comm_split(comm, rank % 2, -rank, &half))
        return rank_fail(comm, "split");
    int size = (ranks + 1 - rank % 2) / 2;
    if (manta_comm_size(half) != size || manta_comm_rank(half) != size - 1 - rank / 2)
        return rank_fail(comm, "rank %d of %d in the half", manta_comm_rank(half),
                         manta_comm_size(half));
    if (manta_allreduce(half, &mine, &sum, 1, MANTA_INT32, MANTA_SUM) ||
        sum != size * (size - 1) + size * (rank % 2))
        return rank_fail(comm, "sum of the half is %d", sum);
    if (manta_comm_split(comm, rank == 0 ? -1 : 7, 0, &none) || (rank == 0) != (none == NULL))
        return rank_fail(comm, "split into none");
    return manta_comm_destroy(none) || manta_comm_destroy(half);
}

static void test_split(void **state)
{
    (void)state;
    const struct ranks_options options = {.ranks = 5};
    assert_int_equal(ranks_run(&options, splits, NULL), 0);
}

/* Nothing is left behind: descriptors, threads. */
static void test_nothing_left(void **state)
{
    (void)state;
    const struct ranks_options options = {.ranks = 3};
    assert_int_equal(ranks_run(&options, statistics, NULL), 0);
    int descriptors = folder_entries("/proc/self/fd"), threads = held_threads();
    for (int i = 0; i < 5; i++)
        assert_int_equal(ranks_run(&options, statistics, NULL), 0);
    assert_int_equal(folder_entries("/proc/self/fd"), descriptors);
    assert_int_equal(held_threads(), threads);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bad_arguments),
        cmocka_unit_test(test_null_everywhere),
        cmocka_unit_test(test_bad_config),
        cmocka_unit_test(test_alone),
        cmocka_unit_test(test_forced_algorithm),
        cmocka_unit_test(test_statistics),
        cmocka_unit_test(test_explain),
        cmocka_unit_test(test_explain_override),
        cmocka_unit_test(test_dump),
        cmocka_unit_test(test_fork),
        CHILD_THREADS(cmocka_unit_test(test_fork_and_create))
            cmocka_unit_test(test_bits_without_history),
        cmocka_unit_test(test_no_limit),
        cmocka_unit_test(test_split),
        cmocka_unit_test(test_nothing_left),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
