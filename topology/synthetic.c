/* SPDX-License-Identifier: Apache-2.0 */
#include "topology/synthetic.h"

#include <stdlib.h>
#include <string.h>

#include "core/config.h"
#include "core/wire.h"

#define MILLION UINT64_C(1000000)
#define LATENCY_NS_MAX (1000 * MILLION * 1000)

/* What stands behind an @; has_: it was given. */
struct link_words {
    int has_rate, has_alpha, has_core;
    uint64_t rate_ps, alpha_ns, core_ns;
    uint64_t oversub_millionths; /* 0: not given */
};

struct parser {
    struct mt_cluster *cluster;
    struct mt_error *error;
    const char *word; /* the one at hand */
    size_t word_length;
    int word_number;
    uint32_t counts[MT_LEVELS]; /* 0: not named */
    struct link_words links[MT_LEVELS];
    int nearest; /* named last */
    int has_ranks, has_size, has_place;
    uint32_t nics, gpus; /* 0: not named */
    uint64_t nic_ps;     /* of each card; 0: not said there */
};

/* A part of a word. */
struct piece {
    const char *text;
    size_t length;
};

static int is_word(struct piece piece, const char *word)
{
    return strlen(word) == piece.length && memcmp(piece.text, word, piece.length) == 0;
}

static int refuse(const struct parser *parser, struct piece piece, const char *why)
{
    int length = parser->word_length < 60 ? (int)parser->word_length : 60;
    int part = piece.length < 40 ? (int)piece.length : 40;
    if (piece.length == parser->word_length)
        return mt_error_set(parser->error, MANTA_EINVAL, "word %d, \"%.*s\": %s",
                            parser->word_number, length, parser->word, why);
    return mt_error_set(parser->error, MANTA_EINVAL, "word %d, \"%.*s\": \"%.*s\" %s",
                        parser->word_number, length, parser->word, part, piece.text, why);
}

/* "12.5" in millionths; what follows goes to *rest_out. 0 or MANTA_EINVAL. */
static int parse_decimal(struct piece piece, uint64_t *millionths_out, struct piece *rest_out)
{
    uint64_t value = 0, place = MILLION;
    size_t at = 0;
    for (; at < piece.length && piece.text[at] >= '0' && piece.text[at] <= '9'; at++) {
        value = value * 10 + (uint64_t)(piece.text[at] - '0');
        if (value > 1000 * MILLION)
            return MANTA_EINVAL;
    }
    if (at == 0)
        return MANTA_EINVAL;
    value *= MILLION;
    if (at < piece.length && piece.text[at] == '.') {
        size_t first = ++at;
        for (; at < piece.length && piece.text[at] >= '0' && piece.text[at] <= '9'; at++)
            value += (uint64_t)(piece.text[at] - '0') * (place /= 10);
        if (at == first)
            return MANTA_EINVAL;
    }
    *millionths_out = value;
    *rest_out = (struct piece){piece.text + at, piece.length - at};
    return 0;
}

/* 1 .. most, decimal digits only. */
static int parse_count(struct piece piece, uint32_t most, uint32_t *count_out)
{
    uint64_t value = 0;
    for (size_t i = 0; i < piece.length; i++) {
        if (piece.text[i] < '0' || piece.text[i] > '9')
            return MANTA_EINVAL;
        value = value * 10 + (uint64_t)(piece.text[i] - '0');
        if (value > most)
            return MANTA_EINVAL;
    }
    *count_out = (uint32_t)value;
    return value > 0 ? 0 : MANTA_EINVAL;
}

static int parse_rate(struct piece piece, uint64_t *ps_per_byte_out)
{
    static const struct {
        const char *name;
        uint64_t bytes_per_s;
    } units[] = {{"Mbit/s", MILLION / 8},
                 {"Gbit/s", 125 * MILLION},
                 {"Tbit/s", 125000 * MILLION},
                 {"MB/s", MILLION},
                 {"GB/s", 1000 * MILLION}};
    uint64_t millionths;
    struct piece unit;
    if (parse_decimal(piece, &millionths, &unit) || millionths == 0)
        return MANTA_EINVAL;
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
        if (!is_word(unit, units[i].name))
            continue;
        /* Picoseconds in a second, and millionths. */
        unsigned __int128 numerator = (unsigned __int128)MILLION * MILLION * MILLION;
        unsigned __int128 rate = (unsigned __int128)millionths * units[i].bytes_per_s;
        uint64_t ps = (uint64_t)((numerator + rate / 2) / rate);
        *ps_per_byte_out = ps > 0 ? ps : 1;
        return 0;
    }
    return MANTA_EINVAL;
}

/* A time with its unit. */
static int parse_time(struct piece piece, uint64_t *ns_out)
{
    char text[32];
    if (piece.length < 2 || piece.length >= sizeof text || piece.text[piece.length - 1] != 's')
        return MANTA_EINVAL;
    memcpy(text, piece.text, piece.length);
    text[piece.length] = 0;
    return mt_parse_ns(text, ns_out) || *ns_out > LATENCY_NS_MAX ? MANTA_EINVAL : 0;
}

/* The value behind "key="; 0 if the piece is not that. */
static int value_of(struct piece piece, const char *key, struct piece *value_out)
{
    size_t length = strlen(key);
    if (piece.length < length || memcmp(piece.text, key, length) != 0)
        return 0;
    *value_out = (struct piece){piece.text + length, piece.length - length};
    return 1;
}

static int parse_oversub(const struct parser *parser, int level, struct piece item,
                         struct piece value, struct link_words *link)
{
    struct piece rest;
    if (level < MT_LEVEL_NODE)
        return refuse(parser, item, "goes with node, rack and zone only");
    if (link->oversub_millionths)
        return refuse(parser, item, "is said twice");
    if (parse_decimal(value, &link->oversub_millionths, &rest) || rest.length > 0 ||
        link->oversub_millionths == 0 || link->oversub_millionths > MILLION * MILLION)
        return refuse(parser, item, "must be oversub=NUMBER, more than 0, e.g. oversub=2");
    return 0;
}

static int parse_item(const struct parser *parser, int level, struct piece item,
                      struct link_words *link)
{
    struct piece value;
    uint64_t number;
    int *has = NULL;
    uint64_t *target = NULL;
    if (value_of(item, "oversub=", &value))
        return parse_oversub(parser, level, item, value, link);
    if (value_of(item, "core=", &value)) {
        if (parse_time(value, &number))
            return refuse(parser, item, "must be core=TIME, e.g. core=300ns");
        has = &link->has_core;
        target = &link->core_ns;
    } else if (parse_rate(item, &number) == 0) {
        has = &link->has_rate;
        target = &link->rate_ps;
    } else if (parse_time(item, &number) == 0) {
        has = &link->has_alpha;
        target = &link->alpha_ns;
    } else {
        return refuse(parser, item,
                      "is no rate (100Gbit/s, 12.5GB/s), time (5us, 300ns), core=TIME or "
                      "oversub=NUMBER");
    }
    if (*has)
        return refuse(parser, item, "is the second of its kind");
    *has = 1;
    *target = number;
    return 0;
}

static int parse_link(const struct parser *parser, int level, struct piece text,
                      struct link_words *link)
{
    int rc = 0;
    for (;;) {
        const char *comma = memchr(text.text, ',', text.length);
        size_t length = comma ? (size_t)(comma - text.text) : text.length;
        rc = parse_item(parser, level, (struct piece){text.text, length}, link);
        if (rc || !comma)
            return rc;
        text = (struct piece){comma + 1, text.length - length - 1};
    }
}

static int level_of(struct piece name)
{
    for (int level = 0; level < MT_LEVEL_CLUSTER; level++)
        if (is_word(name, mt_level_name((enum mt_level)level)))
            return level;
    return -1;
}

static int parse_level(struct parser *parser, int level, struct piece name, uint32_t count,
                       struct piece link)
{
    if (parser->counts[level])
        return refuse(parser, name, "is named twice");
    if (level > parser->nearest)
        return refuse(parser, name,
                      "comes too late: levels are named from far to near (zone, rack, node, "
                      "package, numa, l3, core)");
    parser->counts[level] = count;
    parser->nearest = level;
    return link.text ? parse_link(parser, level, link, &parser->links[level]) : 0;
}

static int parse_nics(struct parser *parser, uint32_t count, struct piece link)
{
    parser->nics = count;
    if (link.text && parse_rate(link, &parser->nic_ps))
        return refuse(parser, link, "is no rate, e.g. 200Gbit/s or 25GB/s");
    return 0;
}

/* NAME:COUNT[@LINK] */
static int parse_counted(struct parser *parser, struct piece word, const char *colon)
{
    struct piece name = {word.text, (size_t)(colon - word.text)}, link = {NULL, 0};
    struct piece digits = {colon + 1, word.length - name.length - 1};
    const char *at = memchr(digits.text, '@', digits.length);
    int level = level_of(name);
    uint32_t count;
    if (at) {
        link = (struct piece){at + 1, digits.length - (size_t)(at + 1 - digits.text)};
        digits.length = (size_t)(at - digits.text);
    }
    int is_nic = is_word(name, "nic"), is_gpu = is_word(name, "gpu");
    int is_ranks = is_word(name, "ranks"), is_size = is_word(name, "size");
    if (level < 0 && !is_nic && !is_gpu && !is_ranks && !is_size)
        return refuse(parser, name,
                      "is none of zone, rack, node, package, numa, l3, core, nic, gpu, ranks and "
                      "size");
    if (parse_count(digits, is_nic || is_gpu ? MT_NODE_CORES_MAX : MT_BOX_COUNT_MAX, &count))
        return refuse(parser, digits, "must be a number, 1 or more and not too large");
    if (level >= 0)
        return parse_level(parser, level, name, count, link);
    if ((is_nic && parser->nics) || (is_gpu && parser->gpus) || (is_ranks && parser->has_ranks) ||
        (is_size && parser->has_size))
        return refuse(parser, name, "is named twice");
    if (is_nic)
        return parse_nics(parser, count, link);
    if (link.text)
        return refuse(parser, link, "does not go with it: only levels and nic have a link");
    parser->has_ranks |= is_ranks;
    parser->has_size |= is_size;
    *(is_gpu     ? &parser->gpus
      : is_ranks ? &parser->cluster->ranks_per_node
                 : &parser->cluster->size) = count;
    return 0;
}

static int parse_place(struct parser *parser, struct piece word, struct piece order)
{
    struct piece seed;
    if (parser->has_place++)
        return refuse(parser, word, "place= is said twice");
    if (is_word(order, "packed"))
        return 0;
    parser->cluster->placement = MT_PLACEMENT_ROUND_ROBIN;
    if (is_word(order, "roundrobin"))
        return 0;
    parser->cluster->placement = MT_PLACEMENT_RANDOM;
    if (is_word(order, "random"))
        return 0;
    uint32_t number;
    if (!value_of(order, "random:", &seed) || parse_count(seed, UINT32_MAX - 1, &number))
        return refuse(parser, order, "is none of packed, roundrobin, random and random:SEED");
    parser->cluster->seed = number;
    return 0;
}

static int parse_net(struct parser *parser, struct piece word, struct piece net)
{
    if (parser->cluster->is_rdma)
        return refuse(parser, word, "net= is said twice");
    if (!is_word(net, "rdma"))
        return refuse(parser, net, "is not rdma");
    parser->cluster->is_rdma = 1;
    return 0;
}

static int parse_word(struct parser *parser)
{
    struct piece word = {parser->word, parser->word_length}, order;
    const char *colon = memchr(word.text, ':', word.length);
    if (value_of(word, "place=", &order))
        return parse_place(parser, word, order);
    if (value_of(word, "net=", &order))
        return parse_net(parser, word, order);
    if (!colon)
        return refuse(parser, word, "it must be NAME:COUNT, e.g. node:16, place=ORDER or net=rdma");
    return parse_counted(parser, word, colon);
}

static int parse_words(struct parser *parser, const char *text)
{
    int rc = 0;
    for (text += strspn(text, " "); *text && rc == 0; text += strspn(text, " ")) {
        parser->word = text;
        parser->word_length = strcspn(text, " ");
        parser->word_number++;
        text += parser->word_length;
        rc = parse_word(parser);
    }
    if (rc == 0 && parser->word_number == 0)
        rc =
            mt_error_set(parser->error, MANTA_EINVAL, "there is no word in it; e.g. node:4 core:8");
    return rc;
}

/* The boxes that are named, and the node in any case. */
static int build(struct parser *parser)
{
    struct mt_box *at = &parser->cluster->root;
    for (int level = MT_LEVEL_ZONE; level >= 0; level--) {
        uint32_t count = parser->counts[level];
        if (count == 0 && level != MT_LEVEL_NODE)
            continue;
        at = mt_box_add(at, (enum mt_level)level);
        if (!at)
            return mt_error_set(parser->error, MANTA_ENOMEM, "no memory for a cluster");
        at->count = count ? count : 1;
        at->nics = level == MT_LEVEL_NODE ? parser->nics : 0;
        at->gpus = level == MT_LEVEL_NODE ? parser->gpus : 0;
    }
    return 0;
}

/* Crossing from a group of the level to a sibling is a message that meets one level up. */
static void set_links(struct parser *parser)
{
    struct mt_topology_link link = *mt_topology_assumed(MT_LEVEL_CORE);
    for (int level = MT_LEVEL_CORE; level < MT_LEVEL_CLUSTER; level++) {
        const struct link_words *given = &parser->links[level];
        if (level == MT_LEVEL_NODE)
            link = *(parser->cluster->is_rdma ? mt_topology_assumed_of_rdma
                                              : mt_topology_assumed)(MT_LEVEL_RACK);
        if (level == MT_LEVEL_NODE && parser->nic_ps)
            link.beta_ps_per_byte = parser->nic_ps;
        link.beta_ps_per_byte = given->has_rate ? given->rate_ps : link.beta_ps_per_byte;
        if (given->has_rate || (level == MT_LEVEL_NODE && parser->nic_ps))
            link.copy_ps_per_byte = 0; /* such a rate is that of a card, which needs no core */
        link.alpha_ns = given->has_alpha ? given->alpha_ns : link.alpha_ns;
        link.core_ns = given->has_core ? given->core_ns : link.core_ns;
        parser->cluster->links[level + 1] = link;
    }
}

static void set_uplinks(struct parser *parser)
{
    const struct mt_topology_link *card = &parser->cluster->links[MT_LEVEL_RACK];
    int is_told = parser->nic_ps || parser->links[MT_LEVEL_NODE].has_rate;
    uint64_t cards = parser->nics ? parser->nics : 1; /* of a group */
    for (int level = MT_LEVEL_NODE; level <= MT_LEVEL_ZONE; level++) {
        uint64_t millionths = parser->links[level].oversub_millionths;
        if (level > MT_LEVEL_NODE && parser->counts[level - 1])
            cards *= parser->counts[level - 1];
        if (millionths == 0 && level == MT_LEVEL_NODE && is_told)
            millionths = MILLION;
        if (millionths == 0)
            continue;
        unsigned __int128 ps = (unsigned __int128)card->beta_ps_per_byte * millionths;
        unsigned __int128 parts = (unsigned __int128)cards * MILLION;
        uint64_t limit = (uint64_t)((ps + parts / 2) / parts);
        parser->cluster->uplink_ps_per_byte[level] = limit > 0 ? limit : 1;
    }
}

int mt_cluster_parse(const char *text, struct mt_cluster *cluster_out, struct mt_error *error)
{
    struct parser parser = {.cluster = cluster_out, .error = error, .nearest = MT_LEVEL_CLUSTER};
    mt_cluster_init(cluster_out);
    int rc = parse_words(&parser, text);
    if (rc == 0 && parser.nic_ps && parser.links[MT_LEVEL_NODE].has_rate)
        rc = mt_error_set(error, MANTA_EINVAL,
                          "a rate at node is that of each card: say it there or at nic, not twice");
    if (rc == 0)
        rc = build(&parser);
    if (rc) {
        mt_cluster_close(cluster_out);
        return rc;
    }
    set_links(&parser);
    set_uplinks(&parser);
    return 0;
}

int mt_topology_parse(const char *text, uint32_t ranks_per_node, struct mt_topology **topology_out,
                      struct mt_error *error)
{
    struct mt_cluster cluster;
    *topology_out = NULL;
    int rc = mt_cluster_parse(text, &cluster, error);
    if (rc)
        return rc;
    if (cluster.ranks_per_node == 0)
        cluster.ranks_per_node = ranks_per_node;
    rc = mt_cluster_topology(&cluster, topology_out, error);
    mt_cluster_close(&cluster);
    return rc;
}
