/* SPDX-License-Identifier: Apache-2.0 */
#include "plan/tuning.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <manta/manta.h>

enum {
    FILE_BYTES = 16 << 10,
    LINE_BYTES = 200,
};
/* An hour, in the smallest unit: more is no price of a byte or message. */
#define VALUE_MOST UINT64_C(3600000000000)
#define HEAD "manta-tuning 1"

static const char *const link_names[MT_TUNING_LINK_VALUES] = {
    [MT_TUNING_ALPHA] = "alpha_ns",
    [MT_TUNING_CORE] = "core_ns",
    [MT_TUNING_BETA] = "beta_ps_per_byte",
    [MT_TUNING_COPY] = "copy_ps_per_byte",
    [MT_TUNING_UPLINK] = "uplink_ps_per_byte",
};
static const char *const model_names[MT_TUNING_VALUES - MT_TUNING_GAMMA] = {
    "gamma_ps_per_byte", "memory_ps_per_byte", "fused_alpha_ns", "turn_ns"};

void mt_tuning_name(int index, char name[MT_TUNING_NAME])
{
    if (index >= MT_TUNING_GAMMA)
        snprintf(name, MT_TUNING_NAME, "%s", model_names[index - MT_TUNING_GAMMA]);
    else
        snprintf(name, MT_TUNING_NAME, "%s %s",
                 mt_level_name((enum mt_level)(index / MT_TUNING_LINK_VALUES)),
                 link_names[index % MT_TUNING_LINK_VALUES]);
}

static int find_name(const char *name, size_t length)
{
    char known[MT_TUNING_NAME];
    for (int i = 0; i < MT_TUNING_VALUES; i++) {
        mt_tuning_name(i, known);
        if (strlen(known) == length && memcmp(known, name, length) == 0)
            return i;
    }
    return -1;
}

/* The digits after the last blank, and nothing else. */
static int parse_value(const char *digits, uint64_t *value_out)
{
    *value_out = 0;
    if (!*digits)
        return -1;
    for (; *digits; digits++) {
        if (*digits < '0' || *digits > '9')
            return -1;
        *value_out = *value_out * 10 + (uint64_t)(*digits - '0');
        if (*value_out > VALUE_MOST)
            return -1;
    }
    return 0;
}

/* What is wrong with a line, or NULL. */
static const char *parse_line(const char *line, struct mt_tuning *tuning)
{
    const char *blank = strrchr(line, ' ');
    uint64_t value;
    if (line[0] == '\0' || line[0] == '#')
        return NULL;
    if (!blank)
        return "is no name and number";
    int index = find_name(line, (size_t)(blank - line));
    if (index < 0)
        return "names a value that does not exist";
    if (mt_tuning_has(tuning, index))
        return "names a value for the second time";
    if (parse_value(blank + 1, &value))
        return "does not end in a whole number up to 3600000000000";
    mt_tuning_set(tuning, index, value);
    return NULL;
}

int mt_tuning_parse(const char *text, const char *what, struct mt_tuning *tuning_out,
                    struct mt_error *error)
{
    struct mt_tuning tuning = {0};
    char line[LINE_BYTES];
    int number = 0;
    memset(tuning_out, 0, sizeof(*tuning_out));
    while (*text) {
        size_t length = strcspn(text, "\n"), taken = length < LINE_BYTES ? length : LINE_BYTES - 1;
        const char *wrong = length < LINE_BYTES ? NULL : "is too long";
        memcpy(line, text, taken);
        line[taken] = '\0';
        text += length + (text[length] == '\n');
        if (++number == 1 && strcmp(line, HEAD) != 0)
            wrong = "is not '" HEAD "'";
        else if (number > 1 && !wrong)
            wrong = parse_line(line, &tuning);
        if (wrong)
            return mt_error_set(error, MANTA_EINVAL, "%s: line %d, '%.60s', %s", what, number, line,
                                wrong);
    }
    if (number == 0)
        return mt_error_set(error, MANTA_EINVAL, "%s is empty; manta tune writes one", what);
    *tuning_out = tuning;
    return 0;
}

/* At most FILE_BYTES - 1 of them, terminated. -1: errno tells why. */
static int read_text(const char *path, char text[FILE_BYTES])
{
    struct stat status;
    size_t length = 0;
    ssize_t got = -1;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a pipe must not hold us up */
    if (fd < 0)
        return -1;
    errno = EINVAL;
    if (fstat(fd, &status) == 0 && S_ISREG(status.st_mode))
        while ((got = read(fd, text + length, FILE_BYTES - length)) > 0)
            length += (size_t)got;
    if (got == 0 && length == FILE_BYTES)
        errno = EFBIG;
    int failed = got < 0 || length == FILE_BYTES, reason = errno;
    close(fd);
    if (failed) {
        errno = reason;
        return -1;
    }
    text[length] = '\0';
    if (memchr(text, '\0', length))
        text[0] = '\1'; /* the rest would pass unseen: no line of ours begins so */
    return 0;
}

int mt_tuning_read(const char *path, struct mt_tuning *tuning_out, struct mt_error *error)
{
    char text[FILE_BYTES], what[128];
    memset(tuning_out, 0, sizeof(*tuning_out));
    if (read_text(path, text))
        return mt_error_set(error, MANTA_EINVAL,
                            "MANTA_TUNING is '%.200s', which cannot be read (%s); each rank needs "
                            "the file that manta tune wrote",
                            path, strerror(errno));
    snprintf(what, sizeof(what), "MANTA_TUNING (%.100s)", path);
    return mt_tuning_parse(text, what, tuning_out, error);
}

/* FNV-1a over names and values. */
uint64_t mt_tuning_digest(const struct mt_tuning *tuning)
{
    uint64_t digest = UINT64_C(0xcbf29ce484222325);
    char text[MT_TUNING_NAME + 24];
    for (int i = 0; i < MT_TUNING_VALUES; i++) {
        if (!mt_tuning_has(tuning, i))
            continue;
        snprintf(text, sizeof(text), "%d %" PRIu64 "\n", i, tuning->values[i]);
        for (const char *at = text; *at; at++)
            digest = (digest ^ (unsigned char)*at) * UINT64_C(0x100000001b3);
    }
    return digest;
}

static void put(const struct mt_tuning *tuning, int index, uint64_t *target)
{
    if (mt_tuning_has(tuning, index))
        *target = tuning->values[index];
}

void mt_tuning_apply(const struct mt_tuning *tuning, struct mt_topology *topology,
                     struct mt_cost_model *model)
{
    for (int level = 0; level < MT_LEVELS; level++) {
        struct mt_topology_link *link = &topology->links[level];
        int first = level * MT_TUNING_LINK_VALUES;
        put(tuning, first + MT_TUNING_ALPHA, &link->alpha_ns);
        put(tuning, first + MT_TUNING_CORE, &link->core_ns);
        put(tuning, first + MT_TUNING_BETA, &link->beta_ps_per_byte);
        put(tuning, first + MT_TUNING_COPY, &link->copy_ps_per_byte);
        put(tuning, first + MT_TUNING_UPLINK, &topology->uplink_ps_per_byte[level]);
    }
    for (int level = MT_LEVEL_NODE; level < MT_LEVELS; level++) {
        int first = level * MT_TUNING_LINK_VALUES;
        if (mt_tuning_has(tuning, first + MT_TUNING_UPLINK) ||
            (level > MT_LEVEL_NODE && mt_tuning_has(tuning, first + MT_TUNING_BETA)))
            model->slow_ps_per_byte = 0;
    }
    put(tuning, MT_TUNING_GAMMA, &model->gamma_ps_per_byte);
    put(tuning, MT_TUNING_MEMORY, &model->memory_ps_per_byte);
    put(tuning, MT_TUNING_FUSED, &model->fused_alpha_ns);
    put(tuning, MT_TUNING_TURN, &model->turn_ns);
}
