/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Prices by simulation (plan/simulate.h). A long vector is priced by its first segment and the rate
 * at which the others follow: that of the busiest link, with MT_PLAN_DEPTH under way.
 */
#include "plan/cost.h"

#include <string.h>

#include <manta/manta.h>

#include "plan/simulate.h"
#include "plan/verify.h"

/* Of 1 Gbit/s: networks that do not tell their speed are hardly slower. */
#define SLOW_PS_PER_BYTE 8000

/* 1 if what the topology says of the ways between nodes is what is assumed of all networks. */
static int is_network_unknown(const struct mt_topology *topology)
{
    for (int level = MT_LEVEL_NODE; level < MT_LEVELS; level++) {
        const struct mt_topology_link *link = &topology->links[level];
        if (topology->uplink_ps_per_byte[level] ||
            memcmp(link, mt_topology_assumed((enum mt_level)level), sizeof(*link)) != 0)
            return 0;
    }
    return topology->groups[MT_LEVEL_NODE] > 1 && !topology->is_rdma;
}

static uint64_t default_segment(const struct mt_topology *topology)
{
    const uint64_t each = 128 << 10, least = 512 << 10, most = 4 << 20;
    uint64_t bytes = each * topology->groups[MT_LEVEL_NODE];
    return bytes < least ? least : bytes > most ? most : bytes;
}

void mt_cost_defaults(struct mt_cost_model *model, const struct mt_topology *topology,
                      uint64_t segment_bytes)
{
    *model = (struct mt_cost_model){
        .topology = topology,
        .gamma_ps_per_byte = 50,
        .memory_ps_per_byte = 25,
        .fused_alpha_ns = 150,
        .crowd = 1,
        .turn_ns = 1200,
        .eager_bytes = 32 << 10,
        .rdma_eager_bytes = 8 << 10,
        .is_rdma = topology->is_rdma && topology->groups[MT_LEVEL_NODE] > 1,
        .segment_bytes = segment_bytes ? segment_bytes : default_segment(topology),
        .slow_ps_per_byte = is_network_unknown(topology) ? SLOW_PS_PER_BYTE : 0,
    };
}

void mt_cost_rdma(struct mt_cost_model *model, struct mt_topology *topology)
{
    mt_topology_use_rdma(topology);
    model->is_rdma = 1;
    model->slow_ps_per_byte = 0;
}

int mt_plan_cost(const struct mt_cost_model *model, const struct manta_plan *const *plans,
                 uint32_t ranks, uint64_t bytes, uint64_t *ns_out, struct mt_error *error)
{
    const struct mt_simulate what = {
        .model = model, .plans = plans, .ranks = ranks, .bytes = bytes, .segments_most = 1};
    struct mt_simulate_result result;
    if (mt_simulate(&what, &result, error))
        return error->code;
    if (result.stuck)
        return mt_error_set(error, MANTA_EPLAN,
                            "plans of %u ranks cannot be priced: some step waits for ever", ranks);
    uint64_t busy = result.busiest_ns, first = mt_links_later(result.ns, busy);
    uint64_t rate = mt_links_later(busy, first / MT_PLAN_DEPTH);
    *ns_out = mt_links_plus(first, mt_links_times(result.segments - 1, rate));
    return 0;
}
