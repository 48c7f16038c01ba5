/* SPDX-License-Identifier: Apache-2.0 */
/* Which of libfabric's providers, and which of its domains (cards, interfaces). */
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "transport/ofi/ofi.h"

/* Best first. Networks that are made for this come before sockets in other words. What moves
 * through shared memory is not here: it reaches no other node; MANTA_OFI_PROVIDER may name it. */
static const struct {
    const char *name;
    int is_fabric;
} known[] = {
    {"efa", 1},           {"cxi", 1}, {"opx", 1}, {"psm3", 1},    {"psm2", 1},
    {"verbs;ofi_rxm", 1}, {"tcp", 0}, {"net", 0}, {"sockets", 0},
};
enum { KNOWN = sizeof(known) / sizeof(known[0]) };

int mt_ofi_is_fabric(const char *provider)
{
    for (uint32_t i = 0; i < KNOWN; i++) {
        if (strcmp(known[i].name, provider) == 0)
            return known[i].is_fabric;
    }
    return 0;
}

int mt_ofi_is_local(const char *provider)
{
    return strcmp(provider, "shm") == 0;
}

/* Cards of one network, rather than one network each. */
static int is_meshed(const char *provider)
{
    return strcmp(provider, "efa") == 0 || strcmp(provider, "cxi") == 0;
}

/* sockets has a thread for each endpoint that never sleeps: where CPUs are few, it and the ranks
 * take turns of milliseconds, one for each message. It has none if ranks move things themselves. */
static int moves_alone(const char *provider)
{
    return strcmp(provider, "sockets") == 0;
}

/* That of net stays readable (libfabric 1.17), and sockets has one only with its thread. */
int mt_ofi_can_wake(const char *provider)
{
    return strcmp(provider, "net") != 0 && !moves_alone(provider);
}

static struct fi_info *make_hints(const struct mt_ofi_library *library, uint64_t caps,
                                  const char *provider)
{
    struct fi_info *hints = library->dupinfo(NULL);
    if (hints == NULL)
        return NULL;
    hints->caps = caps;
    hints->mode = FI_CONTEXT | FI_CONTEXT2;
    hints->ep_attr->type = FI_EP_RDM;
    hints->domain_attr->mr_mode =
        FI_MR_LOCAL | FI_MR_VIRT_ADDR | FI_MR_ALLOCATED | FI_MR_PROV_KEY | FI_MR_ENDPOINT;
    if (caps & FI_HMEM)
        hints->domain_attr->mr_mode |= FI_MR_HMEM;
    hints->domain_attr->threading = FI_THREAD_DOMAIN;
    if (provider != NULL && moves_alone(provider))
        hints->domain_attr->data_progress = FI_PROGRESS_MANUAL;
    hints->domain_attr->resource_mgmt = FI_RM_ENABLED;
    hints->tx_attr->msg_order = hints->rx_attr->msg_order = FI_ORDER_SAS;
    hints->tx_attr->op_flags = FI_TRANSMIT_COMPLETE;
    hints->fabric_attr->prov_name = provider != NULL ? strdup(provider) : NULL;
    return hints;
}

static uint32_t least(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

/* What this provider offers (NULL: all), or NULL. */
static struct fi_info *ask(const struct mt_ofi_library *library, uint64_t caps,
                           const char *provider)
{
    struct fi_info *offers = NULL;
    struct fi_info *hints = make_hints(library, caps, provider);
    if (hints == NULL)
        return NULL;
    int code =
        library->getinfo(least(library->version(), MT_OFI_VERSION), NULL, NULL, 0, hints, &offers);
    library->freeinfo(hints);
    return code == 0 ? offers : NULL;
}

enum reach { REACH_NETWORK, REACH_LINK, REACH_HOST };

/* How far an address leads, as far as its form tells. */
static enum reach reach_of(const struct fi_info *info)
{
    if (info->addr_format == FI_SOCKADDR_IN && info->src_addrlen >= sizeof(struct sockaddr_in)) {
        const struct sockaddr_in *address = info->src_addr;
        return ntohl(address->sin_addr.s_addr) >> 24 == IN_LOOPBACKNET ? REACH_HOST : REACH_NETWORK;
    }
    if (info->addr_format == FI_SOCKADDR_IN6 && info->src_addrlen >= sizeof(struct sockaddr_in6)) {
        const struct sockaddr_in6 *address = info->src_addr;
        if (IN6_IS_ADDR_LOOPBACK(&address->sin6_addr))
            return REACH_HOST;
        return IN6_IS_ADDR_LINKLOCAL(&address->sin6_addr) ? REACH_LINK : REACH_NETWORK;
    }
    return REACH_NETWORK;
}

/* Completion data come with messages, not with writes, whatever cq_data_size says: cxi refuses such
 * a write (FI_EBADFLAGS; libfabric's issue 12754 and request 12740, which changes that where it is
 * switched on), and older versions of opx carry it out, but drop the data, which the receiver then
 * waits for. */
static int writes_dumbly(const char *provider)
{
    return strcmp(provider, "cxi") == 0 || strcmp(provider, "opx") == 0;
}

/* shm writes by process_vm_writev, and goes on when its peer has given up. ofi_rxm over tcp
 * (libfabric 1.17) crashes when an endpoint is closed into which a peer is writing: every other
 * time without the wait in objects.c, and not with frames alone; tcp itself is better there. */
static int writes_safely(const char *provider)
{
    return !mt_ofi_is_local(provider) && !writes_dumbly(provider) &&
           strcmp(provider, "tcp;ofi_rxm") != 0;
}

static int suits(const struct fi_info *info, const char *domain)
{
    return info->ep_attr->max_msg_size >= MT_OFI_FRAME_BYTES &&
           (!(info->caps & FI_RMA) || writes_safely(info->fabric_attr->prov_name)) &&
           (domain[0] == '\0' || strcmp(info->domain_attr->name, domain) == 0);
}

/* The NUMA node of an offer's card; -1: not known. */
static int numa_of(const struct fi_info *info)
{
    const struct fi_bus_attr *bus = info->nic != NULL ? info->nic->bus_attr : NULL;
    char path[96], line[16];
    int numa = -1;
    if (bus == NULL || bus->bus_type != FI_BUS_PCI)
        return -1;
    snprintf(path, sizeof(path), "/sys/bus/pci/devices/%04x:%02x:%02x.%x/numa_node",
             bus->attr.pci.domain_id, bus->attr.pci.bus_id, bus->attr.pci.device_id,
             bus->attr.pci.function_id);
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return -1;
    if (fgets(line, sizeof(line), file) != NULL)
        numa = atoi(line);
    fclose(file);
    return numa;
}

/* How far an offer is from what serves best: first whether its address leads far, then whether its
 * card is near. */
static uint32_t distance_of(const struct fi_info *info, const struct mt_ofi_wish *wish)
{
    int numa = wish->numa >= 0 ? numa_of(info) : -1;
    return 2 * (uint32_t)reach_of(info) + (numa >= 0 && numa != wish->numa);
}

/* Of equal offers the first, by libfabric's own order; or, where all cards of such a network reach
 * each other, the ranks of a node take them in turn. */
static const struct fi_info *pick(const struct fi_info *offers, const struct mt_ofi_wish *wish)
{
    const struct fi_info *best = NULL;
    uint32_t least_distance = UINT32_MAX, equals = 0, turn;
    for (const struct fi_info *info = offers; info != NULL; info = info->next) {
        uint32_t distance = suits(info, wish->domain) ? distance_of(info, wish) : UINT32_MAX;
        if (distance < least_distance) {
            best = info;
            least_distance = distance;
            equals = 0;
        }
        equals += distance == least_distance;
    }
    if (best == NULL || !is_meshed(best->fabric_attr->prov_name))
        return best;
    turn = wish->turn % equals;
    for (const struct fi_info *info = best; info != NULL; info = info->next) {
        if (suits(info, wish->domain) && distance_of(info, wish) == least_distance && turn-- == 0)
            return info;
    }
    return best;
}

/* As much as it can. */
static struct fi_info *choose_of(const struct mt_ofi_library *library, const char *provider,
                                 const struct mt_ofi_wish *wish)
{
    static const uint64_t wishes[] = {FI_MSG | FI_RMA | FI_WRITE | FI_REMOTE_WRITE | FI_HMEM |
                                          FI_READ | FI_REMOTE_READ,
                                      FI_MSG | FI_RMA | FI_WRITE | FI_REMOTE_WRITE | FI_HMEM,
                                      FI_MSG | FI_RMA | FI_WRITE | FI_REMOTE_WRITE, FI_MSG};
    struct fi_info *chosen = NULL;
    for (size_t i = 0; i < sizeof(wishes) / sizeof(wishes[0]) && chosen == NULL; i++) {
        if (wishes[i] & FI_HMEM && !wish->devices)
            continue;
        struct fi_info *offers = ask(library, wishes[i], provider);
        const struct fi_info *best = pick(offers, wish);
        chosen = best != NULL ? library->dupinfo(best) : NULL;
        if (offers != NULL)
            library->freeinfo(offers);
    }
    return chosen;
}

/* Adds a word to a list, if it is not there. */
static uint32_t add_word(char *text, size_t text_bytes, const char *word)
{
    size_t used = strlen(text), length = strlen(word);
    for (const char *at = strstr(text, word); at != NULL; at = strstr(at + 1, word)) {
        int begins = at == text || at[-1] == ' ';
        if (begins && (at[length] == ',' || at[length] == '\0'))
            return 0;
    }
    snprintf(text + used, text_bytes - used, "%s%s", used ? ", " : "", word);
    return 1;
}

uint32_t mt_ofi_list(const struct mt_ofi_library *library, char *text, size_t text_bytes)
{
    uint32_t count = 0;
    struct fi_info *offers = ask(library, FI_MSG, NULL);
    text[0] = '\0';
    for (const struct fi_info *info = offers; info != NULL; info = info->next)
        count += add_word(text, text_bytes, info->fabric_attr->prov_name);
    if (offers != NULL)
        library->freeinfo(offers);
    return count;
}

static void list_domains(const struct mt_ofi_library *library, const char *provider, char *text,
                         size_t text_bytes)
{
    struct fi_info *offers = ask(library, FI_MSG, provider);
    text[0] = '\0';
    for (const struct fi_info *info = offers; info != NULL; info = info->next)
        add_word(text, text_bytes, info->domain_attr->name);
    if (offers != NULL)
        library->freeinfo(offers);
}

static void word_refusal(const struct mt_ofi_library *library, const char *provider,
                         const char *domain, char *reason, size_t reason_bytes)
{
    char there[128];
    uint32_t version = library->version(), count;
    if (domain[0] != '\0') {
        list_domains(library, provider[0] != '\0' ? provider : NULL, there, sizeof(there));
        if (there[0] != '\0') {
            snprintf(reason, reason_bytes, "there is no domain %.60s; there are: %s", domain,
                     there);
            return;
        }
    }
    count = mt_ofi_list(library, there, sizeof(there));
    if (count == 0)
        snprintf(reason, reason_bytes,
                 "libfabric %u.%u has no provider here of reliable datagrams in order; fi_info -t "
                 "FI_EP_RDM tells more",
                 FI_MAJOR(version), FI_MINOR(version));
    else if (provider[0] != '\0')
        snprintf(reason, reason_bytes, "libfabric has no provider %.40s here; it has: %s", provider,
                 there);
    else
        snprintf(reason, reason_bytes,
                 "libfabric has only %s here; MANTA_OFI_PROVIDER takes one of them", there);
}

struct fi_info *mt_ofi_choose(const struct mt_ofi_library *library, const struct mt_ofi_wish *wish,
                              char *reason, size_t reason_bytes)
{
    struct fi_info *chosen = NULL;
    if (wish->provider[0] != '\0')
        chosen = choose_of(library, wish->provider, wish);
    for (uint32_t i = 0; wish->provider[0] == '\0' && chosen == NULL && i < KNOWN; i++)
        chosen = choose_of(library, known[i].name, wish);
    if (chosen == NULL)
        word_refusal(library, wish->provider, wish->domain, reason, reason_bytes);
    return chosen;
}
