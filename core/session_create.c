/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <manta/manta.h>

#include "core/address.h"
#include "core/config.h"
#include "core/fork.h"
#include "core/listener.h"
#include "core/log.h"
#include "core/session.h"
#include "core/session_own.h"

/* What manta.h promises to suffice for a session string. */
enum { TEXT_BYTES = 512, PORT_TRIES = 64, CONNECT_MS = 100 };

struct owned {
    struct mt_door door;
    struct owned *next;
};

/* Guarded by the service's lock. */
static struct owned *owned_sessions;

static void reset_in_child(void)
{
    owned_sessions = NULL;
}

/* As many addresses as a string of 512 bytes holds; loopback only when there is nothing else. */
static void add_addresses(struct mt_session *session, const struct mt_address *addresses,
                          uint32_t count)
{
    char text[TEXT_BYTES];
    for (uint32_t i = 0; i < count && session->address_count < MT_SESSION_ADDRESSES; i++) {
        if (mt_address_is_loopback(&addresses[i]) && i > 0 &&
            !mt_address_is_loopback(&addresses[0]))
            break;
        mt_address_format(&addresses[i], session->addresses[session->address_count]);
        session->address_count++;
        if (mt_session_format(session, text, sizeof text)) {
            session->address_count--;
            break;
        }
    }
    mt_auth_wipe(text, sizeof text);
}

static int format(const struct mt_session *session, char *text, size_t text_bytes,
                  struct mt_error *error)
{
    if (mt_session_format(session, text, text_bytes) == 0)
        return 0;
    return mt_error_set(error, MANTA_EINVAL,
                        "the session string does not fit into %zu bytes; give it %d", text_bytes,
                        TEXT_BYTES);
}

static int no_address(struct mt_error *error)
{
    if (errno)
        return mt_error_set(error, MANTA_ESYSTEM, "cannot list the network interfaces: %s",
                            strerror(errno));
    return mt_error_set(error, MANTA_ESYSTEM,
                        "no network interface is up that MANTA_INTERFACE=\"%s\" allows; "
                        "`ip -brief address` lists those that are",
                        mt_config_string(MT_VAR(INTERFACE)));
}

static int own(const struct mt_session *session, struct mt_error *error)
{
    struct owned *owned = calloc(1, sizeof *owned);
    if (!owned)
        return mt_error_set(error, MANTA_ENOMEM, "no memory for a session");
    memcpy(owned->door.secret, session->secret, sizeof owned->door.secret);
    int rc = mt_auth_session_id(session->secret, owned->door.session_id);
    if (rc) {
        free(owned);
        return mt_error_set(error, rc, "libcrypto cannot compute HMAC-SHA256");
    }
    mt_service_lock();
    mt_fork_on_child(reset_in_child);
    mt_door_open(&owned->door);
    owned->next = owned_sessions;
    owned_sessions = owned;
    mt_service_unlock();
    return 0;
}

void mt_session_disown(const uint8_t session_id[MT_ID_BYTES])
{
    struct owned *found = NULL;
    mt_service_lock();
    for (struct owned **link = &owned_sessions; *link; link = &(*link)->next)
        if (memcmp((*link)->door.session_id, session_id, MT_ID_BYTES) == 0) {
            found = *link;
            *link = found->next;
            mt_door_close(&found->door);
            break;
        }
    mt_service_unlock();
    if (!found)
        return;
    mt_auth_wipe(found, sizeof *found);
    free(found);
    mt_listener_release();
}

void mt_session_forget(const char *text)
{
    struct mt_session session;
    struct mt_error error;
    uint8_t id[MT_ID_BYTES];
    if (mt_session_parse(text, &session, &error) == 0 &&
        mt_auth_session_id(session.secret, id) == 0)
        mt_session_disown(id);
    mt_auth_wipe(&session, sizeof session);
}

static int create(char *text, size_t text_bytes, struct mt_error *error)
{
    struct mt_session session = {.address_count = 0};
    struct mt_address addresses[MT_SESSION_ADDRESSES];
    int rc = mt_listener_acquire(error);
    if (rc)
        return rc;
    mt_service_lock();
    add_addresses(&session, addresses, mt_listener_addresses(addresses, MT_SESSION_ADDRESSES));
    if (session.address_count == 0)
        rc = no_address(error);
    mt_service_unlock();
    if (rc == 0 && mt_auth_random(session.secret, sizeof session.secret))
        rc = mt_error_set(error, MANTA_ESYSTEM, "no random bytes from the kernel");
    if (rc == 0)
        rc = format(&session, text, text_bytes, error);
    if (rc == 0)
        rc = own(&session, error);
    mt_auth_wipe(&session, sizeof session);
    if (rc)
        mt_listener_release();
    return rc;
}

int manta_session_create(char *text, size_t text_bytes)
{
    struct mt_error error;
    if (!text)
        return MANTA_EINVAL;
    int rc = create(text, text_bytes, &error);
    if (rc)
        mt_log(MT_LOG_ERROR, -1, "manta_session_create: %s", error.sentence);
    return rc;
}

/* Connect to a listener of our own, and close its end first. Where that cannot be, the port is
 * merely free. */
static void wear_out(int listener, const struct mt_address *address)
{
    int fd = socket(address->socket.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    struct pollfd arrived = {.fd = listener, .events = POLLIN};
    if (fd < 0)
        return;
    if ((connect(fd, (const struct sockaddr *)&address->socket, address->bytes) == 0 ||
         errno == EINPROGRESS) &&
        poll(&arrived, 1, CONNECT_MS) == 1)
        close(accept(listener, NULL, NULL));
    close(fd);
}

/*
 * A port at this address, or an errno: one that was free, and that the kernel keeps for a listener
 * with SO_REUSEADDR, as rank 0's is: a connection of it that its own end closed is in TIME_WAIT for
 * a minute, and as long nobody gets the port who asks for any.
 */
static int reserve_at(const struct mt_address *address, uint16_t *port_out)
{
    struct mt_address bound = *address;
    int one = 1, family = address->socket.ss_family, failed = 0;
    int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return errno;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (family == AF_INET6)
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof one);
    if (bind(fd, (const struct sockaddr *)&bound.socket, bound.bytes) || listen(fd, 1) ||
        getsockname(fd, (struct sockaddr *)&bound.socket, &bound.bytes))
        failed = errno;
    else
        wear_out(fd, &bound);
    close(fd);
    *port_out = mt_address_port(&bound);
    return failed;
}

/* One port for all addresses: the first address's choice, if the others have it too. */
static int choose_port(struct mt_address *addresses, uint32_t count, uint16_t wanted)
{
    int failed = EADDRINUSE;
    for (int attempt = 0; failed && attempt < (wanted ? 1 : PORT_TRIES); attempt++) {
        uint16_t port = wanted;
        failed = 0;
        for (uint32_t i = 0; i < count && failed == 0; i++) {
            mt_address_set_port(&addresses[i], port);
            failed = reserve_at(&addresses[i], &port);
            mt_address_set_port(&addresses[i], port);
        }
    }
    return failed;
}

static int cannot_bind(const char *host, uint16_t port, int failed, struct mt_error *error)
{
    if (failed == EADDRNOTAVAIL && host)
        mt_error_set(error, MANTA_ESYSTEM,
                     "%s is no address of this host; make the session on the host where rank 0 "
                     "will run, with one that `ip -brief address` lists",
                     host);
    else if (failed == EADDRINUSE && port)
        mt_error_set(error, MANTA_ESYSTEM,
                     "port %u is taken; name another one, or none, for one that is free", port);
    else
        mt_error_set(error, MANTA_ESYSTEM, "cannot bind %s port %u: %s",
                     host ? host : "any address", port, strerror(failed));
    error->system_errno = failed;
    return MANTA_ESYSTEM;
}

int mt_session_prepare(const char *host, uint16_t port, char *text, size_t text_bytes,
                       struct mt_error *error)
{
    struct mt_session session = {.address_count = 0};
    struct mt_address addresses[MT_SESSION_ADDRESSES];
    uint32_t count = 1;
    if (!host)
        count =
            mt_address_local(mt_config_string(MT_VAR(INTERFACE)), addresses, MT_SESSION_ADDRESSES);
    else if (mt_address_from_host(host, 0, &addresses[0]))
        return mt_error_set(error, MANTA_EINVAL, "\"%.64s\" is not a numeric IPv4 or IPv6 address",
                            host);
    if (count == 0)
        return no_address(error);
    int failed = choose_port(addresses, count, port);
    if (failed)
        return cannot_bind(host, port, failed, error);
    add_addresses(&session, addresses, count);
    if (mt_auth_random(session.secret, sizeof session.secret))
        return mt_error_set(error, MANTA_ESYSTEM, "no random bytes from the kernel");
    int rc = format(&session, text, text_bytes, error);
    mt_auth_wipe(&session, sizeof session);
    return rc;
}
