/* SPDX-License-Identifier: Apache-2.0 */
/* Lines that describe a cluster: those that are taken and small enough make nested groups that are
 * numbered by their lowest ranks, and an order of all ranks. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "topology/synthetic.h"

enum { RANKS = 2048, NODES = 2048 };

static void check(const struct mt_topology *topology)
{
    static uint32_t order[RANKS], above[RANKS];
    static uint8_t seen[RANKS];
    for (int level = 0; level < MT_LEVELS; level++) {
        uint32_t next = 0;
        for (uint32_t r = 0; r < topology->ranks; r++) {
            uint32_t group = topology->group[level][r];
            if (group > next)
                abort();
            if (group == next)
                above[next++] = level + 1 < MT_LEVELS ? topology->group[level + 1][r] : 0;
            if (level + 1 < MT_LEVELS && above[group] != topology->group[level + 1][r])
                abort();
        }
        if (next != topology->groups[level])
            abort();
    }
    mt_topology_order(topology, order);
    memset(seen, 0, sizeof seen);
    for (uint32_t r = 0; r < topology->ranks; r++)
        if (order[r] >= topology->ranks || seen[order[r]]++)
            abort();
}

/* Large ones take their time; the limits of what is taken are for unit tests. */
static int is_small(const struct mt_cluster *cluster)
{
    uint64_t nodes = mt_box_total(&cluster->root, MT_LEVEL_NODE);
    uint64_t gpus = 1;
    const struct mt_box *box = &cluster->root;
    while (box->child_count > 0) {
        box = &box->children[0];
        gpus = box->gpus > gpus ? box->gpus : gpus;
    }
    return nodes <= NODES && mt_box_total(&cluster->root, box->level) <= RANKS &&
           cluster->ranks_per_node <= RANKS / nodes && gpus <= RANKS / nodes;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t count);
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t count)
{
    struct mt_cluster cluster;
    struct mt_topology *topology = NULL;
    struct mt_error error;
    char *text = malloc(count + 1);
    if (count)
        memcpy(text, bytes, count);
    text[count] = '\0';
    int rc = mt_cluster_parse(text, &cluster, &error);
    if (rc && memchr(error.sentence, '\0', sizeof error.sentence) == NULL)
        abort();
    if (rc == 0 && is_small(&cluster) && mt_cluster_topology(&cluster, &topology, &error) == 0)
        check(topology);
    mt_topology_free(topology);
    if (rc == 0)
        mt_cluster_close(&cluster);
    free(text);
    return 0;
}
