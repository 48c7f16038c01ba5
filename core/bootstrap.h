/* SPDX-License-Identifier: Apache-2.0 */
/* The bootstrap: rank 0 collects what each rank says of itself, compares, answers all at once. */
#ifndef MT_CORE_BOOTSTRAP_H
#define MT_CORE_BOOTSTRAP_H

#include <stdint.h>

#include "core/cancel.h"
#include "core/control.h"
#include "core/session.h"
#include "core/wire.h"

struct mt_bootstrap {
    const struct mt_session *session;
    const uint8_t *session_id; /* MT_ID_BYTES */
    uint32_t rank, ranks;
    const char *fingerprint;
    const struct mt_control *parent; /* its failure ends the wait; NULL: none */
    const struct mt_cancel *cancel;  /* its caller's; NULL: none */
    struct mt_member member;         /* this rank */
    uint64_t start_ns, deadline_ns;
    uint64_t patience_ns; /* before it logs whom it waits for; 0: never */
};

/* Both block until all have joined; the caller frees welcome_out->members. No lock held. */
int mt_bootstrap_host(const struct mt_bootstrap *bootstrap, struct mt_welcome *welcome_out,
                      struct mt_error *error);
int mt_bootstrap_join(const struct mt_bootstrap *bootstrap, struct mt_welcome *welcome_out,
                      struct mt_error *error);

/* The group that this one is split from has failed. */
static inline int mt_bootstrap_is_orphaned(const struct mt_bootstrap *bootstrap)
{
    return bootstrap->parent && mt_control_failed(bootstrap->parent);
}
/* It has, or the caller has given up. */
static inline int mt_bootstrap_is_cancelled(const struct mt_bootstrap *bootstrap)
{
    return mt_bootstrap_is_orphaned(bootstrap) || mt_cancel_is_set(bootstrap->cancel);
}
static inline void mt_bootstrap_why_cancelled(const struct mt_bootstrap *bootstrap,
                                              struct mt_error *error)
{
    if (mt_cancel_is_set(bootstrap->cancel))
        mt_cancel_word(bootstrap->cancel, error);
    else
        mt_control_failure(bootstrap->parent, error);
}

/* Log whom a rank waits for. Holding the service's lock once; it is given up meanwhile. */
void mt_bootstrap_notice(const struct mt_bootstrap *bootstrap, const char *whom,
                         const char *advice);

/* The first line "NAME=value" in which the fingerprints of some ranks differ from rank 0's, in
 * words with the ranks; texts[ranks]. 0 if there is none, else MANTA_EVERSION. Pure. */
int mt_bootstrap_compare(const char *const *texts, uint32_t ranks, struct mt_error *error);

#endif
