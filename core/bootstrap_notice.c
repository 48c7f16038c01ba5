/* SPDX-License-Identifier: Apache-2.0 */
/* A rank that waits for others says so long before its deadline. */
#include "core/bootstrap.h"
#include "core/clock.h"
#include "core/notice.h"

void mt_bootstrap_notice(const struct mt_bootstrap *bootstrap, const char *whom, const char *advice)
{
    mt_notice_log(bootstrap->rank, whom, mt_clock_now_ns() - bootstrap->start_ns,
                  bootstrap->deadline_ns - bootstrap->start_ns, advice);
}
