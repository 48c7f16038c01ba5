/* SPDX-License-Identifier: Apache-2.0 */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <manta/manta.h>
#include <manta/plan.h>

#include "core/record.h"

static struct mt_call a_call(uint64_t sequence)
{
    struct mt_call call = {.sequence = sequence,
                           .count = sequence * 3,
                           .collective = MANTA_ALLREDUCE,
                           .dtype = MANTA_FLOAT32,
                           .op = MANTA_SUM,
                           .root = MANTA_PLAN_NONE,
                           .posted_ns = sequence * 5 + 1,
                           .algorithm = "ring"};
    return call;
}

static void empty_record_has_no_call(void **state)
{
    (void)state;
    struct mt_record *record = mt_record_create();
    struct mt_call call;
    assert_false(mt_record_last(record, &call));
    assert_false(mt_record_find(record, 0, &call));
    mt_record_end(record, 0, 0, 1); /* of nothing */
    mt_record_end(record, UINT32_MAX, 0, 1);
    assert_false(mt_record_last(record, &call));
    mt_record_destroy(record);
    mt_record_destroy(NULL);
}

static void last_1024_calls_are_kept(void **state)
{
    (void)state;
    struct mt_record *record = mt_record_create();
    struct mt_call call;
    uint32_t first_slot = 0;
    for (uint64_t i = 1; i <= 3000; i++) {
        call = a_call(i);
        uint32_t slot = mt_record_begin(record, &call);
        if (i == 1)
            first_slot = slot;
        if (i % 2)
            mt_record_end(record, slot, (int)(i % 7) - 6, i * 5 + 2);
    }
    mt_record_end(record, first_slot, -1, 12345); /* long forgotten: must not hit its successor */
    for (uint64_t i = 1; i <= 3000; i++) {
        int found = mt_record_find(record, i, &call);
        assert_int_equal(found, i > 3000 - MT_RECORD_CALLS);
        if (!found)
            continue;
        assert_int_equal(call.count, i * 3);
        assert_int_equal(call.ended_ns, i % 2 ? i * 5 + 2 : 0);
        assert_int_equal(call.result, i % 2 ? (int)(i % 7) - 6 : MANTA_INPROGRESS);
        assert_string_equal(call.algorithm, "ring");
    }
    assert_true(mt_record_last(record, &call));
    assert_int_equal(call.sequence, 3000);
    mt_record_destroy(record);
}

static void pairs_have_their_own_sequences(void **state)
{
    (void)state;
    struct mt_record *record = mt_record_create();
    struct mt_call call = a_call(5), found;
    mt_record_begin(record, &call);
    call.collective = MANTA_SEND;
    call.root = 3;
    call.count = 77;
    mt_record_begin(record, &call);
    assert_true(mt_record_find(record, 5, &found));
    assert_int_equal(found.collective, MANTA_ALLREDUCE);
    assert_true(mt_record_find_pair(record, MANTA_SEND, 3, 5, &found));
    assert_int_equal(found.count, 77);
    assert_false(mt_record_find_pair(record, MANTA_RECV, 3, 5, &found));
    assert_false(mt_record_find_pair(record, MANTA_SEND, 2, 5, &found));
    assert_false(mt_record_find_pair(record, MANTA_SEND, 3, 6, &found));
    mt_record_destroy(record);
}

/* A writer at full speed: what a reader gets is one call, never parts of two. */
struct race {
    struct mt_record *record;
    _Atomic int stop;
};

/* A goodbye tells the last collective, also when a recorder full of sends has come after it. */
static void last_collective_outlives_sends(void **state)
{
    (void)state;
    struct mt_record *record = mt_record_create();
    struct mt_call call = {.collective = MANTA_BARRIER, .sequence = 41};
    assert_non_null(record);
    assert_int_equal(mt_record_last_collective(record), 0);
    mt_record_begin(record, &call);
    call.collective = MANTA_SEND;
    for (call.sequence = 1; call.sequence <= 2 * MT_RECORD_CALLS; call.sequence++)
        mt_record_begin(record, &call);
    assert_int_equal(mt_record_last_collective(record), 41);
    mt_record_destroy(record);
}

static void *write_calls(void *arg)
{
    struct race *race = arg;
    for (uint64_t i = 1; !atomic_load(&race->stop); i++) {
        struct mt_call call = a_call(i);
        uint32_t slot = mt_record_begin(race->record, &call);
        mt_record_end(race->record, slot, 0, i * 5 + 2);
    }
    return NULL;
}

static void readers_never_see_torn_calls(void **state)
{
    (void)state;
    struct race race = {.record = mt_record_create()};
    struct mt_call call;
    pthread_t writer;
    uint64_t seen = 0, before = 0;
    assert_int_equal(pthread_create(&writer, NULL, write_calls, &race), 0);
    while (seen < 20000) {
        if (!mt_record_last(race.record, &call))
            continue;
        seen++;
        assert_true(call.sequence + MT_RECORD_CALLS >= before);
        before = call.sequence;
        assert_int_equal(call.count, call.sequence * 3);
        assert_int_equal(call.posted_ns, call.sequence * 5 + 1);
        assert_true(call.ended_ns == 0 || call.ended_ns == call.sequence * 5 + 2);
    }
    atomic_store(&race.stop, 1);
    pthread_join(writer, NULL);
    mt_record_destroy(race.record);
}

static void check_words(uint32_t collective, uint32_t root, const char *wanted)
{
    struct mt_call call = {
        .count = 512, .collective = collective, .dtype = MANTA_FLOAT32, .op = MANTA_SUM};
    char text[128], cut[8];
    call.root = root;
    mt_call_describe(&call, text, sizeof text);
    assert_string_equal(text, wanted);
    mt_call_describe(&call, cut, sizeof cut);
    assert_int_equal(strlen(cut), 7);
}

static void calls_in_words(void **state)
{
    (void)state;
    check_words(MANTA_ALLREDUCE, MANTA_PLAN_NONE, "allreduce(512 float32, sum)");
    check_words(MANTA_BROADCAST, 2, "broadcast(512 float32, root 2)");
    check_words(MANTA_REDUCE, 2, "reduce(512 float32, sum, root 2)");
    check_words(MANTA_ALLGATHER, MANTA_PLAN_NONE, "allgather(512 float32)");
    check_words(MANTA_REDUCE_SCATTER, MANTA_PLAN_NONE, "reduce_scatter(512 float32, sum)");
    check_words(MANTA_BARRIER, MANTA_PLAN_NONE, "barrier()");
    check_words(MANTA_SEND, 3, "send(512 float32, to 3)");
    check_words(MANTA_RECV, 3, "recv(512 float32, from 3)");
    check_words(999, 3, "unknown(512 float32)");
}

static void hash_sees_what_counts(void **state)
{
    (void)state;
    struct mt_call base = a_call(1), other = base;
    other.sequence = 9;
    other.posted_ns = 9;
    other.root = 4; /* an allreduce has no root */
    assert_int_equal(mt_call_hash(&base), mt_call_hash(&other));
    other.count++;
    assert_int_not_equal(mt_call_hash(&base), mt_call_hash(&other));
    other = base;
    other.op = MANTA_MAX;
    assert_int_not_equal(mt_call_hash(&base), mt_call_hash(&other));
    other.collective = base.collective = MANTA_BROADCAST;
    assert_int_equal(mt_call_hash(&base), mt_call_hash(&other)); /* nor a broadcast an op */
    other.root = 1;
    assert_int_not_equal(mt_call_hash(&base), mt_call_hash(&other));
    base.collective = MANTA_SEND;
    base.root = 1;
    other = base;
    other.collective = MANTA_RECV;
    other.root = 0;
    assert_int_equal(mt_call_hash(&base), mt_call_hash(&other)); /* two ends of one message */
    base.collective = other.collective = MANTA_BARRIER;
    other.count = 7;
    assert_int_equal(mt_call_hash(&base), mt_call_hash(&other));
    for (uint64_t i = 0; i < 100000; i++) {
        base.count = i;
        base.collective = (uint32_t)(i % 8);
        assert_int_not_equal(mt_call_hash(&base), 0);
    }
}

static void dump_is_json(void **state)
{
    (void)state;
    struct mt_record *record = mt_record_create();
    char *text = NULL;
    size_t bytes = 0;
    struct mt_call call = a_call(1);
    call.algorithm = "evil\"\\\n";
    mt_record_begin(record, &call);
    call = a_call(2);
    mt_record_end(record, mt_record_begin(record, &call), MANTA_ETIMEOUT, 50);
    FILE *stream = open_memstream(&text, &bytes);
    assert_int_equal(mt_record_dump(record, 3, 8, stream), 0);
    fclose(stream);
    assert_non_null(strstr(text, "{\"rank\": 3, \"ranks\": 8, \"calls_begun\": 2, \"calls\": ["));
    assert_non_null(strstr(text, "\"call\": \"allreduce(3 float32, sum)\""));
    assert_non_null(strstr(text, "\"algorithm\": \"evil???\""));
    assert_non_null(strstr(text, "\"state\": \"running\""));
    assert_non_null(strstr(text, "\"state\": \"failed\", \"result\": -3}"));
    int depth = 0, quoted = 0;
    for (const char *at = text; *at; at++) {
        quoted ^= *at == '"';
        depth += !quoted && (*at == '{' || *at == '[');
        depth -= !quoted && (*at == '}' || *at == ']');
    }
    assert_true(depth == 0 && !quoted);
    free(text);
    mt_record_destroy(record);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(empty_record_has_no_call),
        cmocka_unit_test(last_1024_calls_are_kept),
        cmocka_unit_test(pairs_have_their_own_sequences),
        cmocka_unit_test(last_collective_outlives_sends),
        cmocka_unit_test(readers_never_see_torn_calls),
        cmocka_unit_test(calls_in_words),
        cmocka_unit_test(hash_sees_what_counts),
        cmocka_unit_test(dump_is_json),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
