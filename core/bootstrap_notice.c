/* SPDX-License-Identifier: Apache-2.0 */
/* A rank that waits for others says so long before its deadline. */
#include "core/bootstrap.h"
#include "core/clock.h"
#include "core/log.h"
#include "core/service.h"

#define PATIENCE_NS (10 * MT_SECOND)

int mt_bootstrap_notice_is_due(struct mt_bootstrap_notice *notice,
                               const struct mt_bootstrap *bootstrap)
{
    uint64_t now_ns = mt_clock_now_ns();
    if (notice->due_ns == 0)
        notice->due_ns =
            bootstrap->start_ns + (bootstrap->patience_ns ? bootstrap->patience_ns : PATIENCE_NS);
    if (now_ns < notice->due_ns)
        return 0;
    notice->due_ns = now_ns + (now_ns - bootstrap->start_ns);
    return 1;
}

uint64_t mt_bootstrap_notice_until(const struct mt_bootstrap_notice *notice, uint64_t until_ns)
{
    return notice->due_ns < until_ns ? notice->due_ns : until_ns;
}

void mt_bootstrap_notice_log(const struct mt_bootstrap *bootstrap, const char *whom,
                             const char *advice)
{
    double waited_s = (double)(mt_clock_now_ns() - bootstrap->start_ns) / 1e9;
    double timeout_s = (double)(bootstrap->deadline_ns - bootstrap->start_ns) / 1e9;
    mt_service_unlock();
    mt_log(MT_LOG_WARN, (int)bootstrap->rank,
           "waiting for %s, %.0f s until now (MANTA_TIMEOUT is %.0f s); %s", whom, waited_s,
           timeout_s, advice);
    mt_service_lock();
}
