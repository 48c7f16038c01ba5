/* SPDX-License-Identifier: Apache-2.0 */
#include "topology/cluster.h"

#include <stdlib.h>
#include <string.h>

#include "core/wire.h"

void mt_cluster_init(struct mt_cluster *cluster_out)
{
    memset(cluster_out, 0, sizeof *cluster_out);
    cluster_out->root.level = MT_LEVEL_CLUSTER;
    cluster_out->root.count = 1;
    cluster_out->seed = 1;
    for (int level = 0; level < MT_LEVELS; level++)
        cluster_out->links[level] = *mt_topology_assumed((enum mt_level)level);
}

void mt_box_close(struct mt_box *box)
{
    for (uint32_t i = 0; i < box->child_count; i++)
        mt_box_close(&box->children[i]);
    free(box->children);
    free(box->devices);
    box->children = NULL;
    box->devices = NULL;
    box->child_count = 0;
}

void mt_cluster_close(struct mt_cluster *cluster)
{
    mt_box_close(&cluster->root);
}

struct mt_box *mt_box_add(struct mt_box *box, enum mt_level level)
{
    struct mt_box *more = realloc(box->children, (box->child_count + (size_t)1) * sizeof *more);
    if (!more)
        return NULL;
    box->children = more;
    struct mt_box *child = &more[box->child_count++];
    memset(child, 0, sizeof *child);
    child->level = level;
    child->count = 1;
    return child;
}

static int is_alike(const struct mt_box *a, const struct mt_box *b)
{
    int alike = a->level == b->level && a->cpus == b->cpus && a->usable == b->usable &&
                a->bytes == b->bytes && a->nics == b->nics && a->gpus == b->gpus && !a->devices &&
                !b->devices && !a->name[0] && !b->name[0] && a->child_count == b->child_count;
    for (uint32_t i = 0; i < a->child_count && alike; i++)
        alike = a->children[i].count == b->children[i].count &&
                is_alike(&a->children[i], &b->children[i]);
    return alike;
}

void mt_box_fold(struct mt_box *box)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < box->child_count; i++) {
        struct mt_box *child = &box->children[i];
        mt_box_fold(child);
        if (kept > 0 && is_alike(&box->children[kept - 1], child)) {
            box->children[kept - 1].count += child->count;
            mt_box_close(child);
        } else {
            box->children[kept++] = *child;
        }
    }
    box->child_count = kept;
}

uint64_t mt_box_total(const struct mt_box *box, enum mt_level level)
{
    uint64_t total = box->level == level;
    for (uint32_t i = 0; i < box->child_count; i++)
        if (__builtin_add_overflow(total, mt_box_total(&box->children[i], level), &total))
            return UINT64_MAX;
    return __builtin_mul_overflow(total, box->count, &total) ? UINT64_MAX : total;
}

/* A node: which zone and rack it is in, and what it is like. */
struct stand {
    uint32_t zone, rack, kind;
};

/* Nodes that are one box have one kind: where their cores are. What holds nothing counts as one
 * core, but if nothing is said of cores in all of the node, its ranks share none. */
struct kind {
    uint32_t ranks, cores;
    int has_cores;
    uint32_t *package, *numa, *l3; /* [cores] */
};

struct layout {
    struct stand *stands;
    struct kind *kinds;
    uint32_t stand_count, kind_count, zones, racks;
    uint32_t ranks_per_node;
};

struct numbers {
    uint32_t package, numa, l3;
};

static uint64_t cores_in(const struct mt_box *box)
{
    uint64_t total = box->level == MT_LEVEL_CORE || box->child_count == 0;
    for (uint32_t i = 0; i < box->child_count && total <= MT_NODE_CORES_MAX; i++)
        total += cores_in(&box->children[i]);
    return total > MT_NODE_CORES_MAX ? total : total * box->count;
}

static void number_next(enum mt_level level, struct numbers *at)
{
    at->package += level == MT_LEVEL_PACKAGE;
    at->numa += level == MT_LEVEL_NUMA;
    at->l3 += level == MT_LEVEL_L3;
}

/* A new number before and behind each box: what stands beside it is not in it. */
static void number_cores(const struct mt_box *box, struct numbers *at, struct kind *kind)
{
    for (uint32_t i = 0; i < box->count; i++) {
        number_next(box->level, at);
        if (box->level == MT_LEVEL_CORE || box->child_count == 0) {
            kind->has_cores |= box->level == MT_LEVEL_CORE;
            kind->package[kind->cores] = at->package;
            kind->numa[kind->cores] = at->numa;
            kind->l3[kind->cores++] = at->l3;
        }
        for (uint32_t c = 0; c < box->child_count; c++)
            number_cores(&box->children[c], at, kind);
        number_next(box->level, at);
    }
}

static int add_kind(struct layout *layout, const struct mt_box *box, struct mt_error *error)
{
    struct mt_box one = *box;
    one.count = 1;
    uint64_t cores = cores_in(&one);
    if (cores > MT_NODE_CORES_MAX)
        return mt_error_set(error, MANTA_EINVAL, "a node has more than %d cores",
                            MT_NODE_CORES_MAX);
    struct kind *kind = &layout->kinds[layout->kind_count++];
    struct numbers at = {0, 0, 0};
    kind->package = calloc(3 * cores, sizeof *kind->package);
    if (!kind->package)
        return mt_error_set(error, MANTA_ENOMEM, "no memory for a node of the cluster");
    kind->numa = kind->package + cores;
    kind->l3 = kind->numa + cores;
    number_cores(&one, &at, kind);
    kind->ranks = box->gpus ? box->gpus : kind->cores;
    if (layout->ranks_per_node)
        kind->ranks = layout->ranks_per_node;
    return 0;
}

/* Every node, in order. What is below it is the same for all nodes of one box. */
static int add_stands(struct layout *layout, const struct mt_box *box, struct mt_error *error)
{
    int rc = 0;
    if (mt_box_total(box, MT_LEVEL_NODE) == 0)
        return 0;
    if (box->level == MT_LEVEL_NODE) {
        rc = add_kind(layout, box, error);
        for (uint32_t i = 0; i < box->count && rc == 0; i++)
            layout->stands[layout->stand_count++] =
                (struct stand){layout->zones, layout->racks, layout->kind_count - 1};
        return rc;
    }
    for (uint32_t i = 0; i < box->count && rc == 0; i++) {
        layout->zones += box->level == MT_LEVEL_ZONE;
        layout->racks += box->level >= MT_LEVEL_RACK;
        for (uint32_t c = 0; c < box->child_count && rc == 0; c++)
            rc = add_stands(layout, &box->children[c], error);
        layout->zones += box->level == MT_LEVEL_ZONE;
        layout->racks += box->level >= MT_LEVEL_RACK;
    }
    return rc;
}

static void close_layout(struct layout *layout)
{
    for (uint32_t k = 0; layout->kinds && k < layout->kind_count; k++)
        free(layout->kinds[k].package);
    free(layout->kinds);
    free(layout->stands);
}

static int make_layout(const struct mt_cluster *cluster, struct layout *layout,
                       struct mt_error *error)
{
    uint64_t nodes = mt_box_total(&cluster->root, MT_LEVEL_NODE);
    memset(layout, 0, sizeof *layout);
    layout->ranks_per_node = cluster->ranks_per_node;
    if (nodes == 0 || nodes > MT_RANKS_MAX)
        return mt_error_set(error, MANTA_EINVAL, "it has %llu nodes; there must be 1 to %d",
                            (unsigned long long)nodes, MT_RANKS_MAX);
    layout->stands = calloc(nodes, sizeof *layout->stands);
    layout->kinds = calloc(nodes, sizeof *layout->kinds);
    if (!layout->stands || !layout->kinds)
        return mt_error_set(error, MANTA_ENOMEM, "no memory for a cluster of %llu nodes",
                            (unsigned long long)nodes);
    return add_stands(layout, &cluster->root, error);
}

/* The seats of ranks: which node, and which of its ranks. */
struct seat {
    uint32_t stand, number;
};

static uint32_t ranks_on(const struct layout *layout, uint32_t stand)
{
    return layout->kinds[layout->stands[stand].kind].ranks;
}

static void seat_packed(const struct layout *layout, struct seat *seats)
{
    for (uint32_t n = 0; n < layout->stand_count; n++)
        for (uint32_t s = 0; s < ranks_on(layout, n); s++)
            *seats++ = (struct seat){n, s};
}

static void seat_in_turn(const struct layout *layout, uint64_t count, struct seat *seats)
{
    const struct seat *end = seats + count;
    for (uint32_t s = 0; seats < end; s++)
        for (uint32_t n = 0; n < layout->stand_count; n++)
            if (s < ranks_on(layout, n))
                *seats++ = (struct seat){n, s};
}

/* splitmix64: Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014. */
static uint64_t next_random(uint64_t *state)
{
    uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

static void shuffle(struct seat *seats, uint64_t count, uint64_t seed)
{
    for (uint64_t i = count; i > 1; i--) {
        uint64_t other = next_random(&seed) % i;
        struct seat kept = seats[i - 1];
        seats[i - 1] = seats[other];
        seats[other] = kept;
    }
}

/* 0 if ranks do not fit: the error says why. */
static uint64_t count_seats(const struct mt_cluster *cluster, const struct layout *layout,
                            struct mt_error *error)
{
    uint64_t count = 0;
    for (uint32_t n = 0; n < layout->stand_count; n++)
        count += ranks_on(layout, n);
    if (count <= MT_RANKS_MAX && cluster->size <= count)
        return count;
    if (count > MT_RANKS_MAX)
        mt_error_set(error, MANTA_EINVAL,
                     "it has room for %llu ranks, and %d is the most; say ranks:COUNT for fewer on "
                     "each node",
                     (unsigned long long)count, MT_RANKS_MAX);
    else
        mt_error_set(error, MANTA_EINVAL, "%u ranks do not fit: it has room for %llu",
                     cluster->size, (unsigned long long)count);
    return 0;
}

static void fill_keys(const struct layout *layout, const struct seat *seats, uint32_t ranks,
                      uint64_t *keys)
{
    for (uint32_t r = 0; r < ranks; r++) {
        const struct stand *stand = &layout->stands[seats[r].stand];
        const struct kind *kind = &layout->kinds[stand->kind];
        uint64_t core = (uint64_t)seats[r].number * kind->cores / kind->ranks;
        const uint64_t row[MT_LEVELS] = {[MT_LEVEL_ZONE] = stand->zone,
                                         [MT_LEVEL_RACK] = stand->rack,
                                         [MT_LEVEL_NODE] = seats[r].stand,
                                         [MT_LEVEL_PACKAGE] = kind->package[core],
                                         [MT_LEVEL_NUMA] = kind->numa[core],
                                         [MT_LEVEL_L3] = kind->l3[core],
                                         [MT_LEVEL_CORE] =
                                             kind->has_cores ? core : seats[r].number};
        for (int level = 0; level < MT_LEVELS; level++)
            keys[(size_t)level * ranks + r] = row[level];
    }
}

static int place(const struct mt_cluster *cluster, const struct layout *layout,
                 struct mt_topology **topology_out, struct mt_error *error)
{
    uint64_t count = count_seats(cluster, layout, error);
    const uint64_t *columns[MT_LEVELS];
    if (count == 0)
        return MANTA_EINVAL;
    uint32_t ranks = cluster->size ? cluster->size : (uint32_t)count;
    struct seat *seats = calloc(count, sizeof *seats);
    uint64_t *keys = calloc((size_t)ranks * MT_LEVELS, sizeof *keys);
    int rc = MANTA_ENOMEM;
    if (seats && keys) {
        if (cluster->placement == MT_PLACEMENT_ROUND_ROBIN)
            seat_in_turn(layout, count, seats);
        else
            seat_packed(layout, seats);
        if (cluster->placement == MT_PLACEMENT_RANDOM)
            shuffle(seats, count, cluster->seed);
        fill_keys(layout, seats, ranks, keys);
        for (int level = 0; level < MT_LEVELS; level++)
            columns[level] = keys + (size_t)level * ranks;
        rc = mt_topology_of_keys(ranks, columns, topology_out);
    }
    free(keys);
    free(seats);
    return rc ? mt_error_set(error, rc, "no memory for a topology of %u ranks", ranks) : 0;
}

int mt_cluster_topology(const struct mt_cluster *cluster, struct mt_topology **topology_out,
                        struct mt_error *error)
{
    struct layout layout;
    *topology_out = NULL;
    int rc = make_layout(cluster, &layout, error);
    if (rc == 0)
        rc = place(cluster, &layout, topology_out, error);
    close_layout(&layout);
    if (rc)
        return rc;
    memcpy((*topology_out)->links, cluster->links, sizeof cluster->links);
    memcpy((*topology_out)->uplink_ps_per_byte, cluster->uplink_ps_per_byte,
           sizeof cluster->uplink_ps_per_byte);
    (*topology_out)->is_rdma = cluster->is_rdma;
    return 0;
}
