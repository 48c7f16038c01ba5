/* SPDX-License-Identifier: Apache-2.0 */
/* Declared steps: which of them the ranks of a node carry out as one. */
#include "transport/shm/fused.h"

uint32_t mt_shm_member_index(const struct manta_plan_fused *fused, uint32_t rank)
{
    for (uint32_t i = 0; i < fused->member_count; i++)
        if (fused->members[i].rank == rank)
            return i;
    return MT_SHM_NOBODY;
}

static int same_interval(uint32_t first_a, uint32_t count_a, uint32_t first_b, uint32_t count_b)
{
    return first_a == first_b && count_a == count_b;
}

/* One vector: all who read or write it name the same blocks. */
static int vector_fits(const struct manta_plan_fused *fused,
                       const struct manta_plan_fused_member *m)
{
    const struct manta_plan_fused_member *head = &fused->members[0];
    int is_root = m->rank == fused->root;
    switch (fused->collective) {
    case MANTA_ALLREDUCE:
        return same_interval(m->read_first, m->read_count, head->read_first, head->read_count) &&
               same_interval(m->write_first, m->write_count, head->read_first, head->read_count);
    case MANTA_REDUCE:
        return same_interval(m->read_first, m->read_count, head->read_first, head->read_count) &&
               (!is_root ||
                same_interval(m->write_first, m->write_count, head->read_first, head->read_count));
    default: {
        const struct manta_plan_fused_member *root =
            &fused->members[mt_shm_member_index(fused, fused->root)];
        return is_root ||
               same_interval(m->write_first, m->write_count, root->read_first, root->read_count);
    }
    }
}

/* One part for each member, equally many blocks each, in the order of members. */
static int parts_fit(const struct manta_plan_fused *fused, uint32_t i)
{
    const struct manta_plan_fused_member *head = &fused->members[0];
    const struct manta_plan_fused_member *m = &fused->members[i];
    uint32_t members = fused->member_count;
    if (fused->collective == MANTA_ALLGATHER)
        return m->read_count == head->read_count &&
               m->read_first == head->read_first + i * head->read_count &&
               same_interval(m->write_first, m->write_count, head->read_first,
                             members * head->read_count);
    return m->write_count == head->write_count &&
           m->write_first == head->write_first + i * head->write_count &&
           same_interval(m->read_first, m->read_count, head->write_first,
                         members * head->write_count);
}

static int declaration_fits(const struct manta_plan_fused *fused)
{
    int rooted = fused->collective == MANTA_BROADCAST || fused->collective == MANTA_REDUCE;
    if (rooted && mt_shm_member_index(fused, fused->root) == MT_SHM_NOBODY)
        return 0;
    for (uint32_t i = 0; i < fused->member_count; i++) {
        switch (fused->collective) {
        case MANTA_ALLREDUCE:
        case MANTA_REDUCE:
        case MANTA_BROADCAST:
            if (!vector_fits(fused, &fused->members[i]))
                return 0;
            break;
        case MANTA_ALLGATHER:
        case MANTA_REDUCE_SCATTER:
            if (!parts_fit(fused, i))
                return 0;
            break;
        case MANTA_BARRIER:
            break;
        default:
            return 0;
        }
    }
    return 1;
}

/* Every pair of them: a member that shares memory with all others must know when two others do not,
 * for all give the same answer. */
static int members_share(const struct mt_shm_endpoint *endpoint,
                         const struct manta_plan_fused *fused)
{
    for (uint32_t i = 0; i < fused->member_count; i++)
        for (uint32_t j = 0; j < i; j++)
            if (!mt_shm_shares(endpoint, endpoint->local_of[fused->members[i].rank],
                               endpoint->local_of[fused->members[j].rank]))
                return 0;
    return 1;
}

int mt_shm_fused_query(void *handle, const struct manta_plan_fused *fused)
{
    struct mt_shm_endpoint *endpoint = handle;
    if (fused->order != MANTA_PLAN_ORDER_BINARY || fused->member_count == 0 ||
        mt_shm_member_index(fused, endpoint->rank) == MT_SHM_NOBODY)
        return MANTA_ENOTSUP;
    for (uint32_t i = 0; i < fused->member_count; i++) {
        uint32_t rank = fused->members[i].rank;
        if (rank != endpoint->rank && mt_shm_peer_of(endpoint, rank) == NULL)
            return MANTA_ENOTSUP;
        if (i > 0 && rank <= fused->members[i - 1].rank)
            return MANTA_ENOTSUP;
    }
    if (endpoint->is_partial && !members_share(endpoint, fused))
        return MANTA_ENOTSUP;
    if (fused->member_count < endpoint->local_ranks && mt_shm_team_subsets(endpoint) == 0)
        return MANTA_ENOTSUP;
    return declaration_fits(fused) ? 0 : MANTA_ENOTSUP;
}
