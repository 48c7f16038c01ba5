/* SPDX-License-Identifier: Apache-2.0 */
/* Inside the control plane: what core/control*.c share. All under the service's lock. */
#ifndef MT_CORE_CONTROL_IMPL_H
#define MT_CORE_CONTROL_IMPL_H

#include <stdatomic.h>

#include "core/cancel.h"
#include "core/control.h"
#include "core/link.h"
#include "core/stream.h"
#include "core/wire.h"

enum { MT_NOBODY = -1, MT_NEIGHBOURS_MAX = 128 };

/* A rank with a link of its own: at distance 1, 2, 4, ... on the ring, either way round. */
struct mt_neighbour {
    struct mt_link link;
    struct mt_dial *dial; /* while this rank dials it */
    struct mt_control *control;
    uint32_t rank;
    int is_linked; /* the link has stood */
    int is_mend;   /* a link made since others left */
    int has_seen_goodbye;
};

/* A process of this host and pid namespace that holds a rank: its pidfd. */
struct mt_watch {
    struct mt_service_source source; /* fd -1: none */
    struct mt_service_timer grace;   /* it ended, and its goodbye may still be on its way */
    struct mt_control *control;
    uint32_t rank;
    int has_ended;    /* this host knows of it */
    int system_errno; /* with which its link was closed */
};

/* One exchange under way. Two at a time: a fast rank may be one ahead. */
struct mt_gather {
    uint64_t serial;
    uint32_t have;
    uint8_t **pieces; /* [ranks], NULL: not here */
    uint32_t *piece_bytes;
};

/* What an inquiry is for. */
enum mt_purpose {
    MT_JUDGE_WAITED, /* a thread waits in the call: it ends with an error, whoever is at fault */
    MT_JUDGE_POSTED, /* no thread does: only a fault of another rank ends it */
    MT_TELL,         /* who waits long wants to know on whom; nobody is at fault */
    MT_ASK           /* the thread that asks reads the answers itself */
};

/* The question this rank asks, one at a time. */
struct mt_inquiry {
    int is_open;     /* also while answers wait to be read */
    int is_answered; /* MT_ASK: they may be read */
    enum mt_purpose purpose;
    struct mt_call call;
    uint32_t target; /* the rank that is asked; MANTA_PLAN_NONE: all */
    struct mt_service_timer limit;
    uint64_t serial;
    uint64_t heard_ns;         /* when the last question of another rank came that ends a call */
    uint8_t *asked;            /* [ranks] 1: not answered yet */
    struct mt_answer *answers; /* [ranks] valid when answered[r] */
    uint8_t *answered;
};

/* A call of this rank that has waited long. */
enum { MT_STUCK_PAIRS = 4 };
struct mt_stuck {
    struct mt_service_timer turn; /* armed: this rank will ask, unless others have by then */
    struct mt_call call;
    uint64_t from_ns;
    /* When others' questions came: the last about a collective, and the last few about sends and
     * receives. */
    uint64_t heard_ns, heard_pair_ns[MT_STUCK_PAIRS];
    uint32_t pairs_heard;
    _Atomic int has_words; /* that wait to be taken: about `told` */
    struct mt_call told;
    char words[MT_WHOM_TEXT];
};

struct mt_control {
    struct mt_group *group;
    struct mt_control *parent, *children, *sibling; /* by splitting; see control_family.c */
    int is_made;                                    /* the communicator around it is whole */
    _Atomic int failed; /* code; set after `failure` is whole (pairs with mt_control_failed) */
    struct mt_error failure;
    int is_aborted; /* an abort was told or heard, here or after another failure */
    int wake_fd;
    int is_leaving;
    _Atomic uint8_t *left;       /* [ranks] said goodbye */
    uint64_t *left_after;        /* [ranks] its last collective; written once, before `left` */
    _Atomic uint32_t departures; /* how many have */
    uint64_t serial;             /* of the last message this rank flooded */
    uint64_t *seen;              /* [ranks] serial of the last one flooded by each */
    int32_t *way_back;           /* [ranks] neighbour by which a rank's last query came */
    int32_t *neighbour_of;       /* [ranks] index or MT_NOBODY */
    struct mt_neighbour *neighbours;
    uint32_t neighbour_count;
    struct mt_watch *watches; /* [ranks] */
    struct mt_service_timer mend;
    struct mt_gather gathers[2];
    uint64_t gather_serial; /* of the next exchange this rank enters */
    struct mt_inquiry inquiry;
    struct mt_stuck stuck;
    const struct mt_record *record;
    struct mt_service_timer deadlines;
    uint8_t *marked; /* [ranks] for who looks for missing ranks; all 0 between uses */
};

/* Bring up the links; blocks without holding the lock. On error nothing is left. parent: of the
 * group it is split from, or NULL. cancel: its caller's. */
int mt_control_open(struct mt_group *group, struct mt_control *parent,
                    const struct mt_cancel *cancel, uint64_t deadline_ns, struct mt_error *error);
/* Once; takes the lock itself, as close does. */
void mt_control_goodbye(struct mt_control *control);
/* Goodbye, and free. */
void mt_control_close(struct mt_control *control);

/* control.c */
/* Nothing may be missing between two ranks: without memory for this frame the group fails. */
void mt_control_send(struct mt_control *control, struct mt_link *link,
                     const struct mt_wire_frame *frame, const void *payload);
void mt_control_flood(struct mt_control *control, uint32_t type, const void *payload,
                      uint32_t bytes);
/* The same for a frame whose header is made already, serial included. */
void mt_control_flood_frame(struct mt_control *control, const struct mt_wire_frame *frame,
                            const void *payload);
void mt_control_fail_locked(struct mt_control *control, const struct mt_error *error);
void mt_control_received(struct mt_link *link, const struct mt_wire_frame *frame,
                         const uint8_t *payload);
void mt_control_lost(struct mt_link *link, int errno_or_0);
int mt_control_has_left(const struct mt_control *control, uint32_t rank);

/* control_family.c */
void mt_family_enter(struct mt_control *control, struct mt_control *parent);
void mt_family_leave(struct mt_control *control);
void mt_family_made(struct mt_control *control);
/* This group has failed: so do those that are split from it and have to. */
void mt_family_failed(struct mt_control *control, const struct mt_error *cause);

/* control_links.c */
void mt_control_set_neighbour(struct mt_control *control, uint32_t index, uint32_t rank);
/* 1 if the kernel has heard nothing from the other host for longer than its heartbeats allow. What
 * is sent now would put off the verdict: it counts from the first byte without an answer. */
int mt_control_is_silent(const struct mt_neighbour *neighbour);
/* Takes over fd. */
void mt_control_start_link(struct mt_neighbour *neighbour, int fd);

/* control_mend.c */
/* Somebody left: make links among those that stay, in a moment. */
void mt_mend_later(struct mt_control *control);
/* This rank has left: nobody needs to dial it any more. */
void mt_mend_stop(struct mt_control *control, uint32_t rank);
/* One more neighbour, whose link is to come; NULL: no place. */
struct mt_neighbour *mt_mend_add(struct mt_control *control, uint32_t rank);
void mt_mend_tell(struct mt_neighbour *neighbour);

/* control_watch.c */
/* Its link is closed: it is dead if in a moment neither its goodbye comes nor word of why. */
void mt_watch_doubt(struct mt_control *control, uint32_t rank, int errno_or_0);
int mt_watch_open(struct mt_control *control);
void mt_watch_close(struct mt_control *control);

/* control_gather.c */
int mt_gather_init(struct mt_control *control);
void mt_gather_clear(struct mt_control *control);
void mt_gather_received(struct mt_control *control, const struct mt_wire_frame *frame,
                        const uint8_t *payload);

/* control_deadline.c */
/* There is a recorder: watch the deadlines of its calls. */
void mt_deadlines_watch(struct mt_control *control);
void mt_deadlines_close(struct mt_control *control);

/* control_stuck.c */
/* Another rank asks all. */
void mt_stuck_heard(struct mt_control *control, const struct mt_query *query);
/* The answers to this rank's question are there. */
void mt_stuck_answered(struct mt_control *control);
void mt_stuck_close(struct mt_control *control);

/* control_query.c */
/* Ask `target` (MANTA_PLAN_NONE: all) about a call; the verdict fails the group. No other inquiry
 * is open. */
void mt_inquiry_open(struct mt_control *control, const struct mt_call *call, uint32_t target,
                     enum mt_purpose purpose);
/* Holding the lock once: the deadline of the call has passed here; until the group has failed. */
void mt_inquire_timeout(struct mt_control *control, const struct mt_call *call);
/* When this rank asks about a call whose deadline it reached at begun_ns. Ranks that wait for
 * another one reach theirs together, and one question with its verdict is enough for all: their
 * turns come in the order of ranks, and who has heard a question (at heard_ns the last one) waits
 * for what comes of it. None waits much longer than a question takes. Pure. */
uint64_t mt_inquiry_turn_ns(const struct mt_group *group, const struct mt_call *call,
                            uint64_t begun_ns, uint64_t heard_ns);
/* Somebody has left, or answered: it may have been the last that was waited for. */
void mt_inquiry_check(struct mt_control *control);
void mt_inquiry_received(struct mt_control *control, const struct mt_wire_frame *frame,
                         const uint8_t *payload);
void mt_inquiry_answered(struct mt_control *control, const struct mt_wire_frame *frame,
                         const uint8_t *payload);

#endif
