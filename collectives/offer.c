/* SPDX-License-Identifier: Apache-2.0 */
#include "collectives/offer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* On the wire an offer is the quota, the number of words of CPUs that are not 0, those words, and,
 * for each transport of the list, two bytes of length, the address, a byte of length, the text. */
static size_t pack(const struct mt_rank_offer *offer, uint32_t count, uint8_t *packed)
{
    uint16_t words = MT_CPUS_WORDS;
    while (words > 0 && offer->cpus.words[words - 1] == 0)
        words--;
    size_t used = sizeof(offer->quota_millicpus);
    memcpy(packed, &offer->quota_millicpus, used);
    memcpy(packed + used, &words, sizeof(words));
    used += sizeof(words);
    memcpy(packed + used, offer->cpus.words, words * sizeof(uint64_t));
    used += words * sizeof(uint64_t);
    for (uint32_t i = 0; i < count; i++) {
        uint8_t text_bytes = (uint8_t)strlen(offer->text[i]);
        memcpy(packed + used, &offer->bytes[i], sizeof(uint16_t));
        memcpy(packed + used + sizeof(uint16_t), offer->blobs[i], offer->bytes[i]);
        used += sizeof(uint16_t) + offer->bytes[i];
        packed[used++] = text_bytes;
        memcpy(packed + used, offer->text[i], text_bytes);
        used += text_bytes;
    }
    return used;
}

static int unpack_cpus(const uint8_t **packed, size_t *bytes, struct mt_rank_offer *offer)
{
    uint16_t words;
    const size_t head = sizeof(offer->quota_millicpus) + sizeof(words);
    if (*bytes < head)
        return MANTA_EVERSION;
    memcpy(&offer->quota_millicpus, *packed, sizeof(offer->quota_millicpus));
    memcpy(&words, *packed + sizeof(offer->quota_millicpus), sizeof(words));
    size_t length = head + words * sizeof(uint64_t);
    if (words > MT_CPUS_WORDS || *bytes < length)
        return MANTA_EVERSION;
    memcpy(offer->cpus.words, *packed + head, length - head);
    *packed += length;
    *bytes -= length;
    return 0;
}

/* The next `length` bytes, if there are so many. */
static int take(const uint8_t **packed, size_t *bytes, size_t length, void *out)
{
    if (*bytes < length)
        return MANTA_EVERSION;
    memcpy(out, *packed, length);
    *packed += length;
    *bytes -= length;
    return 0;
}

static int unpack_transport(const uint8_t **packed, size_t *bytes, uint32_t index,
                            struct mt_rank_offer *offer)
{
    uint8_t text_bytes;
    if (take(packed, bytes, sizeof(uint16_t), &offer->bytes[index]) ||
        offer->bytes[index] > MANTA_TRANSPORT_ADDRESS_MAX ||
        take(packed, bytes, offer->bytes[index], offer->blobs[index]) ||
        take(packed, bytes, sizeof(text_bytes), &text_bytes) || text_bytes >= MT_OFFER_TEXT ||
        take(packed, bytes, text_bytes, offer->text[index]))
        return MANTA_EVERSION;
    offer->text[index][text_bytes] = '\0';
    return 0;
}

static int unpack(const uint8_t *packed, size_t bytes, uint32_t count, struct mt_rank_offer *offer)
{
    int rc = unpack_cpus(&packed, &bytes, offer);
    for (uint32_t i = 0; !rc && i < count; i++)
        rc = unpack_transport(&packed, &bytes, i, offer);
    return rc || bytes ? MANTA_EVERSION : 0;
}

int mt_offer_gather(struct manta_comm *comm, const void *mine, size_t bytes, uint64_t deadline_ns,
                    struct mt_exchange *exchange_out, struct mt_error *error)
{
    *exchange_out = (struct mt_exchange){.mine = mine,
                                         .mine_bytes = bytes,
                                         .deadline_ns = deadline_ns,
                                         .parts = calloc(comm->ranks, sizeof(void *)),
                                         .part_bytes = calloc(comm->ranks, sizeof(size_t))};
    if (!exchange_out->parts || !exchange_out->part_bytes)
        return mt_error_set(error, MANTA_ENOMEM, "no memory for what %u ranks tell", comm->ranks);
    return mt_control_allgather(comm->control, exchange_out, error);
}

void mt_offer_release(struct mt_exchange *exchange)
{
    free(exchange->storage);
    free(exchange->parts);
    free(exchange->part_bytes);
}

/* Both ranks of a pair find the same. */
static void withdraw_others(const struct manta_comm *comm, uint32_t count,
                            struct mt_rank_offer *offers)
{
    const struct mt_rank_offer *mine = &offers[comm->rank];
    char own[MT_OFFER_TEXT], theirs[MT_OFFER_TEXT];
    for (uint32_t r = 0; r < comm->ranks; r++) {
        for (uint32_t i = 0; i < count; i++) {
            struct mt_rank_offer *offer = &offers[r];
            if (offer->bytes[i] == 0 || mine->bytes[i] == 0 ||
                strcmp(offer->text[i], mine->text[i]) == 0)
                continue;
            memcpy(theirs, offer->text[i], sizeof(theirs));
            memcpy(own, mine->text[i], sizeof(own));
            offer->bytes[i] = 0;
            snprintf(offer->text[i], MT_OFFER_TEXT,
                     "it has %.60s, this rank has %.60s; install one version on all hosts", theirs,
                     own);
        }
    }
}

int mt_offer_exchange(struct manta_comm *comm, const struct mt_rank_offer *mine, uint32_t count,
                      struct mt_rank_offer *offers, uint64_t deadline_ns, struct mt_error *error)
{
    uint8_t packed[sizeof(struct mt_rank_offer) + sizeof(uint16_t)];
    struct mt_exchange exchange;
    int rc =
        mt_offer_gather(comm, packed, pack(mine, count, packed), deadline_ns, &exchange, error);
    for (uint32_t r = 0; !rc && r < comm->ranks; r++) {
        if (unpack(exchange.parts[r], exchange.part_bytes[r], count, &offers[r]))
            rc = mt_error_set_rank(error, MANTA_EVERSION, (int)r,
                                   "rank %u gave its addresses in another form", r);
    }
    mt_offer_release(&exchange);
    if (!rc)
        withdraw_others(comm, count, offers);
    return rc;
}
