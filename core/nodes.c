/* SPDX-License-Identifier: Apache-2.0 */
#include "core/nodes.h"

#include <stdlib.h>
#include <string.h>

struct named {
    uint64_t node, boot;
    uint32_t rank, lowest; /* of its node */
};

static int by_name(const void *a, const void *b)
{
    const struct named *x = a, *y = b;
    if (x->node != y->node)
        return x->node < y->node ? -1 : 1;
    if (x->boot != y->boot)
        return x->boot < y->boot ? -1 : 1;
    return x->rank < y->rank ? -1 : 1;
}

static int by_lowest(const void *a, const void *b)
{
    const struct named *x = a, *y = b;
    if (x->lowest != y->lowest)
        return x->lowest < y->lowest ? -1 : 1;
    return x->rank < y->rank ? -1 : x->rank > y->rank;
}

static void sort(struct named *named, uint32_t ranks)
{
    qsort(named, ranks, sizeof *named, by_name);
    for (uint32_t i = 0; i < ranks; i++) {
        int is_next =
            i > 0 && named[i].node == named[i - 1].node && named[i].boot == named[i - 1].boot;
        named[i].lowest = is_next ? named[i - 1].lowest : named[i].rank;
    }
    qsort(named, ranks, sizeof *named, by_lowest);
}

int mt_nodes_find(const struct mt_member *members, uint32_t ranks, struct mt_nodes *nodes_out)
{
    struct named *named = calloc(ranks, sizeof *named);
    memset(nodes_out, 0, sizeof *nodes_out);
    nodes_out->first = calloc(ranks + (size_t)1, sizeof *nodes_out->first);
    nodes_out->ranks = calloc(ranks, sizeof *nodes_out->ranks);
    if (!named || !nodes_out->first || !nodes_out->ranks) {
        free(named);
        mt_nodes_free(nodes_out);
        return MANTA_ENOMEM;
    }
    for (uint32_t r = 0; r < ranks; r++)
        named[r] = (struct named){members[r].node, members[r].boot, r, r};
    sort(named, ranks);
    for (uint32_t i = 0; i < ranks; i++) {
        nodes_out->ranks[i] = named[i].rank;
        if (named[i].rank == named[i].lowest)
            nodes_out->first[nodes_out->count++] = i;
    }
    nodes_out->first[nodes_out->count] = ranks;
    free(named);
    return 0;
}

void mt_nodes_free(struct mt_nodes *nodes)
{
    free(nodes->first);
    free(nodes->ranks);
    memset(nodes, 0, sizeof *nodes);
}
