/* SPDX-License-Identifier: Apache-2.0 */
#include "transport/sim/fault.h"

#include <string.h>

#include "core/config.h"

enum value_kind { VALUE_NONE, VALUE_PROBABILITY, VALUE_PROBABILITY_NEEDED, VALUE_TIME };
enum { NAME_ROOM = 64, NUMBER_DIGITS = 18 };

struct form {
    const char *name;
    enum value_kind value;
    int once; /* happens once, at a rank that must be named */
};

static const struct form forms[MT_FAULT_KINDS] = {
    [MT_FAULT_CORRUPT] = {"corrupt", VALUE_PROBABILITY, 0},
    [MT_FAULT_LOSS] = {"loss", VALUE_PROBABILITY_NEEDED, 0},
    [MT_FAULT_DUPLICATE] = {"duplicate", VALUE_PROBABILITY, 0},
    [MT_FAULT_MISMATCH] = {"mismatch", VALUE_NONE, 0},
    [MT_FAULT_DELAY] = {"delay", VALUE_TIME, 0},
    [MT_FAULT_REORDER] = {"reorder", VALUE_NONE, 0},
    [MT_FAULT_UNSAFE] = {"unsafe", VALUE_NONE, 0},
    [MT_FAULT_KILL] = {"kill", VALUE_NONE, 1},
    [MT_FAULT_STOP] = {"stop", VALUE_NONE, 1},
    [MT_FAULT_LATE] = {"late", VALUE_TIME, 1},
};

/* Digits only, the whole of it. */
static int parse_number(const char *text, uint64_t *value_out)
{
    uint64_t value = 0;
    size_t length = strlen(text);
    if (length == 0 || length > NUMBER_DIGITS || strspn(text, "0123456789") != length)
        return MANTA_EINVAL;
    for (size_t i = 0; i < length; i++)
        value = value * 10 + (uint64_t)(text[i] - '0');
    *value_out = value;
    return 0;
}

/* "0", "1", "0.25": not by strtod, whose decimal point depends on the locale. */
static int parse_probability(const char *text, uint32_t *value_out)
{
    size_t whole = strspn(text, "0123456789");
    double value = 0, scale = 1;
    if (whole != 1 || (text[1] != '\0' && text[1] != '.'))
        return MANTA_EINVAL;
    value = text[0] - '0';
    if (text[1] == '.') {
        const char *digits = text + 2;
        if (*digits == '\0' || digits[strspn(digits, "0123456789")] != '\0')
            return MANTA_EINVAL;
        for (; *digits != '\0'; digits++) {
            scale /= 10;
            value += scale * (*digits - '0');
        }
    }
    if (value > 1)
        return MANTA_EINVAL;
    *value_out = (uint32_t)(value * MT_FAULT_CERTAIN);
    return 0;
}

static int parse_value(const struct form *form, const char *value, struct mt_fault *fault,
                       struct mt_error *error)
{
    if (form->value == VALUE_NONE && value != NULL)
        return mt_error_set(error, MANTA_EINVAL, "MANTA_FAULT: %s takes no value, not '%s'",
                            form->name, value);
    if (form->value == VALUE_TIME && (value == NULL || mt_parse_ns(value, &fault->time_ns) != 0))
        return mt_error_set(error, MANTA_EINVAL,
                            "MANTA_FAULT: %s needs a time, e.g. %s=5ms, not '%s'", form->name,
                            form->name, value == NULL ? "" : value);
    if (form->value == VALUE_PROBABILITY_NEEDED && value == NULL)
        return mt_error_set(error, MANTA_EINVAL,
                            "MANTA_FAULT: %s needs a probability, e.g. %s=0.01", form->name,
                            form->name);
    if ((form->value == VALUE_PROBABILITY || form->value == VALUE_PROBABILITY_NEEDED) &&
        value != NULL && parse_probability(value, &fault->probability) != 0)
        return mt_error_set(error, MANTA_EINVAL,
                            "MANTA_FAULT: %s=%s: a probability is a number from 0 to 1", form->name,
                            value);
    return 0;
}

static int parse_condition(const char *condition, struct mt_fault *fault, struct mt_error *error)
{
    static const char *const names[] = {"rank", "call", "step", "middle"};
    uint64_t *const values[] = {&fault->rank, &fault->call, &fault->step, &fault->middle};
    const char *equals = strchr(condition, '=');
    for (size_t i = 0; equals != NULL && i < sizeof(names) / sizeof(names[0]); i++) {
        size_t length = (size_t)(equals - condition);
        if (strlen(names[i]) != length || memcmp(names[i], condition, length) != 0)
            continue;
        if (parse_number(equals + 1, values[i]) != 0)
            return mt_error_set(error, MANTA_EINVAL, "MANTA_FAULT: %s needs a number, not '%s'",
                                names[i], equals + 1);
        if (i > 0 && *values[i] == 0)
            return mt_error_set(error, MANTA_EINVAL, "MANTA_FAULT: %s is counted from 1", names[i]);
        return 0;
    }
    return mt_error_set(
        error, MANTA_EINVAL,
        "MANTA_FAULT: '%s' is no condition; use rank=, call=, step= or middle=", condition);
}

static int parse_conditions(char *text, struct mt_fault *fault, struct mt_error *error)
{
    while (text != NULL) {
        char *next = strchr(text, ':');
        if (next != NULL)
            *next++ = '\0';
        int code = parse_condition(text, fault, error);
        if (code != 0)
            return code;
        text = next;
    }
    return 0;
}

/* What follows from the kind. */
static int complete(const struct form *form, struct mt_fault *fault, struct mt_error *error)
{
    if (form->once && fault->rank == MT_FAULT_ANY)
        return mt_error_set(error, MANTA_EINVAL, "MANTA_FAULT: %s needs a rank, e.g. %s@rank=2",
                            form->name, form->name);
    if (!form->once && fault->middle != 0)
        return mt_error_set(error, MANTA_EINVAL,
                            "MANTA_FAULT: middle= goes with kill, stop and late, not with %s",
                            form->name);
    if (form->once && fault->step == MT_FAULT_ANY)
        fault->step = 1;
    return 0;
}

static int parse_fault(char *text, struct mt_fault *fault, struct mt_error *error)
{
    *fault = (struct mt_fault){.probability = MT_FAULT_CERTAIN,
                               .rank = MT_FAULT_ANY,
                               .call = MT_FAULT_ANY,
                               .step = MT_FAULT_ANY};
    char *conditions = strchr(text, '@');
    if (conditions != NULL)
        *conditions++ = '\0';
    char *value = strchr(text, '=');
    if (value != NULL)
        *value++ = '\0';
    for (int kind = 0; kind < MT_FAULT_KINDS; kind++) {
        if (strcmp(forms[kind].name, text) != 0)
            continue;
        fault->kind = (enum mt_fault_kind)kind;
        int code = parse_value(&forms[kind], value, fault, error);
        if (code == 0)
            code = parse_conditions(conditions, fault, error);
        return code != 0 ? code : complete(&forms[kind], fault, error);
    }
    return mt_error_set(error, MANTA_EINVAL,
                        "MANTA_FAULT: there is no fault '%s'; there are corrupt, loss, duplicate, "
                        "mismatch, delay, reorder, unsafe, kill, stop and late",
                        text);
}

int mt_faults_parse(const char *text, struct mt_faults *faults_out, struct mt_error *error)
{
    faults_out->count = 0;
    if (*text == '\0')
        return 0;
    for (;;) {
        char part[NAME_ROOM];
        size_t length = strcspn(text, ",");
        if (faults_out->count == MT_FAULTS)
            return mt_error_set(error, MANTA_EINVAL, "MANTA_FAULT: at most %d faults", MT_FAULTS);
        if (length >= sizeof(part))
            return mt_error_set(error, MANTA_EINVAL, "MANTA_FAULT: '%.20s...' is too long", text);
        memcpy(part, text, length);
        part[length] = '\0';
        int code = parse_fault(part, &faults_out->faults[faults_out->count], error);
        if (code != 0)
            return code;
        faults_out->count++;
        if (text[length] == '\0')
            return 0;
        text += length + 1;
    }
}

static uint64_t mix(uint64_t value)
{
    value += UINT64_C(0x9e3779b97f4a7c15);
    value = (value ^ (value >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    value = (value ^ (value >> 27)) * UINT64_C(0x94d049bb133111eb);
    return value ^ (value >> 31);
}

/* The epoch is random, so it is no source. */
uint64_t mt_fault_draw(uint64_t seed, uint32_t rank, uint32_t peer,
                       const struct manta_transport_id *id, uint64_t purpose)
{
    uint64_t value = mix(seed ^ mix(purpose));
    value = mix(value ^ ((uint64_t)rank << 32 | peer));
    value = mix(value ^ id->call);
    return mix(value ^ ((uint64_t)id->segment << 32 | id->number));
}

int mt_fault_hits(const struct mt_fault *fault, uint64_t seed, uint32_t rank, uint32_t peer,
                  const struct manta_transport_id *id, uint64_t step)
{
    uint64_t call = id->call & (UINT64_MAX >> 1);
    if ((fault->rank != MT_FAULT_ANY && fault->rank != rank) ||
        (fault->call != MT_FAULT_ANY && fault->call != call) ||
        (fault->step != MT_FAULT_ANY && fault->step != step))
        return 0;
    if (fault->probability == MT_FAULT_CERTAIN)
        return 1;
    uint64_t drawn = mt_fault_draw(seed, rank, peer, id, (uint64_t)fault->kind + 1000);
    return (uint32_t)(drawn >> 32) < fault->probability;
}
