/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a card has written to memory of a device may not be visible there when libfabric tells that
 * it has come. A read from there by the same endpoint cannot overtake it: so, of memory that was
 * registered with MANTA_BUFFER_FLUSH, the endpoint reads a byte of each piece from itself, one
 * piece after the other, before the receive is complete (as the plugins of NCCL for libfabric do).
 */
#include <string.h>

#include "transport/ofi/ofi.h"

enum { NAME_BYTES = 256 };

static int cannot(struct mt_ofi_endpoint *endpoint, int error, const char *what)
{
    return mt_messages_error_set(
        endpoint->messages, MANTA_ENOTSUP, MANTA_PLAN_NONE, -error,
        "libfabric's provider %s cannot read from its own endpoint, which memory of this device "
        "needs: %s: %s",
        endpoint->provider, what, endpoint->library->strerror(-error));
}

int mt_ofi_flush_open(struct mt_ofi_endpoint *endpoint)
{
    uint8_t name[NAME_BYTES];
    size_t bytes = sizeof(name);
    if (endpoint->own_address != FI_ADDR_UNSPEC)
        return 0;
    if (endpoint->endpoint == NULL)
        return cannot(endpoint, -FI_ENOTCONN, "it is closed");
    if (endpoint->offers == NULL || !(endpoint->info->caps & FI_READ) ||
        !(endpoint->info->caps & FI_REMOTE_READ))
        return cannot(endpoint, -FI_EOPNOTSUPP, "it does not read");
    int code = fi_getname(&endpoint->endpoint->fid, name, &bytes);
    if (code != 0)
        return cannot(endpoint, code, "no name");
    if (endpoint->flush_region == NULL)
        code = mt_ofi_local_register(endpoint, &endpoint->flush_byte, 1, FI_READ,
                                     &endpoint->flush_region);
    if (code != 0)
        return cannot(endpoint, code, "no registration");
    if (fi_av_insert(endpoint->table, name, 1, &endpoint->own_address, 0, NULL) == 1)
        return 0;
    endpoint->own_address = FI_ADDR_UNSPEC;
    return cannot(endpoint, -FI_EINVAL, "it does not take its own address");
}

static int needs_flush(const struct mt_ofi_offer *offer, uint32_t piece)
{
    const struct mt_registration *registration = offer->registrations[piece];
    return registration != NULL && (registration->flags & MANTA_BUFFER_FLUSH);
}

static void fail(struct mt_ofi_endpoint *endpoint, int error)
{
    endpoint->failure = mt_messages_error_set(
        endpoint->messages, MANTA_ETRANSPORT, MANTA_PLAN_NONE, error,
        "libfabric (provider %s) cannot read from memory of the device that was written to, so "
        "nobody knows whether a message is in place: %s",
        endpoint->provider, endpoint->library->strerror(error));
}

static void set_waits(struct mt_ofi_endpoint *endpoint, struct mt_ofi_offer *offer, int waits)
{
    endpoint->flush_waits += (uint32_t)(waits - offer->waits);
    offer->waits = waits;
}

/* Any byte of the registration serves. */
static void read_one(struct mt_ofi_endpoint *endpoint, struct mt_ofi_offer *offer)
{
    const struct mt_registration *registration = offer->registrations[offer->flushed];
    struct fid_mr *region = registration->handle;
    void *desc = endpoint->flush_region != NULL ? fi_mr_desc(endpoint->flush_region) : NULL;
    int is_virtual = (endpoint->info->domain_attr->mr_mode & FI_MR_VIRT_ADDR) != 0;
    offer->work.kind = MT_OFI_FLUSHING;
    ssize_t code =
        fi_read(endpoint->endpoint, &endpoint->flush_byte, 1, desc, endpoint->own_address,
                is_virtual ? registration->start : 0, fi_mr_key(region), &offer->work.context);
    set_waits(endpoint, offer, code == -FI_EAGAIN);
    if (code != 0 && code != -FI_EAGAIN)
        fail(endpoint, (int)-code);
    if (code == -FI_EAGAIN)
        mt_ofi_peer_dirty(endpoint, &endpoint->peers[offer->peer]);
}

/* 1: a read is under way, or waits. */
static int read_next(struct mt_ofi_endpoint *endpoint, struct mt_ofi_offer *offer)
{
    while (offer->flushed < offer->count && !needs_flush(offer, offer->flushed))
        offer->flushed++;
    offer->is_flushing = offer->flushed < offer->count;
    if (offer->is_flushing)
        read_one(endpoint, offer);
    return offer->is_flushing;
}

int mt_ofi_flush(struct mt_ofi_endpoint *endpoint, struct mt_ofi_offer *offer)
{
    offer->flushed = 0;
    return read_next(endpoint, offer);
}

void mt_ofi_flush_completed(struct mt_ofi_endpoint *endpoint, struct mt_ofi_offer *offer, int error)
{
    if (!offer->is_flushing)
        return;
    if (error != 0) {
        fail(endpoint, error);
        return;
    }
    offer->flushed++;
    if (!read_next(endpoint, offer))
        mt_ofi_offer_done(endpoint, offer);
}

void mt_ofi_flush_forget(struct mt_ofi_endpoint *endpoint, struct mt_ofi_offer *offer)
{
    set_waits(endpoint, offer, 0);
    offer->is_flushing = 0;
}

void mt_ofi_flush_push(struct mt_ofi_endpoint *endpoint)
{
    for (uint32_t i = 0; i < MT_OFI_OFFERS && endpoint->flush_waits > 0; i++) {
        if (endpoint->offers[i].waits)
            read_one(endpoint, &endpoint->offers[i]);
    }
}
