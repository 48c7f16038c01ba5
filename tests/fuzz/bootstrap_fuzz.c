/* SPDX-License-Identifier: Apache-2.0 */
/* Every message of the handshake, the bootstrap and the control plane: the first byte chooses
 * which. What is taken must encode to the very same bytes. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "core/bootstrap.h"
#include "core/wire.h"

enum { ROOM = 256 * 1024 };
static uint8_t again[ROOM];

static void check_same(const uint8_t *bytes, size_t count, size_t encoded)
{
    if (encoded != count || memcmp(bytes, again, count) != 0)
        abort();
}

static void try_join(const uint8_t *bytes, size_t count)
{
    struct mt_join join;
    if (mt_join_decode(bytes, count, &join))
        return;
    check_same(bytes, count, mt_join_encode(&join, again, ROOM));
    free(join.fingerprint);
}

/* Places may be told in more words than the library's own: what was understood must be the same. */
static void try_welcome(const uint8_t *bytes, size_t count)
{
    enum { RANKS = 4 };
    struct mt_welcome welcome, same;
    if (mt_welcome_decode(bytes, count, RANKS, &welcome))
        return;
    size_t encoded = mt_welcome_encode(&welcome, again, ROOM);
    if (encoded == 0 || encoded > count || mt_welcome_decode(again, encoded, RANKS, &same) ||
        memcmp(welcome.members, same.members, RANKS * sizeof *same.members) != 0)
        abort();
    free(same.members);
    free(welcome.members);
}

/* Control characters are blanked, so only the length is the same. */
static void try_failure(const uint8_t *bytes, size_t count)
{
    struct mt_error error;
    if (mt_failure_decode(bytes, count, &error) == 0 &&
        mt_failure_encode(&error, again, ROOM) != count)
        abort();
}

static void try_question(const uint8_t *bytes, size_t count)
{
    struct mt_query query;
    struct mt_answer answer;
    uint64_t sequence;
    char text[128];
    if (mt_goodbye_decode(bytes, count, &sequence) == 0)
        check_same(bytes, count, mt_goodbye_encode(sequence, again, ROOM));
    if (mt_query_decode(bytes, count, &query) == 0)
        check_same(bytes, count, mt_query_encode(&query, again, ROOM));
    if (mt_answer_decode(bytes, count, &answer))
        return;
    check_same(bytes, count, mt_answer_encode(&answer, again, ROOM));
    mt_call_describe(&answer.last.call, text, sizeof text);
    if (mt_call_hash(&answer.last.call) == 0)
        abort();
}

static void try_fixed(const uint8_t *bytes, size_t count)
{
    struct mt_hello hello;
    struct mt_challenge challenge;
    struct mt_wire_frame frame;
    if (count == MT_HELLO_BYTES && mt_hello_decode(bytes, &hello) == 0) {
        mt_hello_encode(&hello, again);
        check_same(bytes, count, MT_HELLO_BYTES);
    }
    if (count == MT_CHALLENGE_BYTES && mt_challenge_decode(bytes, &challenge) == 0) {
        mt_challenge_encode(&challenge, again);
        check_same(bytes, count, MT_CHALLENGE_BYTES);
    }
    if (count == MT_WIRE_FRAME_BYTES && mt_wire_frame_decode(bytes, &frame) == 0) {
        mt_wire_frame_encode(&frame, again);
        check_same(bytes, count, MT_WIRE_FRAME_BYTES);
    }
}

/* Two configurations, divided by the first byte 1. */
static void try_compare(const uint8_t *bytes, size_t count)
{
    char *text = malloc(count + 2);
    struct mt_error error;
    memcpy(text, bytes, count);
    text[count] = text[count + 1] = 0;
    char *second = strchr(text, 1);
    if (second)
        *second++ = 0;
    const char *texts[2] = {text, second ? second : text};
    int rc = mt_bootstrap_compare(texts, 2, &error);
    if (strcmp(texts[0], texts[1]) == 0 && rc)
        abort();
    free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t count);
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t count)
{
    static void (*const tries[])(const uint8_t *bytes, size_t count) = {
        try_join, try_welcome, try_failure, try_question, try_fixed, try_compare,
    };
    if (count > 0)
        tries[bytes[0] % (sizeof tries / sizeof tries[0])](bytes + 1, count - 1);
    return 0;
}
