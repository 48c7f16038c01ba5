/* SPDX-License-Identifier: Apache-2.0 */
/* Which operations publish in place, and when one that has done so is over. */
#include <stdio.h>

#include "transport/shm/fused.h"
#include "transport/shm/lend.h"

/* Others hold the lines that they have read in place: of what is short, its owner gains less by not
 * copying it than it loses when it writes it again. Nor need it be longer than some of the staging
 * ring. */
enum { LEND_BYTES = 64 * 1024, CHUNK_PART = 4 };
/* Of a short result the last readers' caches still hold the lines: it is slow to write. */
enum { LEND_RESULT_BYTES = 128 * 1024 };

/* Of a short reduction to a root not all members read what one publishes, so that nobody could tell
 * when it is theirs again. */
static int is_short_reduce(const struct mt_shm_op *op)
{
    return op->collective == MANTA_REDUCE && !op->two_phase;
}

/* The short allreduce has no second look at what others contribute. */
static int is_short_allreduce(const struct mt_shm_op *op)
{
    return op->collective == MANTA_ALLREDUCE && !op->two_phase;
}

void mt_shm_op_lends(const struct mt_shm_team *team, struct mt_shm_op *op)
{
    uint64_t bytes = op->elements * op->size, part = team->chunk_bytes / CHUNK_PART;
    op->lends_src = op->publishes && bytes > (part < LEND_BYTES ? part : LEND_BYTES) &&
                    !op->grouped && !is_short_reduce(op);
    op->lends_dst =
        op->two_phase && op->collective == MANTA_ALLREDUCE && bytes >= LEND_RESULT_BYTES;
}

/* The caller may have written past the caches, as fast copies do, and a release does not order such
 * stores. What is staged is read by this core, which sees them anyway. */
static void drain_stores(void)
{
#if defined(__x86_64__)
    __builtin_ia32_sfence();
#endif
}

static int is_cached_broadcast(const struct mt_shm_endpoint *endpoint,
                               const struct mt_shm_team *team, const struct mt_shm_op *op)
{
    return op->collective == MANTA_BROADCAST && !team->distance.is_far &&
           op->elements * op->size <= endpoint->cached_bytes;
}

/* The same where roots take turns: those who have read the last broadcast in place hold the lines
 * that this one is to be written to. For far members staging is the slower way even so. */
static int had_better_be_staged(const struct mt_shm_endpoint *endpoint,
                                const struct mt_shm_team *team, const struct mt_shm_op *op)
{
    return team->last_root != op->root && team->last_root != MT_SHM_NOBODY &&
           is_cached_broadcast(endpoint, team, op);
}

void mt_shm_op_lend(struct mt_shm_endpoint *endpoint, const struct mt_shm_team *team,
                    struct mt_shm_op *op)
{
    const uint8_t *from = op->src;
    uint64_t bytes = mt_shm_part_length(op, team->me) * op->size;
    mt_shm_lend_forget(endpoint);
    if (is_short_allreduce(op) && op->dst == op->src)
        return;
    if (op->offsets != NULL)
        from += mt_shm_part(op, op->collective == MANTA_ALLGATHER ? team->me : 0);
    if (op->collective == MANTA_REDUCE_SCATTER)
        bytes = mt_shm_part(op, team->count - 1) - mt_shm_part(op, 0) +
                mt_shm_part_length(op, team->count - 1) * op->size;
    op->lent_src = mt_shm_lend(endpoint, team, from, bytes);
    if (had_better_be_staged(endpoint, team, op)) /* but the peers know the segment from now on */
        op->lent_src.segment = 0;
    if (op->lent_src.segment != 0)
        drain_stores();
    if (op->lends_dst)
        op->lent_dst =
            op->dst == op->src ? op->lent_src : mt_shm_lend(endpoint, team, op->dst, bytes);
}

void mt_shm_op_describe(const struct mt_shm_endpoint *endpoint, const struct mt_shm_team *team,
                        const struct mt_shm_op *op, char *text, size_t text_bytes)
{
    struct mt_shm_op publishers = *op; /* this rank may be none */
    publishers.publishes = 1;
    mt_shm_op_lends(team, &publishers);
    const char *what = publishers.lends_dst                ? "src and dst"
                       : op->collective == MANTA_BROADCAST ? "root's buf"
                                                           : "src";
    const char *unless = is_short_allreduce(op)                    ? ", unless dst is src"
                         : is_cached_broadcast(endpoint, team, op) ? ", unless roots take turns"
                                                                   : "";
    const char *why = op->grouped           ? "ranks combine in groups"
                      : is_short_reduce(op) ? "the reduction is short"
                                            : "a part is no longer than 64 KiB";
    if (publishers.lends_src)
        snprintf(text, text_bytes,
                 "symmetric memory is read in place by the ranks of this node (%s%s), other memory "
                 "is copied for them",
                 what, unless);
    else
        snprintf(text, text_bytes,
                 "symmetric memory is copied for the ranks of this node like any other: %s", why);
}

int mt_shm_op_settle(struct mt_shm_endpoint *endpoint, struct mt_shm_team *team,
                     const struct mt_shm_op *op, uint32_t *peer_out)
{
    if (team->owes_report && team->reported < team->consumed)
        mt_shm_team_report(endpoint, team, op->hash);
    team->owes_report = 0;
    if (op->collective == MANTA_BROADCAST)
        team->last_root = op->root;
    return op->lent_end == 0 ? 0 : mt_shm_team_done(endpoint, team, op->lent_end, peer_out);
}
