/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Does the verifier see every fault? Plans of every algorithm on 2..16 ranks, all roots, in place
 * and not, are spoilt in every single place; each mutant must be refused, or lose its order class,
 * or be shown to be equal: it must belong to one of the listed reasons and give the right result in
 * random executions (tests/support/plans.c, independent of verifier and engine). Equal mutants are
 * listed by name in mutation.txt when MANTA_REPORT_DIR is set.
 */
#include <malloc.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <manta/manta.h>

#include "collectives/catalogue.h"
#include "core/dtype.h"
#include "plan/print.h"
#include "plan/verify.h"
#include "tests/support/mutate.h"
#include "tests/support/plans.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { RANKS = 7 }; /* instrumented code is ten times slower */
#else
enum { RANKS = 16 };
#endif
enum { EXECUTIONS = 24 };
enum { PIECES = 3 }; /* of pipelines: more of them are more of the same */

struct tally {
    uint64_t mutants, refused, reclassed, equal;
};

struct session {
    FILE *report;
    struct tally tally;                /* of the algorithm at hand */
    struct tally kinds[MUTANT_KINDS];  /* over all algorithms */
    uint64_t executed[MUTANT_KINDS];   /* refused mutants that were executed */
    uint64_t misbehaved[MUTANT_KINDS]; /* of these, that went wrong */
    struct plans_case what;
    struct manta_plan *plans[RANKS];
    uint64_t order; /* class of the plans as they were */
};

static void name_mutant(const struct session *s, const struct mutant *m, char *text, size_t bytes)
{
    char name[192], step[160] = "";
    plans_name(&s->what, name, sizeof(name));
    if (m->step < s->plans[m->rank]->step_count)
        mt_plan_describe(s->plans[m->rank], m->step, step, sizeof(step));
    snprintf(text, bytes, "%s: %s, rank %u step%s", name, mutant_kind_name(m->kind), m->rank, step);
}

/* Why the mutant may be equal to the plan; NULL: it may not. */
static const char *why_equal(const struct session *s, const struct mutant *m)
{
    const struct manta_plan *plan = s->plans[m->rank];
    if (m->step >= plan->step_count)
        return NULL;
    const struct manta_plan_step *step = &plan->steps[m->step];
    const struct manta_plan_location *at = plan->locations + step->location_first;
    if (m->kind == MUTANT_DOUBLED_REDUCE && !mutate_same_memory(plan, &at[0], &at[1]) &&
        !mutate_same_memory(plan, &at[0], &at[2]))
        return "the reduction changes none of its operands, so doing it again changes nothing";
    if (m->kind == MUTANT_DOUBLED_REDUCE && plan->collective == MANTA_BARRIER)
        return "the token of a barrier is idempotent";
    if (m->kind == MUTANT_SWAPPED_PEERS && step->kind == MANTA_PLAN_SEND &&
        mutate_same_locations(plan, m->step, m->other))
        return "the same blocks go to the same two ranks, the second one first";
    if (m->kind == MUTANT_SWAPPED_PEERS && step->kind == MANTA_PLAN_RECV &&
        mutate_operands_of_one(plan, m->step, m->other))
        return "the two received values are the operands of one reduction, which commutes";
    if (m->kind == MUTANT_SWAPPED_PEERS && plan->collective == MANTA_BARRIER)
        return "a barrier still hears of every rank, from the two in the other order";
    return NULL;
}

static void judge_equal(struct session *s, const struct mutant *m,
                        const struct manta_plan *const *plans)
{
    char name[320], why[128];
    const char *reason = why_equal(s, m);
    name_mutant(s, m, name, sizeof(name));
    if (!reason)
        fail_msg("accepted without a reason: %s", name);
    for (uint64_t seed = 1; seed <= EXECUTIONS; seed++)
        if (plans_execute(plans, s->what.ranks, seed * 7919, why, sizeof(why)))
            fail_msg("accepted, but %s (seed %llu): %s", why, (unsigned long long)seed, name);
    if (s->report)
        fprintf(s->report, "equal: %s: %s\n", name, reason);
}

/* Is the verifier's refusal more than a word? Some refused mutants go wrong when executed. */
static void sample_refused(struct session *s, const struct mutant *m,
                           const struct manta_plan *const *plans, const char *fault)
{
    char why[128];
    if (s->what.ranks > 4 || !mutant_executable(m->kind) || strstr(fault, "outside"))
        return;
    s->executed[m->kind]++;
    for (uint64_t seed = 1; seed <= EXECUTIONS; seed++) {
        if (plans_execute(plans, s->what.ranks, seed, why, sizeof(why))) {
            s->misbehaved[m->kind]++;
            return;
        }
    }
}

static void count(struct tally *tally, int refused, int reclassed)
{
    tally->mutants++;
    tally->refused += (uint64_t)refused;
    tally->reclassed += (uint64_t)reclassed;
    tally->equal += (uint64_t)(!refused && !reclassed);
}

static void judge(const struct mutant *m, struct manta_plan *const *mutated, void *arg)
{
    struct session *s = arg;
    const struct manta_plan *const *plans = (const struct manta_plan *const *)mutated;
    struct mt_verify_result result;
    int rc = mt_plan_verify(plans, s->what.ranks, &result);
    assert_true(rc == 0 || rc == MANTA_EPLAN);
    assert_true(rc == 0 || result.fault[0] != '\0');
    int reclassed = !rc && result.order != s->order;
    count(&s->tally, rc != 0, reclassed);
    count(&s->kinds[m->kind], rc != 0, reclassed);
    if (rc)
        sample_refused(s, m, plans, result.fault);
    else if (!reclassed)
        judge_equal(s, m, plans);
}

static void report_line(struct session *s, const char *name, const struct tally *tally)
{
    char line[160];
    snprintf(line, sizeof(line), "%-32s %9llu %9llu %9llu %9llu", name,
             (unsigned long long)tally->mutants, (unsigned long long)tally->refused,
             (unsigned long long)tally->reclassed, (unsigned long long)tally->equal);
    print_message("%s\n", line);
    if (s->report)
        fprintf(s->report, "%s\n", line);
}

static void mutate_cases(struct session *s, const struct mt_algorithm *algorithm, uint32_t ranks,
                         const struct plans_seat *seat)
{
    for (uint32_t at = 0; plans_next(algorithm, ranks, seat, &at, &s->what);) {
        struct mt_verify_result result;
        s->what.parameter = PIECES;
        plans_compile(&s->what, s->plans);
        const struct manta_plan *const *plans = (const struct manta_plan *const *)s->plans;
        assert_int_equal(mt_plan_verify(plans, ranks, &result), 0);
        s->order = result.order;
        mutate_all(s->plans, ranks, judge, s);
        mt_plan_free_all(s->plans, ranks);
    }
}

/* Hierarchical plans depend on where the ranks sit. */
static void mutate_seats(struct session *s, const struct mt_algorithm *algorithm)
{
    static const char *const seats[] = {"aab", "aabb", "abab", "aaabb", "aabb/0011", "abcabc"};
    for (uint32_t i = 0; i < 2 * sizeof(seats) / sizeof(*seats); i++) {
        struct plans_seat seat;
        plans_seat_open(&seat, seats[i / 2], i % 2);
        mutate_cases(s, algorithm, seat.topology->ranks, &seat);
        plans_seat_close(&seat);
    }
}

static void mutate_algorithm(struct session *s, const struct mt_algorithm *algorithm)
{
    char name[64];
    memset(&s->tally, 0, sizeof(s->tally));
    for (uint32_t ranks = 2; ranks <= RANKS && !algorithm->unfit; ranks++)
        mutate_cases(s, algorithm, ranks, NULL);
    if (algorithm->unfit)
        mutate_seats(s, algorithm);
    assert_true(s->tally.mutants > 0);
    snprintf(name, sizeof(name), "%s/%s", mt_collective_name((int)algorithm->collective),
             algorithm->name);
    report_line(s, name, &s->tally);
}

static void open_report(struct session *s)
{
    const char *folder = getenv("MANTA_REPORT_DIR");
    char path[512];
    if (!folder || !folder[0])
        return;
    snprintf(path, sizeof(path), "%s/mutation.txt", folder);
    s->report = fopen(path, "we");
    if (!s->report)
        fail_msg("cannot write %s", path);
}

static void test_every_mutant(void **state)
{
    static struct session s;
    (void)state;
    open_report(&s);
    print_message("%-32s %9s %9s %9s %9s\n", "", "mutants", "refused", "reordered", "equal");
    for (uint32_t i = 0; mt_catalogue[i]; i++)
        mutate_algorithm(&s, mt_catalogue[i]);
    for (uint32_t kind = 0; kind < MUTANT_KINDS; kind++) {
        report_line(&s, mutant_kind_name(kind), &s.kinds[kind]);
        assert_true(s.kinds[kind].refused > 0);
        if (!mutant_executable(kind))
            continue;
        print_message("    refused ones executed: %llu, went wrong: %llu\n",
                      (unsigned long long)s.executed[kind], (unsigned long long)s.misbehaved[kind]);
        assert_true(s.misbehaved[kind] > 0);
    }
    if (s.report)
        assert_int_equal(fclose(s.report), 0);
}

int main(void)
{
    /* Plans are made and freed by the hundred thousand: keep their memory. */
    mallopt(M_MMAP_THRESHOLD, 64 << 20);
    mallopt(M_TRIM_THRESHOLD, 256 << 20);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_mutant),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
