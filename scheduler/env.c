/* SPDX-License-Identifier: Apache-2.0 */
/* The scheduler of last resort: four environment variables. */
#include "scheduler/scheduler.h"

#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "core/config.h"
#include "core/session.h"

/* All that are missing at once, so that nobody has to find them out one by one. */
static int check_complete(const struct mt_scheduler_job *job, struct mt_error *error)
{
    const int names[] = {MT_VAR(RANK), MT_VAR(SIZE), MT_VAR(SESSION)};
    const int given[] = {job->rank != -1, job->ranks != -1, job->session[0] != '\0'};
    const char *missing[3];
    int count = 0;
    for (int i = 0; i < 3; i++) {
        if (!given[i] && !mt_config_is_set(names[i]))
            missing[count++] = mt_config_entry(names[i])->variable;
    }
    if (count == 0)
        return 0;
    return mt_error_set(error, MANTA_ESCHEDULER,
                        "%s%s%s%s%s %s not set%s; start the program with mantarun, or set "
                        "MANTA_RANK, MANTA_SIZE and MANTA_SESSION, or give rank, size and session "
                        "when you create the communicator",
                        missing[0], count > 2 ? ", " : "", count > 2 ? missing[1] : "",
                        count > 1 ? " and " : "", count > 1 ? missing[count - 1] : "",
                        count > 1 ? "are" : "is", count < 3 ? ", but the rest is" : "");
}

/* A number in least .. most; what: "from 0 to MANTA_SIZE - 1 (3)". */
static int read_number(int name, uint64_t least, uint64_t most, const char *what, int *value_out,
                       struct mt_error *error)
{
    struct mt_error detail;
    uint64_t value;
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

static int read_node(struct mt_scheduler_job *job, struct mt_error *error)
{
    if (!mt_config_is_set(MT_VAR(NODE)))
        return 0;
    if (snprintf(job->node, sizeof job->node, "%s", mt_config_string(MT_VAR(NODE))) >=
        (int)sizeof job->node)
        return mt_error_set(error, MANTA_ESCHEDULER,
                            "MANTA_NODE is longer than %zu characters; shorten it",
                            sizeof job->node - 1);
    return 0;
}

int mt_scheduler_detect(struct mt_scheduler_job *job, struct mt_error *error)
{
    char what[64];
    int rc = check_complete(job, error);
    if (rc == 0 && job->ranks == -1)
        rc = read_number(MT_VAR(SIZE), 1, INT_MAX, "from 1 up: the number of ranks", &job->ranks,
                         error);
    snprintf(what, sizeof what, "from 0 to the size - 1, which is %d", job->ranks - 1);
    if (rc == 0 && job->rank == -1)
        rc = read_number(MT_VAR(RANK), 0, (uint64_t)job->ranks - 1, what, &job->rank, error);
    if (rc == 0 && job->session[0] == '\0')
        rc = read_session(job, error);
    return rc ? rc : read_node(job, error);
}
