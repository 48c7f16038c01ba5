/* SPDX-License-Identifier: Apache-2.0 */
/* Network interfaces: does each address accept a connection from this host to itself? */
#include "tools/manta/doctor.h"

#include <arpa/inet.h>
#include <errno.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* Connect and wait for the outcome; 0 or an errno. */
static int connect_within(int fd, const struct sockaddr *address, socklen_t length)
{
    if (connect(fd, address, length) == 0)
        return 0;
    if (errno != EINPROGRESS)
        return errno;
    struct pollfd wait = {.fd = fd, .events = POLLOUT};
    int error = 0;
    socklen_t error_length = sizeof error;
    if (poll(&wait, 1, DOCTOR_REACH_MS) != 1)
        return ETIMEDOUT;
    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &error_length) != 0)
        return errno;
    return error;
}

/* Listen on this address and connect to it; 0 or an errno. */
static int reach(const struct sockaddr *address, socklen_t length)
{
    struct sockaddr_storage bound;
    socklen_t bound_length = sizeof bound;
    int result;
    int listener = socket(address->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int dialler = socket(address->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (listener < 0 || dialler < 0 || bind(listener, address, length) != 0 ||
        listen(listener, 1) != 0 ||
        getsockname(listener, (struct sockaddr *)&bound, &bound_length) != 0)
        result = errno;
    else
        result = connect_within(dialler, (struct sockaddr *)&bound, bound_length);
    if (listener >= 0)
        close(listener);
    if (dialler >= 0)
        close(dialler);
    return result;
}

/* 1 if the address is one that another host could reach. */
static int check_address(const struct ifaddrs *interface)
{
    char text[INET6_ADDRSTRLEN] = "";
    struct sockaddr_storage address = {0};
    int loopback = (interface->ifa_flags & IFF_LOOPBACK) != 0;
    socklen_t length;
    if (interface->ifa_addr->sa_family == AF_INET) {
        length = sizeof(struct sockaddr_in);
        memcpy(&address, interface->ifa_addr, length);
        ((struct sockaddr_in *)&address)->sin_port = 0;
        inet_ntop(AF_INET, &((struct sockaddr_in *)&address)->sin_addr, text, sizeof text);
    } else {
        const struct sockaddr_in6 *v6 = (const void *)interface->ifa_addr;
        if (IN6_IS_ADDR_LINKLOCAL(&v6->sin6_addr))
            return 0; /* means something on its own link only; never offered to peers */
        length = sizeof *v6;
        memcpy(&address, v6, length);
        ((struct sockaddr_in6 *)&address)->sin6_port = 0;
        inet_ntop(AF_INET6, &v6->sin6_addr, text, sizeof text);
    }
    int error = reach((struct sockaddr *)&address, length);
    if (error == 0)
        doctor_say(DOCTOR_OK, "interface", "%s %s accepts connections%s", interface->ifa_name, text,
                   loopback ? " (this host only)" : "");
    else
        doctor_say(loopback ? DOCTOR_PROBLEM : DOCTOR_WARNING, "interface",
                   "%s %s does not accept connections from this host: %s; look at its firewall "
                   "rules, or leave it out with MANTA_INTERFACE",
                   interface->ifa_name, text, strerror(error));
    return error == 0 && !loopback;
}

void doctor_interfaces(void)
{
    struct ifaddrs *list;
    int reachable = 0;
    if (getifaddrs(&list) != 0) {
        doctor_say(DOCTOR_PROBLEM, "interface", "cannot list interfaces: %s", strerror(errno));
        return;
    }
    for (const struct ifaddrs *at = list; at != NULL; at = at->ifa_next) {
        int up = (at->ifa_flags & (IFF_UP | IFF_RUNNING)) == (IFF_UP | IFF_RUNNING);
        if (at->ifa_addr == NULL || !up)
            continue;
        if (at->ifa_addr->sa_family == AF_INET || at->ifa_addr->sa_family == AF_INET6)
            reachable += check_address(at);
    }
    freeifaddrs(list);
    if (reachable == 0)
        doctor_say(DOCTOR_WARNING, "interface",
                   "none but loopback is usable: ranks on other hosts cannot join; bring one up");
}

/* An abstract name is tried as the library uses it: bind, connect, and who is at the other end. */
void doctor_unix_socket(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct ucred peer = {0};
    socklen_t peer_length = sizeof peer;
    int name = snprintf(address.sun_path + 1, sizeof address.sun_path - 1, "manta-doctor-%d",
                        (int)getpid());
    socklen_t length = (socklen_t)offsetof(struct sockaddr_un, sun_path) + 1 + (socklen_t)name;
    int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int dialler = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int works =
        listener >= 0 && dialler >= 0 && bind(listener, (struct sockaddr *)&address, length) == 0 &&
        listen(listener, 1) == 0 && connect(dialler, (struct sockaddr *)&address, length) == 0 &&
        getsockopt(dialler, SOL_SOCKET, SO_PEERCRED, &peer, &peer_length) == 0;
    if (works && peer.uid == getuid())
        doctor_say(DOCTOR_OK, "unix socket", "abstract names and peer credentials work");
    else
        doctor_say(DOCTOR_PROBLEM, "unix socket",
                   "abstract unix sockets do not work (%s): ranks of this host cannot share "
                   "memory; look at the container's security profile",
                   works ? "wrong credentials" : strerror(errno));
    if (listener >= 0)
        close(listener);
    if (dialler >= 0)
        close(dialler);
}
