/* SPDX-License-Identifier: Apache-2.0 */
#include "transport/registry.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "core/config.h"
#include "core/log.h"

static const struct manta_transport *const built_in[] = {
    &mt_transport_shm,
    &mt_transport_tcp,
    &mt_transport_sim,
};
enum { BUILT_IN_COUNT = sizeof(built_in) / sizeof(built_in[0]) };

static const struct manta_transport *find(const char *name, size_t length)
{
    for (uint32_t i = 0; i < BUILT_IN_COUNT; i++) {
        if (strlen(built_in[i]->name) == length && memcmp(built_in[i]->name, name, length) == 0)
            return built_in[i];
    }
    return NULL;
}

const struct manta_transport *mt_transport_find(const char *name)
{
    return find(name, strlen(name));
}

/* "shm, tcp, sim" */
static const char *known_names(char *text, size_t text_bytes)
{
    size_t used = 0;
    text[0] = '\0';
    for (uint32_t i = 0; i < BUILT_IN_COUNT && used < text_bytes; i++)
        used += (size_t)snprintf(text + used, text_bytes - used, "%s%s", i ? ", " : "",
                                 built_in[i]->name);
    return text;
}

static int add(const char *name, size_t length, const struct manta_transport **transports,
               uint32_t count, struct mt_error *error)
{
    char known[128];
    const struct manta_transport *transport = find(name, length);
    int shown = length < 64 ? (int)length : 64;
    if (length == 0)
        return mt_error_set(error, MANTA_EINVAL,
                            "the list of transports has an empty name; give names separated by "
                            "single commas, e.g. shm,tcp");
    if (transport == NULL)
        return mt_error_set(error, MANTA_EINVAL,
                            "there is no transport '%.*s'; MANTA_TRANSPORTS may name: %s", shown,
                            name, known_names(known, sizeof(known)));
    for (uint32_t i = 0; i < count; i++) {
        if (transports[i] == transport)
            return mt_error_set(error, MANTA_EINVAL, "transport %s is named twice",
                                transport->name);
    }
    transports[count] = transport;
    return 0;
}

int mt_transport_list(const char *names, const struct manta_transport **transports,
                      uint32_t capacity, uint32_t *count_out, struct mt_error *error)
{
    uint32_t count = 0;
    for (const char *name = names;;) {
        size_t length = strcspn(name, ",");
        if (count == capacity)
            return mt_error_set(error, MANTA_EINVAL, "at most %u transports can be named",
                                capacity);
        int code = add(name, length, transports, count, error);
        if (code != 0)
            return code;
        count++;
        if (name[length] == '\0')
            break;
        name += length + 1;
    }
    *count_out = count;
    return 0;
}

static void host_log(int level, const char *transport, const char *sentence)
{
    mt_log(level, -1, "%s: %s", transport, sentence);
}

static void *host_alloc(size_t bytes, size_t alignment)
{
    void *memory = NULL;
    if (alignment < sizeof(void *))
        alignment = sizeof(void *);
    return posix_memalign(&memory, alignment, bytes) == 0 ? memory : NULL;
}

static void host_free(void *memory)
{
    free(memory);
}

static const char *host_config(const char *variable)
{
    static const char prefix[] = "MANTA_";
    for (int i = 0; i < MT_CONFIG_VARIABLE_COUNT; i++) {
        if (strcmp(mt_config_entry(i)->variable + sizeof(prefix) - 1, variable) == 0)
            return mt_config_string(i);
    }
    return NULL;
}

const struct manta_transport_host *mt_transport_host(void)
{
    static const struct manta_transport_host host = {
        .size = sizeof(host),
        .abi = MANTA_TRANSPORT_ABI,
        .log = host_log,
        .alloc = host_alloc,
        .free = host_free,
        .clock_ns = mt_clock_now_ns,
        .config = host_config,
    };
    return &host;
}
