/* SPDX-License-Identifier: Apache-2.0 */
/* Traces: the flight recorder as a file, when the caller asks and when the communicator fails. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "collectives/comm.h"
#include "core/log.h"

/* A process may be the same rank of several communicators, and several ranks of one. */
static void standard_path(const struct manta_comm *comm, char *path, size_t room)
{
    const char *folder = comm->settings.trace_dir[0] ? comm->settings.trace_dir : ".";
    snprintf(path, room, "%s/manta-%u-%d-%u.json", folder, comm->rank, (int)getpid(), comm->number);
}

int manta_comm_dump(const struct manta_comm *comm, const char *path)
{
    char standard[512];
    if (!comm)
        return MANTA_EINVAL;
    if (!path) {
        standard_path(comm, standard, sizeof(standard));
        path = standard;
    }
    FILE *stream = fopen(path, "we");
    if (!stream)
        return MANTA_ESYSTEM;
    int rc = mt_record_dump(comm->record, comm->rank, comm->ranks, stream);
    if (fclose(stream) && !rc)
        rc = MANTA_ESYSTEM;
    return rc;
}

void mt_trace_check(const struct mt_settings *settings, int rank)
{
    struct stat status;
    const char *folder = settings->trace_dir;
    if (folder[0] == '\0')
        return;
    int failed = stat(folder, &status) ? errno : S_ISDIR(status.st_mode) ? 0 : ENOTDIR;
    if (!failed && access(folder, W_OK | X_OK))
        failed = errno;
    if (failed)
        mt_log(MT_LOG_WARN, rank,
               "MANTA_TRACE_DIR=%s: %s; no trace will be left when this communicator fails: make "
               "the folder, writable by this process",
               folder, strerror(failed));
}

void mt_trace_failure(const struct manta_comm *comm)
{
    char path[512];
    if (comm->settings.trace_dir[0] == '\0')
        return;
    standard_path(comm, path, sizeof(path));
    if (manta_comm_dump(comm, path))
        mt_log(MT_LOG_WARN, (int)comm->rank, "cannot leave a trace in %s: %s", path,
               strerror(errno));
}
