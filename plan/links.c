/* SPDX-License-Identifier: Apache-2.0 */
#include "plan/links.h"

#include <stdlib.h>

#include <manta/manta.h>

uint64_t mt_links_times(uint64_t x, uint64_t y)
{
    return y && x > UINT64_MAX / 2 / y ? UINT64_MAX / 2 : x * y;
}

uint64_t mt_links_plus(uint64_t x, uint64_t y)
{
    uint64_t sum = x + y;
    return sum < x || sum > UINT64_MAX / 2 ? UINT64_MAX / 2 : sum;
}

uint64_t mt_links_duration(uint64_t bytes, uint64_t ps_per_byte)
{
    return mt_links_times(bytes, ps_per_byte) / 1000;
}

static int is_limited(const struct mt_topology *topology, int level)
{
    return topology->uplink_ps_per_byte[level] != 0;
}

int mt_links_open(struct mt_links *links, const struct mt_cost_model *model, uint32_t ranks)
{
    const struct mt_topology *topology = model->topology;
    size_t count = (size_t)ranks * 3 + topology->groups[MT_LEVEL_NODE];
    *links = (struct mt_links){.model = model, .ranks = ranks};
    for (int level = 0; level < MT_LEVELS; level++)
        count += is_limited(topology, level) ? (size_t)topology->groups[level] * 2 : 0;
    struct mt_link *next = links->storage = calloc(count, sizeof(*next));
    if (!next)
        return MANTA_ENOMEM;
    links->core = next;
    links->out = links->core + ranks;
    links->in = links->out + ranks;
    links->memory = links->in + ranks;
    next = links->memory + topology->groups[MT_LEVEL_NODE];
    for (int level = 0; level < MT_LEVELS; level++) {
        if (!is_limited(topology, level))
            continue;
        links->up[level] = next;
        links->down[level] = next + topology->groups[level];
        next += (size_t)topology->groups[level] * 2;
    }
    return 0;
}

void mt_links_close(struct mt_links *links)
{
    free(links->storage);
}

/* Ranks that share CPUs: so many neighbours are on one. */
static struct mt_link *core_of(struct mt_links *links, uint32_t rank)
{
    return &links->core[links->model->crowd > 1 ? rank / links->model->crowd : rank];
}

/* Give a link work that it may begin at now_ns; returns when it is done. */
static uint64_t take(struct mt_link *link, uint64_t now_ns, uint64_t work_ns)
{
    if (link->slow_ppm)
        work_ns = mt_links_times(work_ns, 1000000) / link->slow_ppm;
    link->free_ns = mt_links_plus(mt_links_later(link->free_ns, now_ns), work_ns);
    link->busy_ns = mt_links_plus(link->busy_ns, work_ns);
    return link->free_ns;
}

/* Through the uplinks of one end's groups below the level where the two meet. */
static uint64_t cross(struct mt_links *links, struct mt_link *const *uplinks, uint32_t rank,
                      const struct mt_links_way *way, uint64_t start_ns)
{
    const struct mt_topology *topology = links->model->topology;
    uint64_t through_ns = start_ns;
    for (int level = 0; level < (int)way->meet; level++) {
        uint64_t work = mt_links_duration(way->bytes, topology->uplink_ps_per_byte[level]);
        if (uplinks[level])
            through_ns = mt_links_later(
                through_ns, take(&uplinks[level][topology->group[level][rank]], start_ns, work));
    }
    return through_ns;
}

/* One end's core copies what moves. */
static uint64_t copy(struct mt_links *links, uint32_t rank, const struct mt_links_way *way,
                     uint64_t now_ns)
{
    uint64_t each = links->model->topology->links[way->meet].copy_ps_per_byte;
    return each ? take(core_of(links, rank), now_ns, mt_links_duration(way->bytes, each)) : now_ns;
}

uint64_t mt_links_leave(struct mt_links *links, const struct mt_links_way *way, uint64_t now_ns)
{
    const struct mt_topology_link *link = &links->model->topology->links[way->meet];
    uint64_t wire = mt_links_duration(way->bytes, link->beta_ps_per_byte);
    uint64_t through = mt_links_later(take(&links->out[way->from], now_ns, wire),
                                      cross(links, links->up, way->from, way, now_ns));
    through = mt_links_later(through, copy(links, way->from, way, now_ns));
    if (way->meet > MT_LEVEL_NODE)
        return through;
    uint64_t copied = mt_links_times(way->bytes, 2);
    uint64_t work = mt_links_duration(copied, links->model->memory_ps_per_byte);
    return mt_links_later(through, mt_links_share(links, way->from, work, now_ns));
}

uint64_t mt_links_enter(struct mt_links *links, const struct mt_links_way *way, uint64_t now_ns)
{
    const struct mt_topology_link *link = &links->model->topology->links[way->meet];
    uint64_t wire = mt_links_duration(way->bytes, link->beta_ps_per_byte);
    uint64_t through = mt_links_later(take(&links->in[way->to], now_ns, wire),
                                      cross(links, links->down, way->to, way, now_ns));
    return mt_links_later(through, copy(links, way->to, way, now_ns));
}

uint64_t mt_links_work(struct mt_links *links, uint32_t rank, uint64_t bytes, uint64_t now_ns)
{
    const struct mt_cost_model *model = links->model;
    uint64_t work = mt_links_duration(bytes, model->gamma_ps_per_byte);
    uint64_t moved = mt_links_duration(mt_links_times(bytes, 2), model->memory_ps_per_byte);
    uint64_t done = take(core_of(links, rank), now_ns, work);
    return mt_links_later(done, mt_links_share(links, rank, moved, now_ns));
}

uint64_t mt_links_spend(struct mt_links *links, uint32_t rank, uint64_t ns, uint64_t now_ns)
{
    return take(core_of(links, rank), now_ns, ns);
}

uint64_t mt_links_share(struct mt_links *links, uint32_t rank, uint64_t ns, uint64_t now_ns)
{
    uint32_t node = links->model->topology->group[MT_LEVEL_NODE][rank];
    return take(&links->memory[node], now_ns, ns);
}

static void compare(const struct mt_link *array, uint32_t count, struct mt_link_name name,
                    uint64_t *most, struct mt_link_name *name_out)
{
    for (uint32_t i = 0; array && i < count; i++) {
        if (array[i].busy_ns <= *most)
            continue;
        *most = array[i].busy_ns;
        name.index = i;
        *name_out = name;
    }
}

uint64_t mt_links_busiest(const struct mt_links *links, struct mt_link_name *name_out)
{
    const struct mt_topology *topology = links->model->topology;
    struct mt_link_name name = {MT_LINK_CORE, MT_LEVEL_CORE, 0}, found = name;
    uint64_t most = 0;
    for (int level = MT_LEVELS - 1; level >= 0; level--) {
        uint32_t groups = topology->groups[level];
        name = (struct mt_link_name){MT_LINK_UP, (enum mt_level)level, 0};
        compare(links->up[level], groups, name, &most, &found);
        name.kind = MT_LINK_DOWN;
        compare(links->down[level], groups, name, &most, &found);
    }
    name = (struct mt_link_name){MT_LINK_MEMORY, MT_LEVEL_NODE, 0};
    compare(links->memory, topology->groups[MT_LEVEL_NODE], name, &most, &found);
    name = (struct mt_link_name){MT_LINK_OUT, MT_LEVEL_CORE, 0};
    compare(links->out, links->ranks, name, &most, &found);
    name.kind = MT_LINK_IN;
    compare(links->in, links->ranks, name, &most, &found);
    name.kind = MT_LINK_CORE;
    compare(links->core, links->ranks, name, &most, &found);
    if (name_out)
        *name_out = found;
    return most;
}

int mt_links_slow(struct mt_links *links, enum mt_level level, uint32_t index, uint64_t ppm)
{
    if (level == MT_LEVEL_CORE && index < links->ranks) {
        core_of(links, index)->slow_ppm = ppm;
        links->out[index].slow_ppm = ppm;
        links->in[index].slow_ppm = ppm;
        return 0;
    }
    if (level == MT_LEVEL_CORE || !links->up[level] ||
        index >= links->model->topology->groups[level])
        return -1;
    links->up[level][index].slow_ppm = ppm;
    links->down[level][index].slow_ppm = ppm;
    return 0;
}
