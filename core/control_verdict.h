/* SPDX-License-Identifier: Apache-2.0 */
/* From the answers to an inquiry to the error: who is at fault, in words. */
#ifndef MT_CORE_CONTROL_VERDICT_H
#define MT_CORE_CONTROL_VERDICT_H

#include "core/control_impl.h"

/* The deadline of `call` has passed here. At fault is, in this order: who does not answer, who
 * called something else, who has not called, who has left; never one that waits in the call or has
 * ended it. 1 if somebody is at fault, 0 if nobody is (then, too, there is an error to tell). */
int mt_verdict_timeout(const struct mt_control *control, const struct mt_call *call,
                       struct mt_error *error_out);
/* On whom `call` waits here, as the answers tell: all ranks that have not come to it, by what they
 * do instead. */
void mt_verdict_waits(const struct mt_control *control, const struct mt_call *call,
                      char text[MT_WHOM_TEXT]);
/* `rank` has left, and `call` needs it. */
void mt_verdict_left(const struct mt_control *control, const struct mt_call *call, uint32_t rank,
                     struct mt_error *error_out);
/* A message of `peer` does not fit `call`. */
void mt_verdict_mismatch(const struct mt_control *control, const struct mt_call *call,
                         uint32_t peer, struct mt_error *error_out);

#endif
