/* SPDX-License-Identifier: Apache-2.0 */
/* Whose file is it? The code of a plugin is trusted, so nobody but root and the user may be able to
 * change it, or to put another in its place. */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "transport/plugin.h"

static int check_owner(const char *path, const struct stat *status, struct mt_error *error)
{
    if (status->st_uid == 0 || status->st_uid == geteuid())
        return 0;
    return mt_error_set(error, MANTA_EAUTH,
                        "%.300s belongs to user %u; plugins and the folders that they are in must "
                        "belong to root or to you",
                        path, (unsigned)status->st_uid);
}

/* In a folder with the sticky bit others cannot put anything in the place of what is ours. */
static int check_folder(const char *path, int is_own_folder, struct mt_error *error)
{
    struct stat status;
    if (stat(path, &status) != 0)
        return mt_error_set(error, MANTA_ESYSTEM, "stat %.300s: %s", path, strerror(errno));
    int code = check_owner(path, &status, error);
    if (code != 0 || (status.st_mode & (S_IWGRP | S_IWOTH)) == 0)
        return code;
    if (!is_own_folder && (status.st_mode & S_ISVTX) != 0)
        return 0;
    return mt_error_set(error, MANTA_EAUTH,
                        "others may write the folder %.300s, in which a plugin is: chmod go-w it, "
                        "or put the plugin elsewhere",
                        path);
}

static int check_folders(const char *real, struct mt_error *error)
{
    char folder[PATH_MAX];
    int is_own_folder = 1, code = 0;
    strcpy(folder, real);
    for (char *slash = strrchr(folder, '/'); code == 0; slash = strrchr(folder, '/')) {
        int is_root = slash == folder;
        slash[is_root] = '\0';
        code = check_folder(folder, is_own_folder, error);
        is_own_folder = 0;
        if (is_root)
            break;
    }
    return code;
}

int mt_plugin_check_file(const char *path, char *real_out, struct mt_error *error)
{
    struct stat status;
    if (path[0] != '/')
        return mt_error_set(error, MANTA_EINVAL,
                            "the plugin '%.200s' must be named by its absolute path, which begins "
                            "with a slash",
                            path);
    if (realpath(path, real_out) == NULL || stat(real_out, &status) != 0)
        return mt_error_set(error, MANTA_ENOTSUP,
                            "there is no plugin at %.255s on this host: %s; install it there, or "
                            "leave it out of MANTA_TRANSPORTS",
                            path, strerror(errno));
    if (!S_ISREG(status.st_mode))
        return mt_error_set(error, MANTA_EINVAL,
                            "%.300s is no regular file; name the shared object of a plugin", path);
    int code = check_owner(real_out, &status, error);
    if (code == 0 && (status.st_mode & (S_IWGRP | S_IWOTH)) != 0)
        code = mt_error_set(error, MANTA_EAUTH,
                            "others may write the plugin %.300s: look at it, then chmod go-w it",
                            path);
    return code ? code : check_folders(real_out, error);
}
