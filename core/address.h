/* SPDX-License-Identifier: Apache-2.0 */
/* Internet addresses as text ("10.0.0.1:4000", "[fd00::1]:4000") and those of this host. */
#ifndef MT_CORE_ADDRESS_H
#define MT_CORE_ADDRESS_H

#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

enum { MT_ADDRESS_TEXT = 64, MT_INTERFACE_NAME = 16 };

struct mt_address {
    struct sockaddr_storage socket;
    socklen_t bytes;
};

/* Numeric only, port 1..65535, nothing before or after; 0 or MANTA_EINVAL. */
int mt_address_parse(const char *text, size_t count, struct mt_address *address_out);
/* text has MT_ADDRESS_TEXT bytes. */
void mt_address_format(const struct mt_address *address, char *text);
/* The same without port and brackets. */
void mt_address_format_host(const struct mt_address *address, char *text);
/* host: numeric, without brackets. */
int mt_address_from_host(const char *host, uint16_t port, struct mt_address *address_out);
uint16_t mt_address_port(const struct mt_address *address);
void mt_address_set_port(struct mt_address *address, uint16_t port);
int mt_address_is_loopback(const struct mt_address *address);
int mt_address_equal_host(const struct mt_address *a, const struct mt_address *b);
/* An abstract unix socket. */
void mt_address_abstract(const char *name, struct mt_address *address_out);

/* Addresses of the interfaces that are up and that `interfaces` (comma-separated, empty: all)
 * names, best first: IPv4, then IPv6, loopback last; no link-local ones. Returns how many; errno is
 * 0 unless the interfaces could not be listed. */
uint32_t mt_address_local(const char *interfaces, struct mt_address *addresses, uint32_t room);
/* The first name from *at on in such a list of which mt_address_local() has no address; *at moves
 * behind it. NULL: there is none. */
const char *mt_address_missing(const char *interfaces, size_t *at, size_t *length_out);
/* The interfaces that are up and have an address: "lo,eth0". */
void mt_address_interfaces(char *text, size_t text_bytes);
/* The interface that has this address; empty if none has. */
void mt_address_interface(const struct mt_address *address, char name[MT_INTERFACE_NAME]);
/* The address of this host from which the kernel would send to `peer`: 0, or an errno. Nothing is
 * sent. */
int mt_address_route(const struct mt_address *peer, struct mt_address *local_out);

#endif
