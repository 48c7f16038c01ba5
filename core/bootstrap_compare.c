/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "core/bootstrap.h"
#include "core/ranks.h"

/* A piece of a text that does not end in NUL. */
struct span {
    const char *at;
    size_t count;
};

static int is_equal(struct span a, struct span b)
{
    return a.count == b.count && memcmp(a.at, b.at, a.count) == 0;
}

/* Cut the next line off *text_at; 0 at the end. */
static int next_line(const char **text_at, struct span *line_out)
{
    *line_out = (struct span){*text_at, strcspn(*text_at, "\n")};
    *text_at += line_out->count + ((*text_at)[line_out->count] == '\n');
    return line_out->count > 0 || **text_at;
}

static struct span name_of(struct span line)
{
    const char *equals = memchr(line.at, '=', line.count);
    return (struct span){line.at, equals ? (size_t)(equals - line.at) : line.count};
}

static struct span value_of(struct span line)
{
    size_t name = name_of(line).count;
    size_t skip = name < line.count ? name + 1 : name;
    return (struct span){line.at + skip, line.count - skip};
}

/* The line of that name, or one with at NULL. */
static struct span find_line(const char *text, struct span name)
{
    struct span line;
    while (next_line(&text, &line))
        if (is_equal(name_of(line), name))
            return line;
    return (struct span){NULL, 0};
}

static int differs(struct span mine, struct span theirs)
{
    return (mine.at == NULL) != (theirs.at == NULL) || (mine.at && !is_equal(mine, theirs));
}

static void word_value(struct span line, char *text, size_t text_bytes)
{
    struct span value = line.at ? value_of(line) : line;
    size_t shown = value.count < text_bytes - 4 ? value.count : text_bytes - 4;
    if (!line.at) {
        memcpy(text, "unset", sizeof "unset");
        return;
    }
    text[0] = '"';
    memcpy(text + 1, value.at, shown);
    memcpy(text + 1 + shown, "\"", 2);
}

/* Compare the line `name` on all ranks with rank 0's. */
static int compare_line(const char *const *texts, uint32_t ranks, struct span name, uint8_t *marked,
                        struct mt_error *error)
{
    struct span mine = find_line(texts[0], name), other = {NULL, 0};
    int found = 0;
    for (uint32_t r = 1; r < ranks; r++) {
        struct span theirs = find_line(texts[r], name);
        marked[r] = (uint8_t)differs(mine, theirs);
        if (marked[r] && !found) {
            other = theirs;
            found = 1;
        } else if (marked[r] && differs(other, theirs)) {
            marked[r] = 0; /* a third value: one sentence tells of two */
        }
    }
    if (!found)
        return 0;
    char values[2][100], who[120];
    word_value(mine, values[0], sizeof values[0]);
    word_value(other, values[1], sizeof values[1]);
    int lowest = mt_ranks_describe(marked, ranks, who, sizeof who);
    return mt_error_set_rank(
        error, MANTA_EVERSION, lowest, "%.*s is %s on rank 0 and %s on %s; give all ranks the same",
        (int)(name.count < 64 ? name.count : 64), name.at, values[0], values[1], who);
}

int mt_bootstrap_compare(const char *const *texts, uint32_t ranks, struct mt_error *error)
{
    uint8_t *marked = calloc(ranks, 1);
    int rc = 0;
    if (!marked)
        return mt_error_set(error, MANTA_ENOMEM, "no memory to compare configurations");
    for (uint32_t r = 0; r < ranks && rc == 0; r++) {
        const char *at = texts[r];
        struct span line;
        if (r > 0 && strcmp(texts[r], texts[0]) == 0)
            continue;
        while (rc == 0 && next_line(&at, &line))
            rc = compare_line(texts, ranks, name_of(line), marked, error);
    }
    free(marked);
    return rc;
}
