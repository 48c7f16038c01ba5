/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/manta/tune.h"

#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <time.h>

#include "collectives/comm.h"
#include "tools/manta/manta.h"

static const char help[] =
    "usage: manta tune [--out FILE] [--json FILE]    by mantarun, on all ranks\n"
    "Measure what messages between these ranks and their reductions cost, in a few seconds. The "
    "cost\n"
    "model goes by it when MANTA_TUNING names the file; each rank reads one, on its own node. "
    "Measure\n"
    "with the placement that jobs have, and with nothing else running.\n"
    "  --out FILE    write the values where MANTA_TUNING can name them (default: print them)\n"
    "  --json FILE   the same for other programs\n"
    "Exit code 1 if it cannot be measured or written, 2 for wrong usage.\n";

struct files {
    const char *out, *json;
};

static void describe(const struct manta_comm *comm, char *text, size_t room)
{
    struct utsname host;
    char nodes[MT_NODES_TEXT], day[32] = "";
    time_t now = time(NULL);
    struct tm parts;
    uint32_t count = mt_paths_nodes(comm->nodes, comm->ranks, nodes);
    if (gmtime_r(&now, &parts) != NULL)
        strftime(day, sizeof day, "%Y-%m-%d", &parts);
    if (uname(&host) != 0)
        host.nodename[0] = '\0';
    snprintf(text, room, "%u rank%s on %u node%s (%s), %s, %s", comm->ranks,
             comm->ranks == 1 ? "" : "s", count, count == 1 ? "" : "s", nodes, host.nodename, day);
}

static void write_lines(const struct mt_tuning *found, const char *about, FILE *file)
{
    char name[MT_TUNING_NAME];
    fprintf(file, "manta-tuning 1\n# manta tune: %s\n", about);
    for (int i = 0; i < MT_TUNING_VALUES; i++) {
        if (!mt_tuning_has(found, i))
            continue;
        mt_tuning_name(i, name);
        fprintf(file, "%s %" PRIu64 "\n", name, found->values[i]);
    }
}

/* {"about": ..., "levels": {"node": {"alpha_ns": 1, ...}, ...}, "gamma_ps_per_byte": 1, ...} */
static void write_json(const struct mt_tuning *found, const char *about, FILE *file)
{
    char name[MT_TUNING_NAME];
    fprintf(file, "{\"about\": \"%s\", \"levels\": {", about);
    const char *between = "";
    for (int level = 0; level < MT_LEVELS; level++) {
        const char *inside = "";
        for (int i = 0; i < MT_TUNING_LINK_VALUES; i++) {
            int index = level * MT_TUNING_LINK_VALUES + i;
            if (!mt_tuning_has(found, index))
                continue;
            mt_tuning_name(index, name);
            if (*inside == '\0')
                fprintf(file, "%s\"%s\": {", between, mt_level_name((enum mt_level)level));
            fprintf(file, "%s\"%s\": %" PRIu64, inside, strchr(name, ' ') + 1,
                    found->values[index]);
            inside = ", ";
        }
        if (*inside != '\0') {
            fputc('}', file);
            between = ", ";
        }
    }
    fputc('}', file);
    for (int i = MT_TUNING_GAMMA; i < MT_TUNING_VALUES; i++) {
        if (!mt_tuning_has(found, i))
            continue;
        mt_tuning_name(i, name);
        fprintf(file, ", \"%s\": %" PRIu64, name, found->values[i]);
    }
    fputs("}\n", file);
}

/* path NULL: nothing is wanted. */
static int write_file(const char *path, const struct mt_tuning *found, const char *about,
                      void (*write)(const struct mt_tuning *, const char *, FILE *))
{
    if (path == NULL)
        return 0;
    FILE *file = fopen(path, "we");
    if (file != NULL) {
        write(found, about, file);
        int failed = ferror(file);
        if (fclose(file) == 0 && !failed)
            return 0;
    }
    fprintf(stderr, "manta tune: cannot write ");
    perror(path);
    return -1;
}

static int report(const struct tune *tune, const struct files *files)
{
    char about[256];
    describe(tune->comm, about, sizeof about);
    int rc = write_file(files->out, tune->found, about, write_lines);
    if (tune->ranks == 1)
        fprintf(stderr, "manta tune: one rank has no links to measure: only reductions are told; "
                        "run it with the ranks of a job (mantarun -n 2 or more)\n");
    if (files->out == NULL)
        write_lines(tune->found, about, stdout);
    else if (rc == 0)
        printf("%s: wrote %s; MANTA_TUNING=%s makes the cost model go by it\n", about, files->out,
               files->out);
    return write_file(files->json, tune->found, about, write_json) ? -1 : rc;
}

static int measure(struct tune *tune)
{
    int rc = tune_reduction(tune);
    if (!rc)
        rc = tune_fused(tune);
    if (!rc)
        rc = tune_links(tune);
    return rc ? rc : tune_uplinks(tune);
}

/* unwritten_out: 1 if rank 0 could not write the files; the ranks end together all the same. */
static int run(struct manta_comm *comm, const struct files *files, int *unwritten_out)
{
    struct mt_tuning found = {0};
    struct tune tune = {.comm = comm,
                        .rank = comm->rank,
                        .ranks = comm->ranks,
                        .out = calloc(1, TUNE_BYTES),
                        .in = calloc(1, TUNE_BYTES),
                        .found = &found};
    int rc = tune.out && tune.in ? measure(&tune) : MANTA_ENOMEM;
    if (rc) {
        struct manta_error_info info = {.size = sizeof info};
        manta_comm_error(comm, &info);
        fprintf(stderr, "manta tune: %s\n", info.sentence[0] ? info.sentence : manta_strerror(rc));
    }
    if (!rc && comm->rank == 0)
        *unwritten_out = report(&tune, files) != 0;
    if (!rc)
        rc = manta_barrier(comm);
    free(tune.out);
    free(tune.in);
    return rc;
}

int command_tune(int argc, char **argv)
{
    static const struct option longs[] = {{"out", required_argument, NULL, 'o'},
                                          {"json", required_argument, NULL, 'j'},
                                          {"help", no_argument, NULL, 'h'},
                                          {NULL, 0, NULL, 0}};
    struct files files = {0};
    struct manta_comm *comm;
    int option;
    while ((option = getopt_long(argc, argv, "h", longs, NULL)) != -1) {
        if (option == 'o') {
            files.out = optarg;
        } else if (option == 'j') {
            files.json = optarg;
        } else {
            return command_usage("tune", help, option);
        }
    }
    if (optind < argc)
        return command_refuse("tune", argv[optind]);
    if (manta_comm_create(NULL, &comm) != 0)
        return EXIT_PROBLEM; /* it has said why */
    int unwritten = 0, failed = run(comm, &files, &unwritten);
    manta_comm_destroy(comm);
    return failed || unwritten ? EXIT_PROBLEM : 0;
}
