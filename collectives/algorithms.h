/* SPDX-License-Identifier: Apache-2.0 */
/* The algorithms, each defined in collectives/<name>/<algorithm>.c and listed in catalogue.c. */
#ifndef MT_COLLECTIVES_ALGORITHMS_H
#define MT_COLLECTIVES_ALGORITHMS_H

#include "plan/builder.h"

extern const struct mt_algorithm mt_allreduce_ring;
extern const struct mt_algorithm mt_broadcast_binomial;

#endif
