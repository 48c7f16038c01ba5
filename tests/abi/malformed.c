/* SPDX-License-Identifier: Apache-2.0 */
/* Plugins that the loader must refuse, and such as it must take: MANTA_PLUGIN_MALFORMED names which
 * of them this one is. They do nothing. */
#include <manta/transport.h>
#include <stddef.h>
#include <string.h>

static int open_op(const struct manta_transport_open *params, void **endpoint_out,
                   struct manta_transport_error *error)
{
    (void)params;
    *endpoint_out = NULL;
    (void)error;
    return MANTA_ENOTSUP;
}

static int address(void *endpoint, void *blob, size_t blob_bytes, size_t *bytes_out)
{
    (void)endpoint;
    (void)blob;
    *bytes_out = blob_bytes;
    return 0;
}

static int peers(void *endpoint, const void *const *addresses, const size_t *address_bytes)
{
    (void)endpoint;
    (void)addresses;
    (void)address_bytes;
    return 0;
}

static int probe(void *endpoint, uint32_t peer, struct manta_transport_properties *properties)
{
    (void)endpoint;
    (void)peer;
    (void)properties;
    return 0;
}

static int connect_op(void *endpoint, uint32_t peer, uint64_t deadline_ns)
{
    (void)endpoint;
    (void)peer;
    (void)deadline_ns;
    return 0;
}

static int post(void *endpoint, const struct manta_transport_message *message,
                struct manta_transport_request *request)
{
    (void)endpoint;
    (void)message;
    (void)request;
    return 0;
}

static int progress(void *endpoint)
{
    (void)endpoint;
    return 0;
}

static int peer_status(void *endpoint, uint32_t peer)
{
    (void)endpoint;
    return (int)peer;
}

static void error_op(void *endpoint, struct manta_transport_error *error_out)
{
    (void)endpoint;
    (void)error_out;
}

static int abort_op(void *endpoint, int code)
{
    (void)endpoint;
    return code;
}

static void close_op(void *endpoint)
{
    (void)endpoint;
}

/* A table with fields that no library of today knows. */
static struct {
    struct manta_transport known;
    void *later[4];
} table;

static void make(void)
{
    table.known = (struct manta_transport){.size = sizeof table.known,
                                           .abi = MANTA_TRANSPORT_ABI,
                                           .name = "malformed",
                                           .open = open_op,
                                           .address = address,
                                           .peers = peers,
                                           .probe = probe,
                                           .connect = connect_op,
                                           .send = post,
                                           .recv = post,
                                           .progress = progress,
                                           .peer_status = peer_status,
                                           .error = error_op,
                                           .abort = abort_op,
                                           .close = close_op};
    memset(table.later, 0xee, sizeof table.later);
}

static int fused_post(void *endpoint, struct manta_transport_fused_call *call,
                      struct manta_transport_request *request)
{
    (void)endpoint;
    (void)call;
    (void)request;
    return 0;
}

static void spoil_name(struct manta_transport *known, const char *how)
{
    if (strcmp(how, "no-name") == 0)
        known->name = NULL;
    else if (strcmp(how, "empty-name") == 0)
        known->name = "";
    else if (strcmp(how, "long-name") == 0)
        known->name = "a234567890123456";
    else if (strcmp(how, "loud-name") == 0)
        known->name = "Loud";
    else if (strcmp(how, "taken-name") == 0)
        known->name = "tcp";
    else if (strcmp(how, "size-least") == 0)
        known->name = "least";
    else if (strcmp(how, "size-more") == 0)
        known->name = "more";
    else if (strcmp(how, "version") == 0)
        known->version = "1\n2";
}

/* What is beyond the size that it says is nobody's business. */
static void shorten(struct manta_transport *known, size_t size)
{
    known->size = size;
    memset((char *)known + size, 0xee, sizeof *known - size);
}

static void spoil(struct manta_transport *known, const char *how)
{
    if (strcmp(how, "abi-older") == 0)
        known->abi = MANTA_TRANSPORT_ABI - 1;
    else if (strcmp(how, "abi-newer") == 0)
        known->abi = MANTA_TRANSPORT_ABI + 1;
    else if (strcmp(how, "size-0") == 0)
        known->size = 0;
    else if (strcmp(how, "size-short") == 0)
        shorten(known, offsetof(struct manta_transport, close));
    else if (strcmp(how, "size-least") == 0)
        shorten(known, offsetof(struct manta_transport, counters));
    else if (strcmp(how, "size-more") == 0)
        known->size = sizeof table;
    else if (strcmp(how, "size-wild") == 0)
        known->size = SIZE_MAX;
    else if (strcmp(how, "flags") == 0)
        known->flags = 4;
    else if (strcmp(how, "no-recv") == 0)
        known->recv = NULL;
    else if (strcmp(how, "half-fused") == 0)
        known->fused_post = fused_post;
    spoil_name(known, how);
}

const struct manta_transport *manta_transport_plugin(const struct manta_transport_host *host)
{
    const char *how = host->config("PLUGIN_MALFORMED");
    make();
    if (how != NULL)
        spoil(&table.known, how);
    return how != NULL && strcmp(how, "nothing") == 0 ? NULL : &table.known;
}
