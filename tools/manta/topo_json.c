/* SPDX-License-Identifier: Apache-2.0 */
/* A cluster as JSON, out. See topo_json_read.c for what may come in. */
#include <jansson.h>
#include <string.h>

#include "tools/manta/topo.h"

static void set_count(json_t *object, const char *key, uint64_t value)
{
    if (value > 0)
        json_object_set_new(object, key, json_integer((json_int_t)value));
}

static void set_text(json_t *object, const char *key, const char *text)
{
    if (text[0])
        json_object_set_new(object, key, json_string(text));
}

static void set_device(json_t *object, const struct mt_device *device)
{
    set_text(object, "pci", device->pci);
    set_text(object, "path", device->path);
    if (device->numa >= 0)
        json_object_set_new(object, "numa", json_integer(device->numa));
}

static json_t *json_of_nic(const struct mt_nic *nic)
{
    json_t *object = json_object();
    set_text(object, "name", nic->name);
    set_text(object, "rdma", nic->rdma);
    set_count(object, "mbits", nic->mbits);
    set_device(object, &nic->device);
    return object;
}

static json_t *json_of_gpu(const struct mt_gpu *gpu)
{
    json_t *object = json_object();
    set_text(object, "vendor", gpu->vendor);
    set_device(object, &gpu->device);
    return object;
}

/* As numbers, or one by one where it is known what they are. */
static void set_devices(json_t *object, const struct mt_box *box)
{
    if (!box->devices) {
        set_count(object, "nics", box->nics);
        set_count(object, "gpus", box->gpus);
        return;
    }
    json_t *nics = json_array(), *gpus = json_array();
    for (uint32_t i = 0; i < box->devices->nic_count; i++)
        json_array_append_new(nics, json_of_nic(&box->devices->nics[i]));
    for (uint32_t i = 0; i < box->devices->gpu_count; i++)
        json_array_append_new(gpus, json_of_gpu(&box->devices->gpus[i]));
    json_object_set_new(object, "nics", nics);
    json_object_set_new(object, "gpus", gpus);
}

static json_t *json_of_children(const struct mt_box *box);

static json_t *json_of_box(const struct mt_box *box)
{
    json_t *object = json_object();
    set_text(object, "level", mt_level_name(box->level));
    json_object_set_new(object, "count", json_integer(box->count));
    set_text(object, "name", box->name);
    set_count(object, "cpus", box->cpus);
    set_count(object, "usable", box->usable);
    set_count(object, "bytes", box->bytes);
    if (box->level == MT_LEVEL_NODE)
        set_devices(object, box);
    if (box->child_count > 0)
        json_object_set_new(object, "boxes", json_of_children(box));
    return object;
}

static json_t *json_of_children(const struct mt_box *box)
{
    json_t *array = json_array();
    for (uint32_t i = 0; i < box->child_count; i++)
        json_array_append_new(array, json_of_box(&box->children[i]));
    return array;
}

static void set_links(json_t *object, const struct mt_cluster *cluster)
{
    json_t *links = json_object(), *uplinks = json_object();
    for (int level = 0; level < MT_LEVELS; level++) {
        const struct mt_topology_link *link = &cluster->links[level];
        json_t *one = json_object();
        json_object_set_new(one, "alpha_ns", json_integer((json_int_t)link->alpha_ns));
        json_object_set_new(one, "core_ns", json_integer((json_int_t)link->core_ns));
        json_object_set_new(one, "beta_ps_per_byte",
                            json_integer((json_int_t)link->beta_ps_per_byte));
        json_object_set_new(one, "copy_ps_per_byte",
                            json_integer((json_int_t)link->copy_ps_per_byte));
        json_object_set_new(links, mt_level_name((enum mt_level)level), one);
        set_count(uplinks, mt_level_name((enum mt_level)level), cluster->uplink_ps_per_byte[level]);
    }
    json_object_set_new(object, "links", links);
    json_object_set_new(object, "uplinks_ps_per_byte", uplinks);
}

static json_t *json_of_ranks(const struct mt_topology *topology)
{
    json_t *object = json_object(), *groups = json_object();
    json_object_set_new(object, "count", json_integer(topology->ranks));
    for (int level = 0; level < MT_LEVELS; level++) {
        json_t *column = json_array();
        for (uint32_t r = 0; r < topology->ranks; r++)
            json_array_append_new(column, json_integer(topology->group[level][r]));
        json_object_set_new(groups, mt_level_name((enum mt_level)level), column);
    }
    json_object_set_new(object, "groups", groups);
    return object;
}

int topo_json_write(const struct mt_cluster *cluster, const struct mt_topology *topology,
                    FILE *stream)
{
    json_t *object = json_object();
    json_object_set_new(object, "manta_topology", json_integer(1));
    json_object_set_new(object, "boxes", json_of_children(&cluster->root));
    set_links(object, cluster);
    set_count(object, "ranks_per_node", cluster->ranks_per_node);
    set_count(object, "size", cluster->size);
    if (cluster->is_rdma)
        set_text(object, "net", "rdma");
    set_text(object, "place", topo_placements[cluster->placement]);
    json_object_set_new(object, "seed", json_integer((json_int_t)cluster->seed));
    if (topology)
        json_object_set_new(object, "ranks", json_of_ranks(topology));
    int failed = json_dumpf(object, stream, JSON_INDENT(1) | JSON_ENSURE_ASCII);
    json_decref(object);
    fputc('\n', stream);
    return failed ? MANTA_ENOMEM : 0;
}
