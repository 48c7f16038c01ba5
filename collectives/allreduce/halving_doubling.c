/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reduce-scatter by recursive halving, allgather by recursive doubling, in the canonical order (the
 * binary tree over ranks split at the largest power of two below the size), for any number of
 * ranks. A part of 2^k ranks halves with the rank at distance 1, 2, 4, ..., so that its subtrees
 * are combined in order, and its ranks own one block each. Otherwise the left 2^k ranks and the
 * rest first do so each for themselves; then the owners of the right part's total scatter their
 * blocks to the owners of the left part's by binomial trees, which combine the two, and while the
 * left part doubles, it returns each interval of the result to the right as soon as one of its
 * ranks has it. Each further part costs two rounds more, and half a vector at most.
 * Thakur, Rabenseifner, Gropp: Optimization of collective communication operations in MPICH, 2005.
 */
#include "collectives/algorithms.h"
#include "plan/algorithm.h"

enum { HALVES = 0, BETWEEN = 1 }; /* lanes: between the halves of a part, between left and right */

/* Ranks first .. first + count - 1: the left 2^doublings, and the right ones, whose own left part
 * has 2^owned ranks, owners of the right total. right == 0: there are none. */
struct part {
    uint32_t first, left, doublings, right, owned;
};

static uint32_t log2_floor(uint32_t x)
{
    return 31 - (uint32_t)__builtin_clz(x);
}

static struct part split(uint32_t first, uint32_t count)
{
    uint32_t doublings = log2_floor(count), right = count - (1u << doublings);
    return (struct part){first, 1u << doublings, doublings, right, right ? log2_floor(right) : 0};
}

static void halve(struct mt_plan_builder *p, const struct part *part)
{
    uint32_t me = plan_rank(p) - part->first;
    for (uint32_t t = 0; t < part->doublings; t++) {
        uint32_t peer = me ^ 1u << t;
        plan_send(p, part->first + peer, plan_halved(p, peer, t + 1));
        if (peer > me)
            plan_recv_reduce(p, part->first + peer, plan_halved(p, me, t + 1));
        else
            plan_recv_reduce_left(p, part->first + peer, plan_halved(p, me, t + 1));
    }
}

/* The left ranks of one right owner, me modulo the owners, are a binomial tree. From `round` on,
 * send each later half of my share, kept in `region`, to the rank that leads it. */
static void pass_on(struct mt_plan_builder *p, const struct part *part, uint32_t me, uint32_t round,
                    uint32_t region)
{
    for (uint32_t t = round; t < part->doublings; t++)
        plan_send_scratch(p, part->first + me + (1u << t), plan_halved(p, me + (1u << t), t + 1),
                          region);
}

/* The left total and the right one become the total, at the left ranks. */
static void join(struct mt_plan_builder *p, const struct part *part)
{
    uint32_t me = plan_rank(p) - part->first, owners = 1u << part->owned;
    plan_lane(p, BETWEEN);
    if (me >= part->left + owners)
        return;
    if (me >= part->left) {
        pass_on(p, part, me - part->left, part->owned, PLAN_WORKING);
        plan_send(p, part->first + me - part->left,
                  plan_halved(p, me - part->left, part->doublings));
        return;
    }
    uint32_t bits = me < owners ? part->doublings : log2_floor(me) + 1;
    uint32_t from = me < owners ? part->left + me : me - (1u << (bits - 1));
    if (from < owners && me >= owners)
        from += part->left;
    struct plan_interval mine = plan_halved(p, me, part->doublings), got = plan_halved(p, me, bits);
    uint32_t right = plan_scratch(p, got.count);
    plan_recv_scratch(p, part->first + from, got, right);
    pass_on(p, part, me, bits, right);
    plan_reduce(p, PLAN_WORKING, PLAN_WORKING, right, mine);
}

static void reduce_scatter(struct mt_plan_builder *p, uint32_t first, uint32_t count)
{
    struct part part = split(first, count);
    plan_lane(p, HALVES);
    if (plan_rank(p) - first < part.left)
        halve(p, &part);
    else
        reduce_scatter(p, first + part.left, part.right);
    if (part.right)
        join(p, &part);
}

/* I have my share of so many halvings: a right owner gets it from me if I am the last of those that
 * have the same, which did least when the owner's blocks were scattered. */
static void give_back(struct mt_plan_builder *p, const struct part *part, uint32_t halvings)
{
    uint32_t me = plan_rank(p) - part->first, owner = me & ((1u << part->owned) - 1);
    uint32_t after = part->left - (me - owner); /* a power of two if I am the last of some */
    uint32_t mine = me == owner ? part->doublings : log2_floor(after) + 1;
    if (!part->right || (after & (after - 1)) != 0 || mine != halvings)
        return;
    plan_lane(p, BETWEEN);
    plan_send(p, part->first + part->left + owner, plan_halved(p, me, mine));
}

static void get_back(struct mt_plan_builder *p, const struct part *part)
{
    uint32_t me = plan_rank(p) - part->first - part->left;
    if (me >= 1u << part->owned)
        return;
    plan_lane(p, BETWEEN);
    plan_recv(p, part->first + me, plan_halved(p, me, part->doublings));
    for (uint32_t t = part->doublings; t-- > part->owned;) {
        uint32_t from = me + part->left - (1u << t);
        plan_recv(p, part->first + from, plan_halved(p, from, t + 1));
    }
}

static void allgather(struct mt_plan_builder *p, uint32_t first, uint32_t count)
{
    struct part part = split(first, count);
    uint32_t me = plan_rank(p) - first;
    if (me >= part.left) {
        get_back(p, &part);
        allgather(p, first + part.left, part.right);
        return;
    }
    for (uint32_t t = part.doublings; t-- > 0;) {
        uint32_t peer = me ^ 1u << t;
        give_back(p, &part, t + 1);
        plan_lane(p, HALVES);
        plan_send(p, first + peer, plan_halved(p, me, t + 1));
        plan_recv(p, first + peer, plan_halved(p, peer, t + 1));
    }
    give_back(p, &part, 0);
}

static void build(struct mt_plan_builder *p)
{
    plan_blocks(p, 1u << log2_floor(plan_ranks(p)), MANTA_PLAN_VECTOR);
    reduce_scatter(p, 0, plan_ranks(p));
    allgather(p, 0, plan_ranks(p));
}

const struct mt_algorithm mt_allreduce_halving_doubling = {
    .name = "halving_doubling",
    .collective = MANTA_ALLREDUCE,
    .order = MANTA_PLAN_ORDER_BINARY,
    .source = "Thakur, Rabenseifner, Gropp 2005",
    .build = build,
};
