/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_SUPPORT_LANES_H
#define TESTS_SUPPORT_LANES_H

#include "tests/support/endpoints.h"

/* Progress until all lanes of verbs to this peer, which there is a stream with, are open; at most
 * 20 s. 0 when they are. */
int lanes_open(struct endpoints_rank *self, uint32_t peer);

#endif
