/* SPDX-License-Identifier: Apache-2.0 */
/* Ranks as processes: each is forked, joins a fresh session and runs the same function. Nothing of
 * one rank can move another's communicator on, as it may among threads. */
#ifndef TESTS_SUPPORT_RANK_PROCESSES_H
#define TESTS_SUPPORT_RANK_PROCESSES_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "tests/support/ranks.h"

/* Run fn on every rank; 0 if all succeeded, else the number of ranks that failed, or were killed
 * because they had not ended after a minute. The test itself must not use the library. */
int rank_processes_run(const struct ranks_options *options, rank_fn *fn, void *arg);

/* Wait for a rank's process, which is killed when it has not ended by then; its wait status. */
int rank_process_end(pid_t pid, uint64_t until_ns);

/* Memory that processes forked later share, zeroed; for arg. */
void *shared_memory(size_t bytes);
/* Wait until *stage >= wanted; after 20 s the process ends with a message. */
void await_stage(const _Atomic int *stage, int wanted);

#endif
