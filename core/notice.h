/* SPDX-License-Identifier: Apache-2.0 */
/* When to say that something takes long: after some patience, and again whenever the time waited
 * has doubled. */
#ifndef MT_CORE_NOTICE_H
#define MT_CORE_NOTICE_H

#include <stdint.h>

struct mt_notice {
    uint64_t since_ns, due_ns;
    uint64_t last_ns; /* when it was due before; at first: since_ns */
};

/* patience_ns: 0: never. */
static inline struct mt_notice mt_notice_begin(uint64_t since_ns, uint64_t patience_ns)
{
    uint64_t due_ns =
        patience_ns && patience_ns < UINT64_MAX - since_ns ? since_ns + patience_ns : UINT64_MAX;
    return (struct mt_notice){since_ns, due_ns, since_ns};
}

/* 1 if it is time; then the next time is set. */
static inline int mt_notice_is_due(struct mt_notice *notice, uint64_t now_ns)
{
    if (now_ns < notice->due_ns)
        return 0;
    notice->last_ns = now_ns;
    notice->due_ns = now_ns + (now_ns - notice->since_ns);
    return 1;
}

/* until_ns, or the next time if that is earlier. */
static inline uint64_t mt_notice_until(const struct mt_notice *notice, uint64_t until_ns)
{
    return notice->due_ns < until_ns ? notice->due_ns : until_ns;
}

/* Log that a rank waits for somebody, and what may help. Holding the service's lock once; it is
 * given up meanwhile. */
void mt_notice_log(uint32_t rank, const char *whom, uint64_t waited_ns, uint64_t timeout_ns,
                   const char *advice);

#endif
