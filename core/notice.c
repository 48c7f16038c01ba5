/* SPDX-License-Identifier: Apache-2.0 */
#include "core/notice.h"

#include "core/clock.h"
#include "core/log.h"
#include "core/service.h"

void mt_notice_log(uint32_t rank, const char *whom, uint64_t waited_ns, uint64_t timeout_ns,
                   const char *advice)
{
    mt_service_unlock();
    mt_log(MT_LOG_WARN, (int)rank, "waiting for %s, %.0f s until now (MANTA_TIMEOUT is %.0f s); %s",
           whom, (double)waited_ns / 1e9, (double)timeout_ns / 1e9, advice);
    mt_service_lock();
}
