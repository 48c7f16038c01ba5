/* SPDX-License-Identifier: Apache-2.0 */
/* Reads that push what cards have written to a device into its memory; see flush.c. */
#ifndef MT_TRANSPORT_VERBS_FLUSH_H
#define MT_TRANSPORT_VERBS_FLUSH_H

#include <stdint.h>

#include "transport/verbs/library.h"

struct mt_verbs_endpoint;
struct mt_verbs_offer;
struct mt_verbs_rail;

/* Be able to. 0, or an error that is set. */
int mt_verbs_flush_open(struct mt_verbs_endpoint *endpoint);
void mt_verbs_flush_close(struct mt_verbs_endpoint *endpoint, struct mt_verbs_rail *rail);
/* All of the offer is written: 0: it needs no read; 1: mt_verbs_offer_done() follows it. */
int mt_verbs_flush(struct mt_verbs_endpoint *endpoint, struct mt_verbs_offer *offer);
/* Is this the completion of such a read? Then it was dealt with. */
int mt_verbs_flush_completed(struct mt_verbs_endpoint *endpoint, const struct ibv_wc *wc);
/* 1: a message of this peer is here, but for its reads. */
int mt_verbs_flushing(const struct mt_verbs_endpoint *endpoint, uint32_t peer);
/* No memory of this peer's receives is read any more. */
void mt_verbs_flush_cease(struct mt_verbs_endpoint *endpoint, uint32_t peer);

#endif
