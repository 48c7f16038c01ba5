/* SPDX-License-Identifier: Apache-2.0 */
/* Any call, from its description: for tests that go through many of them. */
#ifndef TESTS_SUPPORT_CALLS_H
#define TESTS_SUPPORT_CALLS_H

#include <stddef.h>
#include <stdint.h>

#include <manta/manta.h>

struct test_call {
    int collective; /* enum manta_collective */
    int dtype, op;
    int root; /* or peer */
    uint64_t count;
};

/* Blocking; posted. broadcast and recv use dst only, send uses src only. */
int test_call_block(struct manta_comm *comm, const struct test_call *call, const void *src,
                    void *dst);
int test_call_post(struct manta_comm *comm, const struct test_call *call, const void *src,
                   void *dst, struct manta_request **request_out);
/* As errors word it, "allreduce(512 float32, sum)", from names of its own. */
void test_call_word(const struct test_call *call, char *text, size_t text_bytes);

#endif
