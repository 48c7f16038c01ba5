/* SPDX-License-Identifier: Apache-2.0 */
/* Compiled plans of a communicator, and the state that one execution of a plan needs. Both are
 * kept: from the second call of a shape on nothing is allocated. */
#include <stdlib.h>
#include <string.h>

#include "collectives/comm.h"

enum { SCRATCH_ALIGN = 4096 };

static void instance_free(struct mt_instance *instance)
{
    free(instance->scratch);
    free(instance);
}

static void entry_free(struct mt_entry *entry)
{
    while (entry->idle) {
        struct mt_instance *next = entry->idle->next;
        instance_free(entry->idle);
        entry->idle = next;
    }
    mt_plan_free(entry->plan);
    free(entry->lane_first);
    free(entry);
}

/* A plan that names several blocks at once in a layout with gaps, or that hands the whole vector to
 * a transport's fused step (which cuts it as it likes), runs as one segment. */
static uint32_t runs_whole(const struct manta_plan *plan)
{
    if (plan->fused_count > 0)
        return 1;
    if (plan->layout != MANTA_PLAN_RANKS)
        return 0;
    for (uint32_t i = 0; i < plan->location_count; i++) {
        const struct manta_plan_location *location = &plan->locations[i];
        if (location->count > 1)
            return 1;
        if (location->buffer == MANTA_PLAN_SCRATCH && location->origin != location->first)
            return 1;
    }
    return 0;
}

static void add_peer(struct mt_entry *entry, uint32_t rank)
{
    if (rank == entry->plan->rank)
        return;
    for (uint32_t i = 0; i < entry->peer_count; i++) {
        if (entry->peers[i] == rank)
            return;
    }
    entry->peers[entry->peer_count++] = rank;
}

static void collect_peers(struct mt_entry *entry)
{
    const struct manta_plan *plan = entry->plan;
    for (uint32_t i = 0; i < plan->step_count; i++) {
        const struct manta_plan_step *step = &plan->steps[i];
        if (step->kind == MANTA_PLAN_SEND || step->kind == MANTA_PLAN_RECV)
            add_peer(entry, step->peer);
    }
    for (uint32_t i = 0; i < plan->fused_count; i++) {
        for (uint32_t m = 0; m < plan->fused[i].member_count; m++)
            add_peer(entry, plan->fused[i].members[m].rank);
    }
}

static void sort_lanes(struct mt_entry *entry)
{
    const struct manta_plan *plan = entry->plan;
    uint32_t position = 0;
    for (uint32_t lane = 0; lane < plan->lanes; lane++) {
        entry->lane_first[lane] = position;
        for (uint32_t i = 0; i < plan->step_count; i++) {
            if (plan->steps[i].lane == lane)
                entry->lane_steps[position++] = i;
        }
    }
    entry->lane_first[plan->lanes] = position;
}

static struct mt_entry *entry_create(struct manta_plan *plan)
{
    struct mt_entry *entry = calloc(1, sizeof(*entry));
    size_t numbers = plan->lanes + 1 + plan->step_count + plan->region_count + plan->ranks;
    uint32_t *memory = calloc(numbers, sizeof(*memory));
    if (!entry || !memory) {
        free(entry);
        free(memory);
        return NULL;
    }
    entry->plan = plan;
    entry->lane_first = memory;
    entry->lane_steps = entry->lane_first + plan->lanes + 1;
    entry->region_first = entry->lane_steps + plan->step_count;
    entry->peers = entry->region_first + plan->region_count;
    for (uint32_t i = 0; i < plan->region_count; i++) {
        entry->region_first[i] = entry->scratch_blocks;
        entry->scratch_blocks += plan->regions[i].block_count;
    }
    entry->direct = plan->step_count == 1 && plan->steps[0].kind == MANTA_PLAN_FUSED;
    entry->whole = entry->direct || runs_whole(plan);
    sort_lanes(entry);
    collect_peers(entry);
    return entry;
}

/* Room for one more: a free place, else that of the idle plan unused for longest. */
static struct mt_entry **place_for_new(struct manta_comm *comm)
{
    if (comm->entry_count < MT_PLANS)
        return &comm->entries[comm->entry_count++];
    struct mt_entry **oldest = NULL;
    for (uint32_t i = 0; i < MT_PLANS; i++) {
        struct mt_entry **place = &comm->entries[i];
        if ((*place)->users == 0 && (!oldest || (*place)->used_at < (*oldest)->used_at))
            oldest = place;
    }
    if (oldest) {
        mt_shapes_forget(comm, *oldest);
        entry_free(*oldest);
    }
    return oldest;
}

static int entry_compile(struct manta_comm *comm, const struct mt_algorithm *algorithm,
                         const struct mt_arguments *arguments, int in_place,
                         struct mt_entry **entry_out, struct mt_error *error)
{
    const struct mt_plan_request request = {
        .collective = arguments->collective,
        .rank = comm->rank,
        .ranks = comm->ranks,
        .root = arguments->root,
        .in_place = (uint32_t)in_place,
    };
    struct manta_plan *plan;
    int rc = mt_plan_compile(algorithm, &request, &plan, error);
    if (rc)
        return rc;
    struct mt_entry *entry = entry_create(plan);
    if (!entry) {
        mt_plan_free(plan);
        return mt_error_set(error, MANTA_ENOMEM, "no memory for a plan of %u steps",
                            plan->step_count);
    }
    struct mt_entry **place = place_for_new(comm);
    if (!place) {
        entry_free(entry);
        return mt_error_set(error, MANTA_ENOMEM,
                            "all %d plans are in use: wait for some of the posted calls", MT_PLANS);
    }
    entry->algorithm = algorithm;
    entry->root = arguments->root;
    entry->in_place = (uint32_t)in_place;
    *place = *entry_out = entry;
    mt_count(&comm->counters.plans_compiled, 1);
    return 0;
}

int mt_cache_get(struct manta_comm *comm, const struct mt_algorithm *algorithm,
                 const struct mt_arguments *arguments, int in_place, struct mt_entry **entry_out,
                 struct mt_error *error)
{
    for (uint32_t i = 0; i < comm->entry_count; i++) {
        struct mt_entry *entry = comm->entries[i];
        if (entry->algorithm == algorithm && entry->root == arguments->root &&
            entry->in_place == (uint32_t)in_place) {
            entry->used_at = ++comm->entry_clock;
            *entry_out = entry;
            return 0;
        }
    }
    int rc = entry_compile(comm, algorithm, arguments, in_place, entry_out, error);
    if (rc == 0)
        (*entry_out)->used_at = ++comm->entry_clock;
    return rc;
}

/* One allocation holds the arrays of all slots, widest elements first. */
static struct mt_instance *instance_create(const struct manta_plan *plan)
{
    size_t steps = plan->step_count ? plan->step_count : 1;
    size_t slot_bytes = steps * sizeof(struct manta_transport_request) +
                        (2 * (size_t)plan->blocks + 1) * sizeof(uint64_t) +
                        (steps + plan->lanes) * sizeof(uint32_t) + steps;
    slot_bytes = (slot_bytes + 63) / 64 * 64;
    struct mt_instance *instance = calloc(1, sizeof(*instance) + MT_PLAN_DEPTH * slot_bytes);
    if (!instance)
        return NULL;
    char *memory = (char *)(instance + 1);
    for (uint32_t i = 0; i < MT_PLAN_DEPTH; i++, memory += slot_bytes) {
        struct mt_slot *slot = &instance->slots[i];
        slot->requests = (struct manta_transport_request *)memory;
        slot->block_start = (uint64_t *)(slot->requests + steps);
        slot->block_bytes = slot->block_start + plan->blocks + 1;
        slot->outstanding = (uint32_t *)(slot->block_bytes + plan->blocks);
        slot->lane_next = slot->outstanding + steps;
        slot->done = (uint8_t *)(slot->lane_next + plan->lanes);
    }
    return instance;
}

int mt_cache_instance(struct mt_entry *entry, uint64_t scratch_bytes,
                      struct mt_instance **instance_out)
{
    struct mt_instance *instance = entry->idle;
    if (instance)
        entry->idle = instance->next;
    else
        instance = instance_create(entry->plan);
    if (!instance)
        return MANTA_ENOMEM;
    scratch_bytes *= MT_PLAN_DEPTH;
    if (instance->scratch_bytes < scratch_bytes) {
        void *scratch = NULL;
        if (posix_memalign(&scratch, SCRATCH_ALIGN, scratch_bytes)) {
            instance->next = entry->idle;
            entry->idle = instance;
            return MANTA_ENOMEM;
        }
        free(instance->scratch);
        instance->scratch = scratch;
        instance->scratch_bytes = scratch_bytes;
    }
    entry->users++;
    *instance_out = instance;
    return 0;
}

void mt_cache_release(struct mt_entry *entry, struct mt_instance *instance)
{
    entry->users--;
    instance->next = entry->idle;
    entry->idle = instance;
}

void mt_cache_clear(struct manta_comm *comm)
{
    mt_shapes_forget(comm, NULL);
    for (uint32_t i = 0; i < comm->entry_count; i++)
        entry_free(comm->entries[i]);
    comm->entry_count = 0;
}
