/* SPDX-License-Identifier: Apache-2.0 */
/* MANTA_TRACE_DIR: each communicator of each rank that fails leaves a file of its own, and a folder
 * that cannot take it is told of. */
#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <manta/manta.h>

#include "tests/support/ranks.h"

enum { RANKS = 2, COMMS = 3, TEXT_BYTES = 1 << 20 };

/* What it prints to stderr meanwhile. */
static void capture(int (*run)(void), int *result_out, char *text)
{
    FILE *file = tmpfile();
    int kept = dup(STDERR_FILENO);
    assert_non_null(file);
    fflush(stderr);
    dup2(fileno(file), STDERR_FILENO);
    *result_out = run();
    fflush(stderr);
    dup2(kept, STDERR_FILENO);
    close(kept);
    rewind(file);
    text[fread(text, 1, TEXT_BYTES - 1, file)] = '\0';
    fclose(file);
}

/* Three communicators of each of two ranks in this process, all with calls that differ, fail. */
static int fail_all(struct manta_comm *comm, void *arg)
{
    struct manta_comm *comms[COMMS] = {comm};
    float in[COMMS] = {0}, out;
    int rank = manta_comm_rank(comm), failed = 0;
    (void)arg;
    for (int i = 1; i < COMMS; i++)
        if (manta_comm_split(comm, 0, 0, &comms[i]))
            return rank_fail(comm, "split");
    for (int i = 0; i < COMMS; i++)
        if (manta_allreduce(comms[i], in, in, (uint64_t)i + 1, MANTA_FLOAT32, MANTA_SUM))
            return rank_fail(comm, "allreduce");
    if (rank == 0)
        manta_comm_abort(comm, "for its trace");
    for (int i = COMMS - 1; i >= 0; i--) {
        int rc = 0;
        while (rc == 0) /* until this rank knows, too */
            rc = manta_allreduce(comms[i], in, &out, 1, MANTA_FLOAT32, MANTA_MAX);
        failed |= rc != MANTA_EABORTED;
        if (i > 0)
            failed |= manta_comm_destroy(comms[i]) != 0;
    }
    return failed;
}

static int run_failing(void)
{
    const struct ranks_options options = {.ranks = RANKS, .transports = "shm"};
    return ranks_run(&options, fail_all, NULL);
}

static void read_whole(const char *folder, const char *name, char *text)
{
    char path[600];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "re");
    assert_non_null(file);
    text[fread(text, 1, TEXT_BYTES - 1, file)] = '\0';
    fclose(file);
    unlink(path);
}

/* Which communicator of which rank the trace is of, by the count of its first allreduce. */
static void note(const char *text, int seen[RANKS][COMMS])
{
    char wanted[64];
    int found = 0;
    assert_non_null(strstr(text, "\n]}\n")); /* whole */
    for (int r = 0; r < RANKS; r++) {
        for (int i = 0; i < COMMS; i++) {
            snprintf(wanted, sizeof wanted, "{\"rank\": %d, \"ranks\": 2, ", r);
            if (strncmp(text, wanted, strlen(wanted)) != 0)
                continue;
            snprintf(wanted, sizeof wanted, "\"allreduce(%d float32, sum)\"", i + 1);
            if (!strstr(text, wanted))
                continue;
            seen[r][i]++;
            found++;
        }
    }
    assert_int_equal(found, 1);
}

static void each_leaves_a_trace(void **state)
{
    static char text[TEXT_BYTES];
    char folder[] = "/tmp/manta-trace-XXXXXX";
    int result, files = 0, seen[RANKS][COMMS] = {{0}};
    (void)state;
    assert_non_null(mkdtemp(folder));
    setenv("MANTA_TRACE_DIR", folder, 1);
    capture(run_failing, &result, text);
    unsetenv("MANTA_TRACE_DIR");
    assert_int_equal(result, 0);
    assert_null(strstr(text, "trace in")); /* that one cannot be left */
    DIR *entries = opendir(folder);
    for (const struct dirent *entry; (entry = readdir(entries));) {
        if (entry->d_name[0] == '.')
            continue;
        read_whole(folder, entry->d_name, text);
        note(text, seen);
        files++;
    }
    closedir(entries);
    rmdir(folder);
    assert_int_equal(files, RANKS * COMMS);
    for (int i = 0; i < RANKS * COMMS; i++)
        assert_int_equal(seen[i / COMMS][i % COMMS], 1);
}

static void without_a_folder_nothing_is_left(void **state)
{
    static char text[TEXT_BYTES];
    char before[4096], after[4096];
    int result;
    (void)state;
    assert_non_null(getcwd(before, sizeof before));
    int files = folder_entries(before);
    capture(run_failing, &result, text);
    assert_non_null(getcwd(after, sizeof after));
    assert_int_equal(result, 0);
    assert_int_equal(folder_entries(after), files);
    assert_null(strstr(text, "MANTA_TRACE_DIR"));
}

static int occurrences(const char *text, const char *wanted)
{
    int count = 0;
    for (const char *at = text; (at = strstr(at, wanted)); at++)
        count++;
    return count;
}

/* Neither is a folder; each rank says so when it joins, and the trace that is not left is told of,
 * too. The run ends as well as without. */
static void a_folder_that_is_none_is_told_of(void **state)
{
    static char text[TEXT_BYTES];
    static const char *const wrong[] = {"/nonexistent/folder", "/dev/null"};
    static const char *const why[] = {"No such file or directory", "Not a directory"};
    (void)state;
    for (int i = 0; i < 2; i++) {
        char wanted[256];
        int result;
        setenv("MANTA_TRACE_DIR", wrong[i], 1);
        capture(run_failing, &result, text);
        unsetenv("MANTA_TRACE_DIR");
        assert_int_equal(result, 0);
        snprintf(wanted, sizeof wanted, "warn: MANTA_TRACE_DIR=%s: %s; no trace", wrong[i], why[i]);
        assert_int_equal(occurrences(text, wanted), RANKS);
        snprintf(wanted, sizeof wanted, "cannot leave a trace in %s/manta-", wrong[i]);
        assert_int_equal(occurrences(text, wanted), RANKS * COMMS);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_leaves_a_trace),
        cmocka_unit_test(without_a_folder_nothing_is_left),
        cmocka_unit_test(a_folder_that_is_none_is_told_of),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
