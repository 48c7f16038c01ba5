/* SPDX-License-Identifier: Apache-2.0 */
/* Where hierarchical plans are none. */
#include "collectives/hierarchy.h"

/* What the nodes look like to the first ranks, which are those of the request. */
struct shape {
    uint32_t nodes, smallest, largest;
    int adjoins; /* every node's ranks stand side by side */
    int ordered; /* by node, and rack, and zone */
};

static uint32_t size_of(const struct mt_plan_request *request, const uint32_t *group,
                        uint32_t first)
{
    uint32_t size = 0;
    for (uint32_t r = first; r < request->ranks; r++)
        size += group[r] == group[first];
    return size;
}

/* Groups are numbered by their lowest ranks: a new one has the next number. */
static int is_ordered(const struct mt_plan_request *request, enum mt_level level)
{
    const uint32_t *group = request->topology->group[level];
    for (uint32_t r = 1; r < request->ranks; r++)
        if (group[r] < group[r - 1])
            return 0;
    return 1;
}

static struct shape find_shape(const struct mt_plan_request *request)
{
    struct shape shape = {.nodes = 1, .smallest = request->ranks, .largest = request->ranks};
    shape.adjoins = shape.ordered = 1;
    if (!request->topology)
        return shape;
    const uint32_t *group = request->topology->group[MT_LEVEL_NODE];
    shape.adjoins = is_ordered(request, MT_LEVEL_NODE);
    shape.ordered =
        shape.adjoins && is_ordered(request, MT_LEVEL_RACK) && is_ordered(request, MT_LEVEL_ZONE);
    shape.nodes = shape.largest = 0;
    for (uint32_t r = 0; r < request->ranks; r++) {
        if (group[r] < shape.nodes)
            continue;
        uint32_t size = size_of(request, group, r);
        shape.nodes++;
        shape.smallest = size < shape.smallest ? size : shape.smallest;
        shape.largest = size > shape.largest ? size : shape.largest;
    }
    return shape;
}

static const char *unfit(const struct shape *shape)
{
    if (shape->nodes == 1)
        return "all ranks are on one node";
    if (shape->largest == 1)
        return "no two ranks are on one node";
    return NULL;
}

const char *mt_unfit_leaders(const struct mt_plan_request *request)
{
    const struct shape shape = find_shape(request);
    return unfit(&shape);
}

const char *mt_unfit_rails(const struct mt_plan_request *request)
{
    const struct shape shape = find_shape(request);
    if (!unfit(&shape) && shape.smallest == 1)
        return "a node has one rank only, so there is one rail: that is the plan of leaders";
    return unfit(&shape);
}

const char *mt_unfit_even_rails(const struct mt_plan_request *request)
{
    const struct shape shape = find_shape(request);
    if (!unfit(&shape) && shape.smallest != shape.largest)
        return "the nodes have different numbers of ranks";
    return unfit(&shape);
}

const char *mt_unfit_adjoining(const struct mt_plan_request *request)
{
    const struct shape shape = find_shape(request);
    if (!unfit(&shape) && !shape.adjoins)
        return "the ranks of a node do not stand side by side";
    return unfit(&shape);
}

const char *mt_unfit_order(const struct mt_plan_request *request)
{
    const struct shape shape = find_shape(request);
    return shape.ordered ? "the ranks stand in the order of their places already" : NULL;
}
