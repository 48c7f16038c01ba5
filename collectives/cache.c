/* SPDX-License-Identifier: Apache-2.0 */
/* Compiled plans of a communicator, and the state that one execution of a plan needs. Both are
 * kept: from the second call of a kind on nothing is allocated. */
#include <stdlib.h>
#include <string.h>

#include "collectives/comm.h"

static void entry_free(struct mt_entry *entry)
{
    while (entry->idle) {
        struct mt_instance *next = entry->idle->next;
        free(entry->idle);
        entry->idle = next;
    }
    mt_plan_free(entry->plan);
    free(entry->lane_first);
    free(entry);
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

/* How many peers a plan can name: one a message, and the members of its fused steps. */
static uint32_t peers_max(const struct manta_plan *plan)
{
    uint64_t count = plan->step_count;
    for (uint32_t i = 0; i < plan->fused_count; i++)
        count += plan->fused[i].member_count;
    return count < plan->ranks ? (uint32_t)count : plan->ranks;
}

/* One fused step of all ranks, or one message that is a whole buffer. */
static enum mt_direct direct_of(const struct manta_plan *plan)
{
    if (plan->step_count != 1)
        return MT_DIRECT_NOT;
    const struct manta_plan_step *step = &plan->steps[0];
    if (step->kind == MANTA_PLAN_FUSED)
        return plan->fused[0].member_count == plan->ranks ? MT_DIRECT_FUSED : MT_DIRECT_NOT;
    int is_message = step->kind == MANTA_PLAN_SEND || step->kind == MANTA_PLAN_RECV;
    return is_message && plan->blocks == 1 && step->location_count == 1 &&
                   plan->locations[step->location_first].buffer != MANTA_PLAN_SCRATCH
               ? MT_DIRECT_MESSAGE
               : MT_DIRECT_NOT;
}

static struct mt_entry *entry_create(struct manta_plan *plan)
{
    struct mt_entry *entry = calloc(1, sizeof(*entry));
    size_t numbers = plan->lanes + 1 + plan->step_count + plan->region_count + peers_max(plan);
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
    entry->direct = direct_of(plan);
    sort_lanes(entry);
    collect_peers(entry);
    return entry;
}

/* Plans for whatever a program may do in turn: broadcast from, reduce to, send to and receive from
 * each rank. In small groups there is room for the other calls as well. */
static int cache_open(struct manta_comm *comm)
{
    struct mt_cache *cache = &comm->cache;
    uint64_t capacity = 4 * (uint64_t)comm->ranks + MT_PLANS / 4;
    cache->capacity = capacity > MT_PLANS ? (uint32_t)capacity : MT_PLANS;
    cache->bucket_count = 1;
    while (cache->bucket_count < cache->capacity)
        cache->bucket_count *= 2;
    cache->buckets = calloc(cache->bucket_count, sizeof(struct mt_entry *));
    return cache->buckets ? 0 : MANTA_ENOMEM;
}

static struct mt_entry **bucket_of(const struct mt_cache *cache,
                                   const struct mt_algorithm *algorithm, uint32_t root,
                                   uint32_t in_place)
{
    uint64_t key = ((uint64_t)(uintptr_t)algorithm << 16) ^ ((uint64_t)root << 1) ^ in_place;
    uint64_t mixed = key * UINT64_C(0x9e3779b97f4a7c15);
    return &cache->buckets[(mixed >> 32) & (cache->bucket_count - 1)];
}

static void list_remove(struct mt_cache *cache, struct mt_entry *entry)
{
    *(entry->newer ? &entry->newer->older : &cache->newest) = entry->older;
    *(entry->older ? &entry->older->newer : &cache->oldest) = entry->newer;
}

static void list_add(struct mt_cache *cache, struct mt_entry *entry)
{
    entry->newer = NULL;
    entry->older = cache->newest;
    *(cache->newest ? &cache->newest->newer : &cache->oldest) = entry;
    cache->newest = entry;
}

void mt_cache_touch(struct manta_comm *comm, struct mt_entry *entry)
{
    const struct mt_entry *newest = comm->cache.newest;
    if (entry == newest || entry == newest->older) /* two in turn stay where they are */
        return;
    list_remove(&comm->cache, entry);
    list_add(&comm->cache, entry);
}

static void cache_add(struct mt_cache *cache, struct mt_entry *entry)
{
    struct mt_entry **bucket = bucket_of(cache, entry->algorithm, entry->root, entry->in_place);
    entry->next = *bucket;
    *bucket = entry;
    list_add(cache, entry);
    cache->count++;
}

static void cache_remove(struct mt_cache *cache, struct mt_entry *entry)
{
    struct mt_entry **link = bucket_of(cache, entry->algorithm, entry->root, entry->in_place);
    while (*link != entry)
        link = &(*link)->next;
    *link = entry->next;
    list_remove(cache, entry);
    cache->count--;
}

/* Room for one more, if need be that of the idle plan unused for longest. */
static int make_room(struct manta_comm *comm)
{
    struct mt_cache *cache = &comm->cache;
    struct mt_entry *idle = cache->oldest;
    if (cache->count < cache->capacity)
        return 0;
    while (idle && idle->users > 0)
        idle = idle->newer;
    if (!idle)
        return MANTA_ENOMEM;
    mt_shapes_forget(comm, idle);
    cache_remove(cache, idle);
    entry_free(idle);
    return 0;
}

static int entry_compile(struct manta_comm *comm, const struct mt_algorithm *algorithm,
                         const struct mt_arguments *arguments, int in_place,
                         struct mt_entry **entry_out, struct mt_error *error)
{
    struct mt_plan_request request = mt_choose_request(comm, arguments);
    request.in_place = (uint32_t)in_place;
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
    if (make_room(comm)) {
        entry_free(entry);
        return mt_error_set(error, MANTA_ENOMEM,
                            "all %u plans are in use: wait for some of the posted calls",
                            comm->cache.capacity);
    }
    entry->algorithm = algorithm;
    entry->root = arguments->root;
    entry->in_place = (uint32_t)in_place;
    cache_add(&comm->cache, entry);
    *entry_out = entry;
    mt_count(&comm->counters.plans_compiled, 1);
    return 0;
}

int mt_cache_get(struct manta_comm *comm, const struct mt_algorithm *algorithm,
                 const struct mt_arguments *arguments, int in_place, struct mt_entry **entry_out,
                 struct mt_error *error)
{
    struct mt_cache *cache = &comm->cache;
    uint32_t root = arguments->root, place = (uint32_t)in_place;
    if (!cache->buckets && cache_open(comm))
        return mt_error_set(error, MANTA_ENOMEM, "no memory for the plans of %u ranks",
                            comm->ranks);
    struct mt_entry *entry = *bucket_of(cache, algorithm, root, place);
    while (entry &&
           (entry->algorithm != algorithm || entry->root != root || entry->in_place != place))
        entry = entry->next;
    if (!entry)
        return entry_compile(comm, algorithm, arguments, in_place, entry_out, error);
    mt_cache_touch(comm, entry);
    *entry_out = entry;
    return 0;
}

/* One allocation holds the arrays of all slots, widest elements first. */
static struct mt_instance *instance_create(const struct manta_plan *plan)
{
    size_t steps = plan->step_count ? plan->step_count : 1;
    size_t slot_bytes = steps * sizeof(struct manta_transport_request) +
                        (2 * (size_t)plan->blocks + 1) * sizeof(uint64_t) +
                        steps * sizeof(uint32_t) + plan->lanes * sizeof(struct mt_cursor) + steps;
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
        slot->lanes = (struct mt_cursor *)(slot->outstanding + steps);
        slot->done = (uint8_t *)(slot->lanes + plan->lanes);
    }
    return instance;
}

int mt_cache_instance(struct manta_comm *comm, struct mt_entry *entry, uint64_t scratch_bytes,
                      struct mt_instance **instance_out)
{
    struct mt_scratch *scratch = NULL;
    struct mt_instance *instance = entry->idle ? entry->idle : instance_create(entry->plan);
    if (!instance)
        return MANTA_ENOMEM;
    if (instance != entry->idle) {
        instance->next = entry->idle;
        entry->idle = instance;
    }
    if (scratch_bytes > 0)
        scratch = mt_scratch_take(comm, scratch_bytes);
    if (scratch_bytes > 0 && !scratch)
        return MANTA_ENOMEM;
    entry->idle = instance->next;
    instance->held = scratch;
    instance->scratch = scratch ? scratch->memory : NULL;
    entry->users++;
    *instance_out = instance;
    return 0;
}

void mt_cache_release(struct manta_comm *comm, struct mt_entry *entry, struct mt_instance *instance)
{
    if (instance->held)
        mt_scratch_give(comm, instance->held);
    entry->users--;
    instance->next = entry->idle;
    entry->idle = instance;
}

void mt_cache_clear(struct manta_comm *comm)
{
    struct mt_entry *entry = comm->cache.newest;
    mt_shapes_forget(comm, NULL);
    while (entry) {
        struct mt_entry *older = entry->older;
        entry_free(entry);
        entry = older;
    }
    free(comm->cache.buckets);
    memset(&comm->cache, 0, sizeof(comm->cache));
    mt_scratch_clear(comm);
}
