/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the stand-in share; see tests/support/fake_verbs.h. */
#ifndef TESTS_SUPPORT_FAKE_VERBS_IMPL_H
#define TESTS_SUPPORT_FAKE_VERBS_IMPL_H

#include <infiniband/verbs.h>
#include <pthread.h>
#include <stdint.h>

#include "tests/support/fake_verbs.h"

enum { FAKE_PLACES = 8, FAKE_INLINE = 256, FAKE_GIDS = 2 };

struct fake_device {
    struct ibv_device base; /* first */
    int state;
    int has[FAKE_GIDS];
    int is_cut, arrives;
    uint64_t until_cut; /* requests; UINT64_MAX: never */
};

struct fake_context {
    struct ibv_context base; /* first */
    struct fake_device *device;
};

struct fake_cq {
    struct ibv_cq base; /* first */
    struct ibv_wc *ring;
    uint32_t begin, count, room;
    int armed;
    uint32_t events;
};

struct fake_recv {
    uint64_t id;
    struct ibv_sge place;
};

struct fake_srq {
    struct ibv_srq base; /* first */
    struct fake_recv *ring;
    uint32_t begin, count, room;
};

struct fake_work {
    uint64_t id;
    enum ibv_wr_opcode opcode;
    unsigned int flags;
    uint32_t imm;
    uint64_t remote;
    uint32_t key, places;
    struct ibv_sge place[FAKE_PLACES];
    uint8_t copied[FAKE_INLINE];
    uint32_t copied_bytes;
};

struct fake_qp {
    struct ibv_qp base; /* first */
    struct fake_work *ring;
    uint32_t begin, count, room, used; /* used: posted, and not told of */
    uint32_t remote;
    int is_lost; /* its GID leads nowhere */
    struct fake_qp *next;
};

/* Written to memory of a device, and not in place. */
struct fake_late {
    uint64_t offset, bytes;
    const struct fake_device *by;
    struct fake_late *next;
    uint8_t data[];
};

struct fake_mr {
    struct ibv_mr base; /* first */
    int access;
    uint8_t *device; /* where the memory of a device is; NULL: it is the host's */
    struct fake_late *late, **late_end;
    struct fake_mr *next;
};

struct fake_world {
    pthread_mutex_t lock; /* everything */
    uint32_t device_count;
    struct fake_device devices[FAKE_DEVICES];
    struct fake_qp *qps;
    struct fake_mr *mrs;
    uint32_t next_number, next_key;
    struct fake_refusal refusal;
    struct fake_counts counts;
    int misled, is_silent, reads, writes_stay;
};
extern struct fake_world fake_world;

/* 1, with errno: this call has to fail. */
int fake_refused(const char *function);

/* fake_device.c: both hold the lock. */
/* Where a card finds this address of the registration. */
uint8_t *fake_reach(const struct fake_mr *mr, uint64_t address);
/* Written by this device: in place now, or after a read of that device. */
void fake_device_write(struct fake_mr *mr, const struct fake_device *by, uint64_t address,
                       const uint8_t *bytes, uint64_t count);
void fake_device_read(struct fake_mr *mr, const struct fake_device *by);
/* Show and forget memory of a device. 0 or errno. */
int fake_device_map(struct fake_mr *mr, int fd, uint64_t offset, uint64_t bytes);
void fake_device_unmap(struct fake_mr *mr);

/* fake_fabric.c */
int fake_post_send(struct ibv_qp *qp, struct ibv_send_wr *work, struct ibv_send_wr **bad);
int fake_post_srq_recv(struct ibv_srq *srq, struct ibv_recv_wr *work, struct ibv_recv_wr **bad);
int fake_poll_cq(struct ibv_cq *cq, int most, struct ibv_wc *completions);
int fake_req_notify_cq(struct ibv_cq *cq, int solicited);
int fake_get_cq_event(struct ibv_comp_channel *channel, struct ibv_cq **cq, void **context);
/* Holding the lock: what waited for something may go on. */
void fake_run_all(void);
/* Holding the lock: the queue pair is in error; what it has is flushed. */
void fake_flush(struct fake_qp *qp);

#endif
