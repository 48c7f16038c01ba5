/* SPDX-License-Identifier: Apache-2.0 */
#include "core/wire_places.h"

#include <stdlib.h>
#include <string.h>

#include "core/nodes.h"

enum { SEAT_BYTES = 24 };

/* A kind of description: of a node's seats, or of its site. */
struct kind {
    void (*put)(struct mt_writer *writer, const struct mt_member *members, const uint32_t *ranks,
                uint32_t count);
    int (*compare)(const struct mt_member *members, const uint32_t *a, const uint32_t *b,
                   uint32_t count);
    void (*skip)(struct mt_reader *reader);
    /* What it reads must fit on a node of so many ranks. */
    void (*get)(struct mt_reader *reader, struct mt_member *members, const uint32_t *ranks,
                uint32_t count);
};

/* Nodes and what they look like. like[n]: the first node that looks like n. */
struct looks {
    const struct mt_member *members;
    const struct mt_nodes *nodes;
    const struct kind *kind;
    uint32_t *sorted, *like, *number;
};

static void put_seat(struct mt_writer *writer, const struct mt_place *place)
{
    mt_put_u32(writer, place->package);
    mt_put_u32(writer, place->numa);
    mt_put_u32(writer, place->l3);
    mt_put_u32(writer, place->core);
    mt_put_u64(writer, place->nic_mbits);
}

static void get_seat(struct mt_reader *reader, struct mt_place *place)
{
    place->package = mt_get_u32(reader);
    place->numa = mt_get_u32(reader);
    place->l3 = mt_get_u32(reader);
    place->core = mt_get_u32(reader);
    place->nic_mbits = mt_get_u64(reader);
}

static void put_seats(struct mt_writer *writer, const struct mt_member *members,
                      const uint32_t *ranks, uint32_t count)
{
    mt_put_u32(writer, count);
    for (uint32_t i = 0; i < count; i++)
        put_seat(writer, &members[ranks[i]].place);
}

static int compare_numbers(uint64_t a, uint64_t b)
{
    return a < b ? -1 : a > b;
}

static int compare_seat(const struct mt_place *a, const struct mt_place *b)
{
    const uint64_t x[] = {a->package, a->numa, a->l3, a->core, a->nic_mbits};
    const uint64_t y[] = {b->package, b->numa, b->l3, b->core, b->nic_mbits};
    int order = 0;
    for (int i = 0; i < 5 && order == 0; i++)
        order = compare_numbers(x[i], y[i]);
    return order;
}

static int compare_seats(const struct mt_member *members, const uint32_t *a, const uint32_t *b,
                         uint32_t count)
{
    int order = 0;
    for (uint32_t i = 0; i < count && order == 0; i++)
        order = compare_seat(&members[a[i]].place, &members[b[i]].place);
    return order;
}

static void skip_seats(struct mt_reader *reader)
{
    uint32_t seats = mt_get_u32(reader);
    if (seats == 0 || seats > (reader->count - reader->used) / SEAT_BYTES)
        reader->failed = 1;
    else
        reader->used += seats * (size_t)SEAT_BYTES;
}

static void get_seats(struct mt_reader *reader, struct mt_member *members, const uint32_t *ranks,
                      uint32_t count)
{
    if (mt_get_u32(reader) != count)
        reader->failed = 1;
    for (uint32_t i = 0; i < count && !reader->failed; i++)
        get_seat(reader, &members[ranks[i]].place);
}

static void put_site(struct mt_writer *writer, const struct mt_member *members,
                     const uint32_t *ranks, uint32_t count)
{
    (void)count;
    mt_put_u64(writer, members[*ranks].place.zone);
    mt_put_u64(writer, members[*ranks].place.rack);
}

static int compare_site(const struct mt_member *members, const uint32_t *a, const uint32_t *b,
                        uint32_t count)
{
    const struct mt_place *x = &members[*a].place, *y = &members[*b].place;
    int order = compare_numbers(x->zone, y->zone);
    (void)count;
    return order ? order : compare_numbers(x->rack, y->rack);
}

static void skip_site(struct mt_reader *reader)
{
    mt_get_u64(reader);
    mt_get_u64(reader);
}

static void get_site(struct mt_reader *reader, struct mt_member *members, const uint32_t *ranks,
                     uint32_t count)
{
    uint64_t zone = mt_get_u64(reader), rack = mt_get_u64(reader);
    for (uint32_t i = 0; i < count; i++) {
        members[ranks[i]].place.zone = zone;
        members[ranks[i]].place.rack = rack;
    }
}

static const struct kind shapes = {put_seats, compare_seats, skip_seats, get_seats};
static const struct kind sites = {put_site, compare_site, skip_site, get_site};

static uint32_t size_of(const struct mt_nodes *nodes, uint32_t node)
{
    return nodes->first[node + 1] - nodes->first[node];
}

static int compare_nodes(const struct looks *looks, uint32_t a, uint32_t b)
{
    const struct mt_nodes *nodes = looks->nodes;
    int order = compare_numbers(size_of(nodes, a), size_of(nodes, b));
    return order ? order
                 : looks->kind->compare(looks->members, nodes->ranks + nodes->first[a],
                                        nodes->ranks + nodes->first[b], size_of(nodes, a));
}

/* For qsort_r. */
static int by_looks(const void *a, const void *b, void *arg)
{
    const uint32_t *x = a, *y = b;
    int order = compare_nodes(arg, *x, *y);
    return order ? order : compare_numbers(*x, *y);
}

static void find_likes(struct looks *looks)
{
    uint32_t count = looks->nodes->count;
    for (uint32_t n = 0; n < count; n++)
        looks->sorted[n] = n;
    qsort_r(looks->sorted, count, sizeof *looks->sorted, by_looks, looks);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t node = looks->sorted[i];
        int is_same = i > 0 && compare_nodes(looks, node, looks->sorted[i - 1]) == 0;
        looks->like[node] = is_same ? looks->like[looks->sorted[i - 1]] : node;
    }
}

/* How many, each of them, how many runs, and the runs: number and length. */
static void put_looks(struct mt_writer *writer, struct looks *looks)
{
    const struct mt_nodes *nodes = looks->nodes;
    uint32_t count = 0, run = 0;
    for (uint32_t n = 0; n < nodes->count; n++)
        if (looks->like[n] == n)
            looks->number[n] = count++;
    mt_put_u32(writer, count);
    for (uint32_t n = 0; n < nodes->count; n++)
        if (looks->like[n] == n)
            looks->kind->put(writer, looks->members, nodes->ranks + nodes->first[n],
                             size_of(nodes, n));
    for (uint32_t n = 0; n < nodes->count; n++) {
        run++;
        if (n + 1 < nodes->count && looks->like[n + 1] == looks->like[n])
            continue;
        mt_put_u32(writer, looks->number[looks->like[n]]);
        mt_put_u32(writer, run);
        run = 0;
    }
}

void mt_places_put(struct mt_writer *writer, const struct mt_member *members, uint32_t ranks)
{
    struct mt_nodes nodes;
    if (mt_nodes_find(members, ranks, &nodes)) {
        writer->failed = 1;
        return;
    }
    uint32_t *tables = calloc(3 * (size_t)nodes.count, sizeof *tables);
    const struct kind *const kinds[] = {&shapes, &sites};
    for (int k = 0; tables && k < 2; k++) {
        struct looks looks = {.members = members,
                              .nodes = &nodes,
                              .kind = kinds[k],
                              .sorted = tables,
                              .like = tables + nodes.count,
                              .number = tables + 2 * (size_t)nodes.count};
        find_likes(&looks);
        put_looks(writer, &looks);
    }
    writer->failed |= !tables;
    free(tables);
    mt_nodes_free(&nodes);
}

/* The next run: its number, at most one above those before, and its length. */
static void get_run(struct mt_reader *reader, uint32_t count, uint32_t *next, uint32_t rest,
                    uint32_t *number_out, uint32_t *length_out)
{
    *number_out = mt_get_u32(reader);
    *length_out = mt_get_u32(reader);
    if (*number_out >= count || *number_out > *next || *length_out == 0 || *length_out > rest)
        reader->failed = 1;
    *next += *number_out == *next;
}

/* Descriptions are read again for each node that looks so. at: [nodes] where each begins. */
static void get_looks(struct mt_reader *reader, const struct kind *kind, struct mt_member *members,
                      const struct mt_nodes *nodes, size_t *at)
{
    uint32_t count = mt_get_u32(reader), next = 0, number, length, last = UINT32_MAX;
    if (count == 0 || count > nodes->count)
        reader->failed = 1;
    for (uint32_t i = 0; i < count && !reader->failed; i++) {
        at[i] = reader->used;
        kind->skip(reader);
    }
    for (uint32_t n = 0; n < nodes->count && !reader->failed; n += length) {
        get_run(reader, count, &next, nodes->count - n, &number, &length);
        if (number == last)
            reader->failed = 1;
        last = number;
        for (uint32_t i = n; i < n + length && !reader->failed; i++) {
            struct mt_reader look = {reader->bytes, reader->used, at[number], 0};
            kind->get(&look, members, nodes->ranks + nodes->first[i], size_of(nodes, i));
            reader->failed |= look.failed;
        }
    }
    if (next != count)
        reader->failed = 1; /* one that no node has */
}

int mt_places_get(struct mt_reader *reader, struct mt_member *members, uint32_t ranks)
{
    struct mt_nodes nodes;
    if (mt_nodes_find(members, ranks, &nodes))
        return MANTA_ENOMEM;
    size_t *at = calloc(nodes.count, sizeof *at);
    if (at) {
        get_looks(reader, &shapes, members, &nodes, at);
        get_looks(reader, &sites, members, &nodes, at);
    }
    mt_nodes_free(&nodes);
    free(at);
    return at ? 0 : MANTA_ENOMEM;
}

int mt_places_settle(struct mt_member *members, uint32_t ranks)
{
    struct mt_nodes nodes;
    if (mt_nodes_find(members, ranks, &nodes))
        return MANTA_ENOMEM;
    for (uint32_t n = 0; n < nodes.count; n++) {
        const struct mt_place *place = &members[nodes.ranks[nodes.first[n]]].place;
        for (uint32_t i = nodes.first[n]; i < nodes.first[n + 1]; i++) {
            members[nodes.ranks[i]].place.zone = place->zone;
            members[nodes.ranks[i]].place.rack = place->rack;
        }
    }
    mt_nodes_free(&nodes);
    return 0;
}

void mt_place_put(struct mt_writer *writer, const struct mt_place *place)
{
    mt_put_u64(writer, place->zone);
    mt_put_u64(writer, place->rack);
    put_seat(writer, place);
}

void mt_place_get(struct mt_reader *reader, struct mt_place *place_out)
{
    place_out->zone = mt_get_u64(reader);
    place_out->rack = mt_get_u64(reader);
    get_seat(reader, place_out);
}
