/* SPDX-License-Identifier: Apache-2.0 */
/* Scratch memory of a communicator's calls. It goes from call to call, whatever their plans, so
 * that there is as much of it as calls are under way together, and not as plans were ever used. */
#include <stdlib.h>

#include "collectives/comm.h"

enum { ALIGN = 4096 };

/* The link to the smallest free one that suffices; else, *suffices_out is 0, to the largest. */
static struct mt_scratch **best_fit(struct mt_scratch **free_list, uint64_t bytes,
                                    int *suffices_out)
{
    struct mt_scratch **best = NULL;
    int best_fits = 0;
    for (struct mt_scratch **link = free_list; *link; link = &(*link)->next) {
        int fits = (*link)->bytes >= bytes;
        int smaller = best && (*link)->bytes < (*best)->bytes;
        if (!best || fits > best_fits || (fits == best_fits && smaller == fits)) {
            best = link;
            best_fits = fits;
        }
    }
    *suffices_out = best_fits;
    return best;
}

static int grow(struct mt_scratch *scratch, uint64_t bytes)
{
    void *memory = NULL;
    if (posix_memalign(&memory, ALIGN, bytes))
        return MANTA_ENOMEM;
    free(scratch->memory);
    scratch->memory = memory;
    scratch->bytes = bytes;
    return 0;
}

struct mt_scratch *mt_scratch_take(struct manta_comm *comm, uint64_t bytes)
{
    int suffices;
    struct mt_scratch **link = best_fit(&comm->scratch, bytes, &suffices);
    struct mt_scratch *scratch = link ? *link : calloc(1, sizeof(*scratch));
    if (!scratch || (!suffices && grow(scratch, bytes))) {
        if (!link)
            free(scratch);
        return NULL;
    }
    if (link)
        *link = scratch->next;
    return scratch;
}

void mt_scratch_give(struct manta_comm *comm, struct mt_scratch *scratch)
{
    scratch->next = comm->scratch;
    comm->scratch = scratch;
}

void mt_scratch_clear(struct manta_comm *comm)
{
    while (comm->scratch) {
        struct mt_scratch *next = comm->scratch->next;
        free(comm->scratch->memory);
        free(comm->scratch);
        comm->scratch = next;
    }
}
