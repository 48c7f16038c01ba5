/* SPDX-License-Identifier: Apache-2.0 */
/* Binding: the blocks of a plan become bytes of the caller's buffers, one segment at a time. */
#include "collectives/comm.h"

enum { LINE = 64, ALIGN_FROM_BYTES = 4096 };

static uint64_t min_u64(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* How many elements (of one rank's part, for the RANKS layout) run through the plan at once.
 * Depends only on what all ranks pass alike. */
void mt_bind_segments(const struct manta_comm *comm, struct manta_request *request)
{
    const struct manta_plan *plan = request->entry->plan;
    uint64_t bytes = comm->cost.segment_bytes;
    request->segment_elements = request->count;
    request->segments = 1;
    if (plan->layout == MANTA_PLAN_RANKS)
        bytes /= plan->ranks;
    /* A short call is spared the divisions: it fits whatever the rounding below. */
    if (plan->whole || request->count <= LINE ||
        (request->count + LINE) * request->element_bytes <= bytes)
        return;
    uint64_t elements = bytes / request->element_bytes;
    elements -= elements % LINE;
    if (elements < LINE)
        elements = LINE;
    if (request->count <= elements)
        return;
    request->segment_elements = elements;
    request->segments = (request->count + elements - 1) / elements;
}

/* First element of part `index` of `parts` of a vector: floor(index * count / parts), on a cache
 * line when the parts are long. The product is split so that it cannot overflow. */
static uint64_t part_start(uint64_t count, uint64_t index, uint64_t parts, uint64_t element_bytes)
{
    if (index == parts)
        return count;
    uint64_t start = count / parts * index + count % parts * index / parts;
    if (count / parts * element_bytes >= ALIGN_FROM_BYTES)
        start -= start % (LINE / element_bytes);
    return start;
}

static uint64_t longest_part(uint64_t count, uint64_t parts, uint64_t element_bytes)
{
    uint64_t slack = LINE / element_bytes + 1;
    return min_u64(count, count / parts + slack);
}

static uint64_t stride_bytes(const struct manta_request *request)
{
    const struct manta_plan *plan = request->entry->plan;
    uint64_t parts = plan->layout == MANTA_PLAN_RANKS ? plan->blocks / plan->ranks : plan->blocks;
    uint64_t bytes = longest_part(request->segment_elements, parts, request->element_bytes) *
                     request->element_bytes;
    return (bytes + LINE - 1) / LINE * LINE;
}

uint64_t mt_bind_scratch_bytes(const struct manta_request *request)
{
    if (request->entry->scratch_blocks == 0)
        return 0;
    return stride_bytes(request) * request->entry->scratch_blocks;
}

void mt_bind_blocks(const struct manta_request *request, uint64_t first, uint64_t length,
                    uint64_t *start_out, uint64_t *bytes_out)
{
    const struct manta_plan *plan = request->entry->plan;
    uint64_t size = request->element_bytes;
    uint32_t vectors = plan->layout == MANTA_PLAN_RANKS ? plan->ranks : 1;
    uint32_t parts = plan->blocks / vectors;

    for (uint32_t vector = 0, b = 0; vector < vectors; vector++) {
        for (uint64_t part = 0, start = 0, end; part < parts; part++, b++, start = end) {
            end = part_start(length, part + 1, parts, size);
            start_out[b] = (vector * request->count + first + start) * size;
            start_out[b + 1] = start_out[b] + (end - start) * size;
            if (bytes_out)
                bytes_out[b] = (end - start) * size;
        }
    }
}

void mt_bind_slot(const struct manta_request *request, struct mt_slot *slot, uint64_t segment)
{
    const struct mt_entry *entry = request->entry;
    uint64_t first = segment * request->segment_elements;
    uint64_t length = min_u64(request->segment_elements, request->count - first);
    slot->segment = segment;
    if (request->segments > 1 || slot->bound_count != request->count ||
        slot->bound_element_bytes != request->element_bytes) {
        mt_bind_blocks(request, first, length, slot->block_start, slot->block_bytes);
        slot->stride_bytes = entry->scratch_blocks > 0 ? stride_bytes(request) : 0;
        slot->bound_count = request->segments == 1 ? request->count : 0;
        slot->bound_element_bytes = request->element_bytes;
    }
    slot->scratch = (char *)request->instance->scratch;
    if (entry->scratch_blocks > 0)
        slot->scratch += segment % MT_PLAN_DEPTH * entry->scratch_blocks * slot->stride_bytes;
}
