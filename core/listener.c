/* SPDX-License-Identifier: Apache-2.0 */
#include "core/listener.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/accept.h"
#include "core/clock.h"
#include "core/config.h"
#include "core/fork.h"
#include "core/host.h"
#include "core/log.h"

enum { BACKLOG = 4096, ACCEPTS_PER_EVENT = 64, PAUSE_MS = 10 };

/* Guarded by the service's lock. */
static uint32_t users;
static struct mt_port *ports; /* all; the process's own come last */
static struct mt_port *tcp4, *tcp6, *local;
static char unix_name[64];
static struct mt_service_timer resume; /* after there was no room */
/* Held only to be given up for a connection when there is no other descriptor: a rank that proves
 * itself on that one is told why it cannot stay, where it would wait in vain. -1: given up. */
static int reserve = -1;
static int has_warned;

static void reset_in_child(void)
{
    users = 0;
    ports = tcp4 = tcp6 = local = NULL;
    reserve = -1;
    has_warned = 0;
    memset(&resume, 0, sizeof resume);
    mt_accept_reset();
}

static void resume_ports(struct mt_service_timer *timer)
{
    (void)timer;
    for (struct mt_port *port = ports; port; port = port->next)
        mt_service_rewatch(&port->source, EPOLLIN);
}

/* Without descriptors accept() fails and the socket stays readable, and newcomers wait while all
 * places are taken: look away for a moment. */
static void pause_ports(void)
{
    for (struct mt_port *port = ports; port; port = port->next)
        mt_service_rewatch(&port->source, 0);
    resume.fire = resume_ports;
    mt_service_timer_set(&resume, mt_clock_now_ns() + PAUSE_MS * (uint64_t)MT_MS);
}

static int somebody_waits(int fd)
{
    struct pollfd waiting = {.fd = fd, .events = POLLIN};
    return poll(&waiting, 1, 0) == 1;
}

int mt_listener_refill(void)
{
    if (reserve < 0 && users > 0) {
        reserve = eventfd(0, EFD_CLOEXEC);
        mt_fd_enter(reserve);
    }
    return reserve >= 0;
}

static void warn_of_lack(int failed)
{
    if (!has_warned)
        mt_log(MT_LOG_WARN, -1,
               "no connection can be accepted: %s; raise the limit of open files (ulimit -n) or "
               "free memory",
               strerror(failed));
    has_warned = 1;
}

static int accept_by_reserve(int listener)
{
    if (reserve < 0)
        return -1;
    mt_fd_close(reserve);
    reserve = -1;
    int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0)
        mt_listener_refill();
    return fd;
}

/* 1 if there may be another one. */
static int accept_one(const struct mt_port *port)
{
    int listener = port->source.fd;
    int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    int failed = fd < 0 ? errno : 0, is_last = mt_error_is_lack(failed);
    if (is_last) {
        warn_of_lack(failed);
        fd = accept_by_reserve(listener);
    }
    if (fd >= 0) {
        mt_fd_enter(fd);
        mt_accept_begin(fd, port->is_unix, is_last);
        return 1;
    }
    if (is_last)
        pause_ports();
    return !is_last && failed != EAGAIN;
}

static void accept_ready(struct mt_service_source *source, uint32_t events)
{
    (void)events;
    mt_listener_refill();
    mt_accept_catch_up();
    for (int i = 0; i < ACCEPTS_PER_EVENT; i++) {
        if (mt_accept_is_full() && !somebody_waits(source->fd))
            return;
        if (!mt_accept_make_room()) {
            pause_ports();
            return;
        }
        if (!accept_one(source->arg))
            return;
    }
}

static int listen_on(int fd, const struct mt_address *address)
{
    int one = 1, family = address->socket.ss_family;
    if (family == AF_INET6)
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof one);
    /* With this a port may be kept by what mt_session_prepare() left behind, and closed
     * connections do not block it; two that listen at once are still refused. */
    if (family != AF_UNIX && mt_address_port(address) != 0)
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(fd, (const struct sockaddr *)&address->socket, address->bytes) || listen(fd, BACKLOG))
        return errno;
    return 0;
}

int mt_port_open(const struct mt_address *address, struct mt_port **port_out)
{
    struct mt_port *port = calloc(1, sizeof *port);
    *port_out = NULL;
    if (!port)
        return ENOMEM;
    int fd = socket(address->socket.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int failed = fd < 0 ? errno : 0;
    if (failed == 0) {
        mt_fd_enter(fd);
        failed = listen_on(fd, address);
    }
    port->source = (struct mt_service_source){.fd = fd, .ready = accept_ready, .arg = port};
    port->is_unix = address->socket.ss_family == AF_UNIX;
    port->address.bytes = sizeof port->address.socket;
    if (failed == 0 &&
        getsockname(fd, (struct sockaddr *)&port->address.socket, &port->address.bytes))
        failed = errno;
    if (failed == 0 && mt_service_watch(&port->source, EPOLLIN))
        failed = ENOMEM;
    if (failed) {
        mt_fd_close(fd);
        free(port);
        return failed;
    }
    port->next = ports;
    ports = port;
    *port_out = port;
    return 0;
}

void mt_port_close(struct mt_port *port)
{
    if (!port)
        return;
    for (struct mt_port **link = &ports; *link; link = &(*link)->next)
        if (*link == port) {
            *link = port->next;
            break;
        }
    mt_service_unwatch(&port->source);
    mt_fd_close(port->source.fd);
    free(port);
}

static void close_all(void)
{
    mt_port_close(tcp4);
    mt_port_close(tcp6);
    mt_port_close(local);
    tcp4 = tcp6 = local = NULL;
    mt_service_timer_set(&resume, 0);
    mt_accept_drop_all();
    mt_fd_close(reserve);
    reserve = -1;
    has_warned = 0;
}

static int open_local(void)
{
    uint8_t random[16];
    struct mt_address address;
    if (mt_auth_random(random, sizeof random))
        return EIO;
    size_t used = (size_t)snprintf(unix_name, sizeof unix_name, "manta-");
    for (size_t i = 0; i < sizeof random; i++)
        used += (size_t)snprintf(unix_name + used, sizeof unix_name - used, "%02x", random[i]);
    mt_address_abstract(unix_name, &address);
    return mt_port_open(&address, &local);
}

/* The same port for both families if it can be had: one number to let through a firewall. */
static int open_all(struct mt_error *error)
{
    struct mt_address any;
    mt_address_from_host("0.0.0.0", 0, &any);
    int failed4 = mt_port_open(&any, &tcp4);
    mt_address_from_host("::", tcp4 ? mt_address_port(&tcp4->address) : 0, &any);
    int failed6 = mt_port_open(&any, &tcp6);
    mt_address_set_port(&any, 0);
    if (failed6)
        failed6 = mt_port_open(&any, &tcp6);
    int failed = tcp4 || tcp6 ? open_local() : failed4 ? failed4 : failed6;
    if (failed == 0)
        return 0;
    close_all();
    mt_error_set(error, MANTA_ESYSTEM, "cannot open a listening socket: %s", strerror(failed));
    error->system_errno = failed;
    return MANTA_ESYSTEM;
}

/* The others are used, so a wrong name would be noticed by nothing but slow calls. Where there are
 * no others, an error follows. */
static void warn_of_missing_interfaces(void)
{
    const char *names = mt_config_string(MT_VAR(INTERFACE)), *name;
    struct mt_address any;
    size_t at = 0, length;
    if (mt_address_local(names, &any, 1) == 0)
        return;
    while ((name = mt_address_missing(names, &at, &length)))
        mt_log(MT_LOG_WARN, -1,
               "MANTA_INTERFACE names '%.*s', and no interface of that name is up with an address "
               "here: it is left out; `ip -brief address` lists those that are",
               (int)(length < 64 ? length : 64), name);
}

int mt_listener_acquire(struct mt_error *error)
{
    int rc = mt_service_acquire(error);
    if (rc)
        return rc;
    mt_service_lock();
    mt_fork_on_child(reset_in_child);
    int is_first = users == 0;
    rc = is_first ? open_all(error) : 0;
    if (rc == 0) {
        users++;
        mt_listener_refill();
    }
    mt_service_unlock();
    if (rc)
        mt_service_release();
    else if (is_first)
        warn_of_missing_interfaces();
    return rc;
}

void mt_listener_release(void)
{
    mt_service_lock();
    if (--users == 0)
        close_all();
    mt_service_unlock();
    mt_service_release();
}

uint32_t mt_listener_addresses(struct mt_address *addresses, uint32_t room)
{
    uint32_t all = mt_address_local(mt_config_string(MT_VAR(INTERFACE)), addresses, room);
    uint32_t count = 0;
    for (uint32_t i = 0; i < all; i++) {
        struct mt_port *port = addresses[i].socket.ss_family == AF_INET ? tcp4 : tcp6;
        if (!port)
            continue;
        addresses[count] = addresses[i];
        mt_address_set_port(&addresses[count++], mt_address_port(&port->address));
    }
    return count;
}

void mt_listener_describe(struct mt_member *member)
{
    struct mt_address addresses[MT_GROUP_ADDRESSES];
    uint32_t count = mt_listener_addresses(addresses, MT_GROUP_ADDRESSES);
    size_t used = 0;
    snprintf(member->unix_name, sizeof member->unix_name, "%s", unix_name);
    member->net_namespace = mt_host_net_namespace(local->source.fd);
    member->addresses[0] = 0;
    for (uint32_t i = 0; i < count; i++) {
        char text[MT_ADDRESS_TEXT];
        mt_address_format(&addresses[i], text);
        if (used + strlen(text) + 2 > sizeof member->addresses)
            break;
        used += (size_t)snprintf(member->addresses + used, sizeof member->addresses - used, "%s%s",
                                 used ? " " : "", text);
    }
}

int mt_listener_has(const struct mt_address *address)
{
    struct mt_address mine[64];
    uint32_t count = mt_address_local("", mine, 64);
    struct mt_port *port = address->socket.ss_family == AF_INET ? tcp4 : tcp6;
    if (!port || mt_address_port(&port->address) != mt_address_port(address))
        return 0;
    for (uint32_t i = 0; i < count; i++)
        if (mt_address_equal_host(&mine[i], address))
            return 1;
    return 0;
}
