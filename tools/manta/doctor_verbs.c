/* SPDX-License-Identifier: Apache-2.0 */
/* Can RDMA be used, and if not, why? */
#include "tools/manta/doctor.h"
#include "transport/verbs/check.h"

static void say(enum mt_verbs_verdict verdict, const char *sentence)
{
    static const enum verdict verdicts[] = {DOCTOR_OK, DOCTOR_WARNING, DOCTOR_PROBLEM};
    doctor_say(verdicts[verdict], "RDMA", "%s", sentence);
}

void doctor_verbs(void)
{
    mt_verbs_check(say);
}
