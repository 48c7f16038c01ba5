/* SPDX-License-Identifier: Apache-2.0 */
#include "transport/ofi/present.h"

#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { PATH_BYTES = 512 };

/* The name of the driver of an RDMA device is that of a folder that its link leads to. */
static int is_efa(const char *devices, const char *name)
{
    char path[2 * PATH_BYTES], target[PATH_BYTES];
    snprintf(path, sizeof(path), "%s/%s/device/driver", devices, name);
    ssize_t length = readlink(path, target, sizeof(target) - 1);
    if (length < 0)
        return 0;
    target[length] = '\0';
    const char *slash = strrchr(target, '/');
    return strcmp(slash != NULL ? slash + 1 : target, "efa") == 0;
}

static int any_of(const char *root, const char *class, int (*suits)(const char *, const char *))
{
    char path[PATH_BYTES];
    int found = 0;
    snprintf(path, sizeof(path), "%.256s/sys/class/%s", root, class);
    DIR *folder = opendir(path);
    if (folder == NULL)
        return 0;
    for (struct dirent *entry; !found && (entry = readdir(folder)) != NULL;)
        found = entry->d_name[0] != '.' && (suits == NULL || suits(path, entry->d_name));
    closedir(folder);
    return found;
}

int mt_ofi_is_present(const char *root)
{
    return any_of(root, "infiniband", is_efa) || any_of(root, "cxi", NULL);
}
