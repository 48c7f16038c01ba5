/* SPDX-License-Identifier: Apache-2.0 */
/* The algorithms, each defined in collectives/<name>/<algorithm>.c (the fused ones, which share one
 * mechanism, in collectives/fused.c) and listed in catalogue.c. */
#ifndef MT_COLLECTIVES_ALGORITHMS_H
#define MT_COLLECTIVES_ALGORITHMS_H

#include "plan/builder.h"

extern const struct mt_algorithm mt_allreduce_recursive_doubling;
extern const struct mt_algorithm mt_allreduce_ring;
extern const struct mt_algorithm mt_allreduce_halving_doubling;
extern const struct mt_algorithm mt_allreduce_circulant;
extern const struct mt_algorithm mt_allreduce_swing;
extern const struct mt_algorithm mt_allreduce_double_tree;
extern const struct mt_algorithm mt_broadcast_binomial;
extern const struct mt_algorithm mt_broadcast_chain;
extern const struct mt_algorithm mt_broadcast_scatter_allgather;
extern const struct mt_algorithm mt_broadcast_double_tree;
extern const struct mt_algorithm mt_broadcast_circulant;
extern const struct mt_algorithm mt_reduce_binomial;
extern const struct mt_algorithm mt_reduce_double_tree;
extern const struct mt_algorithm mt_reduce_circulant;
extern const struct mt_algorithm mt_allgather_ring;
extern const struct mt_algorithm mt_allgather_circulant;
extern const struct mt_algorithm mt_reduce_scatter_ring;
extern const struct mt_algorithm mt_reduce_scatter_direct;
extern const struct mt_algorithm mt_reduce_scatter_circulant;
extern const struct mt_algorithm mt_barrier_dissemination;
extern const struct mt_algorithm mt_send_direct;
extern const struct mt_algorithm mt_recv_direct;

extern const struct mt_algorithm mt_allreduce_leaders_doubling;
extern const struct mt_algorithm mt_allreduce_leaders_ring;
extern const struct mt_algorithm mt_allreduce_rails_doubling;
extern const struct mt_algorithm mt_allreduce_rails_ring;
extern const struct mt_algorithm mt_allreduce_rails_halving;
extern const struct mt_algorithm mt_allreduce_ordered_ring;
extern const struct mt_algorithm mt_broadcast_leaders_binomial;
extern const struct mt_algorithm mt_broadcast_leaders_chain;
extern const struct mt_algorithm mt_broadcast_rails_binomial;
extern const struct mt_algorithm mt_broadcast_rails_chain;
extern const struct mt_algorithm mt_broadcast_rails_double_tree;
extern const struct mt_algorithm mt_reduce_leaders_binomial;
extern const struct mt_algorithm mt_reduce_rails_binomial;
extern const struct mt_algorithm mt_allgather_leaders_ring;
extern const struct mt_algorithm mt_allgather_rails_ring;
extern const struct mt_algorithm mt_allgather_ordered_ring;
extern const struct mt_algorithm mt_reduce_scatter_leaders_ring;
extern const struct mt_algorithm mt_reduce_scatter_rails_ring;
extern const struct mt_algorithm mt_reduce_scatter_ordered_ring;
extern const struct mt_algorithm mt_barrier_leaders_dissemination;

extern const struct mt_algorithm mt_allreduce_fused;
extern const struct mt_algorithm mt_broadcast_fused;
extern const struct mt_algorithm mt_reduce_fused;
extern const struct mt_algorithm mt_allgather_fused;
extern const struct mt_algorithm mt_reduce_scatter_fused;
extern const struct mt_algorithm mt_barrier_fused;

#endif
