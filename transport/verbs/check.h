/* SPDX-License-Identifier: Apache-2.0 */
/* Can RDMA be used on this host, and why not? For manta doctor: each port and what it needs is
 * tried out, with a queue pair and some registered memory of its own. */
#ifndef MT_TRANSPORT_VERBS_CHECK_H
#define MT_TRANSPORT_VERBS_CHECK_H

enum mt_verbs_verdict { MT_VERBS_GOOD, MT_VERBS_WEAK, MT_VERBS_BAD };

/* say: once for each thing that was looked at, in words that tell what to do. */
void mt_verbs_check(void (*say)(enum mt_verbs_verdict verdict, const char *sentence));

#endif
