/* SPDX-License-Identifier: Apache-2.0 */
/* Joining and leaving: every size, and everything that can be wrong with those that join. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/clock.h"
#include "core/control.h"
#include "core/log.h"
#include "core/session.h"
#include "tests/support/clock_shift.h"
#include "tests/support/group_ranks.h"
#include "tests/support/logged.h"

static void make_session(char *session)
{
    assert_int_equal(manta_session_create(session, 512), 0);
}

static void prepare_session(const char *host, char *session)
{
    struct mt_error error;
    assert_int_equal(mt_session_prepare(host, 0, session, 512, &error), 0);
}

static void join_exchange_leave(struct group_rank *rank)
{
    struct group_parts out;
    char mine[200];
    memset(mine, (int)('a' + rank->rank), sizeof mine);
    for (uint32_t round = 0; round < 3 && rank->result == 0; round++) {
        rank->result =
            group_rank_exchange(rank, mine, rank->rank * 7 + round, 20 * MT_SECOND, &out);
        for (uint32_t r = 0; r < rank->ranks && rank->result == 0; r++) {
            const char *bytes = out.parts[r];
            if (out.part_bytes[r] != r * 7 + round)
                rank->result = -100;
            for (size_t i = 0; i < out.part_bytes[r] && rank->result == 0; i++)
                rank->result = bytes[i] == (char)('a' + r) ? 0 : -101;
        }
        free(out.storage);
    }
}

static void check_all(struct group_rank *rank, uint32_t ranks, int code)
{
    for (uint32_t r = 0; r < ranks; r++) {
        if (rank[r].result != code)
            print_error("rank %u of %u: %d %s\n", r, ranks, rank[r].result, rank[r].error.sentence);
        assert_int_equal(rank[r].result, code);
    }
}

static void every_size_joins_and_exchanges(void **state)
{
    (void)state;
    for (uint32_t ranks = 1; ranks <= 16; ranks++) {
        char session[512];
        struct group_rank rank[16];
        make_session(session);
        group_ranks_init(rank, ranks, session);
        group_ranks_run(rank, ranks, join_exchange_leave);
        check_all(rank, ranks, 0);
    }
}

static void prepared_sessions_join_over_both_families(void **state)
{
    (void)state;
    const char *hosts[] = {"127.0.0.1", "::1", NULL};
    for (int i = 0; i < 3; i++) {
        char session[512];
        struct group_rank rank[5];
        prepare_session(hosts[i], session);
        /* Twice: a prepared session can be used again when its communicator has ended. */
        for (int round = 0; round < 2; round++) {
            group_ranks_init(rank, 5, session);
            group_ranks_run(rank, 5, join_exchange_leave);
            check_all(rank, 5, 0);
        }
    }
}

static void members_describe_themselves(struct group_rank *rank)
{
    struct mt_group *group = rank->group;
    for (uint32_t r = 0; r < rank->ranks; r++) {
        const struct mt_member *member = &group->members[r];
        if (member->rank != r || member->pid <= 0 || member->boot == 0 || member->node == 0 ||
            member->addresses[0] == 0 || member->unix_name[0] == 0 || group->epoch == 0)
            rank->result = -100;
        if (mt_group_same_node(group, r, rank->rank) != (r / 2 == rank->rank / 2))
            rank->result = -101;
    }
}

static void nodes_are_told_apart(void **state)
{
    (void)state;
    char session[512];
    struct group_rank rank[4];
    const char *nodes[] = {"alpha", "alpha", "beta", "beta"};
    make_session(session);
    group_ranks_init(rank, 4, session);
    for (int r = 0; r < 4; r++)
        rank[r].node = nodes[r];
    group_ranks_run(rank, 4, members_describe_themselves);
    check_all(rank, 4, 0);
}

static void have_loopback_only(struct group_rank *rank)
{
    const char *addresses = rank->group->members[0].addresses;
    int ok = strncmp(addresses, "127.0.0.1:", 10) == 0;
    for (const char *at = addresses; (at = strchr(at, ' ')); at++)
        ok = ok && strncmp(at, " [::1]:", 7) == 0;
    rank->result = ok ? 0 : -100;
}

struct warnings {
    int count, of_eth99, of_long_name;
};

static void count_warnings(void *arg, const char *line)
{
    struct warnings *warnings = arg;
    warnings->count += strstr(line, "warn: MANTA_INTERFACE names ") != NULL;
    warnings->of_eth99 += strstr(line, "'eth99'") != NULL;
    warnings->of_long_name += strstr(line, "'longer-than-any-name-can-be'") != NULL;
}

static void interfaces_can_be_limited(void **state)
{
    (void)state;
    char session[512];
    struct group_rank rank[2];
    struct warnings warnings = {0};
    setenv("MANTA_INTERFACE", "eth99,lo,,longer-than-any-name-can-be", 1);
    mt_log_sink(count_warnings, &warnings);
    make_session(session);
    group_ranks_init(rank, 2, session);
    group_ranks_run(rank, 2, have_loopback_only);
    mt_log_sink(NULL, NULL);
    check_all(rank, 2, 0);
    /* Once for the two, which are threads of one process, unless one left before the other came. */
    assert_true(warnings.of_eth99 >= 1 && warnings.of_eth99 == warnings.of_long_name);
    assert_int_equal(warnings.count, 2 * warnings.of_eth99);
    setenv("MANTA_INTERFACE", "eth99", 1);
    assert_int_equal(manta_session_create(session, sizeof session), MANTA_ESYSTEM);
    unsetenv("MANTA_INTERFACE");
    assert_int_equal(manta_session_create(NULL, 512), MANTA_EINVAL);
    assert_int_equal(manta_session_create(session, 30), MANTA_EINVAL);
}

/* What is done when somebody has logged a line with these words. */
struct follower {
    pthread_t thread;
    const char *first, *then;
    void (*act)(struct group_rank *rank);
    struct group_rank *rank;
};

static void *follow(void *arg)
{
    struct follower *follower = arg;
    if (logged_await(follower->first, follower->then, 20) == 0)
        follower->act(follower->rank);
    return NULL;
}

/* Run ranks 0 .. ranks - 1 meanwhile. */
static void run_and_follow(struct follower *follower, struct group_rank *rank, uint32_t ranks)
{
    rank[0].warn_ns = MT_MS;
    logged_begin();
    mt_log_set_level(MT_LOG_DEBUG);
    assert_int_equal(pthread_create(&follower->thread, NULL, follow, follower), 0);
    group_ranks_run(rank, ranks, NULL);
    pthread_join(follower->thread, NULL);
    logged_end();
    mt_log_set_level(MT_LOG_WARN);
    atomic_store(&clock_shift_ns, 0);
}

static void run_alone(struct group_rank *rank)
{
    group_ranks_run(rank, 1, NULL);
}

/* Its deadline passes; who sleeps until then is woken. To be undone, for sleepers to come. */
static void let_time_pass(struct group_rank *rank)
{
    struct mt_error error;
    clock_shift(rank->timeout_ns);
    assert_int_equal(mt_service_acquire(&error), 0);
    mt_service_lock();
    mt_service_signal();
    mt_service_unlock();
    mt_service_release();
}

static void missing_ranks_are_named(void **state)
{
    (void)state;
    char session[512];
    struct group_rank rank[2];
    struct follower follower = {
        .first = "waiting for ranks 1, 3-5 of 6", .then = "", .act = let_time_pass, .rank = rank};
    make_session(session);
    group_ranks_init(rank, 2, session);
    for (int r = 0; r < 2; r++) {
        rank[r].rank = (uint32_t)r * 2;
        rank[r].ranks = 6;
    }
    rank[1].timeout_ns = 3600 * MT_SECOND; /* it is told when rank 0's has passed */
    run_and_follow(&follower, rank, 2);
    check_all(rank, 2, MANTA_ETIMEOUT);
    for (int r = 0; r < 2; r++) {
        assert_int_equal(rank[r].error.rank, 1);
        assert_non_null(
            strstr(rank[r].error.sentence, "ranks 1, 3-5 of 6 did not join within 20.0 s"));
    }
}

static void missing_rank_0_is_named(void **state)
{
    (void)state;
    char session[512];
    struct group_rank rank[2];
    struct follower follower = {.first = "rank 0 is not reached at ",
                                .then = "Connection refused",
                                .act = let_time_pass,
                                .rank = &rank[1]};
    prepare_session("127.0.0.1", session);
    group_ranks_init(rank, 2, session);
    run_and_follow(&follower, rank + 1, 1);
    assert_int_equal(rank[1].result, MANTA_ETIMEOUT);
    assert_int_equal(rank[1].error.rank, 0);
    assert_non_null(strstr(rank[1].error.sentence, "rank 0 could not be reached within "));
    assert_non_null(strstr(rank[1].error.sentence, "Connection refused"));
}

/* Who is refused lets the other one's time pass. */
static void *be_refused_or_wait(void *arg)
{
    struct group_rank *rank = arg;
    run_alone(rank);
    if (rank->result == MANTA_EINVAL || rank->result == MANTA_EAUTH)
        let_time_pass(rank);
    return NULL;
}

/* Both of them, and the clock is right again. */
static void run_with_who_is_refused(struct group_rank rank[2])
{
    pthread_t other;
    assert_int_equal(pthread_create(&other, NULL, be_refused_or_wait, &rank[1]), 0);
    be_refused_or_wait(&rank[0]);
    pthread_join(other, NULL);
    atomic_store(&clock_shift_ns, 0);
}

static void wrong_secret_is_refused(void **state)
{
    (void)state;
    char session[512], wrong[512];
    struct group_rank rank[2];
    make_session(session);
    memcpy(wrong, session, sizeof wrong);
    wrong[10] = wrong[10] == 'A' ? 'B' : 'A';
    group_ranks_init(rank, 2, session);
    rank[1].session = wrong;
    run_with_who_is_refused(rank);
    assert_int_equal(rank[1].result, MANTA_EAUTH);
    assert_int_equal(rank[0].result, MANTA_ETIMEOUT);
    assert_int_equal(rank[0].error.rank, 1);
    assert_null(strstr(rank[1].error.sentence, wrong + 7));
}

static void duplicate_ranks_are_named(void **state)
{
    (void)state;
    char session[512];
    struct group_rank rank[4];
    struct follower second = {
        .first = "waiting for rank 3 of 4", .then = "", .act = run_alone, .rank = &rank[3]};
    make_session(session);
    group_ranks_init(rank, 4, session);
    rank[3].rank = 2;
    run_and_follow(&second, rank, 3);
    check_all(rank, 4, MANTA_EINVAL);
    for (int r = 0; r < 4; r++) {
        assert_int_equal(rank[r].error.rank, 2);
        assert_non_null(strstr(rank[r].error.sentence, "two processes joined as rank 2"));
    }
}

static void two_ranks_0_are_refused(void **state)
{
    (void)state;
    for (int prepared = 0; prepared <= 1; prepared++) {
        char session[512];
        struct group_rank rank[2];
        if (prepared)
            prepare_session("127.0.0.1", session);
        else
            make_session(session);
        group_ranks_init(rank, 2, session);
        rank[1].rank = 0;
        run_with_who_is_refused(rank);
        int refused = rank[0].result == MANTA_EINVAL ? 0 : 1;
        assert_int_equal(rank[refused].result, MANTA_EINVAL);
        assert_int_equal(rank[!refused].result, MANTA_ETIMEOUT);
    }
}

static void different_sizes_are_named(void **state)
{
    (void)state;
    char session[512];
    struct group_rank rank[3];
    struct follower stranger = {
        .first = "waiting for rank 2 of 3", .then = "", .act = run_alone, .rank = &rank[2]};
    make_session(session);
    group_ranks_init(rank, 3, session);
    rank[2].ranks = 4;
    run_and_follow(&stranger, rank, 2);
    check_all(rank, 3, MANTA_EINVAL);
    for (int r = 0; r < 3; r++)
        assert_non_null(strstr(rank[r].error.sentence,
                               "rank 2 joined a communicator of 4 ranks, but rank 0 one of 3"));
}

static void different_configurations_are_named(void **state)
{
    (void)state;
    char session[512];
    struct group_rank rank[5];
    make_session(session);
    group_ranks_init(rank, 5, session);
    for (int r = 0; r < 5; r++)
        rank[r].fingerprint = r >= 3 ? "MANTA_SHM_MAX=256M\nMANTA_SEGMENT=4M\n"
                                     : "MANTA_SHM_MAX=256M\nMANTA_SEGMENT=1M\n";
    group_ranks_run(rank, 5, NULL);
    check_all(rank, 5, MANTA_EVERSION);
    for (int r = 0; r < 5; r++) {
        assert_int_equal(rank[r].error.rank, 3);
        assert_string_equal(rank[r].error.sentence,
                            "MANTA_SEGMENT is \"1M\" on rank 0 and \"4M\" on ranks 3-4; give all "
                            "ranks the same");
    }
}

static void arguments_are_checked(void **state)
{
    (void)state;
    struct mt_group *group = (struct mt_group *)state;
    struct mt_error error;
    char session[512];
    prepare_session("127.0.0.1", session);
    assert_int_equal(
        mt_group_join(&(struct mt_group_join){.rank = 0, .ranks = 1, .timeout_ns = MT_SECOND},
                      &group, &error),
        MANTA_EINVAL);
    assert_null(group);
    assert_int_equal(mt_group_join(
                         &(struct mt_group_join){
                             .session = session, .rank = 0, .ranks = 0, .timeout_ns = MT_SECOND},
                         &group, &error),
                     MANTA_EINVAL);
    assert_int_equal(mt_group_join(
                         &(struct mt_group_join){
                             .session = session, .rank = 4, .ranks = 4, .timeout_ns = MT_SECOND},
                         &group, &error),
                     MANTA_EINVAL);
    assert_non_null(strstr(error.sentence, "the rank is 4; it must be 0 to 3"));
    char *long_text = calloc(1, 100001);
    memset(long_text, 'x', 100000);
    assert_int_equal(mt_group_join(&(struct mt_group_join){.session = session,
                                                           .rank = 0,
                                                           .ranks = 1,
                                                           .fingerprint = long_text,
                                                           .timeout_ns = MT_SECOND},
                                   &group, &error),
                     MANTA_EINVAL);
    free(long_text);
    mt_group_leave(NULL);
}

static void rank_0_elsewhere_is_an_error(void **state)
{
    (void)state;
    struct mt_group *group;
    struct mt_error error;
    struct mt_session session;
    char text[512];
    prepare_session("127.0.0.1", text);
    assert_int_equal(mt_session_parse(text, &session, &error), 0);
    strcpy(session.addresses[0], "192.0.2.1:4000"); /* TEST-NET-1: nobody's */
    assert_int_equal(mt_session_format(&session, text, sizeof text), 0);
    assert_int_equal(mt_group_join(
                         &(struct mt_group_join){
                             .session = text, .rank = 0, .ranks = 2, .timeout_ns = MT_SECOND},
                         &group, &error),
                     MANTA_ESYSTEM);
    assert_non_null(strstr(error.sentence, "rank 0 cannot listen on the session's address"));
}

/* Eight groups at once over the same threads' process, each thread in all of them. */
enum { GROUPS = 4, MEMBERS = 3 };

static void join_second_group(struct group_rank *rank)
{
    const char *const *sessions = rank->arg;
    struct mt_group *groups[GROUPS];
    for (int i = 0; i < GROUPS && rank->result == 0; i++)
        rank->result = mt_group_join(&(struct mt_group_join){.session = sessions[i],
                                                             .rank = rank->rank,
                                                             .ranks = rank->ranks,
                                                             .timeout_ns = 20 * MT_SECOND},
                                     &groups[i], &rank->error);
    if (rank->result)
        return;
    for (int i = GROUPS - 1; i >= 0; i--) {
        struct group_rank inner = *rank;
        inner.group = groups[i];
        join_exchange_leave(&inner);
        rank->result |= inner.result;
        rank->result |= memcmp(groups[i]->uid, rank->group->uid, 16) == 0;
    }
    for (int i = 0; i < GROUPS; i++)
        mt_group_leave(groups[i]);
}

static void several_groups_at_once(void **state)
{
    (void)state;
    char session[GROUPS + 1][512];
    const char *sessions[GROUPS];
    struct group_rank rank[MEMBERS];
    for (int i = 0; i < GROUPS + 1; i++)
        make_session(session[i]);
    for (int i = 0; i < GROUPS; i++)
        sessions[i] = session[i + 1];
    group_ranks_init(rank, MEMBERS, session[0]);
    for (int r = 0; r < MEMBERS; r++)
        rank[r].arg = sessions;
    group_ranks_run(rank, MEMBERS, join_second_group);
    check_all(rank, MEMBERS, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_size_joins_and_exchanges),
        cmocka_unit_test(prepared_sessions_join_over_both_families),
        cmocka_unit_test(nodes_are_told_apart),
        cmocka_unit_test(interfaces_can_be_limited),
        cmocka_unit_test(missing_ranks_are_named),
        cmocka_unit_test(missing_rank_0_is_named),
        cmocka_unit_test(wrong_secret_is_refused),
        cmocka_unit_test(duplicate_ranks_are_named),
        cmocka_unit_test(two_ranks_0_are_refused),
        cmocka_unit_test(different_sizes_are_named),
        cmocka_unit_test(different_configurations_are_named),
        cmocka_unit_test(arguments_are_checked),
        cmocka_unit_test(rank_0_elsewhere_is_an_error),
        cmocka_unit_test(several_groups_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
