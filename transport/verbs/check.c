/* SPDX-License-Identifier: Apache-2.0 */
#include "transport/verbs/check.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "transport/registry.h"
#include "transport/unmapped.h"
#include "transport/verbs/verbs.h"

enum { MEMORY_BYTES = 64 << 20, WHY_BYTES = 200, SENTENCE = 400 };

struct check {
    void (*say)(enum mt_verbs_verdict verdict, const char *sentence);
    struct mt_verbs_endpoint endpoint; /* what of one is needed: library, settings, rails */
};

static void say(const struct check *check, enum mt_verbs_verdict verdict, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
static void say(const struct check *check, enum mt_verbs_verdict verdict, const char *format, ...)
{
    char sentence[SENTENCE];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(sentence, sizeof(sentence), format, arguments);
    va_end(arguments);
    check->say(verdict, sentence);
}

/* As much as large buffers need: limits of locked memory show. */
static void try_memory(struct check *check, struct mt_verbs_rail *rail)
{
    const struct mt_verbs_library *library = check->endpoint.library;
    void *memory = NULL;
    if (posix_memalign(&memory, 4096, MEMORY_BYTES) != 0)
        return;
    memset(memory, 0, MEMORY_BYTES);
    errno = 0;
    struct ibv_mr *mr = library->reg_mr_iova2(rail->pd, memory, MEMORY_BYTES,
                                              (uint64_t)(uintptr_t)memory, IBV_ACCESS_LOCAL_WRITE);
    if (mr != NULL)
        library->dereg_mr(mr);
    else
        say(check, MT_VERBS_BAD,
            "%s registers no %d MiB of memory: %s; raise the limit of locked memory (ulimit -l "
            "unlimited, or memlock in the container's limits), or give CAP_IPC_LOCK",
            rail->name, MEMORY_BYTES >> 20, strerror(errno));
    free(memory);
}

/* A lane from the port to itself: what the kernel says of the way to the GID. */
static void try_gid(struct check *check, uint32_t index, uint32_t gid)
{
    struct mt_verbs_endpoint *endpoint = &check->endpoint;
    struct mt_verbs_rail *rail = &endpoint->rails[index];
    struct mt_verbs_door door = {0};
    uint8_t blob[MANTA_TRANSPORT_ADDRESS_MAX];
    char text[48];
    struct mt_verbs_ports ports = {.count = endpoint->rail_count};
    for (uint32_t i = 0; i < ports.count; i++)
        ports.ports[i] = endpoint->rails[i].port;
    door.address = blob;
    door.address_bytes = (uint32_t)mt_verbs_ports_encode(&ports, blob, sizeof(blob));
    struct mt_verbs_lane *lane = calloc(1, sizeof(*lane));
    if (lane == NULL)
        return;
    lane->rail = lane->remote_rail = (uint8_t)index;
    lane->pair_count = 1;
    lane->pairs[0].local = lane->pairs[0].remote = (uint8_t)gid;
    endpoint->doors = &door;
    mt_verbs_gid_format(&rail->port.gids[gid], text, sizeof(text));
    int failed = mt_verbs_lane_make(endpoint, lane);
    for (uint32_t q = 0; q < MT_VERBS_QUEUES && failed == 0; q++)
        lane->queues[q].remote = lane->queues[q].qp->qp_num;
    if (failed == 0)
        failed = mt_verbs_lane_connect(endpoint, lane);
    if (failed == 0)
        say(check, MT_VERBS_GOOD, "%s: GID %s (place %u of its table)%s", rail->name, text,
            rail->port.gids[gid].index, gid == 0 ? ", the first that is tried" : "");
    else
        say(check, MT_VERBS_WEAK, "%s: GID %s (place %u of its table) cannot be used: %s",
            rail->name, text, rail->port.gids[gid].index, lane->refused);
    mt_verbs_lane_end(endpoint, lane);
    free(lane);
}

static void check_rail(struct check *check, uint32_t index)
{
    static const uint32_t mtu_bytes[] = {0, 256, 512, 1024, 2048, 4096};
    struct mt_verbs_rail *rail = &check->endpoint.rails[index];
    const struct mt_verbs_library *library = check->endpoint.library;
    struct ibv_srq_init_attr attr = {.attr = {.max_wr = 16, .max_sge = 1}};
    say(check, MT_VERBS_GOOD, "%s: active, %.0f Gbit/s, packets of %u bytes%s", rail->name,
        (double)rail->bytes_per_s * 8e-9, mtu_bytes[rail->port.mtu % 6],
        rail->is_near ? "" : ", far from this process's cores");
    rail->pd = library->alloc_pd(rail->context);
    rail->cq = library->create_cq(rail->context, 64, NULL, NULL, 0);
    if (rail->pd != NULL)
        rail->srq = library->create_srq(rail->pd, &attr);
    if (rail->pd == NULL || rail->cq == NULL || rail->srq == NULL) {
        say(check, MT_VERBS_BAD, "%s gives no queues: %s", rail->name, strerror(errno));
    } else {
        try_memory(check, rail);
        for (uint32_t gid = 0; gid < rail->port.gid_count; gid++)
            try_gid(check, index, gid);
    }
    if (rail->srq != NULL)
        library->destroy_srq(rail->srq);
    if (rail->cq != NULL)
        library->destroy_cq(rail->cq);
    if (rail->pd != NULL)
        library->dealloc_pd(rail->pd);
}

/* Ports that are not active are not among the rails. */
static void say_other_ports(struct check *check)
{
    const struct mt_verbs_library *library = check->endpoint.library;
    int count = 0;
    struct ibv_device **list = library->get_device_list(&count);
    for (int i = 0; list != NULL && i < count; i++) {
        struct ibv_device_attr attr = {0};
        struct ibv_port_attr port;
        const char *name = library->get_device_name(list[i]);
        errno = 0;
        struct ibv_context *context = library->open_device(list[i]);
        if (context == NULL) {
            say(check, MT_VERBS_WEAK,
                "%s cannot be opened: %s; give the container /dev/infiniband/uverbs*", name,
                strerror(errno));
            continue;
        }
        (void)library->query_device(context, &attr);
        for (uint8_t p = 1; p <= attr.phys_port_cnt; p++) {
            if (library->query_port(context, p, &port) == 0 && port.state != IBV_PORT_ACTIVE)
                say(check, MT_VERBS_WEAK, "%s:%u is down: is its interface up, its cable in?", name,
                    p);
        }
        library->close_device(context);
    }
    if (list != NULL)
        library->free_device_list(list);
}

static void say_unmapped(const struct check *check)
{
    int error = mt_unmapped_acquire();
    if (error == 0)
        mt_unmapped_release();
    else
        say(check, MT_VERBS_WEAK,
            "the kernel does not tell this process what it unmaps (userfaultfd: %s): ordinary "
            "buffers are registered for each message; allow it in the container's seccomp profile, "
            "or use manta_mem_alloc()",
            strerror(error));
}

/* A host without a card lacks nothing, unless the user has named one. */
static int is_wanted(const struct check *check)
{
    const char *device = check->endpoint.host->config("VERBS_DEVICE");
    const char *gid = check->endpoint.host->config("VERBS_GID");
    return mt_verbs_host_has_device() || (device != NULL && device[0] != '\0') ||
           (gid != NULL && gid[0] != '\0');
}

void mt_verbs_check(void (*say_it)(enum mt_verbs_verdict verdict, const char *sentence))
{
    struct check *check = calloc(1, sizeof(*check));
    char why[WHY_BYTES] = "";
    if (check == NULL)
        return;
    check->say = say_it;
    check->endpoint.host = mt_transport_host();
    int wrong = mt_verbs_settings_read(&check->endpoint, why, sizeof(why)), code = wrong;
    if (code == 0)
        check->endpoint.library = mt_verbs_library(why, sizeof(why));
    if (code == 0)
        code = check->endpoint.library == NULL
                   ? MANTA_ENOTSUP
                   : mt_verbs_devices_open(&check->endpoint, why, sizeof(why));
    if (code != 0)
        say(check, wrong || is_wanted(check) ? MT_VERBS_BAD : MT_VERBS_GOOD, "not used: %s", why);
    for (uint32_t i = 0; i < check->endpoint.rail_count; i++)
        check_rail(check, i);
    if (check->endpoint.library != NULL)
        say_other_ports(check);
    if (check->endpoint.rail_count > 0)
        say_unmapped(check);
    mt_verbs_devices_close(&check->endpoint);
    free(check);
}
