/* SPDX-License-Identifier: Apache-2.0 */
/* The scheduler of last resort: four environment variables. */
#include "scheduler/scheduler.h"

#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "core/config.h"
#include "core/session.h"

static int missing(int name, struct mt_error *error)
{
    const struct mt_config_entry *entry = mt_config_entry(name);
    return mt_error_set(error, MANTA_ESCHEDULER,
                        "%s is not set (%s); start the program with mantarun, set MANTA_RANK, "
                        "MANTA_SIZE and MANTA_SESSION, or fill struct manta_config",
                        entry->variable, entry->meaning);
}

/* A number in least .. most; what: "from 0 to MANTA_SIZE - 1 (3)". */
static int read_number(int name, uint64_t least, uint64_t most, const char *what, int *value_out,
                       struct mt_error *error)
{
    struct mt_error detail;
    uint64_t value;
    if (!mt_config_is_set(name))
        return missing(name, error);
    if (mt_config_count(name, &value, &detail) != 0 || value < least || value > most)
        return mt_error_set(error, MANTA_ESCHEDULER, "%s is '%.64s', but must be a number %s",
                            mt_config_entry(name)->variable, mt_config_string(name), what);
    *value_out = (int)value;
    return 0;
}

static int read_session(struct mt_scheduler_job *job, struct mt_error *error)
{
    struct mt_session session;
    struct mt_error detail;
    if (!mt_config_is_set(MT_VAR(SESSION)))
        return missing(MT_VAR(SESSION), error);
    const char *text = mt_config_string(MT_VAR(SESSION));
    int rc = mt_session_parse(text, &session, &detail);
    explicit_bzero(&session, sizeof session);
    if (rc != 0)
        return mt_error_set(error, MANTA_ESCHEDULER, "MANTA_SESSION is garbled: %.384s",
                            detail.sentence);
    if (snprintf(job->session, sizeof job->session, "%s", text) >= (int)sizeof job->session)
        return mt_error_set(error, MANTA_ESCHEDULER,
                            "MANTA_SESSION is longer than %zu characters; give it fewer addresses",
                            sizeof job->session - 1);
    return 0;
}

int mt_scheduler_detect(struct mt_scheduler_job *job_out, struct mt_error *error)
{
    char what[64];
    memset(job_out, 0, sizeof *job_out);
    int rc = read_number(MT_VAR(SIZE), 1, INT_MAX, "from 1 up: the number of ranks",
                         &job_out->ranks, error);
    if (rc != 0)
        return rc;
    snprintf(what, sizeof what, "from 0 to MANTA_SIZE - 1, which is %d", job_out->ranks - 1);
    rc = read_number(MT_VAR(RANK), 0, (uint64_t)job_out->ranks - 1, what, &job_out->rank, error);
    if (rc != 0)
        return rc;
    rc = read_session(job_out, error);
    if (rc != 0)
        return rc;
    const char *node = mt_config_string(MT_VAR(NODE));
    if (snprintf(job_out->node, sizeof job_out->node, "%s", node) >= (int)sizeof job_out->node)
        return mt_error_set(error, MANTA_ESCHEDULER,
                            "MANTA_NODE is longer than %zu characters; shorten it",
                            sizeof job_out->node - 1);
    return 0;
}
