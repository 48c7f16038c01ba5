/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PERF_POINT_WAKE_H
#define PERF_POINT_WAKE_H

#include <manta/manta.h>

enum { WAKE_TURNS_MOST = 1000 };

/* How long after a message was sent its receiver, who sleeps, is back: medians of so many turns
 * (1 to WAKE_TURNS_MOST) between ranks 0 and 1, which are on one host; rank 1 prints a line of
 * JSON. 0 or MANTA_E*. */
/* In manta_recv(). */
int wake_manta(struct manta_comm *comm, int turns);
/* In poll() on a completion channel, of a queue pair over the first of MANTA_VERBS_DEVICE: what a
 * program of nothing but ibverbs would see. MANTA_ENOTSUP: there is no such device. */
int wake_bare(struct manta_comm *comm, int turns);

#endif
