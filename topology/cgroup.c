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
static int parse_mount(const char *line, int version, struct mount *mount)
{
    char type[64], super[1024] = "";
    const char *dash = strstr(line, " - ");
    if (dash == NULL || sscanf(line, "%*d %*d %*s %4095s %4095s", mount->root, mount->point) != 2)
        return 0;
    if (sscanf(dash, " - %63s %*s %1023s", type, super) < 1)
        return 0;
    if (version == 2)
        return strcmp(type, "cgroup2") == 0;
    return strcmp(type, "cgroup") == 0 && list_has(super, "cpu");
}

static int find_mount(const char *root, int version, struct mount *mount)
{
    FILE *file = open_below(root, "/proc/self", "mountinfo");
    if (file == NULL)
        return 0;
    char *line = NULL;
    size_t room = 0;
    int found = 0;
    while (!found && getline(&line, &room, file) >= 0)
        found = parse_mount(line, version, mount);
    free(line);
    fclose(file);
    return found;
}

/* This process's group: "0::/path" in version 2, "4:cpu,cpuacct:/path" in version 1. */
static int find_group(const char *root, int version, char *path, size_t path_bytes)
{
    FILE *file = open_below(root, "/proc/self", "cgroup");
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
        if (version == 2 ? *list == '\0' : list_has(list, "cpu"))
            found = snprintf(path, path_bytes, "%s", group) < (int)path_bytes;
    }
    free(line);
    fclose(file);
    return found;
}

/* Quota of one group, as thousandths of a CPU; 0: none. */
static uint64_t group_quota(const char *root, const char *folder, int version)
{
    long long quota = 0, period = 0;
    FILE *file = open_below(root, folder, version == 2 ? "cpu.max" : "cpu.cfs_quota_us");
    if (file == NULL)
        return 0;
    int fields = fscanf(file, version == 2 ? "%lld %lld" : "%lld", &quota, &period);
    fclose(file);
    if (version == 1 && fields == 1) {
        file = open_below(root, folder, "cpu.cfs_period_us");
        if (file == NULL)
            return 0;
        fields += fscanf(file, "%lld", &period);
        fclose(file);
    }
    if (fields != 2 || quota <= 0 || period <= 0 || quota > LLONG_MAX / 1000)
        return 0; /* "max", or -1 in version 1 */
    long long millicpus = quota * 1000 / period;
    return millicpus > 0 ? (uint64_t)millicpus : 1;
}

static uint64_t tightest(const char *root, int version)
{
    struct mount mount;
    char group[PATH_MAX], folder[2 * PATH_MAX];
    if (!find_mount(root, version, &mount) || !find_group(root, version, group, sizeof group))
        return 0;
    /* In a container the mount shows only a part of the hierarchy, which the path begins with. */
    size_t skip = strcmp(mount.root, "/") == 0 ? 0 : strlen(mount.root);
    if (skip > 0 && strncmp(group, mount.root, skip) != 0)
        skip = strlen(group); /* a path of outside this container: look at what is mounted here */
    snprintf(folder, sizeof folder, "%s%s", mount.point, group + skip);
    uint64_t least = 0;
    size_t stop = strlen(mount.point);
    for (;;) {
        uint64_t quota = group_quota(root, folder, version);
        if (quota > 0 && (least == 0 || quota < least))
            least = quota;
        char *slash = strrchr(folder, '/');
        if (slash == NULL || (size_t)(slash - folder) < stop)
            return least;
        *slash = '\0';
    }
}

uint64_t mt_cgroup_millicpus(const char *root)
{
    uint64_t quota = tightest(root, 2);
    return quota > 0 ? quota : tightest(root, 1);
}
