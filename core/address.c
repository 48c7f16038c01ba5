/* SPDX-License-Identifier: Apache-2.0 */
#include "core/address.h"

#include <arpa/inet.h>
#include <errno.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

#include <manta/manta.h>

static struct sockaddr_in *as_v4(const struct mt_address *address)
{
    return (struct sockaddr_in *)(uintptr_t)&address->socket;
}

static struct sockaddr_in6 *as_v6(const struct mt_address *address)
{
    return (struct sockaddr_in6 *)(uintptr_t)&address->socket;
}

int mt_address_from_host(const char *host, uint16_t port, struct mt_address *address_out)
{
    memset(address_out, 0, sizeof *address_out);
    if (inet_pton(AF_INET, host, &as_v4(address_out)->sin_addr) == 1) {
        address_out->socket.ss_family = AF_INET;
        address_out->bytes = sizeof(struct sockaddr_in);
    } else if (inet_pton(AF_INET6, host, &as_v6(address_out)->sin6_addr) == 1) {
        address_out->socket.ss_family = AF_INET6;
        address_out->bytes = sizeof(struct sockaddr_in6);
    } else {
        return MANTA_EINVAL;
    }
    mt_address_set_port(address_out, port);
    return 0;
}

static int parse_port(const char *text, size_t count, uint16_t *port_out)
{
    uint32_t port = 0;
    if (count == 0 || count > 5 || text[0] == '0')
        return MANTA_EINVAL;
    for (size_t i = 0; i < count; i++) {
        if (text[i] < '0' || text[i] > '9')
            return MANTA_EINVAL;
        port = port * 10 + (uint32_t)(text[i] - '0');
    }
    *port_out = (uint16_t)port;
    return port <= UINT16_MAX ? 0 : MANTA_EINVAL;
}

int mt_address_parse(const char *text, size_t count, struct mt_address *address_out)
{
    char host[MT_ADDRESS_TEXT];
    uint16_t port;
    size_t colon = count;
    while (colon > 0 && text[colon - 1] != ':')
        colon--;
    if (colon < 2 || parse_port(text + colon, count - colon, &port))
        return MANTA_EINVAL;
    size_t first = 0, last = colon - 1; /* host is text[first..last) */
    int v6 = text[0] == '[';
    if (v6) {
        if (last < 2 || text[last - 1] != ']')
            return MANTA_EINVAL;
        first = 1;
        last--;
    }
    if (last - first >= sizeof host)
        return MANTA_EINVAL;
    memcpy(host, text + first, last - first);
    host[last - first] = 0;
    if (strlen(host) != last - first || mt_address_from_host(host, port, address_out))
        return MANTA_EINVAL;
    return (address_out->socket.ss_family == AF_INET6) == v6 ? 0 : MANTA_EINVAL;
}

void mt_address_format_host(const struct mt_address *address, char *text)
{
    snprintf(text, MT_ADDRESS_TEXT, "unix socket");
    if (address->socket.ss_family == AF_INET)
        inet_ntop(AF_INET, &as_v4(address)->sin_addr, text, MT_ADDRESS_TEXT);
    else if (address->socket.ss_family == AF_INET6)
        inet_ntop(AF_INET6, &as_v6(address)->sin6_addr, text, MT_ADDRESS_TEXT);
}

void mt_address_format(const struct mt_address *address, char *text)
{
    char host[MT_ADDRESS_TEXT];
    mt_address_format_host(address, host);
    if (address->socket.ss_family == AF_INET)
        snprintf(text, MT_ADDRESS_TEXT, "%.46s:%u", host, mt_address_port(address));
    else if (address->socket.ss_family == AF_INET6)
        snprintf(text, MT_ADDRESS_TEXT, "[%.46s]:%u", host, mt_address_port(address));
    else
        memcpy(text, host, MT_ADDRESS_TEXT);
}

uint16_t mt_address_port(const struct mt_address *address)
{
    if (address->socket.ss_family == AF_INET)
        return ntohs(as_v4(address)->sin_port);
    return address->socket.ss_family == AF_INET6 ? ntohs(as_v6(address)->sin6_port) : 0;
}

void mt_address_set_port(struct mt_address *address, uint16_t port)
{
    if (address->socket.ss_family == AF_INET)
        as_v4(address)->sin_port = htons(port);
    else if (address->socket.ss_family == AF_INET6)
        as_v6(address)->sin6_port = htons(port);
}

int mt_address_is_loopback(const struct mt_address *address)
{
    if (address->socket.ss_family == AF_INET)
        return ntohl(as_v4(address)->sin_addr.s_addr) >> 24 == 127;
    return address->socket.ss_family == AF_INET6 &&
           IN6_IS_ADDR_LOOPBACK(&as_v6(address)->sin6_addr);
}

int mt_address_equal_host(const struct mt_address *a, const struct mt_address *b)
{
    if (a->socket.ss_family != b->socket.ss_family)
        return 0;
    if (a->socket.ss_family == AF_INET)
        return as_v4(a)->sin_addr.s_addr == as_v4(b)->sin_addr.s_addr;
    return a->socket.ss_family == AF_INET6 &&
           memcmp(&as_v6(a)->sin6_addr, &as_v6(b)->sin6_addr, sizeof(struct in6_addr)) == 0;
}

void mt_address_abstract(const char *name, struct mt_address *address_out)
{
    struct sockaddr_un *un = (struct sockaddr_un *)&address_out->socket;
    memset(address_out, 0, sizeof *address_out);
    size_t count = strnlen(name, sizeof un->sun_path - 1);
    un->sun_family = AF_UNIX;
    memcpy(un->sun_path + 1, name, count);
    address_out->bytes = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + count);
}

static int is_named(const char *interfaces, const char *name)
{
    size_t count = strlen(name);
    if (interfaces[0] == 0)
        return 1;
    for (const char *at = interfaces; *at;) {
        size_t length = strcspn(at, ",");
        if (length == count && memcmp(at, name, count) == 0)
            return 1;
        at += length + (at[length] == ',');
    }
    return 0;
}

/* 0 best; -1: not of use. */
static int preference(const struct mt_address *address)
{
    if (mt_address_is_loopback(address))
        return address->socket.ss_family == AF_INET ? 2 : 3;
    if (address->socket.ss_family == AF_INET)
        return 0;
    return IN6_IS_ADDR_LINKLOCAL(&as_v6(address)->sin6_addr) ? -1 : 1;
}

static int from_interface(const struct ifaddrs *interface, struct mt_address *address_out)
{
    if (!interface->ifa_addr || !(interface->ifa_flags & IFF_UP))
        return 0;
    memset(address_out, 0, sizeof *address_out);
    if (interface->ifa_addr->sa_family == AF_INET)
        address_out->bytes = sizeof(struct sockaddr_in);
    else if (interface->ifa_addr->sa_family == AF_INET6)
        address_out->bytes = sizeof(struct sockaddr_in6);
    else
        return 0;
    memcpy(&address_out->socket, interface->ifa_addr, address_out->bytes);
    return 1;
}

uint32_t mt_address_local(const char *interfaces, struct mt_address *addresses, uint32_t room)
{
    struct ifaddrs *list = NULL;
    uint32_t count = 0;
    if (getifaddrs(&list))
        return 0;
    for (int wanted = 0; wanted <= 3; wanted++)
        for (struct ifaddrs *at = list; at && count < room; at = at->ifa_next)
            if (is_named(interfaces, at->ifa_name) && from_interface(at, &addresses[count]) &&
                preference(&addresses[count]) == wanted)
                count++;
    freeifaddrs(list);
    errno = 0;
    return count;
}

/* 1, too, if the interfaces cannot be listed. */
static int is_there(const char *name, size_t length)
{
    struct mt_address address;
    char text[MT_INTERFACE_NAME];
    if (length >= sizeof text)
        return 0;
    memcpy(text, name, length);
    text[length] = 0;
    return mt_address_local(text, &address, 1) > 0 || errno != 0;
}

const char *mt_address_missing(const char *interfaces, size_t *at, size_t *length_out)
{
    while (interfaces[*at]) {
        const char *name = interfaces + *at;
        size_t length = strcspn(name, ",");
        *at += length + (name[length] == ',');
        *length_out = length;
        if (length > 0 && !is_there(name, length))
            return name;
    }
    return NULL;
}

void mt_address_interfaces(char *text, size_t text_bytes)
{
    struct ifaddrs *list = NULL;
    struct mt_address address;
    char name[MT_INTERFACE_NAME + 1];
    size_t used = 0;
    text[0] = 0;
    if (getifaddrs(&list))
        return;
    for (struct ifaddrs *at = list; at && used < text_bytes; at = at->ifa_next) {
        snprintf(name, sizeof name, "%s", at->ifa_name);
        if (!from_interface(at, &address) || (used > 0 && is_named(text, name)))
            continue;
        used += (size_t)snprintf(text + used, text_bytes - used, "%s%s", used ? "," : "", name);
    }
    freeifaddrs(list);
}

void mt_address_interface(const struct mt_address *address, char name[MT_INTERFACE_NAME])
{
    struct ifaddrs *list = NULL;
    struct mt_address its;
    name[0] = 0;
    if (getifaddrs(&list))
        return;
    for (struct ifaddrs *at = list; at && name[0] == 0; at = at->ifa_next)
        if (from_interface(at, &its) && mt_address_equal_host(&its, address))
            snprintf(name, MT_INTERFACE_NAME, "%s", at->ifa_name);
    freeifaddrs(list);
}

int mt_address_route(const struct mt_address *peer, struct mt_address *local_out)
{
    int fd = socket(peer->socket.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    int failed = fd < 0 ? errno : 0;
    if (failed)
        return failed;
    memset(local_out, 0, sizeof *local_out);
    local_out->bytes = sizeof local_out->socket;
    if (connect(fd, (const struct sockaddr *)&peer->socket, peer->bytes) ||
        getsockname(fd, (struct sockaddr *)&local_out->socket, &local_out->bytes))
        failed = errno;
    close(fd);
    return failed;
}
