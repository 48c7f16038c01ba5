/* SPDX-License-Identifier: Apache-2.0 */
#include "core/config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "core/log.h"

static const struct mt_config_entry entries[MT_CONFIG_VARIABLE_COUNT] = {
#define MT_CONFIG(name, kind, fallback, shared, meaning)                                           \
    {"MANTA_" #name, MT_CONFIG_##kind, fallback, shared, meaning},
#include "core/config.def"
#undef MT_CONFIG
};

extern char **environ;

const struct mt_config_entry *mt_config_entry(int name)
{
    return name >= 0 && name < MT_CONFIG_VARIABLE_COUNT ? &entries[name] : NULL;
}

const char *mt_config_string(int name)
{
    const char *value = getenv(entries[name].variable);
    return value && *value ? value : entries[name].fallback;
}

int mt_config_is_set(int name)
{
    const char *value = getenv(entries[name].variable);
    return value && *value;
}

/* Decimal digits; moves *at behind them. At least one digit, no overflow. */
static int parse_digits(const char **at, uint64_t *value_out)
{
    const char *begin = *at;
    uint64_t value = 0;

    for (; **at >= '0' && **at <= '9'; ++*at) {
        uint64_t digit = (uint64_t)(**at - '0');
        if (value > (UINT64_MAX - digit) / 10)
            return MANTA_EINVAL;
        value = value * 10 + digit;
    }
    if (*at == begin)
        return MANTA_EINVAL;
    *value_out = value;
    return 0;
}

static int parse_count(const char *text, uint64_t *count_out)
{
    uint64_t count;
    if (parse_digits(&text, &count) != 0 || *text)
        return MANTA_EINVAL;
    *count_out = count;
    return 0;
}

int mt_parse_bytes(const char *text, uint64_t *bytes_out)
{
    static const char suffixes[] = "kMGT";
    uint64_t value;
    unsigned shift = 0;

    if (parse_digits(&text, &value) != 0)
        return MANTA_EINVAL;
    if (*text) {
        char letter = *text == 'K' ? 'k' : *text;
        const char *suffix = strchr(suffixes, letter);
        if (!suffix || (text[1] && strcmp(text + 1, "iB") != 0))
            return MANTA_EINVAL;
        shift = 10 * (unsigned)(suffix - suffixes + 1);
    }
    if (value > UINT64_MAX >> shift)
        return MANTA_EINVAL;
    *bytes_out = value << shift;
    return 0;
}

/* The length in ns of the unit that `suffix` names; 0 if it names none. */
static uint64_t unit_ns(const char *suffix)
{
    if (!*suffix || strcmp(suffix, "s") == 0)
        return MT_SECOND;
    if (strcmp(suffix, "ms") == 0)
        return MT_MS;
    if (strcmp(suffix, "us") == 0)
        return MT_US;
    return strcmp(suffix, "ns") == 0;
}

int mt_parse_ns(const char *text, uint64_t *ns_out)
{
    uint64_t whole;

    if (parse_digits(&text, &whole) != 0)
        return MANTA_EINVAL;
    const char *fraction = text;
    if (*text == '.') {
        fraction = ++text;
        text += strspn(text, "0123456789");
        if (text == fraction)
            return MANTA_EINVAL;
    }
    uint64_t unit = unit_ns(text);
    if (unit == 0 || whole > UINT64_MAX / unit)
        return MANTA_EINVAL;
    uint64_t rest = 0;
    for (uint64_t place = unit / 10; fraction < text && place; fraction++, place /= 10)
        rest += (uint64_t)(*fraction - '0') * place;
    if (whole * unit > UINT64_MAX - rest)
        return MANTA_EINVAL;
    *ns_out = whole * unit + rest;
    return 0;
}

static int refuse(int name, const char *form, struct mt_error *error)
{
    if (!*mt_config_string(name))
        return mt_error_set(error, MANTA_EINVAL, "%s is not set; it must be %s",
                            entries[name].variable, form);
    return mt_error_set(error, MANTA_EINVAL, "%s is '%s'; it must be %s", entries[name].variable,
                        mt_config_string(name), form);
}

int mt_config_bytes(int name, uint64_t *bytes_out, struct mt_error *error)
{
    if (mt_parse_bytes(mt_config_string(name), bytes_out) != 0)
        return refuse(name, "a number of bytes, e.g. 4096, 64k, 1M or 2G", error);
    return 0;
}

int mt_config_count(int name, uint64_t *count_out, struct mt_error *error)
{
    if (parse_count(mt_config_string(name), count_out) != 0)
        return refuse(name, "a number of decimal digits", error);
    return 0;
}

int mt_config_ns(int name, uint64_t *ns_out, struct mt_error *error)
{
    if (mt_parse_ns(mt_config_string(name), ns_out) != 0)
        return refuse(name, "a time in seconds or with its unit, e.g. 2, 0.5, 250ms or 50us",
                      error);
    return 0;
}

int mt_config_flag(int name, int *flag_out, struct mt_error *error)
{
    const char *value = mt_config_string(name);
    if ((value[0] != '0' && value[0] != '1') || value[1])
        return refuse(name, "0 or 1", error);
    *flag_out = value[0] == '1';
    return 0;
}

int mt_config_check_variable(int name, struct mt_error *error)
{
    uint64_t number;
    int flag;

    /* The fingerprint is made of lines, and values appear in sentences. The value is not quoted:
     * it may be the session's secret. */
    for (const char *at = mt_config_string(name); *at; at++)
        if ((unsigned char)*at < 0x20 || *at == 0x7f)
            return mt_error_set(error, MANTA_EINVAL, "%s holds a control character; remove it",
                                entries[name].variable);
    switch (entries[name].kind) {
    case MT_CONFIG_BYTES:
        return mt_config_bytes(name, &number, error);
    case MT_CONFIG_COUNT:
        return mt_config_count(name, &number, error);
    case MT_CONFIG_SECONDS:
        if (mt_config_ns(name, &number, error) != 0)
            return error->code;
        if (number == 0 && name == MT_VAR(TIMEOUT)) /* where nothing could ever be done */
            return refuse(name, "a time of more than 0; unset it for the default", error);
        return 0;
    case MT_CONFIG_FLAG:
        return mt_config_flag(name, &flag, error);
    default:
        return 0;
    }
}

int mt_config_is_plugins(const char *variable, size_t length)
{
    static const char prefix[] = "MANTA_PLUGIN_";
    return length >= sizeof(prefix) && memcmp(variable, prefix, sizeof(prefix) - 1) == 0;
}

static int is_known(const char *variable, size_t length)
{
    for (int i = 0; i < MT_CONFIG_VARIABLE_COUNT; i++)
        if (strlen(entries[i].variable) == length &&
            memcmp(entries[i].variable, variable, length) == 0)
            return 1;
    return 0;
}

const char *mt_config_unknown(size_t *at, size_t *length_out)
{
    while (environ && environ[*at]) {
        const char *entry = environ[(*at)++];
        const char *equals = strchr(entry, '=');
        if (strncmp(entry, "MANTA_", 6) != 0 || !equals)
            continue;
        *length_out = (size_t)(equals - entry);
        if (!is_known(entry, *length_out) && !mt_config_is_plugins(entry, *length_out))
            return entry;
    }
    return NULL;
}

static void warn_of_unknown(void)
{
    size_t at = 0, length;
    const char *name;
    while ((name = mt_config_unknown(&at, &length)) != NULL)
        mt_log(MT_LOG_WARN, -1,
               "%.*s is no variable of this library; manta info --config lists those that are",
               (int)length, name);
}

int mt_config_check(struct mt_error *error)
{
    warn_of_unknown();
    for (int i = 0; i < MT_CONFIG_VARIABLE_COUNT; i++) {
        int rc = mt_config_is_set(i) ? mt_config_check_variable(i, error) : 0;
        if (rc != 0)
            return rc;
    }
    return 0;
}

/* Seconds, with as many decimals as they need: "600s", "0.25s". */
static void format_seconds(uint64_t ns, char text[32])
{
    int used = snprintf(text, 32, "%llu.%09llu", (unsigned long long)(ns / MT_SECOND),
                        (unsigned long long)(ns % MT_SECOND));
    while (text[used - 1] == '0')
        used--;
    if (text[used - 1] == '.')
        used--;
    snprintf(text + used, 32 - (size_t)used, "s");
}

size_t mt_config_line(int name, const char *value, char *text, size_t text_bytes)
{
    const struct mt_config_entry *entry = &entries[name];
    char canonical[32];
    uint64_t number;

    if (!value)
        value = mt_config_string(name);
    if (entry->kind == MT_CONFIG_BYTES && mt_parse_bytes(value, &number) == 0) {
        snprintf(canonical, sizeof canonical, "%llu", (unsigned long long)number);
        value = canonical;
    } else if (entry->kind == MT_CONFIG_SECONDS && mt_parse_ns(value, &number) == 0) {
        format_seconds(number, canonical);
        value = canonical;
    }
    return (size_t)snprintf(text, text_bytes, "%s=%s\n", entry->variable, value);
}
