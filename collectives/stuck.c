/* SPDX-License-Identifier: Apache-2.0 */
/* A wait in which nothing has moved for long says on whom it waits, and goes on. */
#include "collectives/comm.h"
#include "core/clock.h"
#include "core/log.h"

/* Nobody was in a wait for so long: what lies between is not counted. */
#define GAP_NS MT_SECOND

static void say(const struct manta_comm *comm, const char *whom)
{
    if (comm->number > 1)
        mt_log(MT_LOG_WARN, (int)comm->rank, "communicator %u of this process: %s", comm->number,
               whom);
    else
        mt_log(MT_LOG_WARN, (int)comm->rank, "%s", whom);
}

void mt_wait_warn(struct manta_request *request, uint64_t now_ns)
{
    struct manta_comm *comm = request->comm;
    char whom[MT_WHOM_TEXT];
    if (comm->stuck_quiet_ns != comm->quiet_since_ns || now_ns - comm->stuck_looked_ns > GAP_NS)
        comm->stuck = mt_notice_begin(now_ns, comm->settings.warn_ns);
    comm->stuck_quiet_ns = comm->quiet_since_ns;
    comm->stuck_looked_ns = now_ns;
    uint64_t from_ns = comm->stuck.last_ns;
    if (mt_notice_is_due(&comm->stuck, now_ns) && mt_log_enabled(MT_LOG_WARN))
        mt_control_stuck(comm->control, &request->call, from_ns);
    if (mt_control_whom(comm->control, &request->call, whom))
        say(comm, whom);
}
