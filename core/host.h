/* SPDX-License-Identifier: Apache-2.0 */
/* What this process is and where it runs, as told to the other ranks. */
#ifndef MT_CORE_HOST_H
#define MT_CORE_HOST_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "core/group.h"

/* What stands for a name: equal names have equal numbers, never 0. FNV-1a. */
uint64_t mt_host_hash(const char *name, size_t bytes);
/* Start time of a process (field 22 of its stat), 0 if there is none. */
uint64_t mt_host_process_start(pid_t pid);
/* What tells the network namespace of a socket from others of this host, 0: not known. */
uint64_t mt_host_net_namespace(int fd);
/* Everything but rank, and what the listener knows: net_namespace, unix_name and addresses. node
 * NULL or "": MANTA_NODE, else the boot id. */
void mt_host_describe(const char *node, struct mt_member *member_out);

#endif
