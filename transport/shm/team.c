/* SPDX-License-Identifier: Apache-2.0 */
/* Teams: finding the others' slots, publications, credits and the staging ring. */
#include <stdlib.h>
#include <string.h>

#include "transport/shm/copy.h"
#include "transport/shm/group.h"
#include "transport/shm/lend.h"
#include "transport/shm/team.h"

/* Never 0. */
static uint64_t key_of(const struct manta_plan_fused *fused)
{
    uint64_t key = UINT64_C(0xcbf29ce484222325) ^ fused->member_count;
    for (uint32_t i = 0; i < fused->member_count; i++) {
        key = (key ^ fused->members[i].rank) * UINT64_C(0x9e3779b97f4a7c15);
        key ^= key >> 29;
    }
    return key | 1;
}

static int same_members(const struct mt_shm_team *team, const struct manta_plan_fused *fused)
{
    if (team->count != fused->member_count || team->is_part)
        return 0;
    for (uint32_t i = 0; i < team->count; i++)
        if (team->members[i].rank != fused->members[i].rank)
            return 0;
    return 1;
}

/* The slots before it mean the same on all ranks of the node. */
static uint32_t first_subset(const struct mt_shm_endpoint *endpoint)
{
    return endpoint->group_ranks > 1 ? MT_SHM_SLOT_SUBSETS : 1;
}

uint32_t mt_shm_team_subsets(const struct mt_shm_endpoint *endpoint)
{
    return endpoint->identity.geometry.teams - first_subset(endpoint);
}

/* Where the staging ring of a slot lies in a segment. A grouped team and its two parts share that
 * of all ranks, which is long, and need it one after the other; but each keeps its own marks. */
static uint64_t ring_of(const struct mt_shm_endpoint *endpoint, uint32_t slot, uint64_t *bytes_out)
{
    const struct mt_shm_geometry *g = &endpoint->identity.geometry;
    uint64_t quarter = g->ring_bytes / 4 / MT_SHM_LINE * MT_SHM_LINE;
    if (endpoint->group_ranks <= 1 || slot >= first_subset(endpoint)) {
        *bytes_out = mt_shm_ring_bytes(g, slot);
        return mt_shm_ring_at(g, slot);
    }
    *bytes_out = slot == 0 ? 2 * quarter : quarter;
    return g->ring_at + (slot == 0 ? 0 : (slot + 1) * quarter);
}

static uint32_t free_slot(const struct mt_shm_endpoint *endpoint, uint32_t member_count)
{
    if (member_count == endpoint->local_ranks)
        return 0;
    uint32_t slot = first_subset(endpoint);
    while (slot < endpoint->identity.geometry.teams && endpoint->teams[slot] != NULL)
        slot++;
    return slot;
}

static void fill_members(struct mt_shm_endpoint *endpoint, struct mt_shm_team *team,
                         const struct manta_plan_fused *fused)
{
    for (uint32_t i = 0; i < team->count; i++) {
        struct mt_shm_member *member = &team->members[i];
        member->rank = fused->members[i].rank;
        member->peer = mt_shm_peer_of(endpoint, member->rank);
        if (member->peer == NULL) {
            team->me = i;
            member->resolved = 1;
        }
    }
    team->unresolved = team->count - 1;
}

int mt_shm_team_make(struct mt_shm_endpoint *endpoint, const struct manta_plan_fused *fused,
                     uint32_t slot, struct mt_shm_team **team_out)
{
    const struct mt_shm_geometry *g = &endpoint->identity.geometry;
    struct mt_shm_team *team =
        calloc(1, sizeof(*team) + fused->member_count * sizeof(team->members[0]));
    if (team != NULL)
        team->sources = calloc(fused->member_count, sizeof(team->sources[0]));
    if (team == NULL || team->sources == NULL) {
        free(team);
        return mt_shm_fail(endpoint, MANTA_ENOMEM, MANTA_PLAN_NONE, 0, "no memory for a team");
    }
    uint8_t *lines = endpoint->base + g->team_at + slot * g->team_stride;
    team->key = key_of(fused);
    team->slot = slot;
    team->is_part = slot != 0 && slot < first_subset(endpoint);
    team->count = fused->member_count;
    team->done = (_Atomic uint64_t *)(void *)lines;
    team->entries = lines + MT_SHM_LINE;
    team->ring = endpoint->base + ring_of(endpoint, slot, &team->ring_bytes);
    team->chunk_bytes = team->ring_bytes / MT_SHM_CHUNKS / MT_SHM_LINE * MT_SHM_LINE;
    team->last_root = MT_SHM_NOBODY;
    fill_members(endpoint, team, fused);
    mt_shm_distance_open(&endpoint->ruler, &team->distance);
    if (slot != 0) {
        mt_shm_populate(lines, g->team_stride, 1);
        mt_shm_populate(team->ring, team->ring_bytes, 1);
    }
    endpoint->teams[slot] = team;
    if (endpoint->team_slots <= slot)
        endpoint->team_slots = slot + 1;
    *team_out = team;
    return 0;
}

static int create(struct mt_shm_endpoint *endpoint, const struct manta_plan_fused *fused,
                  struct mt_shm_team **team_out)
{
    uint32_t slot = free_slot(endpoint, fused->member_count);
    if (slot == endpoint->identity.geometry.teams)
        return mt_shm_fail(endpoint, MANTA_ENOTSUP, MANTA_PLAN_NONE, 0,
                           "this rank takes part in fused steps of more than %u different groups "
                           "of ranks of its node; use fewer",
                           mt_shm_team_subsets(endpoint));
    int code = mt_shm_team_make(endpoint, fused, slot, team_out);
    if (code == 0 && slot == 0 && endpoint->group_ranks > 1)
        code = (*team_out)->failed = mt_shm_group_open(endpoint, *team_out, fused);
    if (code != 0)
        return code;
    /* Pairs with resolve(): who sees the key may use the slot. */
    atomic_store_explicit(&mt_shm_header_of(endpoint->base)->team_key[slot], (*team_out)->key,
                          memory_order_release);
    mt_shm_team_wake(endpoint, *team_out);
    return 0;
}

int mt_shm_team_get(struct mt_shm_endpoint *endpoint, const struct manta_plan_fused *fused,
                    struct mt_shm_team **team_out)
{
    struct mt_shm_team *team = endpoint->team_last;
    if (team != NULL && same_members(team, fused)) {
        *team_out = team;
        return 0;
    }
    for (uint32_t slot = 0; slot < endpoint->team_slots; slot++) {
        team = endpoint->teams[slot];
        if (team != NULL && same_members(team, fused)) {
            *team_out = endpoint->team_last = team;
            return 0;
        }
    }
    int code = create(endpoint, fused, team_out);
    if (code == 0)
        endpoint->team_last = *team_out;
    return code;
}

void mt_shm_team_free(struct mt_shm_team *team)
{
    if (team == NULL)
        return;
    mt_shm_group_close(team->group);
    free(team->sources);
    free(team);
}

static void attach(struct mt_shm_endpoint *endpoint, struct mt_shm_member *member, uint32_t slot)
{
    const struct mt_shm_geometry *g = &endpoint->identity.geometry;
    const uint8_t *base = member->peer->base;
    const uint8_t *lines = base + g->team_at + slot * g->team_stride;
    member->done = (const _Atomic uint64_t *)(const void *)lines;
    member->entries = lines + MT_SHM_LINE;
    uint64_t ring_bytes;
    member->ring = base + ring_of(endpoint, slot, &ring_bytes);
    member->resolved = 1;
}

/* Where the member holds the team. All ranks of the node are slot 0 everywhere, so that a publisher
 * need not wait for the others' first call. A subset's slot is found by its key, once the member
 * has made the team. */
static int resolve(struct mt_shm_endpoint *endpoint, const struct mt_shm_team *team,
                   struct mt_shm_member *member)
{
    const struct mt_shm_header *header = mt_shm_header_of(member->peer->base);
    if (team->slot < first_subset(endpoint)) {
        attach(endpoint, member, team->slot);
        return 1;
    }
    for (uint32_t slot = first_subset(endpoint); slot < endpoint->identity.geometry.teams; slot++) {
        if (atomic_load_explicit(&header->team_key[slot], memory_order_acquire) != team->key)
            continue;
        attach(endpoint, member, slot);
        return 1;
    }
    return 0;
}

int mt_shm_team_ready(struct mt_shm_endpoint *endpoint, struct mt_shm_team *team,
                      uint32_t *peer_out)
{
    for (uint32_t i = 0; i < team->count && team->unresolved != 0; i++) {
        struct mt_shm_member *member = &team->members[i];
        if (member->resolved)
            continue;
        struct mt_shm_peer *peer = member->peer;
        if (peer->state != MT_SHM_CONNECTED) {
            int code = mt_shm_connect(endpoint, peer, 0);
            *peer_out = member->rank;
            if (code < 0)
                return code;
            if (code != 0)
                continue;
        }
        team->unresolved -= (uint32_t)resolve(endpoint, team, member);
    }
    return team->unresolved == 0 ? 0 : MANTA_INPROGRESS;
}

void mt_shm_team_measure(struct mt_shm_endpoint *endpoint, struct mt_shm_team *team, uint64_t bytes)
{
    struct mt_shm_distance *distance = &team->distance;
    uint64_t ticks;
    if (!mt_shm_distance_is_due(distance, bytes))
        return;
    uint32_t others = team->count - 1;
    struct mt_shm_member *member =
        &team->members[(team->me + 1 + distance->turn % others) % team->count];
    /* Pairs with the release store in mt_shm_team_report(); nothing depends on it here. */
    uint64_t word = mt_shm_distance_load(member->done, &ticks);
    if (word != member->done_seen) /* else it was in this rank's cache */
        mt_shm_distance_note(&endpoint->ruler, distance, ticks);
    member->done_seen = word;
}

static int nonsense(struct mt_shm_endpoint *endpoint, uint32_t rank, const char *what)
{
    return mt_shm_fail(endpoint, MANTA_ETRANSPORT, rank, 0,
                       "rank %u has written nonsense into its shared memory (%s)", rank, what);
}

static int mismatch(struct mt_shm_endpoint *endpoint, uint32_t rank)
{
    return mt_shm_fail(endpoint, MANTA_EMISMATCH, rank, 0,
                       "rank %u has called something else than this rank", rank);
}

/* `done` is a flag of the last tick that is done with. Who only publishes learns from it, at the
 * latest when it runs out of room, that the others are in other operations. */
static int fits_history(struct mt_shm_team *team, uint64_t word, uint64_t done)
{
    if (done == 0 || done > team->consumed || done + MT_SHM_HISTORY <= team->consumed)
        return 1;
    return word == mt_shm_flag(done - 1, team->hashes[(done - 1) % MT_SHM_HISTORY]);
}

int mt_shm_team_compare(struct mt_shm_endpoint *endpoint, struct mt_shm_team *team,
                        uint32_t *peer_out)
{
    /* In an operation of many ticks the last one before it is forgotten. */
    if (team->tick == 0 || team->consumed < team->tick ||
        team->consumed - team->tick >= MT_SHM_HISTORY)
        return 0;
    uint64_t tick = team->tick - 1;
    uint64_t expected = mt_shm_flag(tick, team->hashes[tick % MT_SHM_HISTORY]);
    for (uint32_t i = 0; i < team->count; i++) {
        const struct mt_shm_member *from = &team->members[i];
        if (i == team->me)
            continue;
        /* Pairs with the release store in mt_shm_team_publish(), but nothing is read for it. */
        uint64_t flag = atomic_load_explicit(
            (const _Atomic uint64_t *)(const void *)mt_shm_team_entry(from, tick),
            memory_order_relaxed);
        *peer_out = from->rank;
        if (flag >> MT_SHM_HASH_BITS == expected >> MT_SHM_HASH_BITS && flag != expected)
            return mismatch(endpoint, from->rank);
    }
    return 0;
}

/* Look at the others' `done`. */
static int refresh(struct mt_shm_endpoint *endpoint, struct mt_shm_team *team, uint32_t *peer_out)
{
    uint64_t least = UINT64_MAX;
    for (uint32_t i = 0; i < team->count; i++) {
        if (i == team->me)
            continue;
        mt_shm_hook(endpoint);
        /* Pairs with the release store in mt_shm_team_consumed(). */
        uint64_t word = atomic_load_explicit(team->members[i].done, memory_order_acquire);
        team->members[i].done_seen = word;
        uint64_t done = word >> MT_SHM_HASH_BITS;
        *peer_out = team->members[i].rank;
        if (done > team->consumed + MT_SHM_TICKS)
            return nonsense(endpoint, *peer_out, "credit");
        if (!fits_history(team, word, done))
            return mismatch(endpoint, *peer_out);
        if (done < least)
            least = done;
    }
    mt_shm_team_known(team, least);
    return 0;
}

int mt_shm_team_room(struct mt_shm_endpoint *endpoint, struct mt_shm_team *team, uint64_t tick,
                     uint32_t *peer_out)
{
    if (tick < team->known_done + MT_SHM_TICKS)
        return 0;
    int code = refresh(endpoint, team, peer_out);
    if (code != 0)
        return code;
    return tick < team->known_done + MT_SHM_TICKS ? 0 : MANTA_EAGAIN;
}

int mt_shm_team_done(struct mt_shm_endpoint *endpoint, struct mt_shm_team *team, uint64_t tick,
                     uint32_t *peer_out)
{
    if (tick <= team->known_done)
        return 0;
    int code = refresh(endpoint, team, peer_out);
    if (code != 0)
        return code;
    return tick <= team->known_done ? 0 : MANTA_EAGAIN;
}

static void release(struct mt_shm_team *team)
{
    for (uint32_t i = 0; i < MT_SHM_TICKS; i++) {
        uint64_t tick_next = team->mark_tick[i];
        if (tick_next != 0 && tick_next <= team->known_done && team->mark_end[i] > team->ring_tail)
            team->ring_tail = team->mark_end[i];
    }
}

/* A longer payload is written chunk by chunk, and waits for its turn less. */
enum { CLAIMED_MOST = 16 * 1024 };

/* Where the next piece of this length, whole lines, begins; it never wraps. *head_out: counted from
 * the first that was handed out. Later pieces lie lower, like entries. */
static uint8_t *next_piece(const struct mt_shm_team *team, uint64_t length, uint64_t *head_out)
{
    uint64_t head = team->ring_head;
    uint64_t at = head % team->ring_bytes;
    if (at + length > team->ring_bytes) {
        head += team->ring_bytes - at;
        at = 0;
    }
    *head_out = head;
    return team->ring + team->ring_bytes - at - length;
}

static int ring_take(struct mt_shm_team *team, uint64_t bytes, uint8_t **piece_out)
{
    uint64_t length = (bytes + MT_SHM_LINE - 1) / MT_SHM_LINE * MT_SHM_LINE, head;
    uint8_t *piece = next_piece(team, length, &head);
    if (head + length - team->ring_tail > team->ring_bytes)
        return MANTA_EAGAIN;
    team->ring_head = head + length;
    team->ring_last = length;
    team->ring_claimed = 0;
    *piece_out = piece;
    return 0;
}

void mt_shm_team_claim_ring(struct mt_shm_team *team, uint64_t most)
{
    uint64_t head, end = team->ring_last < CLAIMED_MOST ? team->ring_last : CLAIMED_MOST;
    if (team->ring_claimed >= end || mt_shm_goes_far(&team->distance, end))
        return; /* what goes past the caches needs no line of its own */
    const uint8_t *piece = next_piece(team, team->ring_last, &head);
    if (end - team->ring_claimed > most)
        end = team->ring_claimed + most;
    mt_shm_claim(piece + team->ring_claimed, end - team->ring_claimed);
    team->ring_claimed = end;
}

int mt_shm_team_ring(struct mt_shm_endpoint *endpoint, struct mt_shm_team *team, uint64_t bytes,
                     uint8_t **payload_out, uint32_t *peer_out)
{
    int code = ring_take(team, bytes, payload_out);
    if (code == 0)
        return 0;
    code = refresh(endpoint, team, peer_out);
    if (code != 0)
        return code;
    release(team);
    return ring_take(team, bytes, payload_out);
}

void mt_shm_team_mark(struct mt_shm_team *team, uint64_t tick, uint64_t ring_end)
{
    team->mark_tick[tick % MT_SHM_TICKS] = tick + 1;
    team->mark_end[tick % MT_SHM_TICKS] = ring_end;
}

int mt_shm_team_other(struct mt_shm_endpoint *endpoint, const struct mt_shm_member *from,
                      uint64_t flag, uint64_t expected)
{
    uint64_t ahead = (flag >> MT_SHM_HASH_BITS) - (expected >> MT_SHM_HASH_BITS);
    if (ahead == 0)
        return mismatch(endpoint, from->rank);
    if (ahead < UINT64_C(1) << (63 - MT_SHM_HASH_BITS))
        return nonsense(endpoint, from->rank, "flag");
    return MANTA_INPROGRESS;
}

int mt_shm_team_locate(struct mt_shm_endpoint *endpoint, struct mt_shm_team *team, uint32_t member,
                       const uint8_t *entry, const struct mt_shm_want *want,
                       const uint8_t **payload_out)
{
    const struct mt_shm_member *from = &team->members[member];
    struct mt_shm_where where;
    memcpy(&where, entry, sizeof(where));
    mt_shm_lend_look(endpoint, from->peer);
    if (where.at & MT_SHM_IN_PLACE) {
        const struct mt_memory_place place = {where.segment,
                                              (where.at & ~MT_SHM_IN_PLACE) + want->in_place_at};
        team->owes_report = 1;
        *payload_out = entry;
        if (want->bytes == 0) /* of a part that is shorter than others */
            return 0;
        if (mt_shm_lend_find(endpoint, from->peer, &place, want->bytes, payload_out) != 0)
            return nonsense(endpoint, from->rank, "place");
        return 0;
    }
    uint64_t at = where.at + want->staged_at;
    if (at > team->ring_bytes || at < where.at || want->bytes > team->ring_bytes - at)
        return nonsense(endpoint, from->rank, "position");
    *payload_out = from->ring + at;
    return 0;
}

int mt_shm_team_withdrawn(const struct mt_shm_team *team)
{
    int any = 0;
    for (uint32_t i = 0; i < team->count; i++)
        if (i != team->me)
            any |= mt_shm_is_withdrawn(team->members[i].peer);
    return any;
}

void mt_shm_team_report(struct mt_shm_endpoint *endpoint, struct mt_shm_team *team, uint32_t hash)
{
    team->reported = team->consumed;
    team->unreported_bytes = 0;
    mt_shm_hook(endpoint);
    /* Pairs with the acquire load in refresh(). */
    atomic_store_explicit(team->done, mt_shm_flag(team->consumed - 1, hash), memory_order_release);
    mt_shm_team_wake(endpoint, team);
    /* Calls that lend nothing get here now and then, so that memory that was freed is forgotten. */
    mt_shm_lend_forget(endpoint);
    for (uint32_t i = 0; i < team->count; i++)
        if (i != team->me)
            mt_shm_lend_look(endpoint, team->members[i].peer);
}
