/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The ofi transport: libfabric's reliable datagrams (FI_EP_RDM), which any number of peers reach
 * through one endpoint. Each rank has a fabric, a domain, an endpoint, a table of addresses and one
 * completion queue of its own, so that nobody else's thread is in them.
 *
 * The protocol is that of transport/message.h. A frame is a message of libfabric, behind a head
 * that says who sends it, proves that the sender knows the communicator's key, and counts, because
 * providers complete what they receive in an order of their own. Frames leave from memory of the
 * endpoint (so many for each peer: slots) and arrive in memory of the endpoint (inboxes). Long
 * messages are written from the sender's memory into the receiver's (rma.c) where the provider can
 * do that; if such a message fails, the endpoint is closed, so that no memory is touched.
 *
 * A frame counts as handed over when libfabric has completed it with FI_TRANSMIT_COMPLETE, for most
 * providers only move while they are asked for completions.
 */
#ifndef MT_TRANSPORT_OFI_H
#define MT_TRANSPORT_OFI_H

#include <stdatomic.h>
#include <stdint.h>

#include <rdma/fabric.h>
#include <rdma/fi_cm.h>
#include <rdma/fi_domain.h>
#include <rdma/fi_endpoint.h>
#include <rdma/fi_eq.h>
#include <rdma/fi_errno.h>
#include <rdma/fi_rma.h>

#include "core/group.h"
#include "transport/message.h"
#include "transport/ofi/library.h"
#include "transport/registration.h"

#define MT_OFI_VERSION FI_VERSION(1, 20) /* of the interface that this is written for */

enum {
    /* With both heads under 16 KiB, up to which providers copy rather than ask first. */
    MT_OFI_EAGER_BYTES = 31 * MT_MESSAGE_CHUNK,
    MT_OFI_WINDOW_BYTES = 262144,
    MT_OFI_PROOF_BYTES = 16,
    MT_OFI_HEAD_BYTES = MT_OFI_PROOF_BYTES + 8 + MT_FRAME_BYTES,
    MT_OFI_FRAME_BYTES = MT_OFI_HEAD_BYTES + MT_OFI_EAGER_BYTES,
    MT_OFI_FORWARD_SLOTS = 8, /* of each peer: frames with payload that are on their way */
    MT_OFI_ANSWER_SLOTS = 8,  /* the same of frames without */
    MT_OFI_ANSWER_BYTES = MT_OFI_HEAD_BYTES + MT_FRAME_OFFER_BYTES,
    MT_OFI_OFFERS = 512, /* places that peers may write to at a time */
    MT_OFI_WRITES = 8,   /* long messages to a peer that are being written */
    MT_OFI_CHUNKS = 4,   /* writes of each that are under way */
    MT_OFI_INBOXES_LEAST = 16,
    MT_OFI_INBOXES_MOST = 256,
    MT_OFI_COMPLETIONS = 16, /* read at a time */
    MT_OFI_ROUND = 128,      /* completions before others get a turn */
    MT_OFI_LOOK_NS = 1000000 /* a rank that sleeps looks so often whether there is room again */
};

/* What an operation of libfabric is about; libfabric writes into `context` until it is complete,
 * and gives its address back. */
struct mt_ofi_work {
    struct fi_context2 context;
    enum mt_ofi_work_kind {
        MT_OFI_SENDING,
        MT_OFI_RECEIVING,
        MT_OFI_WRITING,
        MT_OFI_FLUSHING
    } kind;
};

struct mt_ofi_slot {
    struct mt_ofi_work work;
    struct mt_ofi_slot *next; /* of the free ones */
    uint32_t peer;
    uint32_t data_bytes; /* of a long message */
    int is_forward;
    uint8_t *bytes;
};

struct mt_ofi_inbox {
    struct mt_ofi_work work;
    struct mt_ofi_inbox *next; /* of those that wait */
    uint32_t bytes_in;
    uint8_t *bytes;
};

/* Memory that a peer may write a long message to. */
struct mt_ofi_offer {
    struct mt_ofi_work work;                 /* the read that flushes it */
    struct manta_transport_request *request; /* NULL: free */
    uint32_t peer, count, uses, arrived;
    uint64_t data; /* that comes with the writes, but for their number */
    struct mt_registration *registrations[MANTA_PLAN_LOCATIONS];
    uint32_t flushed; /* pieces that need no read any more */
    int is_flushing;  /* all has arrived, and a read is under way, or waits for room */
    int waits;        /* for room */
};

struct mt_ofi_chunk {
    struct mt_ofi_work work;
    struct mt_ofi_write *write;
    int is_busy;
};

/* A long message that is being written to its peer's memory. */
struct mt_ofi_write {
    struct manta_transport_request *request; /* NULL: free */
    uint32_t peer, under_way;
    int has_begun; /* libfabric has taken something of it */
    uint64_t left, data;
    uint32_t local, local_count, remote, remote_count; /* the pieces where the next chunk begins */
    uint64_t local_at, remote_at;                      /* and where in them */
    struct iovec pieces[MANTA_PLAN_LOCATIONS];
    struct mt_registration *registrations[MANTA_PLAN_LOCATIONS];
    uint64_t remote_address[MANTA_PLAN_LOCATIONS], remote_bytes[MANTA_PLAN_LOCATIONS],
        remote_key[MANTA_PLAN_LOCATIONS];
    struct mt_ofi_chunk chunks[MT_OFI_CHUNKS];
};

struct mt_ofi_peer {
    fi_addr_t address; /* FI_ADDR_UNSPEC: not in the table yet */
    uint8_t proof_out[MT_OFI_PROOF_BYTES], proof_in[MT_OFI_PROOF_BYTES];
    uint32_t sequence_out, sequence_in;
    struct mt_ofi_slot *slots; /* all of this peer; NULL: not opened */
    struct mt_ofi_slot *forward_free, *answer_free;
    struct mt_ofi_write *writes; /* [MT_OFI_WRITES] */
    uint8_t *memory;
    struct fid_mr *region;      /* of it; NULL: the provider needs none */
    struct mt_ofi_inbox *early; /* came before one that was sent before */
    uint32_t early_count;
    struct mt_ofi_peer *next_dirty;
    uint64_t data_sent, data_done; /* of the long message under way, not told to be accepted yet */
    uint32_t put_busy;             /* forward frames of put() that are on their way */
    uint8_t is_dirty;              /* there may be room, or libfabric had none: to be looked at */
    uint8_t is_lost;
    int send_error; /* of libfabric, to be told by progress */
    uint8_t *blob;  /* its address, as it told it; NULL: it does not offer this transport */
    size_t blob_bytes;
};

struct mt_ofi_endpoint {
    struct mt_messages *messages;
    const struct manta_transport_host *host;
    const struct mt_group *group;
    const struct mt_ofi_library *library;
    uint32_t rank, ranks;
    struct fi_info *info; /* what was chosen */
    char provider[64], domain_name[64];
    char reason[160]; /* why it */
    struct fid_fabric *fabric;
    struct fid_domain *domain;
    struct fid_av *table;
    struct fid_cq *queue;
    struct fid_ep *endpoint; /* NULL: closed, because requests failed, or */
    struct fid_ep *stuck;    /* could not be closed: nothing is asked of it any more */
    int queue_fd;            /* of the completion queue, or -1: the provider has none */
    int epoll_fd, timer_fd;  /* queue_fd and a timer in one; -1: without queue_fd */
    int is_timed;
    uint64_t random; /* state of mt_ofi_random() */
    struct mt_registrations *registrations;
    struct mt_ofi_remote *remotes;
    struct mt_ofi_offer *offers; /* [MT_OFI_OFFERS]; NULL: the provider does not write */
    uint32_t offers_open, offer_last;
    int refuses_writes;    /* the provider, though it said that it can */
    fi_addr_t own_address; /* FI_ADDR_UNSPEC until memory is registered that has to be flushed */
    struct fid_mr *flush_region;
    uint8_t flush_byte;        /* that reads go to */
    uint32_t flush_waits;      /* offers that wait for libfabric to have room for a read */
    struct mt_ofi_peer *peers; /* [ranks] */
    struct mt_ofi_peer *dirty;
    uint32_t busy; /* slots */
    struct mt_ofi_inbox *inboxes;
    uint32_t inbox_count;
    uint32_t early_count; /* of them, that keep frames which came early */
    struct mt_ofi_inbox *unposted;
    int receive_error; /* of libfabric, of a receive that may have been a peer's frame; 0: none */
    uint8_t *inbox_memory;
    struct fid_mr *inbox_region;
    int aborted, is_stuck; /* is_stuck: the endpoint could not be closed when requests ended */
    int failure;           /* code: the endpoint is of no use any more */
    uint64_t strangers;    /* messages without proof */
    _Atomic uint64_t copied_bytes;
};

/* provider.c */
struct mt_ofi_wish {
    const char *provider, *domain; /* of the configuration; "": any */
    int devices;                   /* reach their memory, too, if you can */
    int numa;                      /* the NUMA node of this rank's cores; -1: not known */
    uint32_t turn;                 /* of this rank among those of its node: they share the cards */
};
/* What of libfabric's offers serves best: a copy that the caller frees with library->freeinfo(), or
 * NULL and why there is none. */
struct fi_info *mt_ofi_choose(const struct mt_ofi_library *library, const struct mt_ofi_wish *wish,
                              char *reason, size_t reason_bytes);
/* 1: a network made for this, rather than sockets in other words. */
int mt_ofi_is_fabric(const char *provider);
/* 1: it reaches ranks of one node only. */
int mt_ofi_is_local(const char *provider);
/* 1: the descriptor of its completion queue tells when there is something, and only then. */
int mt_ofi_can_wake(const char *provider);
/* Names of the providers that could serve, separated by commas; returns how many. */
uint32_t mt_ofi_list(const struct mt_ofi_library *library, char *text, size_t text_bytes);

/* objects.c: libfabric's objects of an endpoint. */
/* 0; or MANTA_ENOTSUP, MANTA_ENOMEM or MANTA_ESYSTEM, and what failed. */
int mt_ofi_objects_open(struct mt_ofi_endpoint *endpoint, char *reason, size_t reason_bytes);
/* The endpoint; and where it would stay open for them, the regions that are bound to it. After that
 * libfabric touches nobody's memory. 0, or -1: it is still open, though of no use. What had come
 * and was not taken is lost. Again tries again, or does nothing. */
int mt_ofi_endpoint_close(struct mt_ofi_endpoint *endpoint);
/* 0: libfabric touches no memory of the endpoint any more; -1: the endpoint is still open, so what
 * libfabric was told of must stay for good. */
int mt_ofi_objects_close(struct mt_ofi_endpoint *endpoint);

/* region.c */
/* Memory of the endpoint that libfabric reads or writes, or *region_out = NULL if it need not know
 * it. 0 or an error of libfabric. */
int mt_ofi_local_register(struct mt_ofi_endpoint *endpoint, void *memory, size_t bytes,
                          uint64_t access, struct fid_mr **region_out);
void mt_ofi_region_close(struct fid_mr **region);
int mt_ofi_registrations_create(struct mt_ofi_endpoint *endpoint);
uint64_t mt_ofi_random(struct mt_ofi_endpoint *endpoint);
int mt_ofi_mem_register(void *endpoint, const struct manta_transport_buffer *buffer, int dmabuf_fd,
                        uint64_t dmabuf_offset, void **registration_out);
int mt_ofi_mem_deregister(void *endpoint, void *registration);
int mt_ofi_mem_export(void *endpoint, void *registration, void *blob, size_t blob_bytes,
                      size_t *bytes_out);
int mt_ofi_mem_import(void *endpoint, uint32_t peer, const void *blob, size_t bytes,
                      void **remote_out);
/* Names of peers' memory that were imported. */
void mt_ofi_remotes_free(struct mt_ofi_endpoint *endpoint);

/* rma.c: of struct mt_wire, and what completions do. */
int mt_ofi_can_write(const struct fi_info *info);
uint32_t mt_ofi_wire_offer(void *wire, uint32_t peer, struct mt_wire_place *place);
void mt_ofi_wire_release(void *wire, uint32_t peer, uint32_t number);
int mt_ofi_wire_write(void *wire, uint32_t peer, const struct mt_wire_place *place);
int mt_ofi_wire_cease(void *wire, uint32_t peer);
/* A peer has written, and this came with it. */
void mt_ofi_written(struct mt_ofi_endpoint *endpoint, uint64_t data);
void mt_ofi_chunk_done(struct mt_ofi_endpoint *endpoint, struct mt_ofi_chunk *chunk);
/* All that was offered is in place. */
void mt_ofi_offer_done(struct mt_ofi_endpoint *endpoint, struct mt_ofi_offer *offer);
/* Go on with what libfabric had no room for. */
void mt_ofi_push_writes(struct mt_ofi_endpoint *endpoint, struct mt_ofi_peer *peer);

/* flush.c: reads that push what was written to a device into its memory. */
/* Be able to. 0, or an error that is set. */
int mt_ofi_flush_open(struct mt_ofi_endpoint *endpoint);
/* All of the offer has arrived: 0: it needs no read; 1: mt_ofi_offer_done() follows. */
int mt_ofi_flush(struct mt_ofi_endpoint *endpoint, struct mt_ofi_offer *offer);
/* Its read has come back; error: of libfabric, or 0. */
void mt_ofi_flush_completed(struct mt_ofi_endpoint *endpoint, struct mt_ofi_offer *offer,
                            int error);
/* The offer is over. */
void mt_ofi_flush_forget(struct mt_ofi_endpoint *endpoint, struct mt_ofi_offer *offer);
/* Go on with reads that libfabric had no room for. */
void mt_ofi_flush_push(struct mt_ofi_endpoint *endpoint);

/* peer.c */
/* What the others must know: provider, form of address, address. 0 or MANTA_EINVAL. */
int mt_ofi_blob_write(struct mt_ofi_endpoint *endpoint, void *blob, size_t blob_bytes,
                      size_t *bytes_out);
/* Keep the others' blobs, and make the proofs. 0, MANTA_ENOMEM or MANTA_EINTERNAL. */
int mt_ofi_peers_keep(struct mt_ofi_endpoint *endpoint, const void *const *blobs,
                      const size_t *blob_bytes);
/* 0: its address is of this endpoint's kind; MANTA_ENOTSUP with a reason. */
int mt_ofi_peer_suits(struct mt_ofi_endpoint *endpoint, uint32_t peer);
/* Make room for it and enter its address. Again does nothing. 0 or an error that is set. */
int mt_ofi_peer_open(struct mt_ofi_endpoint *endpoint, uint32_t peer);
/* An error of libfabric about this peer: it is lost. */
void mt_ofi_peer_fail(struct mt_ofi_endpoint *endpoint, uint32_t peer, int error,
                      const char *detail);
void mt_ofi_peer_dirty(struct mt_ofi_endpoint *endpoint, struct mt_ofi_peer *peer);
/* Its address in words: as libfabric prints it. */
void mt_ofi_peer_name(const struct mt_ofi_endpoint *endpoint, uint32_t peer, char *text,
                      size_t text_bytes);
void mt_ofi_peers_free(struct mt_ofi_endpoint *endpoint);

/* write.c */
extern const struct mt_wire mt_ofi_wire, mt_ofi_writing_wire;
/* libfabric does not need the slot any more. */
void mt_ofi_slot_done(struct mt_ofi_endpoint *endpoint, struct mt_ofi_slot *slot);
/* Peers that may have room again: let them go on. 1 if frames were handed over, or one is lost. */
int mt_ofi_write_dirty(struct mt_ofi_endpoint *endpoint);

/* read.c */
int mt_ofi_inboxes_create(struct mt_ofi_endpoint *endpoint);
/* Give libfabric the inboxes that it does not have. */
void mt_ofi_inboxes_post(struct mt_ofi_endpoint *endpoint);
/* Read completions and act on them; 1 if there was one. */
int mt_ofi_read(struct mt_ofi_endpoint *endpoint);

#endif
