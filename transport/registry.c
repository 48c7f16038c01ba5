/* SPDX-License-Identifier: Apache-2.0 */
#include "transport/registry.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "core/config.h"
#include "core/log.h"
#include "core/service.h"
#include "transport/answer.h"
#include "transport/ofi/present.h"
#include "transport/plugin.h"

static const struct manta_transport *const built_in[] = {
    &mt_transport_shm, &mt_transport_tcp, &mt_transport_verbs, &mt_transport_ofi, &mt_transport_sim,
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

const struct manta_transport *mt_transport_built_in(uint32_t index)
{
    return index < BUILT_IN_COUNT ? built_in[index] : NULL;
}

/* A path: a plugin that this rank may have or not. */
static int add_plugin(struct mt_transport_listed *listed, struct mt_error *error)
{
    if (listed->name[0] != '/')
        return mt_error_set(error, MANTA_EINVAL,
                            "the plugin '%.*s' must be named by its absolute path, which begins "
                            "with a slash",
                            (int)listed->name_length, listed->name);
    char path[MT_PLUGIN_PATH_MAX + 1];
    if (listed->name_length > MT_PLUGIN_PATH_MAX)
        return mt_error_set(error, MANTA_EINVAL,
                            "the path of a plugin has %zu characters, at most %d are allowed",
                            listed->name_length, MT_PLUGIN_PATH_MAX);
    memcpy(path, listed->name, listed->name_length);
    path[listed->name_length] = '\0';
    listed->is_plugin = 1;
    (void)mt_plugin_load(path, &listed->transport, &listed->why);
    return 0;
}

static int add_named(struct mt_transport_listed *listed, struct mt_error *error)
{
    char known[128];
    int shown = listed->name_length < 64 ? (int)listed->name_length : 64;
    if (listed->name_length == 0)
        return mt_error_set(error, MANTA_EINVAL,
                            "the list of transports has an empty name; give names separated by "
                            "single commas, e.g. shm,tcp");
    if (memchr(listed->name, '/', listed->name_length) != NULL)
        return add_plugin(listed, error);
    listed->transport = find(listed->name, listed->name_length);
    if (listed->transport != NULL)
        return 0;
    return mt_error_set(error, MANTA_EINVAL,
                        "there is no transport '%.*s'; MANTA_TRANSPORTS may name: %s, or the "
                        "absolute path of a plugin",
                        shown, listed->name, known_names(known, sizeof(known)));
}

static int add(struct mt_transport_listed *listed, uint32_t count, struct mt_error *error)
{
    struct mt_transport_listed *added = &listed[count];
    int code = add_named(added, error);
    for (uint32_t i = 0; code == 0 && i < count; i++) {
        int is_same = listed[i].name_length == added->name_length &&
                      memcmp(listed[i].name, added->name, added->name_length) == 0;
        if (is_same || (added->transport != NULL && listed[i].transport == added->transport))
            code = mt_error_set(error, MANTA_EINVAL, "transport %.*s is named twice",
                                (int)added->name_length, added->name);
    }
    return code;
}

int mt_transport_list(const char *names, struct mt_transport_listed *listed, uint32_t capacity,
                      uint32_t *count_out, struct mt_error *error)
{
    uint32_t count = 0;
    for (const char *name = names;;) {
        size_t length = strcspn(name, ",");
        if (count == capacity)
            return mt_error_set(error, MANTA_EINVAL, "at most %u transports can be named",
                                capacity);
        listed[count] = (struct mt_transport_listed){.name = name, .name_length = length};
        int code = add(listed, count, error);
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

int mt_transport_is_by_network(const struct manta_transport *transport)
{
    return transport == &mt_transport_tcp || transport == &mt_transport_verbs ||
           transport == &mt_transport_ofi;
}

int mt_transport_query(const struct manta_transport *transport, struct manta_transport_error *error)
{
    *error = (struct manta_transport_error){.size = sizeof(*error), .peer = MANTA_PLAN_NONE};
    int code = transport->query ? transport->query(mt_transport_host(), error) : 0;
    error->sentence[sizeof(error->sentence) - 1] = '\0';
    if (code == 0)
        return 0;
    if (error->sentence[0] == '\0')
        snprintf(error->sentence, sizeof(error->sentence),
                 "its query answered %d, and nothing else", code);
    return code == MANTA_EINVAL ? code : MANTA_ENOTSUP;
}

/* The variables by which a user names what a transport is to use. */
static const struct {
    const struct manta_transport *transport;
    int variable;
} choices[] = {
    {&mt_transport_tcp, MT_VAR(INTERFACE)},   {&mt_transport_verbs, MT_VAR(VERBS_DEVICE)},
    {&mt_transport_verbs, MT_VAR(VERBS_GID)}, {&mt_transport_ofi, MT_VAR(OFI_PROVIDER)},
    {&mt_transport_ofi, MT_VAR(OFI_DOMAIN)},
};
enum { CHOICES = sizeof(choices) / sizeof(choices[0]), CHOICE_BYTES = 80 };

/* "MANTA_VERBS_DEVICE=mlx5_0 and MANTA_VERBS_GID=3"; 0: the user has named nothing. */
static int choice_of(const struct manta_transport *transport, char *text, size_t text_bytes)
{
    size_t used = 0;
    for (uint32_t i = 0; i < CHOICES && used < text_bytes; i++) {
        if (choices[i].transport != transport || !mt_config_is_set(choices[i].variable))
            continue;
        used += (size_t)snprintf(text + used, text_bytes - used, "%s%s=%.40s", used ? " and " : "",
                                 mt_config_entry(choices[i].variable)->variable,
                                 mt_config_string(choices[i].variable));
    }
    return used > 0;
}

/* libfabric has ways to every host, and others are better where none of its own networks is. */
int mt_transport_is_left_out(const struct manta_transport *transport,
                             struct manta_transport_error *why)
{
    char choice[CHOICE_BYTES];
    if (transport != &mt_transport_ofi || mt_ofi_is_present("") ||
        choice_of(transport, choice, sizeof(choice)))
        return 0;
    mt_transport_refuse(why, MANTA_ENOTSUP, 0,
                        "this host has neither EFA nor Slingshot; MANTA_TRANSPORTS may name it");
    return 1;
}

int mt_transport_open(const struct manta_transport_open *params, void **endpoint_out,
                      struct manta_transport_error *error)
{
    char choice[CHOICE_BYTES], why[156];
    const struct manta_transport *transport = params->transport;
    int code = mt_transport_query(transport, error);
    if (code == 0)
        code = transport->open(params, endpoint_out, error);
    if (code == 0 || code == MANTA_EINVAL || !choice_of(transport, choice, sizeof(choice)))
        return code;
    snprintf(why, sizeof(why), "%.*s", (int)sizeof(why) - 1, error->sentence);
    snprintf(error->sentence, sizeof(error->sentence), "%s cannot be used: %s", choice, why);
    return MANTA_EINVAL;
}

void mt_transport_warn_of_unused(const struct mt_transport_listed *listed, uint32_t count)
{
    for (uint32_t c = 0; c < CHOICES; c++) {
        uint32_t i = 0;
        while (i < count && listed[i].transport != choices[c].transport)
            i++;
        if (i < count || choices[c].transport == &mt_transport_tcp || /* it limits others, too */
            !mt_config_is_set(choices[c].variable))
            continue;
        mt_log(MT_LOG_WARN, -1,
               "%s=%.64s is of no use: %s is not among the transports; name it in MANTA_TRANSPORTS",
               mt_config_entry(choices[c].variable)->variable,
               mt_config_string(choices[c].variable), choices[c].transport->name);
    }
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

/* The library's variables, and those that it leaves to plugins. */
static const char *host_config(const char *variable)
{
    char name[128];
    int length = snprintf(name, sizeof(name), "MANTA_%s", variable);
    if (length >= (int)sizeof(name))
        return NULL;
    if (mt_config_is_plugins(name, (size_t)length))
        return getenv(name);
    for (int i = 0; i < MT_CONFIG_VARIABLE_COUNT; i++) {
        if (strcmp(mt_config_entry(i)->variable, name) == 0)
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
        .fd_enter = mt_fd_enter,
        .fd_close = mt_fd_close,
    };
    return &host;
}
