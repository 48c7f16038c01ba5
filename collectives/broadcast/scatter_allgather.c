/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Scatter by a binomial tree, then allgather over a circulant graph: a rank that has the blocks up
 * to skip[k] behind its own gets those up to skip[k + 1], but for what the scatter has left with
 * it. About 2 ceil(log2 n) rounds, and each rank receives little more than the vector.
 * Barnett, Gupta, Payne, Shuler, van de Geijn, Watts: Interprocessor collective communication
 * library (InterCom), 1994; the allgather is Träff's, arXiv 2410.14234.
 * Ranks count from the root, v = 0; block v is scattered to v.
 */
#include "collectives/algorithms.h"
#include "collectives/circulant.h"
#include "plan/algorithm.h"

static uint32_t min(uint32_t x, uint32_t y)
{
    return x < y ? x : y;
}

/* How many blocks from its own on the scatter gives to v: those of its subtree, which has as many
 * ranks as its lowest bit says. */
static uint32_t scattered(const struct mt_plan_builder *p, uint32_t v)
{
    uint32_t n = plan_ranks(p);
    return v ? min(v & (~v + 1), n - v) : n;
}

static void scatter(struct mt_plan_builder *p, uint32_t v)
{
    uint32_t n = plan_ranks(p), reach = 1;
    while (v ? !(v & reach) : reach < n)
        reach *= 2;
    if (v)
        plan_recv(p, plan_from_root(p, v - reach), plan_range(v, scattered(p, v)));
    for (uint32_t half = reach / 2; half; half /= 2)
        if (half < n - v)
            plan_send(p, plan_from_root(p, v + half), plan_range(v + half, scattered(p, v + half)));
}

/* Of the blocks from `have` to `want` behind its own, those that v has not got yet. */
static struct plan_interval missing(const struct mt_plan_builder *p, uint32_t v, uint32_t have,
                                    uint32_t want)
{
    uint32_t known = scattered(p, v);
    have = have > known ? have : known;
    return plan_around(p, (int64_t)v + have, want > have ? want - have : 0);
}

static void allgather(struct mt_plan_builder *p, uint32_t v)
{
    uint32_t n = plan_ranks(p), skip[MT_CIRCULANT_SKIPS], q = mt_circulant_skips(n, skip);
    for (uint32_t k = 0; k < q; k++) {
        uint32_t ahead = (v + skip[k]) % n, behind = (v + n - skip[k]) % n;
        struct plan_interval given = missing(p, behind, skip[k], skip[k + 1]);
        struct plan_interval got = missing(p, v, skip[k], skip[k + 1]);
        if (given.count)
            plan_send(p, plan_from_root(p, behind), given);
        if (got.count)
            plan_recv(p, plan_from_root(p, ahead), got);
    }
}

static void build(struct mt_plan_builder *p)
{
    const uint32_t n = plan_ranks(p), v = (plan_rank(p) + n - plan_root(p)) % n;

    plan_blocks(p, n, MANTA_PLAN_VECTOR);
    scatter(p, v);
    allgather(p, v);
}

const struct mt_algorithm mt_broadcast_scatter_allgather = {
    .name = "scatter_allgather",
    .collective = MANTA_BROADCAST,
    .order = MANTA_PLAN_ORDER_BINARY,
    .source = "Barnett and others 1994, Träff 2024",
    .build = build,
};
