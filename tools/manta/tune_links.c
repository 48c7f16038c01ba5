/* SPDX-License-Identifier: Apache-2.0 */
/* What a message costs: pairs of ranks of each level play ping-pong while the others wait. */
#include "tools/manta/tune.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "collectives/comm.h"
#include "core/clock.h"

enum {
    SHORT = 4,
    SHORT_ROUNDS = 400,
    LONG_ROUNDS = 9,
    WARM_ROUNDS = 3,
    BURST = 64, /* messages in a row */
    BURST_ROUNDS = 15,
    LESS_BYTES = TUNE_BYTES / 16,
    MORE_BYTES = TUNE_BYTES / 2, /* longer ones come from beyond the caches */
    SLOWEST_COPY = 4,            /* times what is assumed: what takes longer is no copy */
    NAP_NS = 200 * 1000,
};

/* What two ranks do in one round; 0 or a code. */
struct game {
    int (*play)(struct tune *tune, int peer, uint64_t bytes, int first);
    uint64_t bytes;
    int rounds;
};

static int compare(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static uint64_t median(uint64_t *times, int count)
{
    qsort(times, (size_t)count, sizeof(*times), compare);
    return times[count / 2];
}

static int ping_pong(struct tune *tune, int peer, uint64_t bytes, int first)
{
    int rc = first ? manta_send(tune->comm, tune->out, bytes, MANTA_UINT8, peer)
                   : manta_recv(tune->comm, tune->in, bytes, MANTA_UINT8, peer);
    if (rc)
        return rc;
    return first ? manta_recv(tune->comm, tune->in, bytes, MANTA_UINT8, peer)
                 : manta_send(tune->comm, tune->out, bytes, MANTA_UINT8, peer);
}

/* Both ways at once, as the steps of most algorithms do it. */
static int exchange(struct tune *tune, int peer, uint64_t bytes, int first)
{
    struct manta_request *request;
    (void)first;
    int rc = manta_recv_post(tune->comm, tune->in, bytes, MANTA_UINT8, peer, &request);
    if (rc)
        return rc;
    rc = manta_send(tune->comm, tune->out, bytes, MANTA_UINT8, peer);
    int received = manta_wait(request, UINT64_MAX);
    return rc ? rc : received;
}

static int burst(struct tune *tune, int peer, uint64_t bytes, int first)
{
    int rc = 0;
    for (int i = 0; rc == 0 && i < BURST - 1; i++)
        rc = first ? manta_send(tune->comm, tune->out, bytes, MANTA_UINT8, peer)
                   : manta_recv(tune->comm, tune->in, bytes, MANTA_UINT8, peer);
    return rc ? rc : ping_pong(tune, peer, bytes, first);
}

/* Is a rank the lowest of its group below a level? */
static int is_lowest(const struct mt_topology *topology, enum mt_level level, uint32_t rank)
{
    const uint32_t *group = topology->group[level - 1];
    for (uint32_t r = 0; r < rank; r++)
        if (group[r] == group[rank])
            return 0;
    return 1;
}

enum players { ALL, ONE_OF_EACH_GROUP, ONE_PAIR };

/* peers: [ranks], who plays with whom among ranks that meet at this level, NONE: rests. All that
 * can, or one rank of each group that is joined there (what several do with its way out, the
 * uplinks tell), or one pair. Returns how many pairs. */
static uint32_t find_pairs(const struct tune *tune, enum mt_level level, enum players players,
                           uint32_t *peers)
{
    const struct mt_topology *topology = tune->comm->topology;
    uint32_t count = 0, most = players == ONE_PAIR ? 1 : tune->ranks;
    memset(peers, 0xff, tune->ranks * sizeof(*peers)); /* MANTA_PLAN_NONE */
    for (uint32_t a = 0; a < tune->ranks; a++)
        for (uint32_t b = a + 1; count < most && b < tune->ranks; b++) {
            if (peers[a] != MANTA_PLAN_NONE || peers[b] != MANTA_PLAN_NONE ||
                mt_topology_meet(topology, a, b) != level ||
                (players == ONE_OF_EACH_GROUP &&
                 !(is_lowest(topology, level, a) && is_lowest(topology, level, b))))
                continue;
            peers[a] = b;
            peers[b] = a;
            count++;
        }
    return count;
}

/* The slowest pair's time, while those who rest leave their CPUs to the others. */
static int agree(struct tune *tune, uint64_t *ns)
{
    const struct timespec nap = {.tv_nsec = NAP_NS};
    struct manta_request *request;
    int rc = manta_allreduce_post(tune->comm, ns, ns, 1, MANTA_UINT64, MANTA_MAX, &request);
    if (rc)
        return rc;
    while ((rc = manta_test(request)) == MANTA_INPROGRESS)
        nanosleep(&nap, NULL);
    return rc;
}

/* The median round of the slowest pair, of all that play at the same time. */
static int time_pairs(struct tune *tune, const uint32_t *peers, const struct game *game,
                      uint64_t *ns_out)
{
    uint64_t times[SHORT_ROUNDS];
    uint32_t peer = peers[tune->rank];
    int rc = manta_barrier(tune->comm);
    *ns_out = 0;
    if (!rc && peer != MANTA_PLAN_NONE) {
        for (int i = -WARM_ROUNDS; rc == 0 && i < game->rounds; i++) {
            uint64_t begin = mt_clock_now_ns();
            rc = game->play(tune, (int)peer, game->bytes, tune->rank < peer);
            times[i < 0 ? 0 : i] = mt_clock_now_ns() - begin;
        }
        if (tune->rank < peer)
            *ns_out = median(times, game->rounds);
    }
    return rc ? rc : agree(tune, ns_out);
}

static uint64_t less(uint64_t x, uint64_t y)
{
    return x > y ? x - y : 0;
}

/* A burst's last message is answered, and as long under way as a ping-pong; each one before it has
 * kept the cores busy for its own time. */
static int tune_core(struct tune *tune, enum mt_level level, const uint32_t *peers)
{
    const struct game short_game = {ping_pong, SHORT, SHORT_ROUNDS};
    const struct game burst_game = {burst, SHORT, BURST_ROUNDS};
    uint64_t there_and_back, many;
    int rc = time_pairs(tune, peers, &short_game, &there_and_back);
    if (!rc)
        rc = time_pairs(tune, peers, &burst_game, &many);
    if (rc)
        return rc;
    uint64_t core = less(many, there_and_back) / (BURST - 1), one_way = there_and_back / 2;
    if (core > one_way / 2)
        core = one_way / 2;
    int first = level * MT_TUNING_LINK_VALUES;
    mt_tuning_set(tune->found, first + MT_TUNING_CORE, core);
    mt_tuning_set(tune->found, first + MT_TUNING_ALPHA, less(one_way, 2 * core));
    return 0;
}

/* Between nodes a message takes what it takes two who send to each other at one time, all pairs
 * together, as in most algorithms: alpha is what is left of that without the work of all who share
 * a CPU, and the turns that they wait for in the model. */
static int tune_alpha(struct tune *tune, enum mt_level level, const uint32_t *peers)
{
    const struct game game = {exchange, SHORT, SHORT_ROUNDS};
    const struct mt_cost_model *model = &tune->comm->cost;
    const struct mt_tuning *found = tune->found;
    int first = level * MT_TUNING_LINK_VALUES;
    uint64_t one_way, crowd = model->crowd;
    int rc = time_pairs(tune, peers, &game, &one_way);
    if (rc)
        return rc;
    uint64_t turn =
        mt_tuning_has(found, MT_TUNING_TURN) ? found->values[MT_TUNING_TURN] : model->turn_ns;
    uint64_t known = 2 * crowd * found->values[first + MT_TUNING_CORE] + (crowd - 1) * turn;
    mt_tuning_set(tune->found, first + MT_TUNING_ALPHA, less(one_way, known));
    return 0;
}

/* What each byte more costs in a game. */
static int time_byte(struct tune *tune, const uint32_t *peers,
                     int (*play)(struct tune *, int, uint64_t, int), uint64_t *ps_out)
{
    const struct game less_game = {play, LESS_BYTES, LONG_ROUNDS};
    const struct game more_game = {play, MORE_BYTES, LONG_ROUNDS};
    uint64_t some_ns, more_ns;
    int rc = time_pairs(tune, peers, &less_game, &some_ns);
    if (!rc)
        rc = time_pairs(tune, peers, &more_game, &more_ns);
    if (!rc)
        *ps_out = less(more_ns, some_ns) * 1000 / (MORE_BYTES - LESS_BYTES);
    return rc;
}

/* Between nodes a core copies each byte at each end: where two ways at once take longer than one,
 * each rank's core is what holds them up, with two copies of each byte. Where they do not, the wire
 * is, and what the copies cost stays as assumed. */
static int tune_rate(struct tune *tune, enum mt_level level, const uint32_t *peers)
{
    uint64_t both, one_way = 0, copy = tune->comm->topology->links[level].copy_ps_per_byte;
    int index = level * MT_TUNING_LINK_VALUES;
    int rc = time_byte(tune, peers, exchange, &both);
    if (rc)
        return rc;
    mt_tuning_set(tune->found, index + MT_TUNING_BETA, both);
    if (level <= MT_LEVEL_NODE)
        return 0;
    rc = time_byte(tune, peers, ping_pong, &one_way);
    one_way /= 2;
    if (both > one_way + one_way / 8 || copy > both / 2)
        copy = both / 2 < SLOWEST_COPY * copy ? both / 2 : SLOWEST_COPY * copy;
    mt_tuning_set(tune->found, index + MT_TUNING_BETA, one_way < both ? one_way : both);
    mt_tuning_set(tune->found, index + MT_TUNING_COPY, copy);
    return rc;
}

/* From the nearest level from `least` to `most` that was measured, the farther of two. */
static void fill(struct mt_tuning *found, int level, int least, int most)
{
    int from = -1, target = level * MT_TUNING_LINK_VALUES;
    for (int distance = 1; from < 0 && distance < MT_LEVELS; distance++)
        for (int sign = 1; from < 0 && sign >= -1; sign -= 2) {
            int near = level + sign * distance, index = near * MT_TUNING_LINK_VALUES;
            if (near >= least && near <= most && mt_tuning_has(found, index))
                from = index;
        }
    for (int i = 0; from >= 0 && i < MT_TUNING_UPLINK; i++)
        found->values[target + i] = found->values[from + i];
}

/* All play at the same time, as in a collective. But where ranks share CPUs, it is one pair: there
 * the model knows what the others cost. */
static int tune_level(struct tune *tune, enum mt_level level)
{
    int far = level > MT_LEVEL_NODE, shared = tune->comm->cost.crowd > 1;
    uint32_t *peers = calloc(tune->ranks, sizeof(*peers));
    int rc = peers ? 0 : MANTA_ENOMEM;
    if (!rc && find_pairs(tune, level, shared ? ONE_PAIR : ALL, peers))
        rc = tune_core(tune, level, peers);
    if (!rc && far && find_pairs(tune, level, ALL, peers))
        rc = tune_alpha(tune, level, peers);
    enum players players = shared ? ONE_PAIR : far ? ONE_OF_EACH_GROUP : ALL;
    if (!rc && find_pairs(tune, level, players, peers))
        rc = tune_rate(tune, level, peers);
    free(peers);
    return rc;
}

int tune_links(struct tune *tune)
{
    for (int level = 0; level < MT_LEVELS; level++) {
        int rc = tune_level(tune, (enum mt_level)level);
        if (rc)
            return rc;
    }
    uint64_t measured = tune->found->given, filled = 0;
    for (int level = 0; level < MT_LEVELS; level++) {
        int inside = level <= MT_LEVEL_NODE, index = level * MT_TUNING_LINK_VALUES;
        int least = inside ? 0 : MT_LEVEL_NODE + 1, most = inside ? MT_LEVEL_NODE : MT_LEVELS - 1;
        if (measured >> index & 1)
            continue;
        fill(tune->found, level, least, most);
        if (tune->found->values[index + MT_TUNING_BETA])
            filled |= (inside ? UINT64_C(7) : UINT64_C(15)) << index;
    }
    tune->found->given = measured | filled;
    return 0;
}

/* The rank of this index in a group of the level, or NONE. */
static uint32_t member(const struct mt_topology *topology, int level, uint32_t group,
                       uint32_t index)
{
    for (uint32_t r = 0; r < topology->ranks; r++)
        if (topology->group[level][r] == group && index-- == 0)
            return r;
    return UINT32_MAX;
}

static uint32_t members(const struct mt_topology *topology, int level, uint32_t group)
{
    uint32_t count = 0;
    for (uint32_t r = 0; r < topology->ranks; r++)
        count += topology->group[level][r] == group;
    return count;
}

/* The peer of this rank among `pairs` pairs of the ranks of groups 0 and 1, or NONE. */
static uint32_t peer_of(const struct tune *tune, int level, uint32_t pairs)
{
    const struct mt_topology *topology = tune->comm->topology;
    for (uint32_t i = 0; i < pairs; i++) {
        uint32_t a = member(topology, level, 0, i), b = member(topology, level, 1, i);
        if (tune->rank == a || tune->rank == b)
            return tune->rank == a ? b : a;
    }
    return UINT32_MAX;
}

/* All ranks of one group exchange with as many of another at the same time. Where it is one pair,
 * the ways of its ranks tell. */
static int tune_uplink(struct tune *tune, int level)
{
    const struct mt_topology *topology = tune->comm->topology;
    uint32_t pairs = members(topology, level, 0), others = members(topology, level, 1);
    pairs = pairs < others ? pairs : others;
    uint32_t peer = peer_of(tune, level, pairs);
    uint64_t times[LONG_ROUNDS];
    for (int i = 0; i < LONG_ROUNDS; i++) {
        int rc = manta_barrier(tune->comm);
        uint64_t begin = mt_clock_now_ns();
        if (!rc && peer != UINT32_MAX)
            rc = exchange(tune, (int)peer, TUNE_BYTES, 0);
        times[i] = peer == UINT32_MAX ? 0 : mt_clock_now_ns() - begin;
        if (!rc)
            rc = manta_allreduce(tune->comm, &times[i], &times[i], 1, MANTA_UINT64, MANTA_MAX);
        if (rc)
            return rc;
    }
    if (pairs > 1)
        mt_tuning_set(tune->found, level * MT_TUNING_LINK_VALUES + MT_TUNING_UPLINK,
                      median(times, LONG_ROUNDS) * 1000 / ((uint64_t)pairs * TUNE_BYTES));
    return 0;
}

int tune_uplinks(struct tune *tune)
{
    int rc = 0;
    for (int level = MT_LEVEL_NODE; rc == 0 && level < MT_LEVEL_CLUSTER; level++)
        if (tune->comm->topology->groups[level] > 1)
            rc = tune_uplink(tune, level);
    return rc;
}
