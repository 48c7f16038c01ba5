/* SPDX-License-Identifier: Apache-2.0 */
#include "transport/ofi/library.h"

#include <dirent.h>
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { REASON_BYTES = 240, UNIVERSE_LEAST = 16 };

static const char file[] = "libfabric.so.1";

static struct {
    pthread_mutex_t lock;
    int is_tried, is_loaded, is_expected;
    struct mt_ofi_library table;
    char reason[REASON_BYTES];
    const struct mt_ofi_library *stand_in;
} state = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* A data pointer and a function pointer have one representation on POSIX, but not in C. */
static int find(void *handle, const char *name, void *function_out)
{
    void *symbol = dlsym(handle, name);
    if (symbol == NULL) {
        snprintf(state.reason, sizeof(state.reason),
                 "%s has no function %s; install libfabric 1.14 or newer (Debian: libfabric1)",
                 file, name);
        return -1;
    }
    memcpy(function_out, &symbol, sizeof(symbol));
    return 0;
}

/* Never unloaded: its providers leave threads and handlers behind. */
static int load(void)
{
    struct mt_ofi_library *table = &state.table;
    void *handle = dlopen(file, RTLD_NOW | RTLD_LOCAL);
    if (handle == NULL) {
        const char *why = dlerror();
        snprintf(state.reason, sizeof(state.reason),
                 "libfabric cannot be loaded (%.100s); install it (Debian: libfabric1), or add its "
                 "folder to LD_LIBRARY_PATH",
                 why != NULL ? why : file);
        return 0;
    }
    return find(handle, "fi_version", &table->version) == 0 &&
           find(handle, "fi_getinfo", &table->getinfo) == 0 &&
           find(handle, "fi_freeinfo", &table->freeinfo) == 0 &&
           find(handle, "fi_dupinfo", &table->dupinfo) == 0 &&
           find(handle, "fi_fabric", &table->fabric) == 0 &&
           find(handle, "fi_strerror", &table->strerror) == 0;
}

const struct mt_ofi_library *mt_ofi_library(char *reason, size_t reason_bytes)
{
    const struct mt_ofi_library *found = NULL;
    pthread_mutex_lock(&state.lock);
    if (state.stand_in == NULL && !state.is_tried) {
        state.is_tried = 1;
        state.is_loaded = load();
    }
    if (state.stand_in != NULL)
        found = state.stand_in;
    else if (state.is_loaded)
        found = &state.table;
    else
        snprintf(reason, reason_bytes, "%s", state.reason);
    pthread_mutex_unlock(&state.lock);
    return found;
}

void mt_ofi_library_replace(const struct mt_ofi_library *library)
{
    pthread_mutex_lock(&state.lock);
    state.stand_in = library;
    pthread_mutex_unlock(&state.lock);
}

static void set_universe(uint32_t ranks)
{
    char text[16];
    DIR *devices = opendir("/sys/class/infiniband");
    if (devices == NULL)
        return;
    closedir(devices);
    snprintf(text, sizeof(text), "%u", ranks > UNIVERSE_LEAST ? ranks : UNIVERSE_LEAST);
    setenv("FI_UNIVERSE_SIZE", text, 0);
}

void mt_ofi_library_expect(uint32_t ranks)
{
    pthread_mutex_lock(&state.lock);
    if (!state.is_expected)
        set_universe(ranks);
    state.is_expected = 1;
    pthread_mutex_unlock(&state.lock);
}
