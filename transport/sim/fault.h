/* SPDX-License-Identifier: Apache-2.0 */
/*
 * MANTA_FAULT: what the sim transport does wrong on purpose.
 *
 *   faults    = fault { "," fault }
 *   fault     = name [ "=" value ] [ "@" condition { ":" condition } ]
 *   condition = "rank=" N | "call=" N | "step=" N | "middle=" N
 *
 *   corrupt[=P]     flip one bit of a message's payload; of a fused step's result
 *   loss=P          do not send a message, though the sender is told that it was
 *   duplicate[=P]   send a message a second time after the first
 *   mismatch        give the messages of a call another hash, as another call would have
 *   delay=TIME      hold messages, receives and fused steps back for a random time up to TIME
 *   reorder         hold them back for a random number of looks, so that they overtake each other
 *                   (fused steps, which may not, overtake and are overtaken by messages only)
 *   unsafe          say at an abort that buffers could not be had back (which they were)
 *   kill            SIGKILL this process          }
 *   stop            SIGSTOP this process          } once, just before an operation is posted
 *   late=TIME       sleep, doing nothing else     }
 *
 * P is a probability in 0 .. 1 (default 1); TIME is as in MANTA_TIMEOUT ("5ms", "0.5"). Conditions
 * restrict a fault to a rank, to a call (its sequence number, from 1; point-to-point calls are
 * numbered per pair and direction) and to a step: the N-th operation (send, receive or fused step,
 * from 1) that the rank posts in a call. middle=N lets kill, stop and late wait until the operation
 * has been posted and N looks at its progress have been made. kill, stop and late need rank=; their
 * default step is 1. Everything is drawn from MANTA_SEED and the message's id, so a run can be
 * repeated.
 */
#ifndef MT_TRANSPORT_SIM_FAULT_H
#define MT_TRANSPORT_SIM_FAULT_H

#include <stdint.h>

#include <manta/transport.h>

#include "core/error.h"

enum mt_fault_kind {
    MT_FAULT_CORRUPT,
    MT_FAULT_LOSS,
    MT_FAULT_DUPLICATE,
    MT_FAULT_MISMATCH,
    MT_FAULT_DELAY,
    MT_FAULT_REORDER,
    MT_FAULT_UNSAFE,
    MT_FAULT_KILL,
    MT_FAULT_STOP,
    MT_FAULT_LATE,
    MT_FAULT_KINDS
};

enum { MT_FAULTS = 16 };
#define MT_FAULT_ANY UINT64_MAX
#define MT_FAULT_CERTAIN UINT32_MAX /* probability 1; 0 is 0 */

struct mt_fault {
    enum mt_fault_kind kind;
    uint32_t probability; /* 0 .. MT_FAULT_CERTAIN */
    uint64_t time_ns;
    uint64_t rank, call, step; /* or MT_FAULT_ANY */
    uint64_t middle;           /* looks after posting; 0: before posting */
    int fired;                 /* kill, stop, late: it has happened */
};

struct mt_faults {
    uint32_t count;
    struct mt_fault faults[MT_FAULTS];
};

/* Strict; an error names the part that is wrong and what may stand there. "" is no fault. */
int mt_faults_parse(const char *text, struct mt_faults *faults_out, struct mt_error *error);

/* 1 if the fault concerns this operation (of the rank's own counting) and the dice say so. */
int mt_fault_hits(const struct mt_fault *fault, uint64_t seed, uint32_t rank, uint32_t peer,
                  const struct manta_transport_id *id, uint64_t step);
/* A number drawn from the same sources and `purpose`. */
uint64_t mt_fault_draw(uint64_t seed, uint32_t rank, uint32_t peer,
                       const struct manta_transport_id *id, uint64_t purpose);

#endif
