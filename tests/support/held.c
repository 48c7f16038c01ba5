/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/held.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <dirent.h>
#include <errno.h>

#include "tests/support/ranks.h"

enum { LOOKS = 2500, EXITING = 4 /* PF_EXITING of the kernel's include/linux/sched.h */ };

const char *held_name(int kind)
{
    static const char *const names[HELD_KINDS] = {"descriptors",     "threads",  "memfd mappings",
                                                  "shared mappings", "mappings", "children"};
    return names[kind];
}

static void count_mappings(struct held *out)
{
    char line[512], rights[8];
    FILE *maps = fopen("/proc/self/maps", "re");
    while (maps && fgets(line, sizeof line, maps)) {
        out->counts[HELD_MAPPINGS]++;
        out->counts[HELD_MEMFDS] += strstr(line, "memfd:") != NULL;
        out->counts[HELD_SHARED] += sscanf(line, "%*s %7s", rights) == 1 && rights[3] == 's';
    }
    if (maps)
        fclose(maps);
}

/* The parent of a process by /proc: the second number after its name, which may hold anything. */
static int parent_of(const char *pid)
{
    char path[300], line[512];
    int parent = -1;
    snprintf(path, sizeof path, "/proc/%s/stat", pid);
    FILE *stat = fopen(path, "re");
    if (!stat)
        return -1;
    const char *after_name = fgets(line, sizeof line, stat) ? strrchr(line, ')') : NULL;
    if (!after_name || sscanf(after_name, ") %*c %d", &parent) != 1)
        parent = -1;
    fclose(stat);
    return parent;
}

static int count_children(void)
{
    DIR *processes = opendir("/proc");
    int count = 0;
    for (const struct dirent *entry; processes && (entry = readdir(processes));)
        count += isdigit((unsigned char)entry->d_name[0]) && parent_of(entry->d_name) == getpid();
    if (processes)
        closedir(processes);
    return count;
}

/* 1 for a thread that is ending: one that was joined may be in /proc for as long as the host takes
 * to end it. The flags are the seventh number after its name, which may hold anything. */
static int is_ending(const char *thread)
{
    char path[300], line[512];
    unsigned flags;
    snprintf(path, sizeof path, "/proc/self/task/%s/stat", thread);
    FILE *stat = fopen(path, "re");
    if (!stat)
        return errno == ENOENT;
    const char *after_name = fgets(line, sizeof line, stat) ? strrchr(line, ')') : NULL;
    fclose(stat);
    if (!after_name) /* it has gone in between */
        return 1;
    return sscanf(after_name, ") %*c %*d %*d %*d %*d %*d %u", &flags) == 1 && flags & EXITING;
}

int held_threads(void)
{
    DIR *threads = opendir("/proc/self/task");
    int count = 0;
    for (const struct dirent *entry; threads && (entry = readdir(threads));)
        count += isdigit((unsigned char)entry->d_name[0]) && !is_ending(entry->d_name);
    if (threads)
        closedir(threads);
    return count;
}

static void pause_shortly(void)
{
    const struct timespec moment = {.tv_nsec = 2000000};
    nanosleep(&moment, NULL);
}

static void look(struct held *out)
{
    memset(out, 0, sizeof *out);
    out->counts[HELD_DESCRIPTORS] = folder_entries("/proc/self/fd");
    out->counts[HELD_THREADS] = held_threads();
    out->counts[HELD_CHILDREN] = count_children();
    count_mappings(out);
}

void held_look(struct held *out)
{
    struct held before;
    look(out);
    for (int looks = 0, differ = 1; looks < LOOKS && differ; looks++) {
        before = *out;
        pause_shortly();
        look(out);
        differ = memcmp(&before, out, sizeof before) != 0;
    }
}

int held_as_before(const struct held *before, struct held *more_out)
{
    int differ = 1;
    for (int looks = 0; looks < LOOKS && differ; looks++) {
        if (looks > 0)
            pause_shortly();
        look(more_out);
        differ = 0;
        for (int kind = 0; kind < HELD_KINDS; kind++) {
            more_out->counts[kind] -= before->counts[kind];
            differ |= more_out->counts[kind] != 0;
        }
    }
    return !differ;
}
