/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What hierarchical algorithms are made of. The ranks are taken in *tiers*: in the first one they
 * are grouped by node; some of each group, its *rails*, go on to the next, where rail i of all
 * groups are a population of their own, grouped by rack, and so on; the rails of the last tier are
 * at the top. With one rail its rank is the group's leader. Each rail answers for one share of the
 * blocks that its group has, so that a plan over tiers is: within the groups, each population the
 * same one tier further up, within the groups again.
 */
#ifndef MT_COLLECTIVES_HIERARCHY_H
#define MT_COLLECTIVES_HIERARCHY_H

#include "plan/algorithm.h"

enum { MT_TIERS = 3 }; /* by node, rack, zone */

/* The own group of a tier. */
struct mt_tier {
    const uint32_t *group; /* its ranks, ascending */
    uint32_t count;
    uint32_t rails;      /* of every group; at most `count` */
    uint32_t rail;       /* of this rank, or MANTA_PLAN_NONE: it stays behind */
    uint32_t lead;       /* index in the group of its only rail */
    uint32_t holds_root; /* index of the population's root, or MANTA_PLAN_NONE: in another group */
    uint32_t is_node;
};

struct mt_hierarchy {
    struct mt_plan_builder *p;
    uint32_t tiers; /* of all ranks */
    struct mt_tier tier[MT_TIERS];
    const uint32_t *top; /* its ranks in the order of their groups, if this one goes so far */
    uint32_t top_count, top_root;
    uint32_t shares; /* into which the blocks are cut until they are at the top */
    uint32_t *memory;
};

/* How many ranks of a group are rails: its first one only, or as many as the smallest group has. */
enum mt_rails { MT_RAILS_ONE, MT_RAILS_ALL };
/* root: of the plan, or NONE. A group's leader is the root, where it is in it. 0 when there is no
 * memory: the builder knows. Close it in either case. */
int mt_hierarchy_open(struct mt_hierarchy *h, struct mt_plan_builder *p, enum mt_rails rails,
                      uint32_t root);
void mt_hierarchy_close(struct mt_hierarchy *h);

/* The blocks that a rail answers for. */
struct plan_interval mt_tier_share(const struct mt_tier *tier, struct plan_interval blocks,
                                   uint32_t rail);
/* Index in the group of a rail. */
static inline uint32_t mt_tier_rail(const struct mt_tier *tier, uint32_t rail)
{
    return tier->rails == 1 ? tier->lead : rail;
}
/* The group's sum of each share to its rail; each rail's share to all of the group. */
void mt_tier_reduce(struct mt_plan_builder *p, const struct mt_tier *tier,
                    struct plan_interval blocks);
void mt_tier_spread(struct mt_plan_builder *p, const struct mt_tier *tier,
                    struct plan_interval blocks);
/* From the population's root to all of its group. */
void mt_tier_broadcast(struct mt_plan_builder *p, const struct mt_tier *tier,
                       struct plan_interval blocks);
/* What follows is done on the way up, or down again, in tier `t`: each such phase has a lane of its
 * own, so that its receives are posted early and take no place from the phases before. */
void mt_hierarchy_phase(const struct mt_hierarchy *h, uint32_t t, int is_down);
/* Among the ranks at the top, their blocks. */
void mt_hierarchy_at_top(const struct mt_hierarchy *h, struct plan_interval blocks,
                         const struct mt_algorithm *algorithm);
/* The blocks of a plan in which the algorithm runs at the top. */
uint32_t mt_hierarchy_blocks(const struct mt_hierarchy *h, const struct mt_algorithm *top);
/* Reduce upwards, `top` among the ranks at the top, and down again: allreduce, barrier. */
void mt_hierarchy_allreduce(struct mt_plan_builder *p, enum mt_rails rails,
                            const struct mt_algorithm *top);

/* All ranks node by node, and the nodes rack by rack: in this order a ring crosses between groups
 * as seldom as it can. */
struct mt_order {
    uint32_t *ranks;      /* [of the plan] */
    uint32_t *node_first; /* [nodes + 1] where in `ranks` a node's begin, which ascend there */
    uint32_t nodes, node; /* how many; the own one */
    uint32_t me;          /* the own place in the node */
    struct plan_interval *parts; /* [ranks]: room for views */
    uint32_t *members;           /* [ranks]: the same */
    void *memory;
};
/* 0 when there is no memory: the builder knows. Close it in either case. */
int mt_order_open(struct mt_order *order, struct mt_plan_builder *p);
void mt_order_close(struct mt_order *order);
/* The blocks of a node's ranks; do they lie side by side? */
struct plan_interval mt_order_blocks(const struct mt_order *order, uint32_t node);
int mt_order_adjoins(const struct mt_order *order, uint32_t node);
/* The own node. */
struct plan_view mt_order_node(const struct mt_order *order);
/* Within the own node, its ranks take the blocks of another node's, in turn, for theirs. */
void mt_order_on_node(struct mt_plan_builder *p, struct mt_order *order, uint32_t node,
                      const struct mt_algorithm *fused, const struct mt_algorithm *plain);
/* Among those who stand where this rank stands in all nodes, each with its own block. */
void mt_order_on_rail(struct mt_plan_builder *p, struct mt_order *order,
                      const struct mt_algorithm *algorithm);
/* Among the first ranks of all nodes, each with the blocks of its node. */
void mt_order_on_leaders(struct mt_plan_builder *p, struct mt_order *order,
                         const struct mt_algorithm *algorithm);
/* Among all ranks, in this order, each with its own block. */
void mt_order_all(struct mt_plan_builder *p, struct mt_order *order,
                  const struct mt_algorithm *algorithm);

/* Why hierarchical plans do not fit: in one sentence, or NULL. Of leaders, which fit everywhere
 * else; of rails; of rails with a block for each rank; of leaders with one; of the order. */
const char *mt_unfit_leaders(const struct mt_plan_request *request);
const char *mt_unfit_rails(const struct mt_plan_request *request);
const char *mt_unfit_even_rails(const struct mt_plan_request *request);
const char *mt_unfit_adjoining(const struct mt_plan_request *request);
const char *mt_unfit_order(const struct mt_plan_request *request);

#endif
