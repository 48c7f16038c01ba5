/* SPDX-License-Identifier: Apache-2.0 */
/* The MANTA_* variables of the environment: their form, what they name, and those that do not
 * exist. */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <manta/manta.h>

#include "collectives/comm.h"
#include "core/address.h"
#include "core/config.h"
#include "core/log.h"
#include "core/reduce.h"
#include "scheduler/scheduler.h"
#include "tools/manta/doctor.h"
#include "tools/manta/manta.h"
#include "topology/place.h"
#include "transport/registry.h"
#include "transport/shm/group.h"
#include "transport/sim/fault.h"
#include "transport/tcp/tcp.h"

static int check_transports(int name, struct mt_error *error)
{
    struct mt_transport_listed listed[MT_ENDPOINTS];
    uint32_t count = 0;
    struct manta_transport_error reason = {.size = sizeof reason};
    struct mt_error cause;
    uint32_t usable = 0;
    int code = mt_transport_list(mt_config_string(name), listed, MT_ENDPOINTS, &count, &cause);
    for (uint32_t i = 0; code == 0 && i < count; i++) {
        if (listed[i].transport != NULL) {
            usable += mt_transport_query(listed[i].transport, &reason) == 0;
            continue;
        }
        cause = listed[i].why;
        code = cause.code;
    }
    if (code != 0)
        return mt_error_set(error, MANTA_EINVAL, "%s: %.400s", mt_config_entry(name)->variable,
                            cause.sentence);
    return usable > 0 ? 0
                      : mt_error_set(error, MANTA_EINVAL,
                                     "%s is '%.128s', of which none can be used here: %.256s",
                                     mt_config_entry(name)->variable, mt_config_string(name),
                                     reason.sentence);
}

static int check_faults(struct mt_error *error)
{
    struct mt_faults faults;
    return mt_faults_parse(mt_config_string(MT_VAR(FAULT)), &faults, error);
}

static int check_trace_dir(const char *path, struct mt_error *error)
{
    char inside[PATH_MAX];
    snprintf(inside, sizeof inside, "%s/.", path);
    if (access(inside, W_OK | X_OK) == 0)
        return 0;
    return mt_error_set(error, MANTA_EINVAL,
                        "MANTA_TRACE_DIR is '%.128s', where no file can be written: %s; name a "
                        "folder that exists and is yours",
                        path, strerror(errno));
}

static int check_interface(const char *names, struct mt_error *error)
{
    struct mt_address address;
    if (mt_address_local(names, &address, 1) > 0)
        return 0;
    return mt_error_set(error, MANTA_EINVAL,
                        "MANTA_INTERFACE is '%.128s', and none of that name is up with an "
                        "address; `ip -brief address` lists those that are",
                        names);
}

static int check_shared_memory(int name, struct mt_error *error)
{
    struct mt_shm_ruler ruler;
    uint32_t size;
    if (name == MT_VAR(SHM_GROUPS))
        return mt_shm_groups_parse(mt_transport_host(), &size) == 0
                   ? 0
                   : mt_error_set(error, MANTA_EINVAL,
                                  "MANTA_SHM_GROUPS is '%.64s'; it must be auto or a power of two",
                                  mt_config_string(name));
    return mt_shm_ruler_open(mt_transport_host(), &ruler) == 0
               ? 0
               : mt_error_set(error, MANTA_EINVAL,
                              "MANTA_SHM_DISTANCE is '%.64s'; it must be auto, near or far",
                              mt_config_string(name));
}

static int check_sockets(const char *text, struct mt_error *error)
{
    uint32_t count;
    return mt_tcp_sockets_parse(text, &count) == 0
               ? 0
               : mt_error_set(
                     error, MANTA_EINVAL,
                     "MANTA_TCP_SOCKETS is '%.64s'; it must be auto or a number from 1 to 8", text);
}

static int check_congestion_control(const char *text, struct mt_error *error)
{
    char why[256];
    return mt_tcp_congestion_check(text, why, sizeof why) == 0
               ? 0
               : mt_error_set(error, MANTA_EINVAL, "%s", why);
}

/* What a variable that is set, and of the right form, names. */
static int check_meaning(int name, struct mt_error *error)
{
    const char *text = mt_config_string(name);
    struct mt_place place;
    struct mt_tuning tuning;
    switch (name) {
    case MT_VAR(TRANSPORTS):
    case MT_VAR(SIM_INNER):
        return check_transports(name, error);
    case MT_VAR(FAULT):
        return check_faults(error);
    case MT_VAR(PLACEMENT):
        return mt_place_of_site(&place, error);
    case MT_VAR(SHM_DISTANCE):
    case MT_VAR(SHM_GROUPS):
        return check_shared_memory(name, error);
    case MT_VAR(TCP_SOCKETS):
        return check_sockets(text, error);
    case MT_VAR(TCP_CONGESTION):
        return check_congestion_control(text, error);
    case MT_VAR(TUNING):
        return mt_tuning_read(text, &tuning, error);
    case MT_VAR(TRACE_DIR):
        return check_trace_dir(text, error);
    case MT_VAR(INTERFACE):
        return check_interface(text, error);
    case MT_VAR(LOG):
        return mt_log_parse(text) >= 0
                   ? 0
                   : mt_error_set(error, MANTA_EINVAL,
                                  "MANTA_LOG is '%.64s'; it must be error, warn, info or debug",
                                  text);
    case MT_VAR(SIMD):
        return mt_reduce_select(text) == 0
                   ? 0
                   : mt_error_set(error, MANTA_EINVAL,
                                  "MANTA_SIMD is '%.64s', which this CPU or library does not have; "
                                  "unset it, or name portable, avx2, avx512 or avx512_fp16",
                                  text);
    default:
        return 0;
    }
}

/* Those by which a rank joins. One that is not set is no problem here: mantarun, or the program,
 * may give it. */
static int check_job(struct mt_error *error)
{
    struct mt_scheduler_job job = MT_SCHEDULER_JOB_UNKNOWN;
    if (!mt_config_is_set(MT_VAR(RANK)))
        job.rank = 0;
    if (!mt_config_is_set(MT_VAR(SIZE)))
        job.ranks = INT_MAX;
    if (!mt_config_is_set(MT_VAR(SESSION)))
        strcpy(job.session, "another");
    return mt_scheduler_detect(&job, error);
}

static int is_of_job(int name)
{
    return name == MT_VAR(RANK) || name == MT_VAR(SIZE) || name == MT_VAR(SESSION);
}

int config_problems(void (*say)(const char *sentence))
{
    struct mt_select_override override;
    struct mt_error error;
    char sentence[512];
    size_t at = 0, length;
    const char *unknown;
    int count = 0;
    for (int name = 0; name < MT_CONFIG_VARIABLE_COUNT; name++) {
        if (mt_config_is_set(name) && !is_of_job(name) &&
            (mt_config_check_variable(name, &error) != 0 || check_meaning(name, &error) != 0)) {
            say(error.sentence);
            count++;
        }
    }
    for (int c = 0; c < MANTA_COLLECTIVE_COUNT; c++) {
        if (mt_settings_override(c, &override, &error) != 0) {
            say(error.sentence);
            count++;
        }
    }
    if (check_job(&error) != 0) {
        say(error.sentence);
        count++;
    }
    while ((unknown = mt_config_unknown(&at, &length)) != NULL) {
        snprintf(sentence, sizeof sentence,
                 "%.*s is no variable of this library and does nothing; correct its name (manta "
                 "info --config lists those that there are), or unset it",
                 length < 128 ? (int)length : 128, unknown);
        say(sentence);
        count++;
    }
    return count;
}

static void say_problem(const char *sentence)
{
    doctor_say(DOCTOR_PROBLEM, "configuration", "%s", sentence);
}

/* How many names of interfaces, beside some that are there, are not. */
static int missing_interfaces(void)
{
    const char *names = mt_config_string(MT_VAR(INTERFACE)), *name;
    struct mt_address address;
    size_t at = 0, length;
    int count = 0;
    if (mt_address_local(names, &address, 1) == 0)
        return 0; /* a problem, and told as one */
    for (; (name = mt_address_missing(names, &at, &length)) != NULL; count++)
        doctor_say(DOCTOR_WARNING, "configuration",
                   "MANTA_INTERFACE names '%.*s', and none of that name is up with an address: it "
                   "is left out; `ip -brief address` lists those that are",
                   (int)(length < 64 ? length : 64), name);
    return count;
}

/* 1 if ranks of one node will use what is slower for them than shm, which is named after it. */
static int is_shm_late(void)
{
    struct mt_transport_listed listed[MT_ENDPOINTS];
    struct manta_transport_error reason = {.size = sizeof reason};
    struct mt_error error;
    uint32_t count = 0, i = 0;
    const struct manta_transport *first = NULL;
    const char *names = mt_config_string(MT_VAR(TRANSPORTS));
    if (mt_transport_list(names, listed, MT_ENDPOINTS, &count, &error) != 0)
        return 0;
    for (; i < count && listed[i].transport != &mt_transport_shm; i++) {
        const struct manta_transport *transport = listed[i].transport;
        if (first == NULL && transport != NULL && mt_transport_query(transport, &reason) == 0)
            first = transport;
    }
    if (first == NULL || !mt_transport_is_by_network(first) || i == count)
        return 0;
    doctor_say(
        DOCTOR_WARNING, "configuration",
        "MANTA_TRANSPORTS is '%.128s': %s comes before shm, so ranks of one node use it with "
        "each other, where shm is faster; put shm first",
        names, first->name);
    return 1;
}

void doctor_configuration(void)
{
    int problems = config_problems(say_problem), warnings = missing_interfaces() + is_shm_late();
    if (warnings == 0 && problems == 0)
        doctor_say(DOCTOR_OK, "configuration", "every MANTA_* variable that is set is valid");
}
