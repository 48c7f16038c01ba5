/* SPDX-License-Identifier: Apache-2.0 */
/* The message protocol over a wire in memory: two ranks in one thread, so that every interleaving
 * of posts, room on the wire and arrivals can be drawn at random and repeated by its seed. */
#ifndef TESTS_SUPPORT_PAIR_H
#define TESTS_SUPPORT_PAIR_H

#include <stddef.h>
#include <stdint.h>

#include "transport/message.h"

struct pair;

enum {
    PAIR_EPOCH = 77,
    PAIR_EAGER = 3000,
    PAIR_WINDOW = 16384,
    PAIR_STRETCH = 4000,
    PAIR_STREAMS = 3,
    PAIR_PIPE = 1 << 22,
    PAIR_HASH = 0xabcd,
    PAIR_PLACES = 24, /* memory that a rank offers at a time, if a test says no other number */
    PAIR_PLACES_MOST = 600,
    PAIR_PLACE_PIECES = 8
};

/* Memory that a rank lets the other write. */
struct pair_place {
    struct manta_transport_request *request; /* NULL: free */
    struct iovec pieces[PAIR_PLACE_PIECES];
    uint32_t count;
};

/* A write to the other rank's place. */
struct pair_write {
    struct manta_transport_request *request; /* NULL: free */
    struct iovec pieces[PAIR_PLACE_PIECES];
    uint32_t count;
    uint32_t place, generation;
    int landed;
};

/* A stream of bytes from one rank to the other. */
struct pair_pipe {
    uint8_t *bytes;
    size_t begin, end;
    size_t room; /* the wire refuses frames beyond this */
};

struct pair_end {
    struct mt_messages *messages;
    struct pair_pipe pipes[1 + PAIR_STREAMS]; /* arriving: [0] answers, the others forward frames */
    struct pair *pair;
    uint32_t rank;
    unsigned forward_frames[8];
    struct pair_place places[PAIR_PLACES_MOST];
    uint32_t generation[PAIR_PLACES_MOST];
    struct pair_write writes[PAIR_PLACES_MOST];
    uint32_t places_taken;
    unsigned wrote, ceased;     /* writes that were done; calls of cease */
    int cease_code;             /* what cease answers */
    int offer_code, write_code; /* why nothing direct is offered, or written; 0: it is */
};

struct pair {
    struct pair_end ends[2];
    uint64_t random;
    uint32_t streams;  /* 1, or, by the seed, PAIR_STREAMS */
    uint64_t fragment; /* longest part of DATA */
    int lazy;          /* the wire needs progress to get some frames out */
    uint32_t places;   /* PAIR_PLACES, or what the test says */
    uint32_t writes;   /* most that are begun at a time; 0: as many as there are places */
    int held;          /* writes that are begun do not move on */
    int lossy;         /* some writes are lost on their way, before or after they have arrived */
};

/* One message of a test, both ends of it. */
struct letter {
    struct manta_transport_id id;
    uint32_t from;
    uint64_t bytes;
    uint8_t *source, *target;
    struct manta_transport_request send, recv;
    int sent, received; /* posted */
    int is_direct; /* both ends say that it is in memory of a device, and give such addresses */
};

/* room: bytes that each direction of the wire holds. */
struct pair *pair_create(uint64_t seed, size_t room);
/* The same, and the wire writes long messages into memory that was offered, most of the time. */
struct pair *pair_create_writing(uint64_t seed, size_t room);
void pair_destroy(struct pair *pair);
/* A random number below `below`. */
uint64_t pair_draw(struct pair *pair, uint64_t below);
/* A random length, often at an edge. */
uint64_t pair_draw_bytes(struct pair *pair);
/* Let one rank take some bytes; 1 if anything happened. Let both take all there is. */
int pair_pump_some(struct pair *pair);
void pair_pump_all(struct pair *pair);

void letter_init(struct letter *letter, uint64_t call, uint32_t number, uint32_t from,
                 uint64_t bytes);
void letter_free(struct letter *letter);
/* Post one end of it, in random pieces; what send or recv returned. */
int letter_post(struct pair *pair, struct letter *letter, int receive);
void letter_assert_delivered(const struct letter *letter);
/* A pair that is posted now meets, whatever else lies around: rendezvous as plans assume it. */
void pair_assert_meets(struct pair *pair, uint64_t bytes);
void pair_assert_meets_direct(struct pair *pair);

#endif
