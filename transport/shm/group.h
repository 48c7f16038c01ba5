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
 *   allgather          inner, then whole groups' parts along the rail; short parts only
 *
 * Groups that are whole blocks of 2^k ranks, beginning at the first, are nodes of the canonical
 * tree over the ranks, and the tree over groups is what is left of it: so bits are the same as
 * without. Long vectors go in pieces. Long allgathers and reduce_scatter go in one level.
 */
#ifndef MT_TRANSPORT_SHM_GROUP_H
#define MT_TRANSPORT_SHM_GROUP_H

#include "transport/shm/fused.h"

/* MANTA_SHM_GROUPS: 0 for auto, or the ranks of a group. 0 or MANTA_EINVAL. */
int mt_shm_groups_parse(const struct manta_transport_host *host, uint32_t *size_out);
/* The ranks of a group when `count` ranks are behind these L3 caches, UINT32_MAX: none, or several;
 * 1: no groups. Pure. */
uint32_t mt_shm_groups_find(const uint32_t *l3s, uint32_t count);
/* The same for a size that was asked for. */
uint32_t mt_shm_groups_fit(uint32_t size, uint32_t count);

/* Give the team of all ranks of the node its groups. 0 or MANTA_ENOMEM. */
int mt_shm_group_open(struct mt_shm_endpoint *endpoint, struct mt_shm_team *team,
                      const struct manta_plan_fused *fused);
void mt_shm_group_close(struct mt_shm_group *group);

/* Is the operation carried out in the groups of its team? */
int mt_shm_group_takes(const struct mt_shm_team *team, const struct mt_shm_op *op);
/* As mt_shm_stream_step(). */
int mt_shm_group_step(struct mt_shm_endpoint *endpoint, struct mt_shm_team *team,
                      struct mt_shm_op *op, uint32_t *peer_out);

#endif
