/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/manta/manta.h"

#include <getopt.h>
#include <stdio.h>
#include <sys/utsname.h>

#include <manta/manta.h>

#include "collectives/catalogue.h"
#include "core/config.h"
#include "core/dtype.h"
#include "core/reduce.h"
#include "topology/host.h"

static const char help[] =
    "usage: manta info [--config]\n"
    "Print the version, the algorithms, and what this process may use of the host.\n"
    "  --config   every MANTA_* variable: its value, default and meaning\n"
    "Exit code 1 if the value of a variable is not valid, 2 for wrong usage.\n";

/* The session is a password: say that it is there, not what it is. */
static const char *shown_value(int name)
{
    if (name == MT_VAR(SESSION) && mt_config_is_set(name))
        return "(set, secret)";
    return mt_config_string(name);
}

static void print_problem(const char *sentence)
{
    printf("\nproblem: %s\n", sentence);
}

static int print_config(void)
{
    static const char *const kinds[] = {"text", "bytes", "number", "time", "0 or 1"};
    for (int name = 0; name < MT_CONFIG_VARIABLE_COUNT; name++) {
        const struct mt_config_entry *entry = mt_config_entry(name);
        printf("%-21s %s%s\n", entry->variable, shown_value(name),
               mt_config_is_set(name) ? "   (from the environment)" : "");
        printf("    %s [%s%s%s%s]\n", entry->meaning, kinds[entry->kind],
               *entry->fallback ? ", default " : "", entry->fallback,
               entry->shared ? ", must be equal on all ranks" : "");
    }
    return config_problems(print_problem) > 0 ? EXIT_PROBLEM : 0;
}

static void print_algorithms(void)
{
    for (int c = 0; c < MANTA_COLLECTIVE_COUNT; c++) {
        printf("  %-15s", mt_collective_name(c));
        for (int i = 0; mt_catalogue[i] != NULL; i++)
            if (mt_catalogue[i]->collective == (uint32_t)c)
                printf(" %s", mt_catalogue[i]->name);
        putchar('\n');
    }
}

static void print_host(void)
{
    const struct mt_host *host = mt_host();
    struct utsname kernel;
    char l1[32], l2[32], l3[32];
    format_bytes(host->l1d_bytes, l1, sizeof l1);
    format_bytes(host->l2_bytes, l2, sizeof l2);
    format_bytes(host->l3_bytes, l3, sizeof l3);
    if (uname(&kernel) == 0)
        printf("host       %s, %s %s %s\n", kernel.nodename, kernel.sysname, kernel.release,
               kernel.machine);
    printf("CPUs       %u to use (%u in the affinity mask", host->cpus, host->affinity_cpus);
    if (host->quota_millicpus > 0)
        printf(", %.2f by cgroup quota", (double)host->quota_millicpus / 1000);
    printf("), %u NUMA node%s\n", host->numa_nodes, host->numa_nodes == 1 ? "" : "s");
    printf("caches     L1d %s, L2 %s, L3 %s shared by %u\n", l1, l2, l3, host->l3_sharers);
    printf("kernels    %s\n", mt_reduce_variant());
}

int command_info(int argc, char **argv)
{
    static const struct option longs[] = {
        {"config", no_argument, NULL, 'c'}, {"help", no_argument, NULL, 'h'}, {NULL, 0, NULL, 0}};
    int option;
    while ((option = getopt_long(argc, argv, "h", longs, NULL)) != -1) {
        if (option == 'c')
            return print_config();
        return command_usage("info", help, option);
    }
    if (optind < argc)
        return command_refuse("info", argv[optind]);
    int version = manta_version();
    printf("libmanta   %d.%d.%d\n", version / 10000, version / 100 % 100, version % 100);
    print_host();
    printf("transports %s (MANTA_TRANSPORTS)\n", mt_config_string(MT_VAR(TRANSPORTS)));
    printf("algorithms\n");
    print_algorithms();
    return 0;
}
