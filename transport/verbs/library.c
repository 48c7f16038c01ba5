/* SPDX-License-Identifier: Apache-2.0 */
#include "transport/verbs/library.h"

#include <dirent.h>
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#undef ibv_query_port
#undef ibv_reg_mr
#undef ibv_get_device_list

enum { WHY_BYTES = 192 };

/* lock: all of these. Written once, or by tests. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct mt_verbs_library loaded;
static const struct mt_verbs_library *library;
static int was_tried;
static char reason[WHY_BYTES];

/* The header's own way to ask for all fields calls the symbol, which would have to be linked. */
static int (*query_port_symbol)(struct ibv_context *context, uint8_t port,
                                struct _compat_ibv_port_attr *attr);

static int query_port(struct ibv_context *context, uint8_t port, struct ibv_port_attr *attr)
{
    struct verbs_context *extended = verbs_get_ctx_op(context, query_port);
    memset(attr, 0, sizeof(*attr));
    if (extended != NULL)
        return extended->query_port(context, port, attr, sizeof(*attr));
    return query_port_symbol(context, port, (struct _compat_ibv_port_attr *)attr);
}

int mt_verbs_host_has_device(void)
{
    DIR *folder = opendir("/sys/class/infiniband");
    struct dirent *entry;
    int found = 0;
    while (folder != NULL && !found && (entry = readdir(folder)) != NULL)
        found = entry->d_name[0] != '.';
    if (folder != NULL)
        closedir(folder);
    return found;
}

/* A symbol of the library, in place of a function pointer of any type. */
static int find(void *handle, const char *symbol, void *function_out)
{
    void *found = dlsym(handle, symbol);
    if (found == NULL)
        snprintf(reason, sizeof(reason), "libibverbs.so.1 has no %s: it is too old", symbol);
    else
        memcpy(function_out, &found, sizeof(found));
    return found != NULL;
}

static void load(void)
{
    if (!mt_verbs_host_has_device()) { /* there may be one later */
        snprintf(reason, sizeof(reason), "this host has no RDMA device");
        return;
    }
    void *handle = dlopen("libibverbs.so.1", RTLD_NOW | RTLD_LOCAL);
    was_tried = 1;
    if (handle == NULL) {
        const char *error = dlerror();
        snprintf(reason, sizeof(reason),
                 "libibverbs.so.1 cannot be loaded (%.96s); install rdma-core's libibverbs1 and "
                 "ibverbs-providers",
                 error != NULL ? error : "no reason told");
        return;
    }
#define FIND(result, name, arguments) &&find(handle, "ibv_" #name, &loaded.name)
    if (1 MT_VERBS_FUNCTIONS(FIND) && find(handle, "ibv_query_port", &query_port_symbol)) {
        loaded.query_port = query_port;
        library = &loaded;
    }
#undef FIND
}

const struct mt_verbs_library *mt_verbs_library(char *why, size_t why_bytes)
{
    pthread_mutex_lock(&lock);
    if (library == NULL && !was_tried)
        load();
    const struct mt_verbs_library *found = library;
    if (found == NULL && why_bytes > 0)
        snprintf(why, why_bytes, "%s", reason);
    pthread_mutex_unlock(&lock);
    return found;
}

void mt_verbs_library_replace(const struct mt_verbs_library *with)
{
    pthread_mutex_lock(&lock);
    library = with;
    was_tried = 0;
    pthread_mutex_unlock(&lock);
}
