/* SPDX-License-Identifier: Apache-2.0 */
/* A rank that waits for others says so long before its deadline. */
#include "core/bootstrap.h"
#include "core/clock.h"
#include "core/log.h"
#include "core/service.h"

void mt_bootstrap_notice(const struct mt_bootstrap *bootstrap, const char *whom, const char *advice)
{
    double waited_s = (double)(mt_clock_now_ns() - bootstrap->start_ns) / 1e9;
    double timeout_s = (double)(bootstrap->deadline_ns - bootstrap->start_ns) / 1e9;
    mt_service_unlock();
    mt_log(MT_LOG_WARN, (int)bootstrap->rank,
           "waiting for %s, %.0f s until now (MANTA_TIMEOUT is %.0f s); %s", whom, waited_s,
           timeout_s, advice);
    mt_service_lock();
}
