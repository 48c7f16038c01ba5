/* SPDX-License-Identifier: Apache-2.0 */
#include "core/wire.h"

#include <string.h>

#include "core/bytes.h"
#include "core/stream.h"

static const uint8_t hello_magic[8] = {'M', 'A', 'N', 'T', 'A', 0xab, '\r', '\n'};
const uint8_t mt_accepted[MT_ACCEPTED_BYTES] = {'w', 'e', 'l', 'c', 'o', 'm', 'e', '\n'};

static uint8_t *reserve(struct mt_writer *writer, size_t count)
{
    if (writer->failed || count > writer->capacity - writer->used) {
        writer->failed = 1;
        return NULL;
    }
    uint8_t *at = writer->bytes + writer->used;
    writer->used += count;
    return at;
}

static const uint8_t *take(struct mt_reader *reader, size_t count)
{
    if (reader->failed || count > reader->count - reader->used) {
        reader->failed = 1;
        return NULL;
    }
    const uint8_t *at = reader->bytes + reader->used;
    reader->used += count;
    return at;
}

void mt_put_u32(struct mt_writer *writer, uint32_t value)
{
    uint8_t *at = reserve(writer, 4);
    if (at)
        mt_bytes_put32(at, value);
}

void mt_put_u64(struct mt_writer *writer, uint64_t value)
{
    mt_put_u32(writer, (uint32_t)value);
    mt_put_u32(writer, (uint32_t)(value >> 32));
}

void mt_put_bytes(struct mt_writer *writer, const void *bytes, size_t count)
{
    uint8_t *at = reserve(writer, count);
    if (at && count)
        memcpy(at, bytes, count);
}

void mt_put_string(struct mt_writer *writer, const char *text)
{
    size_t count = strlen(text);
    mt_put_u32(writer, (uint32_t)count);
    mt_put_bytes(writer, text, count);
}

uint32_t mt_get_u32(struct mt_reader *reader)
{
    const uint8_t *at = take(reader, 4);
    return at ? mt_bytes_get32(at) : 0;
}

uint64_t mt_get_u64(struct mt_reader *reader)
{
    uint64_t low = mt_get_u32(reader);
    return low | (uint64_t)mt_get_u32(reader) << 32;
}

void mt_get_bytes(struct mt_reader *reader, void *bytes, size_t count)
{
    const uint8_t *at = take(reader, count);
    if (at && count)
        memcpy(bytes, at, count);
    else
        memset(bytes, 0, count);
}

void mt_get_string(struct mt_reader *reader, char *text, size_t room)
{
    uint32_t count = mt_get_u32(reader);
    text[0] = 0;
    if (count >= room)
        reader->failed = 1;
    const uint8_t *at = take(reader, count);
    if (!at)
        return;
    if (memchr(at, 0, count)) {
        reader->failed = 1;
        return;
    }
    memcpy(text, at, count);
    text[count] = 0;
}

void mt_hello_encode(const struct mt_hello *hello, uint8_t bytes[MT_HELLO_BYTES])
{
    struct mt_writer writer = {.bytes = bytes, .capacity = MT_HELLO_BYTES};
    mt_put_bytes(&writer, hello_magic, sizeof hello_magic);
    mt_put_u32(&writer, hello->protocol);
    mt_put_u32(&writer, hello->kind);
    mt_put_bytes(&writer, hello->session_id, MT_ID_BYTES);
    mt_put_bytes(&writer, hello->uid, MT_ID_BYTES);
    mt_put_u32(&writer, hello->from);
    mt_put_u32(&writer, hello->to);
    mt_put_u32(&writer, hello->index);
    mt_put_u32(&writer, 0);
    mt_put_bytes(&writer, hello->nonce, MT_AUTH_NONCE_BYTES);
}

int mt_hello_decode(const uint8_t bytes[MT_HELLO_BYTES], struct mt_hello *hello_out)
{
    struct mt_reader reader = {.bytes = bytes, .count = MT_HELLO_BYTES};
    uint8_t magic[sizeof hello_magic];
    memset(hello_out, 0, sizeof *hello_out);
    mt_get_bytes(&reader, magic, sizeof magic);
    if (memcmp(magic, hello_magic, sizeof magic) != 0)
        return MANTA_EINVAL;
    hello_out->protocol = mt_get_u32(&reader);
    if (hello_out->protocol != MT_WIRE_PROTOCOL)
        return MANTA_EVERSION;
    hello_out->kind = mt_get_u32(&reader);
    mt_get_bytes(&reader, hello_out->session_id, MT_ID_BYTES);
    mt_get_bytes(&reader, hello_out->uid, MT_ID_BYTES);
    hello_out->from = mt_get_u32(&reader);
    hello_out->to = mt_get_u32(&reader);
    hello_out->index = mt_get_u32(&reader);
    uint32_t zero = mt_get_u32(&reader);
    mt_get_bytes(&reader, hello_out->nonce, MT_AUTH_NONCE_BYTES);
    if (zero || hello_out->kind < MT_STREAM_JOIN || hello_out->kind > MT_STREAM_VERBS ||
        hello_out->from >= MT_RANKS_MAX || hello_out->to >= MT_RANKS_MAX)
        return MANTA_EINVAL;
    return 0;
}

void mt_challenge_encode(const struct mt_challenge *challenge, uint8_t bytes[MT_CHALLENGE_BYTES])
{
    struct mt_writer writer = {.bytes = bytes, .capacity = MT_CHALLENGE_BYTES};
    mt_put_u32(&writer, challenge->status);
    mt_put_u32(&writer, challenge->protocol);
    mt_put_bytes(&writer, challenge->nonce, MT_AUTH_NONCE_BYTES);
    mt_put_bytes(&writer, challenge->mac, MT_AUTH_MAC_BYTES);
}

int mt_challenge_decode(const uint8_t bytes[MT_CHALLENGE_BYTES], struct mt_challenge *challenge_out)
{
    struct mt_reader reader = {.bytes = bytes, .count = MT_CHALLENGE_BYTES};
    challenge_out->status = mt_get_u32(&reader);
    challenge_out->protocol = mt_get_u32(&reader);
    mt_get_bytes(&reader, challenge_out->nonce, MT_AUTH_NONCE_BYTES);
    mt_get_bytes(&reader, challenge_out->mac, MT_AUTH_MAC_BYTES);
    return challenge_out->status <= MT_CHALLENGE_VERSION ? 0 : MANTA_EINVAL;
}

int mt_proof_acceptor(const uint8_t key[MT_AUTH_KEY_BYTES], const uint8_t hello[MT_HELLO_BYTES],
                      const uint8_t nonce[MT_AUTH_NONCE_BYTES], uint8_t mac[MT_AUTH_MAC_BYTES])
{
    return mt_auth_mac(key, "manta acceptor", hello, MT_HELLO_BYTES, nonce, MT_AUTH_NONCE_BYTES,
                       mac);
}

int mt_proof_dialler(const uint8_t key[MT_AUTH_KEY_BYTES], const uint8_t hello[MT_HELLO_BYTES],
                     const uint8_t nonce[MT_AUTH_NONCE_BYTES], uint8_t mac[MT_AUTH_MAC_BYTES])
{
    return mt_auth_mac(key, "manta dialler", hello, MT_HELLO_BYTES, nonce, MT_AUTH_NONCE_BYTES,
                       mac);
}

void mt_wire_frame_encode(const struct mt_wire_frame *frame, uint8_t bytes[MT_WIRE_FRAME_BYTES])
{
    struct mt_writer writer = {.bytes = bytes, .capacity = MT_WIRE_FRAME_BYTES};
    mt_put_u32(&writer, frame->bytes);
    mt_put_u32(&writer, frame->type);
    mt_put_u32(&writer, frame->origin);
    mt_put_u32(&writer, frame->target);
    mt_put_u64(&writer, frame->serial);
}

int mt_wire_frame_decode(const uint8_t bytes[MT_WIRE_FRAME_BYTES], struct mt_wire_frame *frame_out)
{
    struct mt_reader reader = {.bytes = bytes, .count = MT_WIRE_FRAME_BYTES};
    frame_out->bytes = mt_get_u32(&reader);
    frame_out->type = mt_get_u32(&reader);
    frame_out->origin = mt_get_u32(&reader);
    frame_out->target = mt_get_u32(&reader);
    frame_out->serial = mt_get_u64(&reader);
    return frame_out->type >= MT_WIRE_JOIN && frame_out->type < MT_WIRE_TYPES ? 0 : MANTA_EINVAL;
}
