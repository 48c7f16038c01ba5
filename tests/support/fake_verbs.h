/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A stand-in for libibverbs: cards in memory, for ranks that are threads of one process. Queue
 * pairs, completion queues, shared receive queues and registrations behave as those of cards do,
 * strictly: an unregistered or foreign address, a wrong state, a full queue or a receive that is
 * not there are errors. What is posted arrives at once, unless the device is cut.
 *
 * Memory of a device is a file: its descriptor is the dma-buf, cards reach it through that, and the
 * program's addresses of it may be forbidden to the CPU. What a card has written there is not in
 * place before the same card has read from there: as on hardware that needs it.
 *
 * An event of a device is 1 + its enum ibv_event_type, written to its async_fd.
 */
#ifndef TESTS_SUPPORT_FAKE_VERBS_H
#define TESTS_SUPPORT_FAKE_VERBS_H

#include <stdint.h>

enum { FAKE_DEVICES = 4 };

/* What a call must answer instead of working; names of functions without ibv_. */
struct fake_refusal {
    const char *function; /* NULL: none */
    int after;            /* so many calls still work */
    int error;            /* errno */
};

struct fake_counts {
    uint32_t devices_open, pds, cqs, srqs, qps, mrs, channels; /* that there are now */
    uint64_t registrations, dmabufs, sends, writes, reads, posts, completions; /* ever */
    uint64_t write_bytes;
    uint32_t looking; /* threads that wait for a way now: see fake_verbs_ways() */
};

/* From now on the library is the stand-in, with so many devices of one port. */
void fake_verbs_begin(uint32_t devices);
/* libibverbs again. Fails the test if anything of it was left open. */
void fake_verbs_end(void);
/* Before and after each test: a stand-in of two devices. */
int fake_verbs_setup(void **state);
int fake_verbs_teardown(void **state);
/* The same, but real cards where MANTA_VERBS_DEVICE names some. */
int fake_verbs_unless_named(void **state);
int fake_verbs_teardown_unless_named(void **state);

void fake_verbs_refuse(struct fake_refusal refusal);
void fake_verbs_counts(struct fake_counts *counts_out);
/* After so many more work requests on this device none of its queue pairs gets anything through:
 * "retry exceeded". arrives: the first of each still arrives, but no word of it comes back. */
void fake_verbs_cut(uint32_t device, uint64_t after, int arrives);
void fake_verbs_mend(uint32_t device);
/* Reads do not come back (1), come back as errors (-1), or do (0). */
void fake_verbs_reads(int how);
/* Queue pairs cannot receive before the kernel has found the way, which takes (1) until this is
 * said again with 0, at most 60 s. Returns what it was. */
int fake_verbs_ways(int held);
/* Writes of any bytes stay under way (1), or go on (0). */
void fake_verbs_writes(int stay);
/* Which ports there are, and their GIDs: state (enum ibv_port_state), and 1 if it has one of that
 * kind: IPv4, link-local. */
void fake_verbs_port(uint32_t device, int state, int has_ipv4, int has_link_local);
/* What all devices speak: enum ibv_transport_type; at the beginning it is InfiniBand's. */
void fake_verbs_language(int transport_type);
/* GIDs of this kind lead nowhere: connecting fails, or, if silent, nothing that is sent arrives. */
void fake_verbs_mislead(int ipv4, int silent);

#endif
