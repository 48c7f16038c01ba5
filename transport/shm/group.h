/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Groups: on a node with several L3 caches, fused steps of all its ranks go in two levels, so that
 * most lines stay behind one cache. The ranks are cut into groups of one power of two. Each member
 * is in two teams of its own kind: the *inner* one, its group, and its *rail*, those who stand at
 * the same place in all groups; and a step is a few steps of those, one after the other:
 *
 *   barrier            inner, rail
 *   allreduce          inner, rail; long vectors: each member answers for a part of the group's
 *                      (inner reduce_scatter, rail allreduce of the part, inner allgather)
 *   broadcast          the root's rail, then every inner team from its member of that rail
 *   reduce             every inner team to its member of the root's rail, then that rail
 *
 * Groups that are whole blocks of 2^k ranks, beginning at the first, are nodes of the canonical tree
 * over the ranks, and the tree over groups is what is left of it: so bits are the same as without.
 * Long vectors go in pieces. Allgather and reduce_scatter go in one level.
 */
#ifndef MT_TRANSPORT_SHM_GROUP_H
#define MT_TRANSPORT_SHM_GROUP_H

#include "transport/shm/fused.h"

/* Slots of the two teams; subsets that a plan names come after them. */
enum { MT_SHM_SLOT_INNER = 1, MT_SHM_SLOT_RAIL = 2, MT_SHM_SLOT_SUBSETS = 3 };

/* Which ranks have to do with which cache. */
struct mt_shm_cache {
    uint32_t l3;   /* its number on this node, or UINT32_MAX: none, or several */
    uint32_t cpus; /* that share it */
};

/* MANTA_SHM_GROUPS: 0 for auto, or the ranks of a group. 0 or MANTA_EINVAL. */
int mt_shm_groups_parse(const struct manta_transport_host *host, uint32_t *size_out);
/* The ranks of a group when `count` ranks have these caches; 1: no groups. Pure. */
uint32_t mt_shm_groups_find(const struct mt_shm_cache *caches, uint32_t count);
/* The same for a size that was asked for. */
uint32_t mt_shm_groups_fit(uint32_t size, uint32_t count);

/* Give the team of all ranks of the node its groups. 0 or MANTA_ENOMEM. */
int mt_shm_group_open(struct mt_shm_endpoint *endpoint, struct mt_shm_team *team,
                      const struct manta_plan_fused *fused);
void mt_shm_group_close(struct mt_shm_group *group);

/* Are operations of this kind carried out in groups, if there are any? */
static inline int mt_shm_group_takes(uint32_t collective)
{
    return collective == MANTA_ALLREDUCE || collective == MANTA_BROADCAST ||
           collective == MANTA_REDUCE || collective == MANTA_BARRIER;
}
/* As mt_shm_stream_step(). */
int mt_shm_group_step(struct mt_shm_endpoint *endpoint, struct mt_shm_team *team,
                      struct mt_shm_op *op, uint32_t *peer_out);

#endif
