/* SPDX-License-Identifier: Apache-2.0 */
/* libfabric, found at run time. What it exports are the few functions of this table; everything
 * else is reached through the tables of functions that its objects carry. */
#ifndef MT_TRANSPORT_OFI_LIBRARY_H
#define MT_TRANSPORT_OFI_LIBRARY_H

#include <stddef.h>
#include <stdint.h>

#include <rdma/fabric.h>

struct mt_ofi_library {
    uint32_t (*version)(void);
    int (*getinfo)(uint32_t version, const char *node, const char *service, uint64_t flags,
                   const struct fi_info *hints, struct fi_info **info);
    void (*freeinfo)(struct fi_info *info);
    struct fi_info *(*dupinfo)(const struct fi_info *info);
    int (*fabric)(struct fi_fabric_attr *attr, struct fid_fabric **fabric, void *context);
    const char *(*strerror)(int error);
};

/* The table, once loaded for good; or NULL, and why not. Any thread. */
const struct mt_ofi_library *mt_ofi_library(char *reason, size_t reason_bytes);
/* For tests: another table in its place, NULL: libfabric again. Before an endpoint is open. */
void mt_ofi_library_replace(const struct mt_ofi_library *library);

/* verbs;ofi_rxm makes completion queues for as many peers as FI_UNIVERSE_SIZE says, 256 unless it
 * is set, which is more than small devices have. libfabric reads it once, before its first
 * getinfo: set it then, where there are such devices. */
void mt_ofi_library_expect(uint32_t ranks);

#endif
