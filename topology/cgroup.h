/* SPDX-License-Identifier: Apache-2.0 */
/* The CPU time and the memory that control groups grant to this process, version 1 and 2. */
#ifndef MT_TOPOLOGY_CGROUP_H
#define MT_TOPOLOGY_CGROUP_H

#include <stdint.h>

/*
 * The tightest quota on the way from this process's group to the top, in thousandths of a CPU;
 * 0 when there is none or it cannot be read. root is put before every path: "" for this host, a
 * folder with a copy of proc and the mounted files in tests. Never fails, blocks for file I/O.
 */
uint64_t mt_cgroup_millicpus(const char *root);

/*
 * Bytes that the groups on that way still leave to this process: limit less use, but for cached
 * files, and as much of swap_bytes, the host's free ones, as they let it swap. UINT64_MAX when
 * there is no limit or it cannot be read. The rest as above.
 */
uint64_t mt_cgroup_room_bytes(const char *root, uint64_t swap_bytes);

#endif
