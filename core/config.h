/* SPDX-License-Identifier: Apache-2.0 */
/* Every MANTA_* environment variable, declared once in config.def. Values are read from the
 * environment when asked, at creation of a communicator, never in a call. */
#ifndef MT_CORE_CONFIG_H
#define MT_CORE_CONFIG_H

#include <stddef.h>
#include <stdint.h>

#include "core/error.h"

enum mt_config_kind {
    MT_CONFIG_STRING,
    MT_CONFIG_BYTES,
    MT_CONFIG_COUNT,
    MT_CONFIG_SECONDS,
    MT_CONFIG_FLAG
};

enum mt_config_name {
#define MT_CONFIG(name, kind, fallback, shared, meaning) MT_CONFIG_##name##_VARIABLE,
#include "core/config.def"
#undef MT_CONFIG
    MT_CONFIG_VARIABLE_COUNT
};
/* Shorter in use: mt_config_string(MT_VAR(SESSION)). */
#define MT_VAR(name) MT_CONFIG_##name##_VARIABLE

struct mt_config_entry {
    const char *variable; /* "MANTA_..." */
    int kind;
    const char *fallback;
    int shared;
    const char *meaning;
};

const struct mt_config_entry *mt_config_entry(int name);
/* The value as text: environment or default; never NULL. */
const char *mt_config_string(int name);
/* 1 if the environment sets it (to something not empty). */
int mt_config_is_set(int name);
/* Parsed values; a value that does not parse gives MANTA_EINVAL naming variable, value and form. */
int mt_config_bytes(int name, uint64_t *bytes_out, struct mt_error *error);
int mt_config_count(int name, uint64_t *count_out, struct mt_error *error);
int mt_config_ns(int name, uint64_t *ns_out, struct mt_error *error);
int mt_config_flag(int name, int *flag_out, struct mt_error *error);
/* Check the value of one variable: its form, not what it names. */
int mt_config_check_variable(int name, struct mt_error *error);
/* Check all variables that are set, and warn of MANTA_* variables that do not exist. */
int mt_config_check(struct mt_error *error);
/* 1 for the variables that are left to plugins: MANTA_PLUGIN_*. */
int mt_config_is_plugins(const char *variable, size_t length);
/* The next MANTA_* variable of the environment that does not exist, or NULL: its name is the first
 * *length_out characters. *at: 0 at first. */
const char *mt_config_unknown(size_t *at, size_t *length_out);
/* Write "NAME=value\n", by which ranks compare what they must share: sizes and times by value, so
 * that "1M" and "1024k" are the same. value: in place of the environment's; NULL: that. Returns
 * the length without the NUL; the text is cut when that is text_bytes or more. */
size_t mt_config_line(int name, const char *value, char *text, size_t text_bytes);

/* "4k", "4K", "4KiB" -> 4096; k, M, G, T are powers of 1024; 0 or MANTA_EINVAL. Whole string must
 * be used. perf/compare/sizes.py takes the same. */
int mt_parse_bytes(const char *text, uint64_t *bytes_out);
/* "2", "0.5", "250ms", "50us" -> ns. */
int mt_parse_ns(const char *text, uint64_t *ns_out);

#endif
