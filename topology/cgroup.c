/* SPDX-License-Identifier: Apache-2.0 */
#include "topology/cgroup.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Where a hierarchy is mounted, and which part of it is seen there. */
struct mount {
    char root[PATH_MAX];
    char point[PATH_MAX];
};

/* What a control group limits. */
struct limit {
    const char *controller; /* as version 1 calls it */
    const char *root;
    uint64_t swap_bytes;
    /* What the group in this folder leaves; UINT64_MAX: it has no limit. */
    uint64_t (*read)(const struct limit *limit, const char *folder, int version);
};

static FILE *open_below(const char *root, const char *folder, const char *file)
{
    char path[2 * PATH_MAX];
    int length = snprintf(path, sizeof path, "%s%s/%s", root, folder, file);
    if (length < 0 || (size_t)length >= sizeof path)
        return NULL;
    return fopen(path, "re");
}

/* 1 if the comma-separated list holds the word. */
static int list_has(const char *list, const char *word)
{
    size_t length = strlen(word);
    for (const char *at = list; (at = strstr(at, word)) != NULL; at += length) {
        int starts = at == list || at[-1] == ',';
        int ends = at[length] == '\0' || at[length] == ',' || at[length] == '\n';
        if (starts && ends)
            return 1;
    }
    return 0;
}

/* One line of mountinfo: "36 35 98:0 /root /point options tags - type source super-options". */
static int parse_mount(const char *line, const char *controller, int version, struct mount *mount)
{
    char type[64], super[1024] = "";
    const char *dash = strstr(line, " - ");
    if (dash == NULL || sscanf(line, "%*d %*d %*s %4095s %4095s", mount->root, mount->point) != 2)
        return 0;
    if (sscanf(dash, " - %63s %*s %1023s", type, super) < 1)
        return 0;
    if (version == 2)
        return strcmp(type, "cgroup2") == 0;
    return strcmp(type, "cgroup") == 0 && list_has(super, controller);
}

static int find_mount(const struct limit *limit, int version, struct mount *mount)
{
    FILE *file = open_below(limit->root, "/proc/self", "mountinfo");
    if (file == NULL)
        return 0;
    char *line = NULL;
    size_t room = 0;
    int found = 0;
    while (!found && getline(&line, &room, file) >= 0)
        found = parse_mount(line, limit->controller, version, mount);
    free(line);
    fclose(file);
    return found;
}

/* This process's group: "0::/path" in version 2, "4:cpu,cpuacct:/path" in version 1. */
static int find_group(const struct limit *limit, int version, char *path, size_t path_bytes)
{
    FILE *file = open_below(limit->root, "/proc/self", "cgroup");
    if (file == NULL)
        return 0;
    char *line = NULL;
    size_t room = 0;
    int found = 0;
    while (!found && getline(&line, &room, file) >= 0) {
        char *list = strchr(line, ':');
        char *group = list != NULL ? strchr(list + 1, ':') : NULL;
        if (group == NULL)
            continue;
        *group++ = '\0';
        group[strcspn(group, "\n")] = '\0';
        list++;
        if (version == 2 ? *list == '\0' : list_has(list, limit->controller))
            found = snprintf(path, path_bytes, "%s", group) < (int)path_bytes;
    }
    free(line);
    fclose(file);
    return found;
}

/* Quota of one group, as thousandths of a CPU. */
static uint64_t group_quota(const struct limit *limit, const char *folder, int version)
{
    long long quota = 0, period = 0;
    FILE *file = open_below(limit->root, folder, version == 2 ? "cpu.max" : "cpu.cfs_quota_us");
    if (file == NULL)
        return UINT64_MAX;
    int fields = fscanf(file, version == 2 ? "%lld %lld" : "%lld", &quota, &period);
    fclose(file);
    if (version == 1 && fields == 1) {
        file = open_below(limit->root, folder, "cpu.cfs_period_us");
        if (file == NULL)
            return UINT64_MAX;
        fields += fscanf(file, "%lld", &period);
        fclose(file);
    }
    if (fields != 2 || quota <= 0 || period <= 0 || quota > LLONG_MAX / 1000)
        return UINT64_MAX; /* "max", or -1 in version 1 */
    long long millicpus = quota * 1000 / period;
    return millicpus > 0 ? (uint64_t)millicpus : 1;
}

/* UINT64_MAX: it cannot be read, or is "max", or -1 in version 1. */
static uint64_t read_bytes(const struct limit *limit, const char *folder, const char *name)
{
    long long bytes = -1;
    FILE *file = open_below(limit->root, folder, name);
    if (file == NULL)
        return UINT64_MAX;
    if (fscanf(file, "%lld", &bytes) != 1)
        bytes = -1;
    fclose(file);
    return bytes < 0 ? UINT64_MAX : (uint64_t)bytes;
}

/* Of files, which the kernel drops for whoever needs memory. */
static uint64_t cached_bytes(const struct limit *limit, const char *folder, int version)
{
    const char *names =
        version == 2 ? "inactive_file,active_file" : "total_inactive_file,total_active_file";
    char name[64];
    unsigned long long value;
    uint64_t bytes = 0;
    FILE *file = open_below(limit->root, folder, "memory.stat");
    if (file == NULL)
        return 0;
    while (fscanf(file, "%63s %llu", name, &value) == 2)
        bytes += list_has(names, name) ? value : 0;
    fclose(file);
    return bytes;
}

/* A limit, less what is in use of it but for what can be dropped. */
static uint64_t rest_of(uint64_t most, uint64_t used, uint64_t dropped)
{
    if (most == UINT64_MAX || used == UINT64_MAX)
        return most;
    used -= dropped < used ? dropped : used;
    return used < most ? most - used : 0;
}

/* Bytes that one group may still take, swap included: version 1 limits it together with memory,
 * version 2 by itself. */
static uint64_t group_room(const struct limit *limit, const char *folder, int version)
{
    const char *names_v1[] = {"memory.limit_in_bytes", "memory.usage_in_bytes",
                              "memory.memsw.limit_in_bytes", "memory.memsw.usage_in_bytes"};
    const char *names_v2[] = {"memory.max", "memory.current", "memory.swap.max",
                              "memory.swap.current"};
    const char **names = version == 2 ? names_v2 : names_v1;
    uint64_t values[4], cached = cached_bytes(limit, folder, version);
    for (int i = 0; i < 4; i++)
        values[i] = read_bytes(limit, folder, names[i]);
    uint64_t room = rest_of(values[0], values[1], cached);
    uint64_t other = rest_of(values[2], values[3], version == 2 ? 0 : cached);
    uint64_t swap = version == 2 && other < limit->swap_bytes ? other : limit->swap_bytes;
    room = room < UINT64_MAX - swap ? room + swap : UINT64_MAX;
    return version == 1 && other < room ? other : room;
}

static uint64_t tightest(const struct limit *limit, int version)
{
    struct mount mount;
    char group[PATH_MAX], folder[2 * PATH_MAX];
    if (!find_mount(limit, version, &mount) || !find_group(limit, version, group, sizeof group))
        return UINT64_MAX;
    /* In a container the mount shows only a part of the hierarchy, which the path begins with. */
    size_t skip = strcmp(mount.root, "/") == 0 ? 0 : strlen(mount.root);
    if (skip > 0 && strncmp(group, mount.root, skip) != 0)
        skip = strlen(group); /* a path of outside this container: look at what is mounted here */
    snprintf(folder, sizeof folder, "%s%s", mount.point, group + skip);
    uint64_t least = UINT64_MAX;
    size_t stop = strlen(mount.point);
    for (;;) {
        uint64_t left = limit->read(limit, folder, version);
        if (left < least)
            least = left;
        char *slash = strrchr(folder, '/');
        if (slash == NULL || (size_t)(slash - folder) < stop)
            return least;
        *slash = '\0';
    }
}

uint64_t mt_cgroup_millicpus(const char *root)
{
    const struct limit cpu = {.controller = "cpu", .root = root, .read = group_quota};
    uint64_t quota = tightest(&cpu, 2);
    if (quota == UINT64_MAX)
        quota = tightest(&cpu, 1);
    return quota == UINT64_MAX ? 0 : quota;
}

uint64_t mt_cgroup_room_bytes(const char *root, uint64_t swap_bytes)
{
    const struct limit memory = {
        .controller = "memory", .root = root, .swap_bytes = swap_bytes, .read = group_room};
    uint64_t room = tightest(&memory, 2);
    return room == UINT64_MAX ? tightest(&memory, 1) : room;
}
