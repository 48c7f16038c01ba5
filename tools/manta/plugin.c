/* SPDX-License-Identifier: Apache-2.0 */
/* manta plugin: transports that are loaded, and whether a transport does what it must. */
#include "tools/manta/plugin.h"

#include <errno.h>
#include <getopt.h>
#include <jansson.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "collectives/comm.h"
#include "core/config.h"
#include "tools/manta/manta.h"
#include "transport/plugin.h"
#include "transport/registry.h"

enum { LIMIT_S = 60, LIMIT_S_MAX = 3600 };

static const char help[] =
    "usage: manta plugin list [--json]\n"
    "       manta plugin check FILE.so|NAME [--only TOPIC[,TOPIC]] [--limit SECONDS] [--json]\n"
    "list: the built-in transports, and the plugins that MANTA_TRANSPORTS names.\n"
    "check: does a transport do what include/manta/transport.h says? Each topic runs in a process\n"
    "of its own, whose threads are ranks, so that a crash or a hang is a result like others.\n"
    "  --only TOPIC     of the topics, these only (default: all)\n"
    "  --limit SECONDS  what a topic may take before it counts as hung (default: 60)\n"
    "  --json           print JSON\n"
    "Exit codes: 0 all is well, 1 a topic failed or a plugin is refused, 2 wrong usage, or\n"
    "there is no such transport or file, 77 nothing was checked, for the transport cannot be used\n"
    "here, or lacks all that was asked for.\n"
    "Topics:\n";

const struct check_topic check_topics[] = {
    {"open", "opens, tells its address, probes its peers", 3, 0, topic_open},
    {"matching", "messages of all sizes arrive, whichever end is posted first", 3, 1,
     topic_matching},
    {"ordering", "messages are matched by id, in whatever order they are posted", 2, 1,
     topic_ordering},
    {"mismatch", "a message of another call is found out", 2, 1, topic_mismatch},
    {"length", "a message of another length is found out", 2, 1, topic_length},
    {"epoch", "messages of an older communicator are dropped", 2, 1, topic_epoch},
    {"deadline", "a peer that does nothing keeps no op waiting, and abort ends what there is", 2, 0,
     topic_deadline},
    {"abort", "abort ends everything, soon, and no buffer is touched any more", 3, 1, topic_abort},
    {"close", "close with work under way leaves nothing behind", 3, 1, topic_close},
    {"drain", "what was sent before close arrives", 2, 1, topic_drain},
    {"lost", "a peer that closes stops nobody", 3, 1, topic_lost},
    {"eager", "short messages need no posted receive", 2, 1, topic_eager},
    {"full", "a peer that takes nothing is waited for, without memory", 2, 1, topic_full},
    {"sleep", "ranks sleep on wait_fd, and no wake-up is lost", 2, 1, topic_sleep},
    {"errors", "errors have words", 2, 1, topic_errors},
    {"counters", "counters count, and may be read by any thread", 2, 1, topic_counters},
    {"registration", "memory is registered, exported, forgotten", 2, 1, topic_registration},
    {"random", "10,000 random messages among three ranks", 3, 1, topic_random},
};
const uint32_t check_topic_count = sizeof check_topics / sizeof *check_topics;

static void print_help(FILE *stream)
{
    fputs(help, stream);
    for (uint32_t i = 0; i < check_topic_count; i++)
        fprintf(stream, "  %-13s %s\n", check_topics[i].name, check_topics[i].meaning);
}

/* "in progress" or "in send and progress": what ranks were doing. */
static void word_ops(uint32_t ops, char *text, size_t text_bytes)
{
    size_t used = 0;
    text[0] = '\0';
    for (int op = 1; op < CHECK_OPS && used < text_bytes; op++)
        if (ops >> op & 1)
            used += (size_t)snprintf(text + used, text_bytes - used, "%s%s", used ? ", " : "",
                                     check_op_name(op));
}

static const char *outcome_word(const struct check_result *result)
{
    if (result->hung)
        return "hung";
    if (result->signal)
        return "crashed";
    return result->outcome == CHECK_PASSED    ? "passed"
           : result->outcome == CHECK_SKIPPED ? "skipped"
                                              : "failed";
}

static void print_result(const struct check_topic *topic, const struct check_result *result)
{
    char ops[256];
    word_ops(result->ops, ops, sizeof ops);
    printf("%-8s %-13s %s", outcome_word(result), topic->name,
           result->outcome == CHECK_PASSED ? topic->meaning : result->sentence);
    if ((result->hung || result->signal) && ops[0])
        printf(" (in %s)", ops);
    putchar('\n');
    fflush(stdout);
}

static void add_result(json_t *results, const struct check_topic *topic,
                       const struct check_result *result)
{
    char ops[256];
    word_ops(result->ops, ops, sizeof ops);
    json_t *object =
        json_pack("{s:s, s:s, s:s, s:s}", "topic", topic->name, "meaning", topic->meaning, "result",
                  outcome_word(result), "sentence", result->sentence);
    if (object != NULL && (result->hung || result->signal))
        json_object_set_new(object, "ops", json_string(ops));
    json_array_append_new(results, object);
}

struct check_options {
    const char *only;
    uint32_t limit_s;
    int json;
};

static int is_meant(const char *only, const char *name)
{
    size_t length = strlen(name);
    for (const char *at = only; at != NULL; at = strchr(at, ',') ? strchr(at, ',') + 1 : NULL)
        if (strncmp(at, name, length) == 0 && (at[length] == ',' || at[length] == '\0'))
            return 1;
    return only == NULL;
}

/* Each name of the list must be a topic. */
static int check_only(const char *only)
{
    for (const char *at = only; at != NULL; at = strchr(at, ',') ? strchr(at, ',') + 1 : NULL) {
        size_t length = strcspn(at, ",");
        uint32_t i = 0;
        while (i < check_topic_count && (strlen(check_topics[i].name) != length ||
                                         memcmp(check_topics[i].name, at, length) != 0))
            i++;
        if (i < check_topic_count)
            continue;
        fprintf(stderr, "manta plugin: there is no topic '%.*s'; see manta plugin --help\n",
                (int)length, at);
        return -1;
    }
    return 0;
}

/* What has become of the topics. */
struct check_sum {
    uint32_t passed, failed, skipped;
    char why[768]; /* the first was skipped */
};

static void count_result(struct check_sum *sum, const struct check_result *result)
{
    if (result->outcome == CHECK_SKIPPED && sum->skipped == 0)
        snprintf(sum->why, sizeof sum->why, "%s", result->sentence);
    sum->passed += result->outcome == CHECK_PASSED;
    sum->skipped += result->outcome == CHECK_SKIPPED;
    sum->failed += result->outcome == CHECK_FAILED;
}

static int is_unchecked(const struct check_sum *sum)
{
    return sum->passed == 0 && sum->failed == 0;
}

static void print_sum(const char *target, const struct check_options *options,
                      const struct check_sum *sum)
{
    int is_cut = options->only == NULL && sum->passed == 0 && sum->failed + sum->skipped == 1;
    if (is_unchecked(sum))
        printf("%s: nothing was checked: %s\n", target, sum->why);
    else
        printf("%s: %u passed, %u failed, %u skipped%s\n", target, sum->passed, sum->failed,
               sum->skipped, is_cut ? "; without that topic the others were not tried" : "");
}

/* A built-in transport by its name; else a file, which is loaded by its absolute path. NULL after a
 * message. */
static const char *find_target(const char *asked, char real[PATH_MAX])
{
    const struct manta_transport *built_in;
    for (uint32_t i = 0; (built_in = mt_transport_built_in(i)) != NULL; i++)
        if (strcmp(asked, built_in->name) == 0)
            return asked;
    if (realpath(asked, real) != NULL)
        return real;
    if (strchr(asked, '/') != NULL || errno != ENOENT) {
        fprintf(stderr, "manta plugin: %s: %s\n", asked, strerror(errno));
        return NULL;
    }
    fprintf(stderr,
            "manta plugin: '%s' is neither a file nor a built-in transport, which are:", asked);
    for (uint32_t i = 0; (built_in = mt_transport_built_in(i)) != NULL; i++)
        fprintf(stderr, "%s %s", i > 0 ? "," : "", built_in->name);
    fputc('\n', stderr);
    return NULL;
}

static int run_check(const char *asked, const struct check_options *options)
{
    struct check_sum sum = {0};
    char real[PATH_MAX];
    const char *target = find_target(asked, real);
    if (target == NULL)
        return EXIT_USAGE;
    json_t *results = json_array();
    for (uint32_t i = 0; i < check_topic_count; i++) {
        struct check_result result;
        if (!is_meant(options->only, check_topics[i].name))
            continue;
        if (i > 0 && sum.passed == 0 && options->only == NULL)
            break; /* nothing works without the first */
        if (check_run(&check_topics[i], target, options->limit_s, &result) != 0) {
            perror("manta plugin: cannot start a process");
            json_decref(results);
            return EXIT_PROBLEM;
        }
        count_result(&sum, &result);
        add_result(results, &check_topics[i], &result);
        if (!options->json)
            print_result(&check_topics[i], &result);
    }
    json_t *all = json_pack("{s:s, s:i, s:o, s:i, s:i, s:i}", "transport", target, "abi",
                            MANTA_TRANSPORT_ABI, "results", results, "passed", (int)sum.passed,
                            "failed", (int)sum.failed, "skipped", (int)sum.skipped);
    if (options->json) {
        json_dumpf(all, stdout, JSON_INDENT(2));
        putchar('\n');
    } else {
        print_sum(target, options, &sum);
    }
    json_decref(all);
    return is_unchecked(&sum) ? EXIT_UNCHECKED : sum.failed ? EXIT_PROBLEM : 0;
}

static void add_listed(json_t *list, const struct mt_transport_listed *listed, int json)
{
    struct manta_transport_error reason = {.size = sizeof reason};
    const struct manta_transport *transport = listed->transport;
    char name[MT_PLUGIN_PATH_MAX + 1];
    const char *why = "";
    snprintf(name, sizeof name, "%.*s", (int)listed->name_length, listed->name);
    if (transport == NULL)
        why = listed->why.sentence;
    else if (mt_transport_query(transport, &reason) != 0)
        why = reason.sentence;
    const char *version = transport && transport->version ? transport->version : "";
    if (!json)
        printf("%-10s %-8s %-9s %s%s%s\n", transport ? transport->name : "-",
               listed->is_plugin ? version : "built in",
               transport == NULL ? "refused"
               : why[0]          ? "unusable"
                                 : "usable",
               listed->is_plugin ? name : "", why[0] && listed->is_plugin ? ": " : "", why);
    json_array_append_new(
        list, json_pack("{s:s, s:s, s:s, s:b, s:b, s:s}", "name", transport ? transport->name : "",
                        "version", version, "path", listed->is_plugin ? name : "", "plugin",
                        listed->is_plugin, "usable", transport != NULL && !why[0], "why", why));
}

static int list_transports(int json)
{
    struct mt_transport_listed listed[MT_ENDPOINTS];
    const struct manta_transport *built_in;
    struct mt_error error;
    uint32_t count = 0;
    int code = 0;
    json_t *list = json_array();
    for (uint32_t i = 0; (built_in = mt_transport_built_in(i)) != NULL; i++)
        add_listed(list,
                   &(struct mt_transport_listed){.transport = built_in,
                                                 .name = built_in->name,
                                                 .name_length = strlen(built_in->name)},
                   json);
    if (mt_transport_list(mt_config_string(MT_VAR(TRANSPORTS)), listed, MT_ENDPOINTS, &count,
                          &error) != 0) {
        fprintf(stderr, "manta plugin: MANTA_TRANSPORTS: %s\n", error.sentence);
        code = EXIT_PROBLEM;
    }
    for (uint32_t i = 0; code != EXIT_PROBLEM && i < count; i++) {
        if (!listed[i].is_plugin)
            continue;
        add_listed(list, &listed[i], json);
        code = listed[i].transport == NULL ? EXIT_PROBLEM : code;
    }
    if (json) {
        json_dumpf(list, stdout, JSON_INDENT(2));
        putchar('\n');
    }
    json_decref(list);
    return code;
}

static int wrong(const char *sentence)
{
    fprintf(stderr, "manta plugin: %s; see manta plugin --help\n", sentence);
    return EXIT_USAGE;
}

int command_plugin(int argc, char **argv)
{
    static const struct option longs[] = {{"only", required_argument, NULL, 'o'},
                                          {"limit", required_argument, NULL, 'l'},
                                          {"json", no_argument, NULL, 'j'},
                                          {"help", no_argument, NULL, 'h'},
                                          {NULL, 0, NULL, 0}};
    struct check_options options = {.limit_s = LIMIT_S};
    char *end;
    int option;
    while ((option = getopt_long(argc, argv, "h", longs, NULL)) != -1) {
        if (option == 'o') {
            options.only = optarg;
        } else if (option == 'l') {
            options.limit_s = (uint32_t)strtoul(optarg, &end, 10);
            if (*end != '\0' || options.limit_s < 1 || options.limit_s > LIMIT_S_MAX)
                return wrong("--limit must be a number of seconds from 1 to 3600");
        } else if (option == 'j') {
            options.json = 1;
        } else {
            if (option == 'h')
                print_help(stdout);
            return option == 'h' ? 0 : command_usage("plugin", help, option);
        }
    }
    if (optind == argc)
        return wrong("say list or check");
    const char *what = argv[optind];
    if (strcmp(what, "list") == 0 && optind + 1 == argc)
        return list_transports(options.json);
    if (strcmp(what, "check") != 0)
        return command_refuse("plugin", strcmp(what, "list") == 0 ? argv[optind + 1] : what);
    if (optind + 2 != argc)
        return wrong("check takes one file or name");
    return check_only(options.only) ? EXIT_USAGE : run_check(argv[optind + 1], &options);
}
