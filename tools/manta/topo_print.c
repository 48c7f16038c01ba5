/* SPDX-License-Identifier: Apache-2.0 */
/* A cluster in words. */
#include <stdlib.h>
#include <string.h>

#include "core/ranks.h"
#include "tools/manta/manta.h"
#include "tools/manta/topo.h"

enum { NODE_LINES = 64, ORDER_RUNS = 32, NAME_BYTES = 160 };

const char *topo_level_name(enum mt_level level)
{
    static const char *const capitals[] = {"core", "L3", "NUMA"};
    return level <= MT_LEVEL_NUMA ? capitals[level] : mt_level_name(level);
}

void topo_title(const struct mt_box *box, char *text, size_t text_bytes)
{
    const char *name = topo_level_name(box->level);
    if (box->count > 1)
        snprintf(text, text_bytes, "%u x %s", box->count, name);
    else
        snprintf(text, text_bytes, "%s%s%s", name, box->name[0] ? " " : "", box->name);
}

/* Add a part to a text, with a comma between. */
static void add(char *text, size_t text_bytes, const char *part)
{
    size_t used = strlen(text);
    snprintf(text + used, text_bytes - used, "%s%s", used ? ", " : "", part);
}

static void add_count(char *text, size_t text_bytes, uint32_t count, const char *what)
{
    char part[64];
    snprintf(part, sizeof part, "%u %s%s", count, what, count == 1 ? "" : "s");
    if (count > 0)
        add(text, text_bytes, part);
}

void topo_details(const struct mt_box *box, char *text, size_t text_bytes)
{
    char bytes[32], part[64];
    text[0] = 0;
    if (box->level == MT_LEVEL_CORE && box->cpus > 0)
        add_count(text, text_bytes, box->cpus, "CPU");
    if (box->bytes > 0) {
        format_bytes(box->bytes, bytes, sizeof bytes);
        snprintf(part, sizeof part, "%s%s", box->level == MT_LEVEL_CORE ? "L2 " : "", bytes);
        add(text, text_bytes, part);
    }
    add_count(text, text_bytes, box->nics, "NIC");
    add_count(text, text_bytes, box->gpus, "GPU");
    if (box->level == MT_LEVEL_CORE && box->usable > 0)
        add(text, text_bytes, box->usable < box->cpus ? "partly usable" : "usable");
}

void topo_rate(uint64_t ps_per_byte, char *text, size_t text_bytes)
{
    double gbits = 8000 / (double)ps_per_byte;
    snprintf(text, text_bytes, gbits < 1 ? "%.3g Mbit/s" : "%.4g Gbit/s",
             gbits < 1 ? gbits * 1000 : gbits);
}

static void print_where(const struct mt_device *device)
{
    printf(", %s", device->pci[0] ? device->pci : "not on PCI");
    if (device->numa >= 0)
        printf(", NUMA %d", device->numa);
}

static const char *name_of(const struct mt_nic *nic)
{
    return nic->name[0] ? nic->name : nic->rdma;
}

static void print_nic(const struct mt_nic *nic, int indent)
{
    printf("%*sNIC %s", indent, "", name_of(nic));
    print_where(&nic->device);
    if (nic->mbits > 0)
        printf(", %.4g Gbit/s", (double)nic->mbits / 1000);
    else
        printf(", speed not known");
    printf("%s%s\n", nic->name[0] && nic->rdma[0] ? ", RDMA " : "", nic->name[0] ? nic->rdma : "");
}

/* A GPU, and its NICs by distance. */
static void print_gpu(const struct mt_devices *devices, uint32_t number, int indent)
{
    static const char *const words[] = {"behind one switch with", "on one NUMA node with",
                                        "far from"};
    const struct mt_gpu *gpu = &devices->gpus[number];
    printf("%*sGPU %u, %s", indent, "", number, gpu->vendor);
    print_where(&gpu->device);
    for (int distance = MT_DISTANCE_SWITCH; distance <= MT_DISTANCE_OTHER; distance++) {
        const char *before = "; ";
        for (uint32_t i = 0; i < devices->nic_count; i++) {
            const struct mt_nic *nic = &devices->nics[i];
            if ((int)mt_devices_distance(&gpu->device, &nic->device) != distance)
                continue;
            printf("%s%s %s", before, *before == ';' ? words[distance] : "", name_of(nic));
            before = ",";
        }
    }
    putchar('\n');
}

static void print_box(const struct mt_box *box, int indent)
{
    char title[NAME_BYTES], details[NAME_BYTES];
    topo_title(box, title, sizeof title);
    topo_details(box, details, sizeof details);
    printf("%*s%s%s%s\n", indent, "", title, details[0] ? ": " : "", details);
    for (uint32_t i = 0; box->devices && i < box->devices->nic_count; i++)
        print_nic(&box->devices->nics[i], indent + 2);
    for (uint32_t i = 0; box->devices && i < box->devices->gpu_count; i++)
        print_gpu(box->devices, i, indent + 2);
    for (uint32_t i = 0; i < box->child_count; i++)
        print_box(&box->children[i], indent + 2);
}

/* Groups of a level: levels that no box is of have one in each group above. */
static uint64_t groups_of(const struct mt_cluster *cluster, int level)
{
    uint64_t boxes = 0;
    while (level < MT_LEVEL_CLUSTER && boxes == 0)
        boxes = mt_box_total(&cluster->root, (enum mt_level)level++);
    return boxes ? boxes : 1;
}

static int is_named(const struct mt_cluster *cluster, int level)
{
    return mt_box_total(&cluster->root, (enum mt_level)level) > 0;
}

/* Whether messages cross a level: of nodes without cores, ranks are the nearest to each other. */
static int is_crossed(const struct mt_cluster *cluster, int level)
{
    if (level == MT_LEVEL_L3 && !is_named(cluster, MT_LEVEL_CORE))
        return cluster->ranks_per_node >
               groups_of(cluster, MT_LEVEL_L3) / groups_of(cluster, MT_LEVEL_NODE);
    return groups_of(cluster, level - 1) > groups_of(cluster, level);
}

/* Crossings that there are, from the level below to the next one that is named. */
static void print_links(const struct mt_cluster *cluster)
{
    printf("links, as said or else assumed:\n");
    for (int level = MT_LEVEL_L3; level < MT_LEVELS; level++) {
        const struct mt_topology_link *link = &cluster->links[level];
        char rate[32], between[64];
        const char *below = topo_level_name((enum mt_level)(level - 1));
        int above = level;
        if (!is_crossed(cluster, level))
            continue;
        if (level == MT_LEVEL_L3 && !is_named(cluster, MT_LEVEL_CORE))
            below = "rank";
        while (above < MT_LEVEL_CLUSTER && !is_named(cluster, above))
            above++;
        topo_rate(link->beta_ps_per_byte, rate, sizeof rate);
        snprintf(between, sizeof between, "between %ss of one %s", below,
                 topo_level_name((enum mt_level)above));
        printf("  %-32s %7.4g us, and %.4g us of a core; %s for one rank\n", between,
               (double)link->alpha_ns / 1000, (double)link->core_ns / 1000, rate);
    }
    for (int level = MT_LEVEL_CORE; level < MT_LEVEL_CLUSTER; level++) {
        char rate[32];
        if (cluster->uplink_ps_per_byte[level] == 0)
            continue;
        topo_rate(cluster->uplink_ps_per_byte[level], rate, sizeof rate);
        printf("  out of a %s, all ranks together: %s\n", topo_level_name((enum mt_level)level),
               rate);
    }
}

void topo_print(const struct mt_cluster *cluster)
{
    for (uint32_t i = 0; i < cluster->root.child_count; i++)
        print_box(&cluster->root.children[i], 0);
    if (cluster->ranks_per_node > 0)
        printf("%u rank%s on each node\n", cluster->ranks_per_node,
               cluster->ranks_per_node == 1 ? "" : "s");
    if (groups_of(cluster, MT_LEVEL_CORE) > 1 || cluster->ranks_per_node > 1)
        print_links(cluster);
}

static void print_nodes(const struct mt_topology *topology, uint8_t *marked)
{
    uint32_t nodes = topology->groups[MT_LEVEL_NODE];
    for (uint32_t node = 0; node < nodes && node < NODE_LINES; node++) {
        char who[NAME_BYTES];
        for (uint32_t r = 0; r < topology->ranks; r++)
            marked[r] = topology->group[MT_LEVEL_NODE][r] == node;
        mt_ranks_describe(marked, topology->ranks, who, sizeof who);
        printf("  node %u: %s\n", node, who);
    }
    if (nodes > NODE_LINES)
        printf("  and %u nodes more\n", nodes - NODE_LINES);
}

/* Of a ring in the best order: each group is left once. */
static uint32_t crossings(const struct mt_topology *topology, int level)
{
    return topology->groups[level] > 1 ? topology->groups[level] : 0;
}

/* "0-3, 8, 4-7", cut when it is long. */
static void print_order(const struct mt_topology *topology, const uint32_t *order)
{
    printf("ring:");
    int runs = 0;
    for (uint32_t i = 0, next; i < topology->ranks; i = next) {
        next = i + 1;
        while (next < topology->ranks && order[next] == order[next - 1] + 1)
            next++;
        if (runs++ == ORDER_RUNS) {
            printf(", and %u ranks more", topology->ranks - i);
            break;
        }
        printf("%s %u", i ? "," : "", order[i]);
        if (next > i + 1)
            printf("-%u", order[next - 1]);
    }
    printf("\n  from node to node %u times", crossings(topology, MT_LEVEL_NODE));
    for (int level = MT_LEVEL_RACK; level < MT_LEVEL_CLUSTER; level++)
        if (topology->groups[level] > 1)
            printf(", from %s to %s %u times", topo_level_name((enum mt_level)level),
                   topo_level_name((enum mt_level)level), crossings(topology, level));
    putchar('\n');
}

void topo_print_ranks(const struct mt_topology *topology)
{
    uint8_t *marked = calloc(topology->ranks, 1);
    uint32_t *order = calloc(topology->ranks, sizeof *order);
    printf("%u rank%s\n", topology->ranks, topology->ranks == 1 ? "" : "s");
    for (int level = MT_LEVEL_ZONE; level >= 0; level--)
        printf("  %-8s %u\n", topo_level_name((enum mt_level)level), topology->groups[level]);
    if (marked && order) {
        print_nodes(topology, marked);
        mt_topology_order(topology, order);
        print_order(topology, order);
    }
    free(order);
    free(marked);
}
