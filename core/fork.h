/* SPDX-License-Identifier: Apache-2.0 */
/* What happens in a child that was forked from a process that uses the library; see service.h for
 * the set of descriptors and the generation. */
#ifndef MT_CORE_FORK_H
#define MT_CORE_FORK_H

/* Call `reset` in a forked child, after all descriptors were closed: it makes the static state of
 * its file as in a fresh process. It must be async-signal-safe. At most 12, each entered once. */
typedef void mt_fork_reset_fn(void);
void mt_fork_on_child(mt_fork_reset_fn *reset);

#endif
