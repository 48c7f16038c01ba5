/* SPDX-License-Identifier: Apache-2.0 */
#include "collectives/catalogue.h"

#include <string.h>

#include "collectives/algorithms.h"

const struct mt_algorithm *const mt_catalogue[] = {
    &mt_allreduce_recursive_doubling,
    &mt_allreduce_ring,
    &mt_allreduce_halving_doubling,
    &mt_allreduce_circulant,
    &mt_allreduce_swing,
    &mt_allreduce_double_tree,
    &mt_allreduce_fused,
    &mt_broadcast_binomial,
    &mt_broadcast_chain,
    &mt_broadcast_scatter_allgather,
    &mt_broadcast_double_tree,
    &mt_broadcast_circulant,
    &mt_broadcast_fused,
    &mt_reduce_binomial,
    &mt_reduce_double_tree,
    &mt_reduce_circulant,
    &mt_reduce_fused,
    &mt_allgather_ring,
    &mt_allgather_circulant,
    &mt_allgather_fused,
    &mt_reduce_scatter_ring,
    &mt_reduce_scatter_direct,
    &mt_reduce_scatter_circulant,
    &mt_reduce_scatter_fused,
    &mt_barrier_dissemination,
    &mt_barrier_fused,
    &mt_allreduce_leaders_doubling,
    &mt_allreduce_leaders_ring,
    &mt_allreduce_rails_doubling,
    &mt_allreduce_rails_ring,
    &mt_allreduce_rails_halving,
    &mt_allreduce_ordered_ring,
    &mt_broadcast_leaders_binomial,
    &mt_broadcast_leaders_chain,
    &mt_broadcast_rails_binomial,
    &mt_broadcast_rails_chain,
    &mt_broadcast_rails_double_tree,
    &mt_reduce_leaders_binomial,
    &mt_reduce_rails_binomial,
    &mt_allgather_leaders_ring,
    &mt_allgather_rails_ring,
    &mt_allgather_ordered_ring,
    &mt_reduce_scatter_leaders_ring,
    &mt_reduce_scatter_rails_ring,
    &mt_reduce_scatter_ordered_ring,
    &mt_barrier_leaders_dissemination,
    &mt_send_direct,
    &mt_recv_direct,
    NULL,
};

const struct mt_algorithm *mt_catalogue_find(uint32_t collective, const char *name)
{
    for (uint32_t i = 0; mt_catalogue[i]; i++)
        if (mt_catalogue[i]->collective == collective && !strcmp(mt_catalogue[i]->name, name))
            return mt_catalogue[i];
    return NULL;
}
