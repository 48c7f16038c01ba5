/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The bytes of the handshake, the bootstrap and the control plane. All numbers are little-endian.
 * Decoding is strict: a message is taken whole, with every field in its range and no byte left, or
 * refused. These functions are pure, so that they can be fuzzed.
 */
#ifndef MT_CORE_WIRE_H
#define MT_CORE_WIRE_H

#include <stddef.h>
#include <stdint.h>

#include "core/auth.h"
#include "core/error.h"
#include "core/group.h"
#include "core/record.h"

enum {
    MT_WIRE_PROTOCOL = 5, /* raised with every change of these messages */
    MT_HELLO_BYTES = 96,
    MT_CHALLENGE_BYTES = 72,
    MT_ACCEPTED_BYTES = 8,
    MT_WIRE_FRAME_BYTES = 24,
    MT_FINGERPRINT_MAX = 48 * 1024,
    MT_JOIN_MAX = 52 * 1024,
    MT_MEMBER_MAX = 1024,
    MT_PIECE_MAX = 64 * 1024,
    MT_RANKS_MAX = 1 << 20
};

/* Cursors. After the first failure everything else fails too. */
struct mt_writer {
    uint8_t *bytes;
    size_t capacity, used;
    int failed;
};
struct mt_reader {
    const uint8_t *bytes;
    size_t count, used;
    int failed;
};
void mt_put_u32(struct mt_writer *writer, uint32_t value);
void mt_put_u64(struct mt_writer *writer, uint64_t value);
void mt_put_bytes(struct mt_writer *writer, const void *bytes, size_t count);
/* Length in 32 bits, then the characters without NUL. */
void mt_put_string(struct mt_writer *writer, const char *text);
uint32_t mt_get_u32(struct mt_reader *reader);
uint64_t mt_get_u64(struct mt_reader *reader);
void mt_get_bytes(struct mt_reader *reader, void *bytes, size_t count);
/* Room includes the NUL; a string with a NUL in it or without room fails. */
void mt_get_string(struct mt_reader *reader, char *text, size_t room);

/* First message of a stream, from who dialled. */
struct mt_hello {
    uint32_t protocol;
    uint32_t kind; /* enum mt_stream_kind */
    uint8_t session_id[MT_ID_BYTES];
    uint8_t uid[MT_ID_BYTES]; /* of the group; zero for MT_STREAM_JOIN */
    uint32_t from, to, index;
    uint8_t nonce[MT_AUTH_NONCE_BYTES];
};
void mt_hello_encode(const struct mt_hello *hello, uint8_t bytes[MT_HELLO_BYTES]);
/* 0, MANTA_EINVAL (not a hello), MANTA_EVERSION (only protocol is filled). */
int mt_hello_decode(const uint8_t bytes[MT_HELLO_BYTES], struct mt_hello *hello_out);

/* The answer to a hello. */
enum mt_challenge_status {
    MT_CHALLENGE_GO = 0,
    MT_CHALLENGE_UNKNOWN = 1, /* no such session, or not for this rank, in this process */
    MT_CHALLENGE_VERSION = 2
};
struct mt_challenge {
    uint32_t status;
    uint32_t protocol;
    uint8_t nonce[MT_AUTH_NONCE_BYTES];
    uint8_t mac[MT_AUTH_MAC_BYTES]; /* of the acceptor, over hello and nonce */
};
void mt_challenge_encode(const struct mt_challenge *challenge, uint8_t bytes[MT_CHALLENGE_BYTES]);
int mt_challenge_decode(const uint8_t bytes[MT_CHALLENGE_BYTES],
                        struct mt_challenge *challenge_out);
/* The third message is a MAC over the same, of the dialler; the fourth these eight bytes. */
extern const uint8_t mt_accepted[MT_ACCEPTED_BYTES];

/* Proofs of both sides; the labels keep them apart. */
int mt_proof_acceptor(const uint8_t key[MT_AUTH_KEY_BYTES], const uint8_t hello[MT_HELLO_BYTES],
                      const uint8_t nonce[MT_AUTH_NONCE_BYTES], uint8_t mac[MT_AUTH_MAC_BYTES]);
int mt_proof_dialler(const uint8_t key[MT_AUTH_KEY_BYTES], const uint8_t hello[MT_HELLO_BYTES],
                     const uint8_t nonce[MT_AUTH_NONCE_BYTES], uint8_t mac[MT_AUTH_MAC_BYTES]);

/* After the handshake: frames. */
enum mt_wire_type {
    MT_WIRE_JOIN = 1,    /* to rank 0 */
    MT_WIRE_WELCOME = 2, /* from rank 0 */
    MT_WIRE_REFUSAL = 3, /* from rank 0: an error */
    MT_WIRE_FAIL = 4,    /* flooded: an error */
    MT_WIRE_GOODBYE = 5, /* flooded, mt_goodbye_encode */
    MT_WIRE_SEEN = 6,    /* to a neighbour that said goodbye, empty */
    MT_WIRE_QUERY = 7,   /* flooded */
    MT_WIRE_ANSWER = 8,  /* back on the query's way */
    MT_WIRE_PIECE = 9,   /* of an allgather */
    MT_WIRE_TYPES = 10
};
struct mt_wire_frame {
    uint32_t bytes; /* of the payload */
    uint32_t type;
    uint32_t origin; /* rank that made it */
    uint32_t target; /* rank it is for, or MANTA_PLAN_NONE */
    uint64_t serial; /* of origin */
};
void mt_wire_frame_encode(const struct mt_wire_frame *frame, uint8_t bytes[MT_WIRE_FRAME_BYTES]);
/* 0, or MANTA_EINVAL (unknown type). */
int mt_wire_frame_decode(const uint8_t bytes[MT_WIRE_FRAME_BYTES], struct mt_wire_frame *frame_out);

/* How a rank asks to join. */
struct mt_join {
    uint32_t version; /* manta_version() */
    uint32_t ranks;
    uint8_t nonce[MT_ID_BYTES]; /* of this attempt to join, so that a second try is known as one */
    struct mt_member member;
    char *fingerprint; /* decode allocates it, the caller frees it */
};
/* Encoders return the number of bytes, or 0 if they do not fit. */
size_t mt_join_encode(const struct mt_join *join, uint8_t *bytes, size_t capacity);
int mt_join_decode(const uint8_t *bytes, size_t count, struct mt_join *join_out);

struct mt_welcome {
    uint8_t uid[MT_ID_BYTES];
    uint32_t epoch, ranks;
    struct mt_member *members; /* decode allocates them, the caller frees them */
};
size_t mt_welcome_bytes_max(uint32_t ranks);
/* The members' places must be settled (core/wire_places.h); 0 also when there is no memory. */
size_t mt_welcome_encode(const struct mt_welcome *welcome, uint8_t *bytes, size_t capacity);
/* 0, MANTA_EINVAL, MANTA_ENOMEM. `ranks` is what the reader expects. */
int mt_welcome_decode(const uint8_t *bytes, size_t count, uint32_t ranks,
                      struct mt_welcome *welcome_out);

/* FAIL and REFUSAL. */
size_t mt_failure_encode(const struct mt_error *error, uint8_t *bytes, size_t capacity);
int mt_failure_decode(const uint8_t *bytes, size_t count, struct mt_error *error_out);

enum mt_query_use {
    MT_QUERY_ENDS,  /* the call ends, whatever the answers are */
    MT_QUERY_TELLS, /* nobody is judged by them */
    MT_QUERY_JUDGES /* it ends if another rank is at fault */
};

/* "What are you doing about this call?" */
struct mt_query {
    uint64_t sequence;
    uint32_t collective;
    uint32_t peer; /* send, recv: the rank that asks, else MANTA_PLAN_NONE */
    uint32_t use;  /* enum mt_query_use */
};
size_t mt_query_encode(const struct mt_query *query, uint8_t *bytes, size_t capacity);
int mt_query_decode(const uint8_t *bytes, size_t count, struct mt_query *query_out);

/* A rank leaves, and its last collective was this one. */
size_t mt_goodbye_encode(uint64_t sequence, uint8_t *bytes, size_t capacity);
int mt_goodbye_decode(const uint8_t *bytes, size_t count, uint64_t *sequence_out);

/* Times are told as ages, since clocks of two hosts have nothing in common. */
struct mt_told_call {
    uint32_t there; /* 1 if there is one */
    struct mt_call call;
    uint64_t posted_ago_ns, ended_ago_ns; /* ended only if call.ended_ns is not 0 */
};
struct mt_answer {
    uint64_t query;           /* serial of the query */
    struct mt_told_call same; /* the call that was asked for */
    struct mt_told_call last; /* the last call begun */
    struct mt_told_call open; /* the last call begun that has not ended */
    uint64_t last_collective; /* its sequence; 0: none */
    uint32_t has_forgotten;   /* 1: its recorder has let go of calls */
};
size_t mt_answer_encode(const struct mt_answer *answer, uint8_t *bytes, size_t capacity);
int mt_answer_decode(const uint8_t *bytes, size_t count, struct mt_answer *answer_out);

#endif
