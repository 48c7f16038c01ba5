/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a short call between two ranks costs when there is no library: each publishes a cache line
 * with a number and its payload, and looks at the other's. No arguments are checked, nothing is
 * recorded, nobody can be late, dead or of another opinion. It is what Manta's own cost is held
 * against, in time and in instructions.
 */
#ifndef PERF_MANTA_PERF_BARE_H
#define PERF_MANTA_PERF_BARE_H

#include "perf/loop/perf.h"

/* A backend that is set up as `library` is, for allreduce and broadcast of float32 sums that fit
 * beside a number. */
struct perf_backend perf_bare(const struct perf_backend *library);

#endif
