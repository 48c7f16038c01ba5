/* SPDX-License-Identifier: Apache-2.0 */
/* A communicator's settings: the environment first, then the caller's config, then the defaults. */
#include <stdio.h>
#include <string.h>

#include "collectives/catalogue.h"
#include "collectives/comm.h"
#include "core/config.h"
#include "core/dtype.h"

/* "No limit": 73 years, so that a time plus a timeout never wraps around. */
#define TIMEOUT_NS_MAX (UINT64_C(1) << 61)

static const int override_variables[MANTA_COLLECTIVE_COUNT] = {
    [MANTA_ALLREDUCE] = MT_VAR(ALLREDUCE),
    [MANTA_BROADCAST] = MT_VAR(BROADCAST),
    [MANTA_REDUCE] = MT_VAR(REDUCE),
    [MANTA_ALLGATHER] = MT_VAR(ALLGATHER),
    [MANTA_BARRIER] = MT_VAR(BARRIER),
    [MANTA_REDUCE_SCATTER] = MT_VAR(REDUCE_SCATTER),
    [MANTA_SEND] = -1,
    [MANTA_RECV] = -1,
};

/* A name that is no algorithm's would otherwise be found out at the first call of that size. */
static int check_names(int collective, const char *variable,
                       const struct mt_select_override *override, struct mt_error *error)
{
    char names[400] = "";
    size_t used = 0;
    for (uint32_t i = 0; i < override->count; i++) {
        if (mt_catalogue_find((uint32_t)collective, override->ranges[i].algorithm))
            continue;
        for (int k = 0; mt_catalogue[k] && used < sizeof(names); k++) {
            if (mt_catalogue[k]->collective == (uint32_t)collective)
                used += (size_t)snprintf(names + used, sizeof(names) - used, "%s%s",
                                         used ? ", " : "", mt_catalogue[k]->name);
        }
        return mt_error_set(error, MANTA_EINVAL, "%s: %s has no algorithm '%s'; there are %s",
                            variable, mt_collective_name(collective), override->ranges[i].algorithm,
                            names);
    }
    return 0;
}

int mt_settings_override(int collective, struct mt_select_override *override_out,
                         struct mt_error *error)
{
    struct mt_error cause;
    int name = override_variables[collective];
    memset(override_out, 0, sizeof(*override_out));
    if (name < 0)
        return 0;
    const char *variable = mt_config_entry(name)->variable;
    if (mt_select_parse(mt_config_string(name), override_out, &cause))
        return mt_error_set(error, MANTA_EINVAL, "%s: %s", variable, cause.sentence);
    return check_names(collective, variable, override_out, error);
}

static int read_overrides(struct mt_settings *settings, struct mt_error *error)
{
    int rc = 0;
    for (int c = 0; c < MANTA_COLLECTIVE_COUNT && rc == 0; c++)
        rc = mt_settings_override(c, &settings->overrides[c], error);
    return rc;
}

static int copy_text(char *target, size_t room, const char *text, const char *what,
                     struct mt_error *error)
{
    if (strlen(text) >= room)
        return mt_error_set(error, MANTA_EINVAL, "%s is longer than %zu characters", what,
                            room - 1);
    memcpy(target, text, strlen(text) + 1);
    return 0;
}

int mt_settings_read(const struct manta_config *config, struct mt_settings *settings_out,
                     struct mt_error *error)
{
    struct mt_settings *settings = settings_out;
    int rc = mt_config_check(error);
    memset(settings, 0, sizeof(*settings));
    if (!rc)
        rc = mt_config_ns(MT_VAR(TIMEOUT), &settings->timeout_ns, error);
    if (!rc)
        rc = mt_config_ns(MT_VAR(WARN), &settings->warn_ns, error);
    if (!rc)
        rc = mt_config_bytes(MT_VAR(SEGMENT), &settings->segment_bytes, error);
    if (!rc)
        rc = mt_config_ns(MT_VAR(SPIN), &settings->spin_ns, error);
    if (!rc)
        rc = mt_config_ns(MT_VAR(YIELD), &settings->yield_ns, error);
    if (!rc)
        rc = mt_config_bytes(MT_VAR(SHM_MAX), &settings->shm_max_bytes, error);
    if (!rc)
        rc = mt_config_flag(MT_VAR(REPRODUCIBLE), &settings->reproducible, error);
    if (!rc)
        rc = mt_config_flag(MT_VAR(FEEDBACK), &settings->feedback, error);
    if (!rc)
        rc = read_overrides(settings, error);
    if (!rc && mt_config_is_set(MT_VAR(TUNING)))
        rc = mt_tuning_read(mt_config_string(MT_VAR(TUNING)), &settings->tuning, error);
    if (rc)
        return rc;
    if (config && config->timeout_ns && !mt_config_is_set(MT_VAR(TIMEOUT)))
        settings->timeout_ns = config->timeout_ns;
    if (settings->timeout_ns > TIMEOUT_NS_MAX)
        settings->timeout_ns = TIMEOUT_NS_MAX;
    const char *transports = mt_config_string(MT_VAR(TRANSPORTS));
    if (config && config->transports && !mt_config_is_set(MT_VAR(TRANSPORTS)))
        transports = config->transports;
    else if (mt_config_is_set(MT_VAR(FAULT)) && !mt_config_is_set(MT_VAR(TRANSPORTS)))
        transports = "sim"; /* faults are asked for: let them happen */
    else
        settings->transports_by_default = !mt_config_is_set(MT_VAR(TRANSPORTS));
    rc = copy_text(settings->transports, sizeof(settings->transports), transports,
                   "MANTA_TRANSPORTS", error);
    if (!rc)
        rc = copy_text(settings->trace_dir, sizeof(settings->trace_dir),
                       mt_config_string(MT_VAR(TRACE_DIR)), "MANTA_TRACE_DIR", error);
    return rc;
}

/* What all ranks must agree on, as "NAME=value" lines: values that the caller's config may have set
 * as they count, of the tuning file what it says and not where it lies, the others as the
 * environment gives them. */
int mt_settings_fingerprint(const struct mt_settings *settings, char *text, size_t text_bytes)
{
    char timeout[32], tuning[40] = "";
    size_t used = 0;
    snprintf(timeout, sizeof(timeout), "%lluns", (unsigned long long)settings->timeout_ns);
    if (settings->tuning.given)
        snprintf(tuning, sizeof(tuning), "a file of values %016llx",
                 (unsigned long long)mt_tuning_digest(&settings->tuning));
    for (int name = 0; name < MT_CONFIG_VARIABLE_COUNT; name++) {
        const char *value = NULL;
        if (!mt_config_entry(name)->shared)
            continue;
        if (name == MT_VAR(TRANSPORTS))
            value = settings->transports;
        else if (name == MT_VAR(TIMEOUT))
            value = timeout;
        else if (name == MT_VAR(TUNING))
            value = tuning;
        used += mt_config_line(name, value, text + used, text_bytes - used);
        if (used >= text_bytes)
            return MANTA_EINVAL;
    }
    return 0;
}
