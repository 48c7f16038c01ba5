/* SPDX-License-Identifier: Apache-2.0 */
/* What the ranks of a communicator tell each other when it is created: offer.c puts it on the wire,
 * routes.c makes routes of it. */
#ifndef MT_COLLECTIVES_OFFER_H
#define MT_COLLECTIVES_OFFER_H

#include "collectives/comm.h"
#include "topology/cpus.h"

enum { MT_OFFER_TEXT = 192 };

/* The CPUs that a rank may run on, how much of them, and, for each transport of the list, in order,
 * its length and address, and its name and version; or, if it has none (length 0), why not. */
struct mt_rank_offer {
    struct mt_cpus cpus;
    uint64_t quota_millicpus; /* 0: none */
    uint16_t bytes[MT_ENDPOINTS];
    uint8_t blobs[MT_ENDPOINTS][MANTA_TRANSPORT_ADDRESS_MAX];
    char text[MT_ENDPOINTS][MT_OFFER_TEXT];
};

/* offers[r] receives what rank r offers. What is of another version than this rank's is not offered
 * to it. */
int mt_offer_exchange(struct manta_comm *comm, const struct mt_rank_offer *mine, uint32_t count,
                      struct mt_rank_offer *offers, uint64_t deadline_ns, struct mt_error *error);

/* Every rank gives bytes; exchange_out->parts has all of them until it is released, which must also
 * be done after an error. */
int mt_offer_gather(struct manta_comm *comm, const void *mine, size_t bytes, uint64_t deadline_ns,
                    struct mt_exchange *exchange_out, struct mt_error *error);
void mt_offer_release(struct mt_exchange *exchange);

#endif
