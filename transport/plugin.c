/* SPDX-License-Identifier: Apache-2.0 */
/* The loader of plugins: what a shared object gives is looked at before anything is called. */
#include "transport/plugin.h"

#include <ctype.h>
#include <dlfcn.h>
#include <limits.h>
#include <pthread.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "core/fork.h"
#include "core/log.h"
#include "transport/guard.h"
#include "transport/registry.h"

enum {
    PLUGINS = 32,
    /* Of the first table of this ABI: what is behind close is optional. */
    TABLE_LEAST_BYTES = offsetof(struct manta_transport, counters),
    TABLE_MOST_BYTES = 1 << 16
};

/* A file that was loaded, also when it was refused then: it is not asked twice. */
struct plugin {
    char path[PATH_MAX]; /* without symbolic links */
    void *object;
    struct manta_transport table; /* the plugin's, as far as this library knows its fields */
    struct mt_guard guard;
    struct mt_error error; /* code 0: it is in use */
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct plugin plugins[PLUGINS];
static uint32_t plugin_count;

static void reset_in_child(void)
{
    lock = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER;
}

/* Ops by their place in the table. */
struct op {
    const char *name;
    size_t offset;
};
#define OP(name)                                                                                   \
    {                                                                                              \
#name, offsetof(struct manta_transport, name)                                              \
    }
static const struct op needed[] = {OP(open),        OP(address), OP(peers), OP(probe),
                                   OP(connect),     OP(send),    OP(recv),  OP(progress),
                                   OP(peer_status), OP(error),   OP(abort), OP(close)};
/* Both or neither. */
static const struct op pairs[][2] = {{OP(fused_query), OP(fused_post)},
                                     {OP(mem_register), OP(mem_deregister)},
                                     {OP(mem_export), OP(mem_import)}};
#undef OP
enum { NEEDED = sizeof(needed) / sizeof(needed[0]), PAIRS = sizeof(pairs) / sizeof(pairs[0]) };

static int has_op(const struct manta_transport *table, const struct op *op)
{
    void (*function)(void) = NULL;
    memcpy(&function, (const char *)table + op->offset, sizeof(function));
    return function != NULL;
}

static int check_ops(const struct plugin *plugin, struct mt_error *error)
{
    for (uint32_t i = 0; i < NEEDED; i++) {
        if (!has_op(&plugin->table, &needed[i]))
            return mt_error_set(error, MANTA_EINVAL,
                                "the plugin %.255s has no op %s, which every transport must have",
                                plugin->path, needed[i].name);
    }
    for (uint32_t g = 0; g < PAIRS; g++) {
        if (has_op(&plugin->table, &pairs[g][0]) != has_op(&plugin->table, &pairs[g][1]))
            return mt_error_set(error, MANTA_EINVAL,
                                "of the plugin %.255s's ops %s and %s one is there and the "
                                "other is not: they go together",
                                plugin->path, pairs[g][0].name, pairs[g][1].name);
    }
    return 0;
}

static int is_name(const char *name)
{
    size_t length = strnlen(name, MANTA_TRANSPORT_NAME_MAX + 1);
    if (length == 0 || length > MANTA_TRANSPORT_NAME_MAX || name[0] < 'a' || name[0] > 'z')
        return 0;
    return strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_") == length;
}

static int is_version(const char *version)
{
    size_t length = strnlen(version, MANTA_TRANSPORT_VERSION_MAX + 1);
    for (size_t i = 0; i < length; i++)
        if (!isprint((unsigned char)version[i]))
            return 0;
    return length > 0 && length <= MANTA_TRANSPORT_VERSION_MAX;
}

static int check_name(const struct plugin *plugin, struct mt_error *error)
{
    const char *name = plugin->table.name;
    if (name == NULL || !is_name(name))
        return mt_error_set(error, MANTA_EINVAL,
                            "the plugin %.255s has no proper name: that is 1 to %d lower-case "
                            "letters, digits and '_', a letter first",
                            plugin->path, MANTA_TRANSPORT_NAME_MAX);
    if (plugin->table.version != NULL && !is_version(plugin->table.version))
        return mt_error_set(error, MANTA_EINVAL,
                            "the version that the plugin %.255s gives itself is no text of 1 to %d "
                            "printable characters",
                            plugin->path, MANTA_TRANSPORT_VERSION_MAX);
    if (mt_transport_find(name) != NULL)
        return mt_error_set(error, MANTA_EINVAL,
                            "the plugin %.255s calls itself %s, which is the name of a built-in "
                            "transport: give it another",
                            plugin->path, name);
    for (uint32_t i = 0; i < plugin_count; i++) {
        if (plugins[i].error.code == 0 && strcmp(plugins[i].table.name, name) == 0)
            return mt_error_set(error, MANTA_EINVAL,
                                "the plugins %.200s and %.200s both call themselves %s: use one of "
                                "them",
                                plugins[i].path, plugin->path, name);
    }
    return 0;
}

/* Take as much of the table as is there and known. */
static int read_table(struct plugin *plugin, const struct manta_transport *given,
                      struct mt_error *error)
{
    const char *path = plugin->path;
    if (given == NULL)
        return mt_error_set(error, MANTA_ENOTSUP,
                            "the plugin %.255s says that version %d of the transport ABI does not "
                            "suit it: get a build of it for libmanta %d.%d",
                            path, MANTA_TRANSPORT_ABI, MANTA_VERSION_MAJOR, MANTA_VERSION_MINOR);
    if (given->size >= offsetof(struct manta_transport, flags) && given->size <= TABLE_MOST_BYTES &&
        given->abi != MANTA_TRANSPORT_ABI)
        return mt_error_set(error, MANTA_ENOTSUP,
                            "the plugin %.255s is made for version %u of the transport ABI, this "
                            "library has %d: %s",
                            path, given->abi, MANTA_TRANSPORT_ABI,
                            given->abi < MANTA_TRANSPORT_ABI
                                ? "compile it against this library's headers"
                                : "install a newer libmanta, or an older build of it");
    if (given->size < TABLE_LEAST_BYTES || given->size > TABLE_MOST_BYTES)
        return mt_error_set(error, MANTA_EINVAL,
                            "the table of the plugin %.255s says that it has %zu bytes, it must "
                            "have %d to %d: it sets size to sizeof(struct manta_transport)",
                            path, given->size, TABLE_LEAST_BYTES, TABLE_MOST_BYTES);
    size_t bytes = given->size < sizeof(plugin->table) ? given->size : sizeof(plugin->table);
    memcpy(&plugin->table, given, bytes);
    if (plugin->table.flags != 0)
        return mt_error_set(error, MANTA_ENOTSUP,
                            "the plugin %.255s sets flags 0x%x, which this library does not know: "
                            "install a newer libmanta",
                            path, plugin->table.flags);
    int code = check_ops(plugin, error);
    return code ? code : check_name(plugin, error);
}

static int load(struct plugin *plugin, struct mt_error *error)
{
    manta_transport_plugin_fn *entry = NULL;
    plugin->object = dlopen(plugin->path, RTLD_NOW | RTLD_LOCAL);
    if (plugin->object == NULL)
        return mt_error_set(error, MANTA_EINVAL, "the plugin cannot be loaded: %.400s", dlerror());
    void *symbol = dlsym(plugin->object, "manta_transport_plugin");
    if (symbol == NULL)
        return mt_error_set(error, MANTA_EINVAL,
                            "%.255s has no symbol manta_transport_plugin: it is no transport "
                            "plugin, or hides that symbol",
                            plugin->path);
    memcpy(&entry, &symbol, sizeof(entry));
    int code = read_table(plugin, entry(mt_transport_host()), error);
    if (code != 0)
        return code;
    mt_guard_init(&plugin->guard, &plugin->table, 0);
    mt_log(MT_LOG_INFO, -1, "plugin %s %s loaded from %s", plugin->table.name,
           plugin->table.version ? plugin->table.version : "(no version)", plugin->path);
    return 0;
}

static struct plugin *find_loaded(const char *real)
{
    for (uint32_t i = 0; i < plugin_count; i++)
        if (strcmp(plugins[i].path, real) == 0)
            return &plugins[i];
    return NULL;
}

/* Lock held. */
static int find_or_load(const char *path, struct plugin **plugin_out, struct mt_error *error)
{
    char real[PATH_MAX];
    int code = mt_plugin_check_file(path, real, error);
    if (code != 0)
        return code;
    struct plugin *plugin = find_loaded(real);
    if (plugin == NULL && plugin_count == PLUGINS)
        return mt_error_set(error, MANTA_ENOTSUP, "a process can load %d plugins", PLUGINS);
    if (plugin == NULL) {
        plugin = &plugins[plugin_count];
        memset(plugin, 0, sizeof(*plugin));
        strcpy(plugin->path, real);
        plugin->error.code = load(plugin, &plugin->error);
        plugin_count += plugin->object != NULL;
    }
    if (plugin->error.code != 0)
        *error = plugin->error;
    *plugin_out = plugin;
    return plugin->error.code;
}

int mt_plugin_load(const char *path, const struct manta_transport **transport_out,
                   struct mt_error *error)
{
    struct plugin *plugin = NULL;
    *transport_out = NULL;
    mt_fork_on_child(reset_in_child);
    pthread_mutex_lock(&lock);
    int code = find_or_load(path, &plugin, error);
    pthread_mutex_unlock(&lock);
    if (code == 0)
        *transport_out = &plugin->guard.table;
    return code;
}
