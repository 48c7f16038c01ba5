/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What carries bytes and does work, one server each: a rank's way out, its way in and its core,
 * which it has with its neighbours where ranks share CPUs (the model's crowd); the uplink of each
 * group of a topology, out and in; the memory of each node. A server works through what it is given
 * in the order in which it is given it, without a pause while there is work.
 *
 * A message from a to b occupies, from its start on, a's way out, the uplinks of all groups that it
 * leaves, those of all groups that it enters, and b's way in, all below the smallest group that
 * holds both; within a node it is copied in and out of the node's memory, between nodes by the
 * cores of both ends. It is through when the last of them is done with it. The ways of a rank are
 * as fast as the level at which the two meet.
 */
#ifndef MT_PLAN_LINKS_H
#define MT_PLAN_LINKS_H

#include "plan/cost.h"

struct mt_link {
    uint64_t free_ns, busy_ns; /* when it has nothing left to do; for how long it has worked */
    uint64_t slow_ppm;         /* parts per million of its speed that are left; 0: all */
};

enum mt_link_kind {
    MT_LINK_CORE,
    MT_LINK_OUT,
    MT_LINK_IN,
    MT_LINK_MEMORY,
    MT_LINK_UP,
    MT_LINK_DOWN
};

/* A link by name. index: rank, node or group. level: of UP and DOWN. */
struct mt_link_name {
    enum mt_link_kind kind;
    enum mt_level level;
    uint32_t index;
};

struct mt_links {
    const struct mt_cost_model *model;
    uint32_t ranks;
    struct mt_link *storage;
    struct mt_link *core, *out, *in;                 /* [ranks] */
    struct mt_link *memory;                          /* [nodes] */
    struct mt_link *up[MT_LEVELS], *down[MT_LEVELS]; /* [groups of the level]; NULL: no limit */
};

/* One way of a message. */
struct mt_links_way {
    uint32_t from, to;
    enum mt_level meet;
    uint64_t bytes;
};

/* Times saturate below UINT64_MAX / 2, so that sums of two do not wrap. */
static inline uint64_t mt_links_later(uint64_t x, uint64_t y)
{
    return x > y ? x : y;
}
uint64_t mt_links_times(uint64_t x, uint64_t y);
uint64_t mt_links_plus(uint64_t x, uint64_t y);
uint64_t mt_links_duration(uint64_t bytes, uint64_t ps_per_byte);

/* The links of the topology's first `ranks` ranks. 0 or MANTA_ENOMEM. Close them in either case. */
int mt_links_open(struct mt_links *links, const struct mt_cost_model *model, uint32_t ranks);
void mt_links_close(struct mt_links *links);

/* Work is given in the order of time: nothing that is given later may begin earlier. */

/* The two halves of a message that begins to move now, besides the cores' work. Each returns when
 * its last byte is through. */
uint64_t mt_links_leave(struct mt_links *links, const struct mt_links_way *way, uint64_t now_ns);
uint64_t mt_links_enter(struct mt_links *links, const struct mt_links_way *way, uint64_t now_ns);
/* Work of a rank's core on `bytes` that are reduced or copied. Returns when it is done. */
uint64_t mt_links_work(struct mt_links *links, uint32_t rank, uint64_t bytes, uint64_t now_ns);
/* Work of `ns` on a rank's core. Returns when it is done. */
uint64_t mt_links_spend(struct mt_links *links, uint32_t rank, uint64_t ns, uint64_t now_ns);
/* Work of `ns` in the memory of a rank's node. Returns when it is done. */
uint64_t mt_links_share(struct mt_links *links, uint32_t rank, uint64_t ns, uint64_t now_ns);

/* How long the busiest link has worked, and which one that is (may be NULL). */
uint64_t mt_links_busiest(const struct mt_links *links, struct mt_link_name *name_out);
/* Leave a group's uplinks, or at MT_LEVEL_CORE a rank's ways and core, `ppm` parts per million of
 * their speed. 0, or -1 when there is no such limit. */
int mt_links_slow(struct mt_links *links, enum mt_level level, uint32_t index, uint64_t ppm);

#endif
