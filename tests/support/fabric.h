/* SPDX-License-Identifier: Apache-2.0 */
/* A stand-in for libfabric: a provider within this process that counts, refuses and fails as a test
 * wants, and can be what no hardware here is. One thread; what is sent arrives at once. */
#ifndef TESTS_SUPPORT_FABRIC_H
#define TESTS_SUPPORT_FABRIC_H

#include <stdint.h>

#include "transport/ofi/ofi.h"

enum { STAND_IN_OFFERS = 6, STAND_IN_QUEUE = 1024, STAND_IN_REGIONS = 1024, STAND_IN_ENDS = 4 };

/* One offer of getinfo. */
struct stand_in_offer {
    const char *provider, *domain;
    const char *address; /* IPv4; NULL: of a form of its own */
    uint64_t caps;
};

struct stand_in_region {
    struct fid_mr public;
    const uint8_t *start; /* NULL: free */
    size_t bytes;
    uint64_t access;
    int is_enabled;
    void *bound_to; /* endpoint, which cannot be closed so long */
};

struct stand_in {
    /* What it is; set before an endpoint is opened. */
    uint32_t version;
    struct stand_in_offer offers[STAND_IN_OFFERS];
    int mr_mode;
    size_t cq_data_size, max_msg_size, mr_key_size;
    int has_no_descriptor; /* completion queues cannot wake */
    const char *fails_at;  /* "fabric", "domain", "queue", "table", "endpoint", "enable" */

    /* What it does. */
    uint32_t refuse_sends;     /* so many sends and writes find no room */
    int fail_send, fail_write; /* error of the next completion of this kind */
    int fail_recv;             /* error of the next receive: what was sent is lost */
    int fail_post;             /* error of the next send, at once */
    int refuse_data;           /* error of all writes, at once: they carry no completion data */
    uint32_t refuse_writes;    /* so many writes alone find no room */
    int fail_region;           /* error of the next registration */
    int is_backwards;          /* completions come newest first */
    int is_halted;             /* writes do not arrive until stand_in_go_on() */
    int fail_close;            /* of endpoints, once */
    int is_stuck;              /* endpoints cannot be closed */
    uint32_t refuse_reads;     /* so many reads find no room */
    int fail_read;             /* error of the next read */

    /* What it saw. */
    uint32_t regions_open, regions_made, objects_open, ends_open;
    uint32_t writes, reads, data_refused;
    uint64_t region_flags; /* of the last registration */
    struct fi_mr_attr region;
    uint8_t region_extra[32]; /* what dmabuf points to */
};

extern struct stand_in stand_in;
extern const struct mt_ofi_library stand_in_library;

int stand_in_fabric_open(struct fi_fabric_attr *attributes, struct fid_fabric **fabric_out,
                         void *context);

/* Forget everything, and be the library from now on. */
void stand_in_begin(void);
/* libfabric again. */
void stand_in_end(void);
/* Writes that were halted are told to be complete. */
void stand_in_go_on(void);
/* What a stranger sends to the endpoint that was opened as the nth. */
void stand_in_send_stranger(uint32_t nth, const void *bytes, size_t count);
/* What a stranger's write leaves in its completion queue. */
void stand_in_write_stranger(uint32_t nth, uint64_t data);

#endif
