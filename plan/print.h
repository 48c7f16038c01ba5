/* SPDX-License-Identifier: Apache-2.0 */
/* Plans as text, for people: one line a step. */
#ifndef MT_PLAN_PRINT_H
#define MT_PLAN_PRINT_H

#include <stddef.h>
#include <stdio.h>

#include <manta/plan.h>

/* The head, each step with its places and dependencies, the scratch. 0, or MANTA_ESYSTEM when the
 * stream has failed. */
int mt_plan_print(const struct manta_plan *plan, FILE *stream);
/* One step, without the end of the line; cut to text_bytes. Returns its full length. */
size_t mt_plan_describe(const struct manta_plan *plan, uint32_t step, char *text,
                        size_t text_bytes);

#endif
