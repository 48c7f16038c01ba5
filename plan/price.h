/* SPDX-License-Identifier: Apache-2.0 */
/* The price of one algorithm: of large groups by smaller ones that stand for them. */
#ifndef MT_PLAN_PRICE_H
#define MT_PLAN_PRICE_H

#include "plan/select.h"

/* Fills candidate->predicted_ns and messages for a call of `bytes`. */
int mt_price(const struct mt_cost_model *cost, const struct mt_plan_request *request,
             uint64_t bytes, struct mt_select_candidate *candidate, struct mt_error *error);

#endif
