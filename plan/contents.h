/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the blocks of all ranks hold while plans are simulated: whose inputs are in them
 * (plan/contribution.h). Blocks beside each other that hold the same are kept as one run, so that
 * memory grows with what plans tell apart, not with ranks times blocks. A message is read when it
 * starts to move and written when its receive is complete.
 */
#ifndef MT_PLAN_CONTENTS_H
#define MT_PLAN_CONTENTS_H

#include "core/error.h"
#include "plan/match.h"

struct mt_contents;

/* 0 or MANTA_ENOMEM. The plans and the match outlive it. */
int mt_contents_open(const struct manta_plan *const *plans, uint32_t ranks,
                     const struct mt_plan_match *match, struct mt_contents **contents_out);
void mt_contents_close(struct mt_contents *contents);

/* What a step does to them; nothing once error->code is set. 0, MANTA_EPLAN with a sentence that
 * names rank and step, MANTA_ENOMEM.
 * send: the message starts; run: a receive, reduction or copy is complete, or a fused step of all
 * its members (once, for any of them); finish: the rank is done, its result must be there. */
int mt_contents_send(struct mt_contents *contents, uint32_t rank, uint32_t step,
                     struct mt_error *error);
int mt_contents_run(struct mt_contents *contents, uint32_t rank, uint32_t step,
                    struct mt_error *error);
int mt_contents_finish(struct mt_contents *contents, uint32_t rank, struct mt_error *error);

#endif
