/* SPDX-License-Identifier: Apache-2.0 */
/* The driver of the failure matrix: runs cells side by side (they mostly wait), judges each, prints
 * those that fail and the totals. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <manta/manta.h>

#include "core/clock.h"
#include "core/dtype.h"
#include "tests/support/cells.h"
#include "tests/support/job_session.h"

enum { SIDE_BY_SIDE = 8, CELL_LIMIT_S = 60, TOLD_S = 20 };

static const char *const transport_names[] = {"shm", "tcp", "mixed", "hierarchical"};
static const char *const fault_names[] = {
    "kill",        "stop",     "late",       "other count",
    "other dtype", "other op", "other root", "other collective"};
static const int collectives[] = {MANTA_ALLREDUCE, MANTA_BROADCAST,      MANTA_REDUCE,
                                  MANTA_ALLGATHER, MANTA_REDUCE_SCATTER, MANTA_BARRIER,
                                  MANTA_SEND};

static char rank_program[4096]; /* beside this one */

struct job {
    struct cell cell;
    uint64_t started_ns;
    pid_t pids[CELL_RANKS];
    int pipes[CELL_RANKS];
    int ended[CELL_RANKS];
    char text[CELL_RANKS][4096];
    size_t used[CELL_RANKS];
};

static void describe(const struct cell *cell, char *text, size_t room)
{
    snprintf(text, room, "%s %s %s %s %svictim %d",
             cell->collective == MANTA_SEND ? "send/recv" : mt_collective_name(cell->collective),
             transport_names[cell->transport], fault_names[cell->fault],
             cell->middle ? "middle" : "before", cell->small ? "small " : "", cell->victim);
}

/* On several nodes. */
static void choose(int hierarchical)
{
    static const char *const names[][3] = {
        {"MANTA_ALLREDUCE", "ring", "rails_ring"},
        {"MANTA_BROADCAST", "chain", "leaders_chain"},
        {"MANTA_REDUCE", "binomial", "leaders_binomial"},
        {"MANTA_ALLGATHER", "ring", "rails_ring"},
        {"MANTA_REDUCE_SCATTER", "ring", "rails_ring"},
        {"MANTA_BARRIER", "dissemination", "leaders_dissemination"}};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        setenv(names[i][0], names[i][1 + hierarchical], 1);
}

static void set_environment(const struct cell *cell, int rank, const char *session)
{
    static const char *const transports[] = {"shm", "tcp", "shm,tcp", "shm,tcp"};
    char text[128];
    snprintf(text, sizeof(text), "%d", rank);
    setenv("MANTA_RANK", text, 1);
    snprintf(text, sizeof(text), "%d", CELL_RANKS);
    setenv("MANTA_SIZE", text, 1);
    setenv("MANTA_SESSION", session, 1);
    setenv("MANTA_TIMEOUT", "30", 1); /* see TIMEOUT_NS in matrix_rank.c */
    setenv("MANTA_SEGMENT", "256k", 1);
    setenv("MANTA_TRANSPORTS", transports[cell->transport], 1);
    if (cell->transport >= CELL_MIXED)
        setenv("MANTA_NODE", rank < CELL_RANKS / 2 ? "a" : "b", 1);
    if (cell->transport >= CELL_MIXED)
        choose(cell->transport == CELL_HIERARCHICAL);
    if (!cell->middle || cell_is_mismatch(cell))
        return;
    const char *const verbs[] = {"kill", "stop", "late=1500ms"};
    setenv("MANTA_TRANSPORTS", "sim", 1);
    setenv("MANTA_SIM_INNER", transports[cell->transport], 1);
    /* On one node a collective is one fused step: the fault comes when it has been posted. */
    int fused = cell->transport == CELL_SHM && cell->collective != MANTA_SEND;
    snprintf(text, sizeof(text), "%s@rank=%d:call=%d:%s", verbs[cell->fault], cell->victim,
             cell_number(cell), fused ? "step=1:middle=2" : "step=2");
    setenv("MANTA_FAULT", text, 1);
}

static pid_t start_rank(const struct cell *cell, int rank, const char *session, int gate,
                        int *pipe_out)
{
    char numbers[6][16];
    int ends[2];
    if (pipe2(ends, O_CLOEXEC))
        return -1;
    pid_t pid = fork();
    if (pid == 0) {
        const int values[] = {cell->collective, cell->transport, cell->fault,
                              cell->middle,     cell->victim,    cell->small};
        char program[] = "matrix_rank";
        char *arguments[] = {program,    numbers[0], numbers[1], numbers[2],
                             numbers[3], numbers[4], numbers[5], NULL};
        for (int i = 0; i < 6; i++)
            snprintf(numbers[i], sizeof(numbers[i]), "%d", values[i]);
        dup2(gate, STDIN_FILENO);
        dup2(ends[1], STDOUT_FILENO);
        if (!getenv("MANTA_LOG")) /* the errors are expected here */
            dup2(open("/dev/null", O_WRONLY | O_CLOEXEC), STDERR_FILENO);
        set_environment(cell, rank, session);
        execv(rank_program, arguments);
        _exit(127);
    }
    close(ends[1]);
    *pipe_out = ends[0];
    return pid;
}

static void start(struct job *job, const struct cell *cell)
{
    char session[1024];
    memset(job, 0, sizeof(*job));
    job->cell = *cell;
    job->started_ns = mt_clock_now_ns();
    job_session_prepare(session, sizeof(session));
    int gate = eventfd(0, EFD_CLOEXEC | EFD_SEMAPHORE);
    for (int r = 0; r < CELL_RANKS; r++)
        job->pids[r] = start_rank(cell, r, session, gate, &job->pipes[r]);
    close(gate);
}

static void read_output(struct job *job, int rank)
{
    struct pollfd ready = {.fd = job->pipes[rank], .events = POLLIN};
    while (poll(&ready, 1, 0) == 1 && job->used[rank] + 1 < sizeof(job->text[rank])) {
        ssize_t got = read(job->pipes[rank], job->text[rank] + job->used[rank],
                           sizeof(job->text[rank]) - 1 - job->used[rank]);
        if (got <= 0)
            return;
        job->used[rank] += (size_t)got;
    }
}

/* 1 when all ranks that can end have ended: a killed victim has, a stopped one is ended by us. */
static int is_over(struct job *job)
{
    int waiting = 0;
    uint64_t age_ns = mt_clock_now_ns() - job->started_ns;
    for (int r = 0; r < CELL_RANKS; r++) {
        read_output(job, r);
        if (!job->ended[r] && waitpid(job->pids[r], NULL, WNOHANG) == job->pids[r])
            job->ended[r] = 1;
        waiting += !job->ended[r] && !(job->cell.fault == CELL_STOP && r == job->cell.victim);
    }
    return waiting == 0 || age_ns > CELL_LIMIT_S * MT_SECOND;
}

static void clean_up(struct job *job)
{
    for (int r = 0; r < CELL_RANKS; r++) {
        if (!job->ended[r]) {
            kill(job->pids[r], SIGKILL);
            waitpid(job->pids[r], NULL, 0);
        }
        read_output(job, r);
        close(job->pipes[r]);
    }
}

static int parse_outcome(const struct job *job, int rank, struct outcome *out)
{
    unsigned long long at_ns;
    int used = 0, more;
    const char *line = strstr(job->text[rank], "outcome ");
    memset(out, 0, sizeof(*out));
    if (!line ||
        sscanf(line, "outcome %d %d %llu%n", &out->code, &out->named_rank, &at_ns, &used) < 3)
        return 0;
    for (int kind = 0; kind < HELD_KINDS; kind++, used += more)
        if (sscanf(line + used, "%d%n", &out->left.counts[kind], &more) < 1)
            return 0;
    out->at_ns = at_ns;
    used += line[used] == ' ';
    snprintf(out->sentence, sizeof(out->sentence), "%.*s", (int)strcspn(line + used, "\n"),
             line + used);
    return 1;
}

static const char *judge_left(const struct held *left)
{
    static char text[128];
    for (int kind = 0; kind < HELD_KINDS; kind++) {
        if (left->counts[kind] == 0)
            continue;
        snprintf(text, sizeof(text), "%d %s more than before the communicator", left->counts[kind],
                 held_name(kind));
        return text;
    }
    return NULL;
}

static const char *judge_mismatch(const struct cell *cell, const struct outcome *out)
{
    if (out->code != MANTA_EMISMATCH)
        return "no mismatch error";
    return cell_words_both_calls(cell, out->sentence) ? NULL : "does not name both calls";
}

/* Dead: it names the process, too. Stopped: it tells who waited, and in which call: in the faulty
 * one, or in the barrier after it. */
static int tells_fault(const struct job *job, const struct outcome *out)
{
    const struct cell *cell = &job->cell;
    struct test_call calls[2];
    char wanted[256], call[128];
    int answers = strstr(out->sentence, "in #") && strstr(out->sentence, "barrier()");
    if (out->named_rank != cell->victim)
        return 0;
    if (cell->fault == CELL_KILL) {
        snprintf(wanted, sizeof(wanted), "rank %d is dead: its process ended (pid %d)",
                 cell->victim, (int)job->pids[cell->victim]);
        return strcmp(out->sentence, wanted) == 0;
    }
    snprintf(wanted, sizeof(wanted),
             "rank %d does not answer: its process is stopped or its host is silent; rank ",
             cell->victim);
    for (int r = 0; r < CELL_RANKS; r++) {
        cell_calls(cell, r, 0, calls);
        for (int i = 0; i < 2; i++) {
            test_call_word(&calls[i], call, sizeof(call));
            answers |= strstr(out->sentence, call) != NULL;
        }
    }
    return answers && strncmp(out->sentence, wanted, strlen(wanted)) == 0;
}

/* What a cell promises of a surviving rank. */
static const char *judge(const struct job *job, const struct outcome *out, uint64_t fault_ns)
{
    static char text[256];
    const struct cell *cell = &job->cell;
    double seconds = ((double)out->at_ns - (double)fault_ns) / 1e9;
    const char *left = judge_left(&out->left);
    if (left)
        return left;
    if (cell->fault == CELL_LATE)
        return out->code == 0 ? NULL : "failed although the late rank came in time";
    if (cell_is_mismatch(cell))
        return judge_mismatch(cell, out);
    int wanted = cell->fault == CELL_KILL ? MANTA_EPEER : MANTA_ETIMEOUT;
    if (out->code != wanted)
        return "wrong error code";
    if (!tells_fault(job, out))
        return "does not name the victim and what befell it";
    if (seconds > TOLD_S) { /* by the death or the deadline, and not by what comes at last */
        snprintf(text, sizeof(text), "told after %.2f s", seconds);
        return text;
    }
    return NULL;
}

/* 1 if the cell holds; prints why if not. */
static int holds(const struct job *job)
{
    const struct cell *cell = &job->cell;
    char name[128];
    unsigned long long fault_ns = 0;
    int good = 1;
    describe(cell, name, sizeof(name));
    const char *fault = strstr(job->text[cell->victim], "fault ");
    if (!fault || sscanf(fault, "fault %llu", &fault_ns) != 1) {
        printf("FAILED %s: the victim did not reach its fault\n", name);
        good = 0;
    }
    for (int r = 0; r < CELL_RANKS; r++) {
        struct outcome out;
        int dies = r == cell->victim && (cell->fault == CELL_KILL || cell->fault == CELL_STOP);
        if (dies)
            continue;
        const char *why =
            parse_outcome(job, r, &out) ? judge(job, &out, fault_ns) : "rank said nothing";
        if (why) {
            printf("FAILED %s: rank %d: %s\n", name, r, why);
            printf("       %s", job->text[r][0] ? job->text[r] : "(no output)\n");
            good = 0;
        }
    }
    return good;
}

/* Faults take turns, so that cells that wait run beside cells that compute. */
static int make_cells(struct cell *cells, const char *filter)
{
    enum { COLLECTIVES = sizeof(collectives) / sizeof(collectives[0]) };
    int count = 0;
    char name[128];
    for (int i = 0; i < COLLECTIVES * CELL_TRANSPORTS * 8 * CELL_FAULTS; i++) {
        int rest = i / CELL_FAULTS;
        struct cell cell = {.fault = i % CELL_FAULTS,
                            .victim = rest % 2 ? 2 : 0,
                            .middle = rest / 2 % 2,
                            .small = rest / 4 % 2,
                            .transport = rest / 8 % CELL_TRANSPORTS,
                            .collective = collectives[rest / 8 / CELL_TRANSPORTS]};
        describe(&cell, name, sizeof(name));
        if (cell_makes_sense(&cell) && (!filter || strstr(name, filter)))
            cells[count++] = cell;
    }
    return count;
}

static int run_cells(const struct cell *cells, int count)
{
    static struct job jobs[SIDE_BY_SIDE];
    int running[SIDE_BY_SIDE] = {0}, next = 0, done = 0, passed = 0;
    while (done < count) {
        for (int j = 0; j < SIDE_BY_SIDE; j++) {
            if (!running[j] && next < count) {
                start(&jobs[j], &cells[next++]);
                running[j] = 1;
            } else if (running[j] && is_over(&jobs[j])) {
                clean_up(&jobs[j]);
                passed += holds(&jobs[j]);
                running[j] = 0;
                done++;
            }
        }
        fflush(stdout);
        poll(NULL, 0, 5);
    }
    return passed;
}

int main(int argc, char **argv)
{
    static struct cell cells[CELL_FAULTS * 7 * CELL_TRANSPORTS * 8];
    if (argc > 2 || (argc == 2 && argv[1][0] == '-')) {
        printf("usage: %s [PART OF A CELL'S NAME, e.g. 'broadcast tcp kill']\n", argv[0]);
        return argc == 2 && strcmp(argv[1], "--help") == 0 ? 0 : 2;
    }
    ssize_t length = readlink("/proc/self/exe", rank_program, sizeof(rank_program) - 16);
    char *slash = length > 0 ? strrchr(rank_program, '/') : NULL;
    if (!slash)
        return 1;
    strcpy(slash + 1, "matrix_rank");
    int count = make_cells(cells, argc == 2 ? argv[1] : NULL);
    int passed = run_cells(cells, count);
    printf("%d passed, %d failed\n", passed, count - passed);
    return passed == count && count > 0 ? 0 : 1;
}
