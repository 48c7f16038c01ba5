/* SPDX-License-Identifier: Apache-2.0 */
/* Payloads of frames; see wire.h. */
#include <stdlib.h>
#include <string.h>

#include "core/wire.h"
#include "core/wire_places.h"

/* Everything read and nothing left over. */
static int finished(const struct mt_reader *reader)
{
    return !reader->failed && reader->used == reader->count;
}

static size_t written(const struct mt_writer *writer)
{
    return writer->failed ? 0 : writer->used;
}

/* Names and addresses end in logs and error sentences: printable ASCII only. */
static int is_printable(const char *text)
{
    for (; *text; text++)
        if (*text < 0x20 || *text > 0x7e)
            return 0;
    return 1;
}

/* Sentences may be in any language, but must not steer a terminal. */
static void blank_control_characters(char *text)
{
    for (; *text; text++)
        if ((unsigned char)*text < 0x20 || *text == 0x7f)
            *text = ' ';
}

static void put_member(struct mt_writer *writer, const struct mt_member *member)
{
    mt_put_u32(writer, member->rank);
    mt_put_u64(writer, member->node);
    mt_put_u64(writer, member->boot);
    mt_put_u64(writer, member->pid_namespace);
    mt_put_u64(writer, member->net_namespace);
    mt_put_u32(writer, (uint32_t)member->pid);
    mt_put_u64(writer, member->process_start);
    mt_put_u32(writer, member->uid);
    mt_put_string(writer, member->unix_name);
    mt_put_string(writer, member->addresses);
}

static void get_member(struct mt_reader *reader, struct mt_member *member)
{
    memset(member, 0, sizeof *member);
    member->rank = mt_get_u32(reader);
    member->node = mt_get_u64(reader);
    member->boot = mt_get_u64(reader);
    member->pid_namespace = mt_get_u64(reader);
    member->net_namespace = mt_get_u64(reader);
    member->pid = (pid_t)mt_get_u32(reader);
    member->process_start = mt_get_u64(reader);
    member->uid = mt_get_u32(reader);
    mt_get_string(reader, member->unix_name, sizeof member->unix_name);
    mt_get_string(reader, member->addresses, sizeof member->addresses);
    if (member->pid <= 0 || !is_printable(member->unix_name) || !is_printable(member->addresses))
        reader->failed = 1;
}

size_t mt_join_encode(const struct mt_join *join, uint8_t *bytes, size_t capacity)
{
    struct mt_writer writer = {.bytes = bytes, .capacity = capacity};
    mt_put_u32(&writer, join->version);
    mt_put_u32(&writer, join->ranks);
    mt_put_bytes(&writer, join->nonce, MT_ID_BYTES);
    put_member(&writer, &join->member);
    mt_place_put(&writer, &join->member.place);
    mt_put_string(&writer, join->fingerprint);
    return written(&writer);
}

int mt_join_decode(const uint8_t *bytes, size_t count, struct mt_join *join_out)
{
    struct mt_reader reader = {.bytes = bytes, .count = count};
    join_out->version = mt_get_u32(&reader);
    join_out->ranks = mt_get_u32(&reader);
    mt_get_bytes(&reader, join_out->nonce, MT_ID_BYTES);
    get_member(&reader, &join_out->member);
    mt_place_get(&reader, &join_out->member.place);
    join_out->fingerprint = malloc(MT_FINGERPRINT_MAX);
    if (!join_out->fingerprint)
        return MANTA_ENOMEM;
    mt_get_string(&reader, join_out->fingerprint, MT_FINGERPRINT_MAX);
    if (finished(&reader))
        return 0;
    free(join_out->fingerprint);
    join_out->fingerprint = NULL;
    return MANTA_EINVAL;
}

size_t mt_welcome_bytes_max(uint32_t ranks)
{
    return 64 + MT_PLACES_MORE_MAX + (size_t)ranks * (MT_MEMBER_MAX + MT_PLACES_RANK_MAX);
}

size_t mt_welcome_encode(const struct mt_welcome *welcome, uint8_t *bytes, size_t capacity)
{
    struct mt_writer writer = {.bytes = bytes, .capacity = capacity};
    mt_put_bytes(&writer, welcome->uid, MT_ID_BYTES);
    mt_put_u32(&writer, welcome->epoch);
    mt_put_u32(&writer, welcome->ranks);
    for (uint32_t i = 0; i < welcome->ranks; i++)
        put_member(&writer, &welcome->members[i]);
    mt_places_put(&writer, welcome->members, welcome->ranks);
    return written(&writer);
}

int mt_welcome_decode(const uint8_t *bytes, size_t count, uint32_t ranks,
                      struct mt_welcome *welcome_out)
{
    struct mt_reader reader = {.bytes = bytes, .count = count};
    memset(welcome_out, 0, sizeof *welcome_out);
    mt_get_bytes(&reader, welcome_out->uid, MT_ID_BYTES);
    welcome_out->epoch = mt_get_u32(&reader);
    welcome_out->ranks = mt_get_u32(&reader);
    if (reader.failed || welcome_out->ranks != ranks || ranks == 0 || welcome_out->epoch == 0)
        return MANTA_EINVAL;
    welcome_out->members = calloc(ranks, sizeof *welcome_out->members);
    if (!welcome_out->members)
        return MANTA_ENOMEM;
    for (uint32_t i = 0; i < ranks && !reader.failed; i++) {
        get_member(&reader, &welcome_out->members[i]);
        if (welcome_out->members[i].rank != i)
            reader.failed = 1;
    }
    int rc = reader.failed ? 0 : mt_places_get(&reader, welcome_out->members, ranks);
    if (rc == 0 && finished(&reader))
        return 0;
    free(welcome_out->members);
    welcome_out->members = NULL;
    return rc ? rc : MANTA_EINVAL;
}

size_t mt_failure_encode(const struct mt_error *error, uint8_t *bytes, size_t capacity)
{
    struct mt_writer writer = {.bytes = bytes, .capacity = capacity};
    mt_put_u32(&writer, (uint32_t)error->code);
    mt_put_u32(&writer, (uint32_t)error->rank);
    mt_put_u32(&writer, (uint32_t)error->system_errno);
    mt_put_string(&writer, error->transport);
    mt_put_string(&writer, error->sentence);
    return written(&writer);
}

int mt_failure_decode(const uint8_t *bytes, size_t count, struct mt_error *error_out)
{
    struct mt_reader reader = {.bytes = bytes, .count = count};
    memset(error_out, 0, sizeof *error_out);
    error_out->code = (int)mt_get_u32(&reader);
    error_out->rank = (int)mt_get_u32(&reader);
    error_out->system_errno = (int)mt_get_u32(&reader);
    mt_get_string(&reader, error_out->transport, sizeof error_out->transport);
    mt_get_string(&reader, error_out->sentence, sizeof error_out->sentence);
    if (!finished(&reader) || error_out->code >= 0 || error_out->code < -1000 ||
        error_out->rank < -1 || error_out->rank >= MT_RANKS_MAX || error_out->system_errno < 0)
        return MANTA_EINVAL;
    blank_control_characters(error_out->transport);
    blank_control_characters(error_out->sentence);
    return 0;
}

size_t mt_goodbye_encode(uint64_t sequence, uint8_t *bytes, size_t capacity)
{
    struct mt_writer writer = {.bytes = bytes, .capacity = capacity};
    mt_put_u64(&writer, sequence);
    return written(&writer);
}

int mt_goodbye_decode(const uint8_t *bytes, size_t count, uint64_t *sequence_out)
{
    struct mt_reader reader = {.bytes = bytes, .count = count};
    *sequence_out = mt_get_u64(&reader);
    return finished(&reader) ? 0 : MANTA_EINVAL;
}

size_t mt_query_encode(const struct mt_query *query, uint8_t *bytes, size_t capacity)
{
    struct mt_writer writer = {.bytes = bytes, .capacity = capacity};
    mt_put_u64(&writer, query->sequence);
    mt_put_u32(&writer, query->collective);
    mt_put_u32(&writer, query->peer);
    mt_put_u32(&writer, query->use);
    return written(&writer);
}

int mt_query_decode(const uint8_t *bytes, size_t count, struct mt_query *query_out)
{
    struct mt_reader reader = {.bytes = bytes, .count = count};
    query_out->sequence = mt_get_u64(&reader);
    query_out->collective = mt_get_u32(&reader);
    query_out->peer = mt_get_u32(&reader);
    query_out->use = mt_get_u32(&reader);
    return finished(&reader) ? 0 : MANTA_EINVAL;
}

static void put_told(struct mt_writer *writer, const struct mt_told_call *told)
{
    const struct mt_call *call = &told->call;
    mt_put_u32(writer, told->there);
    if (!told->there)
        return;
    mt_put_u64(writer, call->sequence);
    mt_put_u64(writer, call->count);
    mt_put_u32(writer, call->collective);
    mt_put_u32(writer, call->dtype);
    mt_put_u32(writer, call->op);
    mt_put_u32(writer, call->root);
    mt_put_u32(writer, (uint32_t)call->result);
    mt_put_u32(writer, call->history);
    mt_put_u32(writer, call->ended_ns != 0);
    mt_put_u64(writer, told->posted_ago_ns);
    mt_put_u64(writer, told->ended_ago_ns);
}

static void get_told(struct mt_reader *reader, struct mt_told_call *told)
{
    struct mt_call *call = &told->call;
    memset(told, 0, sizeof *told);
    told->there = mt_get_u32(reader);
    if (told->there > 1)
        reader->failed = 1;
    if (told->there != 1)
        return;
    call->sequence = mt_get_u64(reader);
    call->count = mt_get_u64(reader);
    call->collective = mt_get_u32(reader);
    call->dtype = mt_get_u32(reader);
    call->op = mt_get_u32(reader);
    call->root = mt_get_u32(reader);
    call->result = (int32_t)mt_get_u32(reader);
    call->history = mt_get_u32(reader);
    uint32_t ended = mt_get_u32(reader);
    told->posted_ago_ns = mt_get_u64(reader);
    told->ended_ago_ns = mt_get_u64(reader);
    call->ended_ns = ended;
    if (ended > 1)
        reader->failed = 1;
}

size_t mt_answer_encode(const struct mt_answer *answer, uint8_t *bytes, size_t capacity)
{
    struct mt_writer writer = {.bytes = bytes, .capacity = capacity};
    mt_put_u64(&writer, answer->query);
    put_told(&writer, &answer->same);
    put_told(&writer, &answer->last);
    put_told(&writer, &answer->open);
    mt_put_u64(&writer, answer->last_collective);
    mt_put_u32(&writer, answer->has_forgotten);
    return written(&writer);
}

int mt_answer_decode(const uint8_t *bytes, size_t count, struct mt_answer *answer_out)
{
    struct mt_reader reader = {.bytes = bytes, .count = count};
    answer_out->query = mt_get_u64(&reader);
    get_told(&reader, &answer_out->same);
    get_told(&reader, &answer_out->last);
    get_told(&reader, &answer_out->open);
    answer_out->last_collective = mt_get_u64(&reader);
    answer_out->has_forgotten = mt_get_u32(&reader);
    if (answer_out->has_forgotten > 1)
        reader.failed = 1;
    return finished(&reader) ? 0 : MANTA_EINVAL;
}
