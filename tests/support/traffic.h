/* SPDX-License-Identifier: Apache-2.0 */
/* Messages of many sizes between all pairs of ranks, posted in random orders. */
#ifndef TESTS_SUPPORT_TRAFFIC_H
#define TESTS_SUPPORT_TRAFFIC_H

#include "tests/support/endpoints.h"

/* What each rank sends to each other one, and the order in which it posts it all. */
struct traffic {
    const uint64_t *sizes;
    uint32_t size_count, rounds;
};

/* For endpoints_run, with a struct traffic: sends and receives it all and checks every byte. */
int traffic_run(struct endpoints_rank *self);
/* The same; who returns first has to drain. */
int traffic_rounds(struct endpoints_rank *self);

/* Memory of bytes + 1, with the bytes that `from` sends under this number. */
uint8_t *traffic_filled(uint64_t bytes, uint32_t from, uint32_t number);
/* 1 unless memory holds exactly these, and 0xee behind them. */
int traffic_differs(const uint8_t *memory, uint64_t bytes, uint32_t from, uint32_t number);

#endif
