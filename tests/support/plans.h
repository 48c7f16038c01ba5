/* SPDX-License-Identifier: Apache-2.0 */
/* Plans of all ranks for tests: every way to compile an algorithm, and an executor of its own that
 * runs plans on integers in random orders, written independently of the engine and the verifier. */
#ifndef TESTS_SUPPORT_PLANS_H
#define TESTS_SUPPORT_PLANS_H

#include <stddef.h>
#include <stdint.h>

#include "plan/builder.h"

enum { PLANS_APART, PLANS_IN_PLACE, PLANS_MIXED, PLANS_PLACES }; /* where SRC and DST are */

/* Where the ranks sit, and whether the steps of a node are fused. */
struct plans_seat {
    char name[64];
    struct mt_topology *topology; /* NULL: nobody knows */
    uint32_t fuses;
};

/* One way to compile an algorithm for all ranks. */
struct plans_case {
    const struct mt_algorithm *algorithm;
    uint32_t ranks, root, places;
    uint32_t parameter; /* plans_next sets 0, the algorithm's default; a test may set another */
    const struct plans_seat *seat; /* NULL: nobody knows */
};

/* A digit or letter for each rank, equal ones of one node; after a slash the same for racks:
 * "aabb/0011". Fails the test when it is none. */
void plans_seat_open(struct plans_seat *seat, const char *text, uint32_t fuses);
void plans_seat_close(struct plans_seat *seat);

/* Every case of the algorithm on `ranks` ranks in turn: set *at to 0, call until it returns 0. For
 * send and recv, rank 0 and each peer. None, where it does not fit the seat. */
int plans_next(const struct mt_algorithm *algorithm, uint32_t ranks, const struct plans_seat *seat,
               uint32_t *at, struct plans_case *case_out);
/* plans_out: room for `ranks`. Fails the test when an algorithm does not compile. */
void plans_compile(const struct plans_case *what, struct manta_plan **plans_out);
/* "allreduce/ring n=5 root=0 in place" */
void plans_name(const struct plans_case *what, char *text, size_t text_bytes);

/* Execute on random integers, with issue, reading, writing and completion in an order drawn from
 * the seed, and compare with plain arithmetic. 0, or -1 and what went wrong. */
int plans_execute(const struct manta_plan *const *plans, uint32_t ranks, uint64_t seed, char *why,
                  size_t why_bytes);

#endif
