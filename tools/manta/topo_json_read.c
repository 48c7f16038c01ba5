/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A cluster from JSON, as topo_json.c writes it and people change it. Strict: keys that it does not
 * know are refused with their place, since a word that is written wrong would otherwise be a wrong
 * answer. "ranks" is an answer, not read.
 *
 *   manta_topology       1
 *   boxes                [{level, count, name, cpus, usable, bytes, nics, gpus, boxes}]
 *   links                {LEVEL: {alpha_ns, core_ns, beta_ps_per_byte, copy_ps_per_byte}}
 *   uplinks_ps_per_byte  {LEVEL: number}
 *   net                  rdma, or nothing
 *   ranks_per_node, size, place (packed, roundrobin, random), seed
 */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "core/wire.h"
#include "tools/manta/topo.h"

const char *const topo_placements[] = {"packed", "roundrobin", "random"};

enum { WAY_BYTES = 160 };
/* Of a time or a rate: 2.4 hours, or a byte in 9 seconds. */
#define MOST_OF_LINK (UINT64_C(1) << 43)

/* Where in the file we are: "boxes[0].boxes[1]". */
struct reader {
    struct mt_error *error;
    char way[WAY_BYTES];
};

static int refuse(const struct reader *reader, const char *key, const char *why)
{
    return mt_error_set(reader->error, MANTA_EINVAL, "%s%s%.60s %s", reader->way,
                        reader->way[0] && key[0] ? "." : "", key, why);
}

static size_t go(struct reader *reader, const char *key, size_t index)
{
    size_t used = strlen(reader->way);
    snprintf(reader->way + used, sizeof reader->way - used, "%s%s[%zu]", used ? "." : "", key,
             index);
    return used;
}

/* keys: their names, separated by blanks. */
static int check_keys(const struct reader *reader, const json_t *object, const char *keys)
{
    const char *key;
    json_t *value;
    if (!json_is_object(object))
        return refuse(reader, "", "must be an object");
    json_object_foreach((json_t *)(uintptr_t)object, key, value)
    {
        const char *found = strstr(keys, key);
        size_t length = strlen(key);
        while (found && ((found != keys && found[-1] != ' ') ||
                         (found[length] != ' ' && found[length] != 0)))
            found = strstr(found + 1, key);
        if (!found || length == 0 || strchr(key, ' '))
            return refuse(reader, key, "is no key that may be there");
    }
    return 0;
}

/* A whole number from least to most; the value stays as it is when the key is not there. */
static int get_number(const struct reader *reader, const json_t *object, const char *key,
                      uint64_t most, uint64_t *value)
{
    const json_t *number = json_object_get(object, key);
    char why[64];
    if (!number)
        return 0;
    if (!json_is_integer(number) || json_integer_value(number) < 0 ||
        (uint64_t)json_integer_value(number) > most) {
        snprintf(why, sizeof why, "must be a whole number from 0 to %llu",
                 (unsigned long long)most);
        return refuse(reader, key, why);
    }
    *value = (uint64_t)json_integer_value(number);
    return 0;
}

static int get_u32(const struct reader *reader, const json_t *object, const char *key,
                   uint32_t most, uint32_t *value)
{
    uint64_t wide = *value;
    int rc = get_number(reader, object, key, most, &wide);
    *value = (uint32_t)wide;
    return rc;
}

/* Printable ASCII that fits. */
static int get_text(const struct reader *reader, const json_t *object, const char *key, char *text,
                    size_t text_bytes)
{
    const json_t *value = json_object_get(object, key);
    const char *string = json_string_value(value);
    if (!value)
        return 0;
    int ok = string && strlen(string) < text_bytes;
    for (size_t i = 0; ok && string[i]; i++)
        ok = string[i] >= 0x20 && string[i] <= 0x7e;
    if (!ok)
        return refuse(reader, key, "must be a short text of printable ASCII letters");
    memcpy(text, string, strlen(string) + 1);
    return 0;
}

static int level_of(const char *name)
{
    for (int level = 0; name && level < MT_LEVELS; level++)
        if (strcmp(name, mt_level_name((enum mt_level)level)) == 0)
            return level;
    return -1;
}

static int get_device(const struct reader *reader, const json_t *object, struct mt_device *device)
{
    uint64_t numa = UINT64_MAX;
    int rc = get_text(reader, object, "pci", device->pci, sizeof device->pci);
    if (rc == 0)
        rc = get_text(reader, object, "path", device->path, sizeof device->path);
    if (rc == 0)
        rc = get_number(reader, object, "numa", 1 << 20, &numa);
    device->numa = numa == UINT64_MAX ? -1 : (int)numa;
    return rc;
}

static int get_nic(const struct reader *reader, const json_t *object, struct mt_nic *nic)
{
    int rc = check_keys(reader, object, "name rdma mbits pci path numa");
    if (rc == 0)
        rc = get_text(reader, object, "name", nic->name, sizeof nic->name);
    if (rc == 0)
        rc = get_text(reader, object, "rdma", nic->rdma, sizeof nic->rdma);
    if (rc == 0)
        rc = get_u32(reader, object, "mbits", UINT32_MAX, &nic->mbits);
    return rc ? rc : get_device(reader, object, &nic->device);
}

static int get_gpu(const struct reader *reader, const json_t *object, struct mt_gpu *gpu)
{
    int rc = check_keys(reader, object, "vendor pci path numa");
    if (rc == 0)
        rc = get_text(reader, object, "vendor", gpu->vendor, sizeof gpu->vendor);
    return rc ? rc : get_device(reader, object, &gpu->device);
}

/* Those of a list, into the node's devices. */
static int get_listed(struct reader *reader, const json_t *list, const char *key,
                      struct mt_box *box)
{
    int is_nic = strcmp(key, "nics") == 0, rc = 0;
    size_t count = json_array_size(list);
    if (count > (is_nic ? MT_NICS : MT_GPUS))
        return refuse(reader, key, "has more entries than 64");
    if (!box->devices)
        box->devices = calloc(1, sizeof *box->devices);
    if (!box->devices)
        return mt_error_set(reader->error, MANTA_ENOMEM, "no memory for a topology");
    for (size_t i = 0; i < count && rc == 0; i++) {
        size_t used = go(reader, key, i);
        const json_t *object = json_array_get(list, i);
        rc = is_nic ? get_nic(reader, object, &box->devices->nics[i])
                    : get_gpu(reader, object, &box->devices->gpus[i]);
        reader->way[used] = 0;
    }
    *(is_nic ? &box->devices->nic_count : &box->devices->gpu_count) = (uint32_t)count;
    *(is_nic ? &box->nics : &box->gpus) = (uint32_t)count;
    return rc;
}

static int get_devices(struct reader *reader, const json_t *object, const char *key,
                       struct mt_box *box)
{
    const json_t *value = json_object_get(object, key);
    if (!value)
        return 0;
    if (box->level != MT_LEVEL_NODE)
        return refuse(reader, key, "goes with nodes only");
    if (json_is_array(value))
        return get_listed(reader, value, key, box);
    return get_u32(reader, object, key, MT_NODE_CORES_MAX,
                   strcmp(key, "nics") == 0 ? &box->nics : &box->gpus);
}

static int get_boxes(struct reader *reader, const json_t *object, struct mt_box *box);

static int get_level(const struct reader *reader, const json_t *object, const struct mt_box *parent)
{
    int level = level_of(json_string_value(json_object_get(object, "level")));
    if (level < 0 || level >= (int)parent->level)
        return refuse(reader, "level",
                      "must be zone, rack, node, package, numa, l3 or core, nearer than the box "
                      "that it is in");
    if (level < MT_LEVEL_NODE && parent->level > MT_LEVEL_NODE)
        return refuse(reader, "level", "is of what nodes consist of: put it into a node");
    return level;
}

static int get_numbers(const struct reader *reader, const json_t *object, struct mt_box *box)
{
    int rc = get_u32(reader, object, "count", MT_BOX_COUNT_MAX, &box->count);
    if (rc == 0 && box->count == 0)
        rc = refuse(reader, "count", "must be 1 or more");
    if (rc == 0)
        rc = get_u32(reader, object, "cpus", MT_NODE_CORES_MAX, &box->cpus);
    if (rc == 0)
        rc = get_u32(reader, object, "usable", MT_NODE_CORES_MAX, &box->usable);
    return rc ? rc : get_number(reader, object, "bytes", INT64_MAX, &box->bytes);
}

static int get_box(struct reader *reader, const json_t *object, struct mt_box *parent)
{
    int rc = check_keys(reader, object, "level count name cpus usable bytes nics gpus boxes");
    int level = rc ? rc : get_level(reader, object, parent);
    if (level < 0)
        return level;
    struct mt_box *box = mt_box_add(parent, (enum mt_level)level);
    if (!box)
        return mt_error_set(reader->error, MANTA_ENOMEM, "no memory for a topology");
    rc = get_numbers(reader, object, box);
    if (rc == 0)
        rc = get_text(reader, object, "name", box->name, sizeof box->name);
    if (rc == 0)
        rc = get_devices(reader, object, "nics", box);
    if (rc == 0)
        rc = get_devices(reader, object, "gpus", box);
    return rc ? rc : get_boxes(reader, object, box);
}

static int get_boxes(struct reader *reader, const json_t *object, struct mt_box *box)
{
    const json_t *list = json_object_get(object, "boxes");
    int rc = 0;
    if (list && !json_is_array(list))
        return refuse(reader, "boxes", "must be a list");
    for (size_t i = 0; i < json_array_size(list) && rc == 0; i++) {
        size_t used = go(reader, "boxes", i);
        rc = get_box(reader, json_array_get(list, i), box);
        reader->way[used] = 0;
    }
    return rc;
}

static int get_link(struct reader *reader, const char *key, const json_t *value,
                    struct mt_cluster *cluster)
{
    int level = level_of(key);
    snprintf(reader->way, sizeof reader->way, "links.%.60s", key);
    if (level < 0)
        return refuse(reader, "", "is no level");
    struct mt_topology_link *link = &cluster->links[level];
    int rc = check_keys(reader, value, "alpha_ns core_ns beta_ps_per_byte copy_ps_per_byte");
    if (rc == 0)
        rc = get_number(reader, value, "alpha_ns", MOST_OF_LINK, &link->alpha_ns);
    if (rc == 0)
        rc = get_number(reader, value, "core_ns", MOST_OF_LINK, &link->core_ns);
    if (json_object_get(value, "beta_ps_per_byte"))
        link->copy_ps_per_byte =
            0; /* as in a line: a rate is that of a card, unless it says more */
    if (rc == 0)
        rc = get_number(reader, value, "beta_ps_per_byte", MOST_OF_LINK, &link->beta_ps_per_byte);
    return rc ? rc
              : get_number(reader, value, "copy_ps_per_byte", MOST_OF_LINK,
                           &link->copy_ps_per_byte);
}

static int get_uplink(struct reader *reader, const char *key, const json_t *uplinks,
                      struct mt_cluster *cluster)
{
    int level = level_of(key);
    snprintf(reader->way, sizeof reader->way, "uplinks_ps_per_byte");
    if (level < 0)
        return refuse(reader, key, "is no level");
    return get_number(reader, uplinks, key, MOST_OF_LINK, &cluster->uplink_ps_per_byte[level]);
}

static int get_links(struct reader *reader, const json_t *object, struct mt_cluster *cluster)
{
    const char *key;
    json_t *value;
    json_t *links = json_object_get(object, "links");
    json_t *uplinks = json_object_get(object, "uplinks_ps_per_byte");
    int rc = 0;
    if (links && !json_is_object(links))
        return refuse(reader, "links", "must be an object");
    if (uplinks && !json_is_object(uplinks))
        return refuse(reader, "uplinks_ps_per_byte", "must be an object");
    json_object_foreach(links, key, value)
    {
        if (rc == 0)
            rc = get_link(reader, key, value, cluster);
    }
    json_object_foreach(uplinks, key, value)
    {
        if (rc == 0)
            rc = get_uplink(reader, key, uplinks, cluster);
    }
    if (rc == 0)
        reader->way[0] = 0;
    return rc;
}

static int get_placement(struct reader *reader, const json_t *object, struct mt_cluster *cluster)
{
    char place[16] = "packed";
    int rc = get_text(reader, object, "place", place, sizeof place), found = 0;
    for (int i = 0; i < 3 && rc == 0; i++)
        if (strcmp(place, topo_placements[i]) == 0) {
            cluster->placement = (enum mt_placement)i;
            found = 1;
        }
    if (rc == 0 && !found)
        rc = refuse(reader, "place", "must be packed, roundrobin or random");
    if (rc == 0)
        rc = get_number(reader, object, "seed", INT64_MAX, &cluster->seed);
    if (rc == 0)
        rc = get_u32(reader, object, "ranks_per_node", MT_RANKS_MAX, &cluster->ranks_per_node);
    return rc ? rc : get_u32(reader, object, "size", MT_RANKS_MAX, &cluster->size);
}

static int get_net(struct reader *reader, const json_t *object, struct mt_cluster *cluster)
{
    char net[16] = "";
    int rc = get_text(reader, object, "net", net, sizeof net);
    if (rc == 0 && net[0] && strcmp(net, "rdma") != 0)
        rc = refuse(reader, "net", "must be rdma");
    cluster->is_rdma = net[0] != 0;
    return rc;
}

static int get_cluster(struct reader *reader, const json_t *object, struct mt_cluster *cluster)
{
    const json_t *version = json_object_get(object, "manta_topology");
    int rc = check_keys(reader, object,
                        "manta_topology boxes links uplinks_ps_per_byte net ranks_per_node size "
                        "place seed ranks");
    if (rc == 0 && (!json_is_integer(version) || json_integer_value(version) != 1))
        rc = refuse(reader, "manta_topology", "must be 1");
    if (rc == 0)
        rc = get_boxes(reader, object, &cluster->root);
    if (rc == 0)
        rc = get_links(reader, object, cluster);
    if (rc == 0)
        rc = get_net(reader, object, cluster);
    return rc ? rc : get_placement(reader, object, cluster);
}

int topo_json_read(const char *path, struct mt_cluster *cluster_out, struct mt_error *error)
{
    json_error_t wrong;
    struct mt_error cause;
    struct reader reader = {.error = &cause};
    mt_cluster_init(cluster_out);
    json_t *object = json_load_file(path, JSON_REJECT_DUPLICATES, &wrong);
    if (!object && wrong.line < 1) /* it says which file it could not open */
        return mt_error_set(error, MANTA_EINVAL, "%.200s; manta topo --json writes one",
                            wrong.text);
    if (!object)
        return mt_error_set(error, MANTA_EINVAL, "%.200s, line %d: %.200s", path, wrong.line,
                            wrong.text);
    int rc = get_cluster(&reader, object, cluster_out);
    json_decref(object);
    if (rc == 0)
        return 0;
    mt_cluster_close(cluster_out);
    return mt_error_set(error, rc, "%.200s: %.300s", path, cause.sentence);
}
