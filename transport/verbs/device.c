/* SPDX-License-Identifier: Apache-2.0 */
/* Which ports of which cards this rank uses, nearest first, and which GIDs they have. */
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/log.h"
#include "core/service.h"
#include "topology/place.h"
#include "transport/verbs/verbs.h"

enum { TEXT = 128, GIDS_LOOKED_AT = 256 };

uint8_t mt_verbs_gid_kind(const uint8_t raw[16])
{
    static const uint8_t mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
    if (memcmp(raw, mapped, sizeof(mapped)) == 0)
        return MT_VERBS_IPV4;
    return raw[0] == 0xfe && (raw[1] & 0xc0) == 0x80 ? MT_VERBS_LINK_LOCAL : MT_VERBS_IPV6;
}

void mt_verbs_gid_format(const struct mt_verbs_gid *gid, char *text, size_t text_bytes)
{
    int is_ipv4 = gid->kind == MT_VERBS_IPV4;
    if (inet_ntop(is_ipv4 ? AF_INET : AF_INET6, gid->raw + (is_ipv4 ? 12 : 0), text,
                  (socklen_t)text_bytes) == NULL)
        snprintf(text, text_bytes, "?");
}

/* The first line of a file about the device in sysfs; 0 if there is none. */
static int read_line(const char *device, const char *file, char *line, int line_bytes)
{
    char path[256];
    snprintf(path, sizeof(path), "/sys/class/infiniband/%s/%s", device, file);
    FILE *opened = fopen(path, "re");
    if (opened == NULL)
        return 0;
    int found = fgets(line, line_bytes, opened) != NULL;
    fclose(opened);
    return found;
}

/* RoCE in Ethernet frames alone cannot leave a network: only what goes by UDP is used. */
static int is_routable(const char *device, uint32_t port, int index)
{
    char file[64], line[TEXT];
    snprintf(file, sizeof(file), "ports/%u/gid_attrs/types/%d", port, index);
    return !read_line(device, file, line, sizeof(line)) || strstr(line, "v2") != NULL;
}

/* MANTA_VERBS_GID: a place in the table, or the address itself. */
static int is_wanted(const char *wanted, const struct mt_verbs_gid *gid)
{
    char text[INET6_ADDRSTRLEN], index[16];
    mt_verbs_gid_format(gid, text, sizeof(text));
    snprintf(index, sizeof(index), "%u", gid->index);
    return wanted[0] == '\0' || strcmp(wanted, text) == 0 || strcmp(wanted, index) == 0;
}

/* The first of each kind. */
static void add_gid(struct mt_verbs_port *port, const struct mt_verbs_gid *gid)
{
    uint32_t at = 0;
    while (at < port->gid_count && port->gids[at].kind < gid->kind)
        at++;
    if (port->gid_count == MT_VERBS_GIDS ||
        (at < port->gid_count && port->gids[at].kind == gid->kind))
        return;
    memmove(&port->gids[at + 1], &port->gids[at], (port->gid_count - at) * sizeof(*gid));
    port->gids[at] = *gid;
    port->gid_count++;
}

static void find_gids(struct mt_verbs_endpoint *endpoint, struct mt_verbs_rail *rail,
                      const char *device, const struct ibv_port_attr *attr)
{
    static const uint8_t none[16];
    int is_ethernet = attr->link_layer == IBV_LINK_LAYER_ETHERNET;
    int most = attr->gid_tbl_len < GIDS_LOOKED_AT ? attr->gid_tbl_len : GIDS_LOOKED_AT;
    for (int i = 0; i < most; i++) {
        struct mt_verbs_gid gid = {.index = (uint8_t)i};
        union ibv_gid raw;
        if (endpoint->library->query_gid(rail->context, rail->number, i, &raw) != 0 ||
            memcmp(raw.raw, none, sizeof(none)) == 0)
            continue;
        memcpy(gid.raw, raw.raw, sizeof(gid.raw));
        gid.kind = is_ethernet ? mt_verbs_gid_kind(gid.raw) : MT_VERBS_INFINIBAND;
        if (is_wanted(endpoint->settings.gid, &gid) &&
            (!is_ethernet || is_routable(device, rail->number, i)))
            add_gid(&rail->port, &gid);
    }
}

/* Gbit/s of a lane times lanes, by the codes of the standard. */
static uint64_t speed_of(const struct ibv_port_attr *attr)
{
    static const struct {
        uint8_t code;
        uint32_t mbits;
    } speeds[] = {{1, 2500},   {2, 5000},   {4, 10000},  {8, 10000},
                  {16, 14000}, {32, 25000}, {64, 50000}, {128, 100000}};
    static const struct {
        uint8_t code, lanes;
    } widths[] = {{1, 1}, {2, 4}, {4, 8}, {8, 12}, {16, 2}};
    uint64_t mbits = 10000, lanes = 1;
    for (size_t i = 0; i < sizeof(speeds) / sizeof(speeds[0]); i++)
        mbits = speeds[i].code == attr->active_speed ? speeds[i].mbits : mbits;
    for (size_t i = 0; i < sizeof(widths) / sizeof(widths[0]); i++)
        lanes = widths[i].code == attr->active_width ? widths[i].lanes : lanes;
    return mbits * lanes * 1000000 / 8;
}

/* Is this port in MANTA_VERBS_DEVICE ("mlx5_0,mlx5_1:2")? Its place there, from 0; -1: no. */
static int place_in(const char *names, const char *device, uint32_t port)
{
    char with_port[MT_VERBS_NAME + 16];
    int place = 0;
    snprintf(with_port, sizeof(with_port), "%s:%u", device, port);
    if (names[0] == '\0')
        return 0;
    for (const char *name = names;; place++) {
        size_t length = strcspn(name, ",");
        if ((strlen(device) == length && memcmp(name, device, length) == 0) ||
            (strlen(with_port) == length && memcmp(name, with_port, length) == 0))
            return place;
        if (name[length] == '\0')
            return -1;
        name += length + 1;
    }
}

struct found {
    struct ibv_device *device;
    uint32_t port, order; /* order: by the user's list, or by distance */
    struct ibv_port_attr attr;
};
struct search {
    struct found found[2 * MT_VERBS_RAILS];
    uint32_t count;
    uint32_t devices, others, named, ports_down, closed; /* others: neither InfiniBand nor RoCE */
    int open_errno;
    uint32_t seen, active; /* bit of each place of the user's list that is there, and active */
    char there[96];        /* names of devices */
};

static int is_near(const char *device, int numa)
{
    char line[TEXT];
    int there = read_line(device, "device/numa_node", line, sizeof(line)) ? atoi(line) : -1;
    return numa < 0 || there < 0 || there == numa;
}

static void keep(struct search *search, const struct found *found)
{
    const uint32_t most = sizeof(search->found) / sizeof(search->found[0]);
    uint32_t at = search->count;
    while (at > 0 && search->found[at - 1].order > found->order)
        at--;
    if (at == most)
        return;
    uint32_t moved = search->count < most ? search->count - at : most - 1 - at;
    memmove(&search->found[at + 1], &search->found[at], moved * sizeof(*found));
    search->found[at] = *found;
    search->count += search->count < most;
}

static void search_device(const struct mt_verbs_library *library, struct ibv_device *device,
                          const char *names, int numa, struct search *search)
{
    const char *name = library->get_device_name(device);
    struct ibv_device_attr attr;
    size_t used = strlen(search->there);
    if (device->transport_type != IBV_TRANSPORT_IB) {
        search->others++;
        return;
    }
    snprintf(search->there + used, sizeof(search->there) - used, "%s%s", used ? ", " : "", name);
    errno = 0;
    struct ibv_context *context = library->open_device(device);
    if (context == NULL) {
        search->closed++;
        search->open_errno = errno;
        return;
    }
    int rc = library->query_device(context, &attr);
    for (uint32_t port = 1; rc == 0 && port <= attr.phys_port_cnt; port++) {
        struct found found = {.device = device, .port = port};
        int place = place_in(names, name, port);
        if (place < 0)
            continue;
        search->named++;
        search->seen |= 1u << place % 32;
        if (library->query_port(context, (uint8_t)port, &found.attr) != 0 ||
            found.attr.state != IBV_PORT_ACTIVE) {
            search->ports_down++;
            continue;
        }
        search->active |= 1u << place % 32;
        found.order = names[0] != '\0' ? (uint32_t)place : !is_near(name, numa);
        keep(search, &found);
    }
    library->close_device(context);
}

/* What is in the way, for who asks why RDMA is not used. */
static int explain(const struct search *search, const char *names, char *why, size_t why_bytes)
{
    if (search->devices == 0 && !mt_verbs_host_has_device())
        snprintf(why, why_bytes, "this host has no RDMA device");
    else if (search->devices == 0)
        snprintf(
            why, why_bytes,
            "the kernel has RDMA devices (/sys/class/infiniband), but none can be opened: give "
            "the container /dev/infiniband, and install ibverbs-providers");
    else if (search->others == search->devices)
        snprintf(why, why_bytes,
                 "this host's RDMA devices speak neither InfiniBand nor RoCE; ofi may reach them");
    else if (search->named == 0 && search->closed > 0)
        snprintf(why, why_bytes,
                 "RDMA devices cannot be opened: %s; give the container "
                 "/dev/infiniband/uverbs*",
                 strerror(search->open_errno));
    else if (search->named == 0)
        snprintf(why, why_bytes, "no RDMA device has that name; there are %s", search->there);
    else
        snprintf(why, why_bytes,
                 "no port of the RDMA devices%s is active (%u down); see ibv_devinfo",
                 names[0] != '\0' ? " of that name" : "", search->ports_down);
    return MANTA_ENOTSUP;
}

/* Keeps the list of devices alive until it is freed by the caller. */
static int search_all(const struct mt_verbs_library *library, const char *names,
                      struct ibv_device ***list_out, struct search *search, char *why,
                      size_t why_bytes)
{
    int count = 0;
    memset(search, 0, sizeof(*search));
    *list_out = library->get_device_list(&count);
    search->devices = *list_out != NULL ? (uint32_t)count : 0;
    int numa = names[0] == '\0' ? mt_place_numa_of_thread() : -1;
    for (uint32_t i = 0; i < search->devices; i++)
        search_device(library, (*list_out)[i], names, numa, search);
    return search->count > 0 ? 0 : explain(search, names, why, why_bytes);
}

int mt_verbs_devices_query(const struct mt_verbs_library *library, char *why, size_t why_bytes)
{
    struct ibv_device **list;
    struct search search;
    int code = search_all(library, "", &list, &search, why, why_bytes);
    if (list != NULL)
        library->free_device_list(list);
    return code;
}

/* 0, or the port cannot be used. */
static int open_rail(struct mt_verbs_endpoint *endpoint, const struct found *found,
                     struct mt_verbs_rail *rail)
{
    const char *name = endpoint->library->get_device_name(found->device);
    memset(rail, 0, sizeof(*rail));
    rail->context = endpoint->library->open_device(found->device);
    if (rail->context == NULL)
        return -1;
    snprintf(rail->name, sizeof(rail->name), "%.56s:%u", name, found->port);
    rail->number = (uint8_t)found->port;
    rail->message_bytes_max = found->attr.max_msg_sz;
    rail->bytes_per_s = speed_of(&found->attr);
    rail->port.lid = found->attr.lid;
    rail->port.mtu = (uint8_t)found->attr.active_mtu;
    if (endpoint->settings.mtu != 0 && endpoint->settings.mtu < rail->port.mtu)
        rail->port.mtu = (uint8_t)endpoint->settings.mtu;
    mt_fd_enter(rail->context->async_fd);
    mt_fd_enter(rail->context->cmd_fd);
    find_gids(endpoint, rail, name, &found->attr);
    return rail->port.gid_count > 0 ? 0 : -1;
}

static void close_rail(struct mt_verbs_endpoint *endpoint, struct mt_verbs_rail *rail)
{
    if (rail->context == NULL)
        return;
    mt_fd_leave(rail->context->async_fd);
    mt_fd_leave(rail->context->cmd_fd);
    endpoint->library->close_device(rail->context);
    rail->context = NULL;
}

/* Names of the user's list that others of it stand in for. */
static void warn_of_missing(const struct mt_verbs_endpoint *endpoint, const struct search *search)
{
    char sentence[256];
    uint32_t place = 0;
    for (const char *name = endpoint->settings.devices; name[0] != '\0'; place++) {
        size_t length = strcspn(name, ",");
        int shown = (int)(length < MT_VERBS_NAME ? length : MT_VERBS_NAME);
        if (place < 32 && !(search->active >> place & 1)) {
            snprintf(sentence, sizeof(sentence),
                     "MANTA_VERBS_DEVICE names '%.*s', %s%s: it is left out", shown, name,
                     search->seen >> place & 1 ? "which has no active port"
                                               : "and no RDMA device has that name; there are ",
                     search->seen >> place & 1 ? "" : search->there);
            endpoint->host->log(MT_LOG_WARN, "verbs", sentence);
        }
        name += length + (name[length] == ',');
    }
}

/* "10.0.0.1 (1), fe80::1 (0)": for who has named another one. */
static void list_gids(struct mt_verbs_endpoint *endpoint, const struct search *search, char *text,
                      size_t text_bytes)
{
    const char *wanted = endpoint->settings.gid;
    struct mt_verbs_rail rail;
    char gid[48];
    size_t used = 0;
    text[0] = '\0';
    endpoint->settings.gid = "";
    for (uint32_t i = 0; i < search->count; i++) {
        (void)open_rail(endpoint, &search->found[i], &rail);
        for (uint32_t g = 0; g < rail.port.gid_count && used < text_bytes; g++) {
            mt_verbs_gid_format(&rail.port.gids[g], gid, sizeof(gid));
            used += (size_t)snprintf(text + used, text_bytes - used, "%s%s (%u)",
                                     used > 0 ? ", " : "", gid, rail.port.gids[g].index);
        }
        close_rail(endpoint, &rail);
    }
    endpoint->settings.gid = wanted;
}

static void open_rails(struct mt_verbs_endpoint *endpoint, const struct search *search)
{
    for (uint32_t i = 0; i < search->count && endpoint->rail_count < MT_VERBS_RAILS; i++) {
        struct mt_verbs_rail *rail = &endpoint->rails[endpoint->rail_count];
        if (open_rail(endpoint, &search->found[i], rail) == 0) {
            rail->is_near = endpoint->settings.devices[0] != '\0' || search->found[i].order == 0;
            endpoint->rail_count++;
        } else {
            close_rail(endpoint, rail);
        }
    }
}

int mt_verbs_devices_open(struct mt_verbs_endpoint *endpoint, char *why, size_t why_bytes)
{
    const struct mt_verbs_settings *settings = &endpoint->settings;
    struct ibv_device **list;
    struct search search;
    char gids[120];
    int code = search_all(endpoint->library, settings->devices, &list, &search, why, why_bytes);
    if (code == 0) {
        warn_of_missing(endpoint, &search);
        open_rails(endpoint, &search);
    }
    if (code == 0 && endpoint->rail_count == 0) {
        code = MANTA_ENOTSUP;
        list_gids(endpoint, &search, gids, sizeof(gids));
        if (gids[0] != '\0')
            snprintf(why, why_bytes, "no active port has that GID; there are %s", gids);
        else
            snprintf(why, why_bytes,
                     "no active port has a GID that can be reached from other "
                     "hosts: give its interface an address");
    }
    if (list != NULL)
        endpoint->library->free_device_list(list);
    return code;
}

void mt_verbs_devices_close(struct mt_verbs_endpoint *endpoint)
{
    for (uint32_t i = 0; i < endpoint->rail_count; i++)
        close_rail(endpoint, &endpoint->rails[i]);
    endpoint->rail_count = 0;
}
