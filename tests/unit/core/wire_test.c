/* SPDX-License-Identifier: Apache-2.0 */
/* Each message: there and back, every truncation and one byte more refused, every bit flipped
 * without harm. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <manta/plan.h>

#include "core/stream.h"
#include "core/wire.h"

static struct mt_member a_member(uint32_t rank)
{
    struct mt_member member = {.rank = rank,
                               .node = UINT64_C(0x1122334455667788),
                               .boot = 2,
                               .pid_namespace = 3,
                               .net_namespace = 4,
                               .pid = 4711,
                               .process_start = 99,
                               .uid = 1000};
    member.place = (struct mt_place){5, 6, 0, MT_PLACE_NONE, 8, 9, 100000};
    strcpy(member.unix_name, "manta-0123");
    strcpy(member.addresses, "10.0.0.1:4000 [fd00::1]:4000");
    return member;
}

static void check_member(const struct mt_member *a, const struct mt_member *b)
{
    assert_int_equal(a->rank, b->rank);
    assert_true(a->node == b->node && a->boot == b->boot && a->pid_namespace == b->pid_namespace &&
                a->net_namespace == b->net_namespace);
    assert_int_equal(a->pid, b->pid);
    assert_true(a->process_start == b->process_start && a->uid == b->uid);
    assert_memory_equal(&a->place, &b->place, sizeof a->place);
    assert_string_equal(a->unix_name, b->unix_name);
    assert_string_equal(a->addresses, b->addresses);
}

/* One kind of message: decode gives 0 or an error, and frees what it made. */
struct kind {
    const char *name;
    int (*decode)(const uint8_t *bytes, size_t count);
    size_t (*encode)(uint8_t *bytes, size_t capacity);
};

static int decode_join(const uint8_t *bytes, size_t count)
{
    struct mt_join join;
    int rc = mt_join_decode(bytes, count, &join);
    free(rc ? NULL : join.fingerprint);
    return rc;
}

static size_t encode_join(uint8_t *bytes, size_t capacity)
{
    char fingerprint[] = "MANTA_A=1\nMANTA_B=\n";
    struct mt_join join = {.version = 100,
                           .ranks = 4,
                           .nonce = {5},
                           .member = a_member(3),
                           .fingerprint = fingerprint};
    return mt_join_encode(&join, bytes, capacity);
}

static int decode_welcome(const uint8_t *bytes, size_t count)
{
    struct mt_welcome welcome;
    int rc = mt_welcome_decode(bytes, count, 3, &welcome);
    free(rc ? NULL : welcome.members);
    return rc;
}

static size_t encode_welcome(uint8_t *bytes, size_t capacity)
{
    struct mt_member members[3] = {a_member(0), a_member(1), a_member(2)};
    struct mt_welcome welcome = {.uid = {7}, .epoch = 9, .ranks = 3, .members = members};
    return mt_welcome_encode(&welcome, bytes, capacity);
}

static int decode_failure(const uint8_t *bytes, size_t count)
{
    struct mt_error error;
    return mt_failure_decode(bytes, count, &error);
}

static size_t encode_failure(uint8_t *bytes, size_t capacity)
{
    struct mt_error error;
    mt_error_set_rank(&error, MANTA_EPEER, 3, "rank 3 is dead");
    return mt_failure_encode(&error, bytes, capacity);
}

static int decode_query(const uint8_t *bytes, size_t count)
{
    struct mt_query query;
    return mt_query_decode(bytes, count, &query);
}

static size_t encode_query(uint8_t *bytes, size_t capacity)
{
    struct mt_query query = {41, MANTA_ALLREDUCE, MANTA_PLAN_NONE, 1};
    return mt_query_encode(&query, bytes, capacity);
}

static int decode_answer(const uint8_t *bytes, size_t count)
{
    struct mt_answer answer;
    return mt_answer_decode(bytes, count, &answer);
}

static struct mt_answer an_answer(void)
{
    struct mt_answer answer = {.query = 17};
    answer.last.there = 1;
    answer.last.call.sequence = 41;
    answer.last.call.count = UINT64_MAX;
    answer.last.call.collective = MANTA_BROADCAST;
    answer.last.call.root = 2;
    answer.last.call.result = -3;
    answer.last.call.ended_ns = 1;
    answer.last.posted_ago_ns = 5;
    answer.last.ended_ago_ns = 4;
    answer.open = answer.last;
    answer.open.call.collective = MANTA_SEND;
    return answer;
}

static size_t encode_answer(uint8_t *bytes, size_t capacity)
{
    struct mt_answer answer = an_answer();
    return mt_answer_encode(&answer, bytes, capacity);
}

static const struct kind kinds[] = {
    {"join", decode_join, encode_join},          {"welcome", decode_welcome, encode_welcome},
    {"failure", decode_failure, encode_failure}, {"query", decode_query, encode_query},
    {"answer", decode_answer, encode_answer},
};
enum { KINDS = sizeof kinds / sizeof kinds[0], ROOM = 8192 };

/* Decode from memory of exactly that size, so that a sanitizer sees a byte read too far. */
static int decode_exact(const struct kind *kind, const uint8_t *bytes, size_t count)
{
    uint8_t *exact = malloc(count ? count : 1);
    if (count)
        memcpy(exact, bytes, count);
    int rc = kind->decode(exact, count);
    free(exact);
    return rc;
}

static void every_length_but_the_right_one_is_refused(void **state)
{
    (void)state;
    uint8_t bytes[ROOM] = {0};
    for (int k = 0; k < KINDS; k++) {
        size_t count = kinds[k].encode(bytes, ROOM);
        assert_true(count > 0);
        for (size_t cut = 0; cut < count; cut++)
            assert_int_equal(decode_exact(&kinds[k], bytes, cut), MANTA_EINVAL);
        assert_int_equal(decode_exact(&kinds[k], bytes, count), 0);
        assert_int_equal(decode_exact(&kinds[k], bytes, count + 1), MANTA_EINVAL);
        for (size_t room = 0; room < count; room++)
            assert_int_equal(kinds[k].encode(bytes, room), 0);
    }
}

static void flipped_bits_do_no_harm(void **state)
{
    (void)state;
    uint8_t bytes[ROOM];
    for (int k = 0; k < KINDS; k++) {
        size_t count = kinds[k].encode(bytes, ROOM);
        for (size_t bit = 0; bit < count * 8; bit++) {
            bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
            int rc = decode_exact(&kinds[k], bytes, count);
            assert_true(rc == 0 || rc == MANTA_EINVAL);
            bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
        }
        for (size_t at = 0; at + 4 <= count; at++) { /* lengths and counts beyond everything */
            uint8_t saved[4];
            memcpy(saved, bytes + at, 4);
            memset(bytes + at, 0xff, 4);
            int rc = decode_exact(&kinds[k], bytes, count);
            assert_true(rc == 0 || rc == MANTA_EINVAL);
            memcpy(bytes + at, saved, 4);
        }
    }
}

static void joins_arrive_whole(void **state)
{
    (void)state;
    uint8_t bytes[ROOM];
    struct mt_join join;
    struct mt_member wanted = a_member(3);
    assert_int_equal(mt_join_decode(bytes, encode_join(bytes, ROOM), &join), 0);
    assert_int_equal(join.version, 100);
    assert_int_equal(join.ranks, 4);
    assert_int_equal(join.nonce[0], 5);
    assert_string_equal(join.fingerprint, "MANTA_A=1\nMANTA_B=\n");
    check_member(&join.member, &wanted);
    free(join.fingerprint);
}

static void welcomes_arrive_whole(void **state)
{
    (void)state;
    uint8_t bytes[ROOM];
    struct mt_welcome welcome;
    size_t count = encode_welcome(bytes, ROOM);
    assert_int_equal(mt_welcome_decode(bytes, count, 3, &welcome), 0);
    assert_int_equal(welcome.epoch, 9);
    for (uint32_t r = 0; r < 3; r++) {
        struct mt_member wanted = a_member(r);
        check_member(&welcome.members[r], &wanted);
    }
    free(welcome.members);
    assert_int_equal(mt_welcome_decode(bytes, count, 4, &welcome), MANTA_EINVAL);
    assert_int_equal(mt_welcome_decode(bytes, count, 0, &welcome), MANTA_EINVAL);
}

static void failures_arrive_without_control_characters(void **state)
{
    (void)state;
    uint8_t bytes[ROOM];
    struct mt_error sent, got;
    mt_error_set_rank(&sent, MANTA_EABORTED, 7, "ein \033[31mGruß\nvon 7");
    sent.system_errno = 104;
    strcpy(sent.transport, "tcp");
    size_t count = mt_failure_encode(&sent, bytes, ROOM);
    assert_int_equal(mt_failure_decode(bytes, count, &got), 0);
    assert_int_equal(got.code, MANTA_EABORTED);
    assert_int_equal(got.rank, 7);
    assert_int_equal(got.system_errno, 104);
    assert_string_equal(got.transport, "tcp");
    assert_string_equal(got.sentence, "ein  [31mGruß von 7");
    sent.code = 5; /* not an error */
    count = mt_failure_encode(&sent, bytes, ROOM);
    assert_int_equal(mt_failure_decode(bytes, count, &got), MANTA_EINVAL);
}

static void answers_arrive_whole(void **state)
{
    (void)state;
    uint8_t bytes[ROOM];
    struct mt_answer answer, wanted = an_answer();
    assert_int_equal(mt_answer_decode(bytes, encode_answer(bytes, ROOM), &answer), 0);
    assert_int_equal(answer.query, 17);
    assert_int_equal(answer.same.there, 0);
    assert_memory_equal(&answer.last, &wanted.last, sizeof answer.last);
    assert_memory_equal(&answer.open, &wanted.open, sizeof answer.open);
}

static void hellos_are_exact(void **state)
{
    (void)state;
    struct mt_hello hello = {.protocol = MT_WIRE_PROTOCOL,
                             .kind = MT_STREAM_SHM,
                             .session_id = {1},
                             .uid = {2},
                             .from = 3,
                             .to = 4,
                             .index = 5,
                             .nonce = {6}};
    struct mt_hello got;
    uint8_t bytes[MT_HELLO_BYTES];
    int refused = 0;
    mt_hello_encode(&hello, bytes);
    assert_int_equal(mt_hello_decode(bytes, &got), 0);
    assert_memory_equal(&got, &hello, sizeof got);
    for (size_t bit = 0; bit < 8 * sizeof bytes; bit++) {
        bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
        int rc = mt_hello_decode(bytes, &got);
        assert_int_equal(rc == MANTA_EVERSION, bit >= 64 && bit < 96);
        refused += rc != 0;
        bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    assert_true(refused >= 64 + 32 + 32); /* magic, protocol and the word that must be 0 */
}

static void frames_and_challenges_are_exact(void **state)
{
    (void)state;
    struct mt_wire_frame frame = {
        .bytes = 5, .type = MT_WIRE_FAIL, .origin = 1, .target = 2, .serial = UINT64_MAX - 1};
    struct mt_wire_frame got;
    struct mt_challenge challenge = {.status = MT_CHALLENGE_GO, .protocol = 1, .nonce = {3}}, back;
    uint8_t bytes[MT_WIRE_FRAME_BYTES], long_bytes[MT_CHALLENGE_BYTES];
    mt_wire_frame_encode(&frame, bytes);
    assert_int_equal(mt_wire_frame_decode(bytes, &got), 0);
    assert_memory_equal(&got, &frame, sizeof got);
    frame.type = MT_WIRE_TYPES;
    mt_wire_frame_encode(&frame, bytes);
    assert_int_equal(mt_wire_frame_decode(bytes, &got), MANTA_EINVAL);
    mt_challenge_encode(&challenge, long_bytes);
    assert_int_equal(mt_challenge_decode(long_bytes, &back), 0);
    assert_memory_equal(&back, &challenge, sizeof back);
    long_bytes[0] = MT_CHALLENGE_VERSION + 1;
    assert_int_equal(mt_challenge_decode(long_bytes, &back), MANTA_EINVAL);
}

static void proofs_depend_on_the_role(void **state)
{
    (void)state;
    uint8_t key[MT_AUTH_KEY_BYTES] = {1}, hello[MT_HELLO_BYTES] = {2};
    uint8_t nonce[MT_AUTH_NONCE_BYTES] = {3}, acceptor[MT_AUTH_MAC_BYTES];
    uint8_t dialler[MT_AUTH_MAC_BYTES], other[MT_AUTH_MAC_BYTES];
    assert_int_equal(mt_proof_acceptor(key, hello, nonce, acceptor), 0);
    assert_int_equal(mt_proof_dialler(key, hello, nonce, dialler), 0);
    assert_memory_not_equal(acceptor, dialler, sizeof acceptor);
    for (size_t i = 0; i < sizeof hello; i++) {
        hello[i] ^= 1;
        assert_int_equal(mt_proof_dialler(key, hello, nonce, other), 0);
        assert_memory_not_equal(other, dialler, sizeof other);
        hello[i] ^= 1;
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_length_but_the_right_one_is_refused),
        cmocka_unit_test(flipped_bits_do_no_harm),
        cmocka_unit_test(joins_arrive_whole),
        cmocka_unit_test(welcomes_arrive_whole),
        cmocka_unit_test(failures_arrive_without_control_characters),
        cmocka_unit_test(answers_arrive_whole),
        cmocka_unit_test(hellos_are_exact),
        cmocka_unit_test(frames_and_challenges_are_exact),
        cmocka_unit_test(proofs_depend_on_the_role),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
