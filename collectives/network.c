/* SPDX-License-Identifier: Apache-2.0 */
/* What messages between nodes cost over the transport that carries them, as far as all ranks know
 * it alike: algorithms are chosen by that. */
#include <string.h>

#include "collectives/comm.h"
#include "collectives/offer.h"
#include "transport/registry.h"

static int all_offer(const struct manta_comm *comm, const struct mt_rank_offer *offers, uint32_t i)
{
    for (uint32_t r = 0; r < comm->ranks; r++) {
        if (offers[r].bytes[i] == 0)
            return 0;
    }
    return 1;
}

/* The first that leaves a node and that all have is the one; whether some pair does without it, not
 * all ranks know. One that has memory registered moves it without a core. */
void mt_network_learn(struct manta_comm *comm, const struct mt_transport_listed *listed,
                      uint32_t count, const struct mt_rank_offer *offers)
{
    if (comm->topology->groups[MT_LEVEL_NODE] == 1) /* nothing leaves it */
        return;
    for (uint32_t i = 0; i < count; i++) {
        const struct manta_transport *transport = listed[i].transport;
        if (transport == &mt_transport_shm || !all_offer(comm, offers, i))
            continue;
        if (transport->mem_register) {
            mt_cost_rdma(&comm->cost, comm->topology);
            mt_tuning_apply(&comm->settings.tuning, comm->topology, &comm->cost);
        }
        return;
    }
}
