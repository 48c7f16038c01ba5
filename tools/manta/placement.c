/* SPDX-License-Identifier: Apache-2.0 */
/* Candidate places of a job, priced: the cheapest first. */
#include "tools/manta/manta.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include <manta/scheduler.h>

static const char help[] =
    "usage: manta placement --topology SPEC --candidates FILE --coll NAME [options]\n"
    "Tell how long a job's collective would take on each of several sets of nodes, best first.\n"
    "  --topology SPEC    the cluster: a line such as \"rack:4 node:16@200Gbit/s,2us ranks:8\", "
    "see\n"
    "                     manta topo --help\n"
    "  --candidates FILE  a line for each candidate, its nodes by number or as node3, or JSON:\n"
    "                     [{\"name\": \"near\", \"nodes\": [0, 1]}, [2, 3]]; - is the standard "
    "input\n"
    "  --coll NAME        allreduce, broadcast, reduce, allgather, reduce_scatter, barrier\n"
    "  --bytes SIZE       of one rank's vector: 4, 64k, 1M (default 1M)\n"
    "  -n, --ranks N      ranks of the job (default: as many as the nodes have room for)\n"
    "  --json             for programs\n"
    "MANTA_SEGMENT counts as in a run. Programs call manta_placement_cost() (manta/scheduler.h).\n"
    "Exit code 1 if no candidate can be used, 2 for wrong usage.\n";

enum { CANDIDATES_MOST = 4096, FILE_MOST = 16 << 20 };

struct candidate {
    char name[64];
    uint32_t *nodes, count;
    uint64_t ns;
    char refused[256]; /* "", or why it has no price */
};

struct candidates {
    const char *path; /* that they are read from */
    struct candidate *list;
    uint32_t count;
};

__attribute__((format(printf, 2, 3))) static int complain(const struct candidates *all,
                                                          const char *format, ...)
{
    va_list list;
    fprintf(stderr, "manta placement: %s", strcmp(all->path, "-") ? all->path : "standard input");
    va_start(list, format);
    vfprintf(stderr, format, list);
    va_end(list);
    fputc('\n', stderr);
    return -1;
}

static void complain_usage(const char *wrong)
{
    fprintf(stderr, "manta placement: %s; see manta placement --help\n", wrong);
}

/* One more candidate; NULL after a message. */
static struct candidate *append(struct candidates *all, uint32_t nodes)
{
    struct candidate *list = NULL;
    if (all->count < CANDIDATES_MOST)
        list = realloc(all->list, (all->count + (size_t)1) * sizeof *list);
    if (list == NULL) {
        complain(all, ": there are too many candidates");
        return NULL;
    }
    all->list = list;
    struct candidate *made = &list[all->count];
    *made = (struct candidate){.nodes = calloc(nodes + (size_t)1, sizeof(uint32_t))};
    if (made->nodes == NULL) {
        complain(all, ": no memory for the candidates");
        return NULL;
    }
    all->count++;
    snprintf(made->name, sizeof made->name, "%u", all->count);
    return made;
}

/* "3" or "node3" */
static int parse_node(const char *text, uint32_t *node_out)
{
    char *end;
    if (strncmp(text, "node", 4) == 0)
        text += 4;
    errno = 0;
    unsigned long value = strtoul(text, &end, 10);
    if (*text < '0' || *text > '9' || *end != '\0' || errno != 0 || value > UINT32_MAX)
        return -1;
    *node_out = (uint32_t)value;
    return 0;
}

static int read_line(struct candidates *all, char *line, unsigned number)
{
    char *rest = NULL;
    struct candidate *candidate = append(all, (uint32_t)strlen(line));
    if (candidate == NULL)
        return -1;
    for (char *word = strtok_r(line, " \t,\r", &rest); word != NULL;
         word = strtok_r(NULL, " \t,\r", &rest))
        if (parse_node(word, &candidate->nodes[candidate->count++]) != 0)
            return complain(all,
                            ", line %u: '%s' is no node; write its number, or node and its number",
                            number, word);
    return 0;
}

/* A line for each; those that are empty or begin with # are none. */
static int read_lines(struct candidates *all, char *text)
{
    unsigned number = 1;
    for (char *line = strsep(&text, "\n"); line != NULL; line = strsep(&text, "\n"), number++) {
        char first = line[strspn(line, " \t\r")];
        if (first != '\0' && first != '#' && read_line(all, line, number) != 0)
            return -1;
    }
    return 0;
}

static int read_object(struct candidates *all, const json_t *object)
{
    const json_t *nodes = json_is_array(object) ? object : json_object_get(object, "nodes");
    const char *name = json_string_value(json_object_get(object, "name"));
    if (!json_is_array(nodes))
        return complain(all, ": each candidate must be a list of nodes, or have \"nodes\"");
    struct candidate *candidate = append(all, (uint32_t)json_array_size(nodes));
    if (candidate == NULL)
        return -1;
    if (name != NULL)
        snprintf(candidate->name, sizeof candidate->name, "%s", name);
    for (size_t i = 0; i < json_array_size(nodes); i++) {
        const json_t *node = json_array_get(nodes, i);
        json_int_t number = json_integer_value(node);
        const char *text = json_string_value(node);
        uint32_t *to = &candidate->nodes[candidate->count++];
        if (text != NULL ? parse_node(text, to) != 0
                         : !json_is_integer(node) || number < 0 || number > UINT32_MAX)
            return complain(all,
                            ", candidate %s: its nodes must be numbers, or names such as node3",
                            candidate->name);
        if (text == NULL)
            *to = (uint32_t)number;
    }
    return 0;
}

static int read_json(struct candidates *all, const char *text)
{
    json_error_t error;
    json_t *root = json_loads(text, 0, &error);
    int rc = 0;
    if (root == NULL)
        return complain(all, ", line %d: %s", error.line, error.text);
    if (!json_is_array(root))
        rc = complain(all, ": JSON must be a list");
    for (size_t i = 0; i < json_array_size(root) && rc == 0; i++)
        rc = read_object(all, json_array_get(root, i));
    json_decref(root);
    return rc;
}

/* The whole file as text; NULL after a message. */
static char *read_file(const struct candidates *all)
{
    const char *path = all->path;
    FILE *file = strcmp(path, "-") == 0 ? stdin : fopen(path, "r");
    char *text = malloc(FILE_MOST + 1);
    size_t length = file != NULL && text != NULL ? fread(text, 1, FILE_MOST + 1, file) : 0;
    int failed = file == NULL || text == NULL || ferror(file) || length > FILE_MOST;
    if (failed)
        complain(all, ": %s", length > FILE_MOST ? "it is longer than 16 MiB" : strerror(errno));
    if (file != NULL && file != stdin)
        fclose(file);
    if (failed) {
        free(text);
        return NULL;
    }
    text[length] = '\0';
    return text;
}

static int read_candidates(struct candidates *all)
{
    char *text = read_file(all);
    if (text == NULL)
        return -1;
    const char *first = text + strspn(text, " \t\r\n");
    int rc = *first == '[' || *first == '{' ? read_json(all, text) : read_lines(all, text);
    free(text);
    if (rc == 0 && all->count == 0)
        rc = complain(all, ": there is no candidate in it");
    return rc;
}

static void price(const struct call_options *options, struct candidate *candidate)
{
    const struct manta_placement_call call = {
        .size = sizeof call, .collective = options->collective, .bytes = options->bytes};
    const struct manta_placement placement = {.size = sizeof placement,
                                              .cluster = options->topology,
                                              .nodes = candidate->nodes,
                                              .node_count = candidate->count,
                                              .ranks = options->ranks,
                                              .calls = &call,
                                              .call_count = 1};
    struct manta_error_info info = {.size = sizeof info};
    if (manta_placement_cost(&placement, &candidate->ns) == 0)
        return;
    manta_comm_error(NULL, &info);
    snprintf(candidate->refused, sizeof candidate->refused, "%.250s", info.sentence);
}

/* The refused come last; equals stay as they were. */
static int compare(const void *a, const void *b)
{
    const struct candidate *x = a, *y = b;
    int x_bad = x->refused[0] != '\0', y_bad = y->refused[0] != '\0';
    if (x_bad != y_bad)
        return x_bad - y_bad;
    return x->ns < y->ns ? -1 : x->ns > y->ns;
}

static int show_json(const struct candidates *all)
{
    json_t *root = json_array();
    for (uint32_t i = 0; i < all->count; i++) {
        const struct candidate *candidate = &all->list[i];
        json_t *nodes = json_array(), *object = json_pack("{s:s}", "name", candidate->name);
        for (uint32_t k = 0; k < candidate->count; k++)
            json_array_append_new(nodes, json_integer(candidate->nodes[k]));
        json_object_set_new(object, "nodes", nodes);
        if (candidate->refused[0] != '\0')
            json_object_set_new(object, "refused", json_string(candidate->refused));
        else
            json_object_set_new(object, "ns", json_integer((json_int_t)candidate->ns));
        json_array_append_new(root, object);
    }
    int rc = json_dumpf(root, stdout, JSON_INDENT(2));
    json_decref(root);
    if (rc != 0) {
        fprintf(stderr, "manta placement: JSON cannot be written\n");
        return -1;
    }
    putchar('\n');
    return 0;
}

static void show_text(const struct candidates *all)
{
    printf("   %-24s %7s %14s\n", "candidate", "nodes", "predicted");
    for (uint32_t i = 0; i < all->count; i++) {
        const struct candidate *candidate = &all->list[i];
        if (candidate->refused[0] != '\0')
            printf("   %-24s %7u %14s   %s\n", candidate->name, candidate->count, "-",
                   candidate->refused);
        else
            printf("%s  %-24s %7u %11.2f us\n", i == 0 ? "*" : " ", candidate->name,
                   candidate->count, (double)candidate->ns / 1000);
    }
}

int command_placement(int argc, char **argv)
{
    struct call_options options;
    struct candidates all = {0};
    int rc = call_options_parse(&options, "placement", "coll bytes ranks topology candidates json",
                                help, argc, argv);
    if (rc != 0)
        return rc > 0 ? 0 : EXIT_USAGE;
    rc = EXIT_USAGE;
    all.path = options.candidates;
    if (options.candidates == NULL)
        complain_usage("--candidates is missing");
    else if (options.collective < 0)
        complain_usage("--coll is missing");
    else if (options.collective >= MANTA_SEND)
        complain_usage("--coll must be a collective of all ranks");
    else if (read_candidates(&all) == 0)
        rc = 0;
    for (uint32_t i = 0; i < all.count && rc == 0; i++)
        price(&options, &all.list[i]);
    if (rc == 0) {
        qsort(all.list, all.count, sizeof *all.list, compare);
        rc = all.list[0].refused[0] != '\0' ? EXIT_PROBLEM : 0;
        if (!options.json)
            show_text(&all);
        else if (show_json(&all) != 0)
            rc = EXIT_PROBLEM;
    }
    for (uint32_t i = 0; i < all.count; i++)
        free(all.list[i].nodes);
    free(all.list);
    return rc;
}
