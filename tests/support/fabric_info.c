/* SPDX-License-Identifier: Apache-2.0 */
/* What the stand-in for libfabric says that there is. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/fabric.h"

static struct fi_info *info_new(void)
{
    struct fi_info *info = calloc(1, sizeof(*info));
    info->tx_attr = calloc(1, sizeof(*info->tx_attr));
    info->rx_attr = calloc(1, sizeof(*info->rx_attr));
    info->ep_attr = calloc(1, sizeof(*info->ep_attr));
    info->domain_attr = calloc(1, sizeof(*info->domain_attr));
    info->fabric_attr = calloc(1, sizeof(*info->fabric_attr));
    return info;
}

static void info_free(struct fi_info *info)
{
    while (info != NULL) {
        struct fi_info *next = info->next;
        free(info->src_addr);
        free(info->tx_attr);
        free(info->rx_attr);
        free(info->ep_attr);
        free(info->domain_attr->name);
        free(info->domain_attr);
        free(info->fabric_attr->prov_name);
        free(info->fabric_attr);
        free(info);
        info = next;
    }
}

static struct fi_info *info_copy(const struct fi_info *from)
{
    struct fi_info *info = info_new();
    if (from == NULL)
        return info;
    struct fi_info parts = *info;
    *info = *from;
    info->next = NULL;
    info->tx_attr = parts.tx_attr;
    info->rx_attr = parts.rx_attr;
    info->ep_attr = parts.ep_attr;
    info->domain_attr = parts.domain_attr;
    info->fabric_attr = parts.fabric_attr;
    *info->tx_attr = *from->tx_attr;
    *info->rx_attr = *from->rx_attr;
    *info->ep_attr = *from->ep_attr;
    *info->domain_attr = *from->domain_attr;
    *info->fabric_attr = *from->fabric_attr;
    info->domain_attr->name = strdup(from->domain_attr->name);
    info->fabric_attr->prov_name = strdup(from->fabric_attr->prov_name);
    if (from->src_addr != NULL) {
        info->src_addr = malloc(from->src_addrlen);
        memcpy(info->src_addr, from->src_addr, from->src_addrlen);
    }
    return info;
}

static struct fi_info *info_of(const struct stand_in_offer *offer, uint64_t caps)
{
    struct fi_info *info = info_new();
    info->caps = caps;
    info->ep_attr->max_msg_size = stand_in.max_msg_size;
    info->domain_attr->name = strdup(offer->domain);
    info->domain_attr->mr_mode = stand_in.mr_mode;
    info->domain_attr->cq_data_size = stand_in.cq_data_size;
    info->domain_attr->mr_key_size = stand_in.mr_key_size;
    info->fabric_attr->prov_name = strdup(offer->provider);
    info->addr_format = FI_ADDR_STR;
    if (offer->address != NULL) {
        struct sockaddr_in address = {.sin_family = AF_INET};
        inet_pton(AF_INET, offer->address, &address.sin_addr);
        info->addr_format = FI_SOCKADDR_IN;
        info->src_addrlen = sizeof(address);
        info->src_addr = malloc(sizeof(address));
        memcpy(info->src_addr, &address, sizeof(address));
    }
    return info;
}

static int get_info(uint32_t version, const char *node, const char *service, uint64_t flags,
                    const struct fi_info *hints, struct fi_info **info_out)
{
    struct fi_info **last = info_out;
    const char *wanted = hints->fabric_attr->prov_name;
    (void)node;
    (void)service;
    (void)flags;
    *info_out = NULL;
    if (version > stand_in.version || (stand_in.mr_mode & ~hints->domain_attr->mr_mode))
        return -FI_ENODATA;
    for (uint32_t i = 0; i < STAND_IN_OFFERS && stand_in.offers[i].provider != NULL; i++) {
        const struct stand_in_offer *offer = &stand_in.offers[i];
        if ((wanted != NULL && strcmp(wanted, offer->provider) != 0) ||
            (hints->caps & ~offer->caps))
            continue;
        *last = info_of(offer, hints->caps);
        last = &(*last)->next;
    }
    return *info_out != NULL ? 0 : -FI_ENODATA;
}

static uint32_t version_of(void)
{
    return stand_in.version;
}

static const char *word(int error)
{
    static char text[32];
    snprintf(text, sizeof(text), "error %d", error);
    return text;
}

const struct mt_ofi_library stand_in_library = {.version = version_of,
                                                .getinfo = get_info,
                                                .freeinfo = info_free,
                                                .dupinfo = info_copy,
                                                .fabric = stand_in_fabric_open,
                                                .strerror = word};
