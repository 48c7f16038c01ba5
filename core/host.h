/* SPDX-License-Identifier: Apache-2.0 */
/* What this process is and where it runs, as told to the other ranks. */
#ifndef MT_CORE_HOST_H
#define MT_CORE_HOST_H

#include <stdint.h>
#include <sys/types.h>

#include "core/group.h"

/* Start time of a process (field 22 of its stat), 0 if there is none. */
uint64_t mt_host_process_start(pid_t pid);
/* Everything but rank, unix_name and addresses. node NULL or "": MANTA_NODE, else the boot id. */
void mt_host_describe(const char *node, struct mt_member *member_out);

#endif
