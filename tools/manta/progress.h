/* SPDX-License-Identifier: Apache-2.0 */
/* What a command is at while it has nothing to print: on a terminal a line that comes and goes,
 * elsewhere one sentence, once, when the command takes long. On stderr. */
#ifndef MT_TOOLS_MANTA_PROGRESS_H
#define MT_TOOLS_MANTA_PROGRESS_H

#include <stdint.h>

/* command: "manta plan"; it is kept. what: "ring"; doing: "runs". progress_end() comes before
 * anything is printed; then there may be another begin. */
void progress_begin(const char *command, const char *what, const char *doing);
/* So much of all is done; or all is 0: nobody knows. */
void progress_set(const char *what, const char *doing, uint64_t done, uint64_t all);
void progress_end(void);

#endif
