/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/manta/doctor.h"

#include <dlfcn.h>
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <linux/membarrier.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "tools/manta/manta.h"
#include "topology/host.h"

static const char help[] =
    "usage: manta doctor [--session [STRING] | --host ADDRESS:PORT]\n"
    "Look at the MANTA_* variables, and try out what Manta needs from this host: network\n"
    "interfaces, shared memory, permissions, limits, CPUs, libraries. Or, instead, whether this\n"
    "host reaches another one where a rank listens, and how soon it answers.\n"
    "  --session [STRING]   try every address of the session, by default of MANTA_SESSION (which\n"
    "                       others cannot read from the command line). Start rank 0 before\n"
    "  --host ADDRESS:PORT  try this address, without knowing a session\n"
    "Each line is ok, warning (works, but not as well as it could) or problem, with what to do.\n"
    "Exit code 1 if there is a problem, 2 for wrong usage.\n"
    "Ranks connect in both directions: try each host.\n";

enum { DESCRIPTORS_WANTED = 4096 };

static int counts[3];

void doctor_say(enum verdict verdict, const char *what, const char *format, ...)
{
    static const char *const words[] = {"ok", "warning", "problem"};
    va_list arguments;
    counts[verdict]++;
    printf("%-8s %-15s ", words[verdict], what);
    va_start(arguments, format);
    vprintf(format, arguments);
    va_end(arguments);
    putchar('\n');
}

static void say_membarrier(void)
{
    long commands = syscall(SYS_membarrier, MEMBARRIER_CMD_QUERY, 0, 0);
    if (commands < 0 || !(commands & MEMBARRIER_CMD_GLOBAL_EXPEDITED))
        doctor_say(DOCTOR_WARNING, "membarrier",
                   "the kernel does not offer it (%s): ranks that sleep wake every millisecond to "
                   "look; Linux 4.16 or newer, and a seccomp profile that allows it, helps",
                   commands < 0 ? strerror(errno) : "too old");
    else
        doctor_say(DOCTOR_OK, "membarrier", "expedited: ranks that wait for long can sleep");
}

static void say_memlock(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_MEMLOCK, &limit) != 0)
        return;
    if (limit.rlim_cur == RLIM_INFINITY)
        doctor_say(DOCTOR_OK, "locked memory", "unlimited");
    else
        doctor_say(DOCTOR_OK, "locked memory",
                   "%" PRIu64 " KiB: enough for shared memory and TCP; RDMA needs `ulimit -l "
                   "unlimited` or CAP_IPC_LOCK",
                   (uint64_t)limit.rlim_cur / 1024);
}

static void say_open_files(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
        return;
    if (limit.rlim_cur >= DESCRIPTORS_WANTED)
        doctor_say(DOCTOR_OK, "open files", "%" PRIu64 " a process", (uint64_t)limit.rlim_cur);
    else
        doctor_say(limit.rlim_cur < 256 ? DOCTOR_PROBLEM : DOCTOR_WARNING, "open files",
                   "%" PRIu64 " a process: a rank needs some for each peer it speaks to; "
                   "`ulimit -n %d`%s",
                   (uint64_t)limit.rlim_cur, DESCRIPTORS_WANTED,
                   limit.rlim_max < DESCRIPTORS_WANTED ? " after raising the hard limit" : "");
}

static void say_limits(void)
{
    say_memlock();
    say_open_files();
}

static void say_cpus(void)
{
    const struct mt_host *host = mt_host();
    long online = sysconf(_SC_NPROCESSORS_ONLN);
    if (host->affinity_cpus < online)
        doctor_say(DOCTOR_WARNING, "CPU affinity",
                   "%u of %ld CPUs: start ranks without taskset, or one rank for each of these",
                   host->affinity_cpus, online);
    else
        doctor_say(DOCTOR_OK, "CPU affinity", "all %u CPUs", host->affinity_cpus);
    if (host->quota_millicpus == 0)
        doctor_say(DOCTOR_OK, "CPU quota", "none");
    else
        doctor_say(host->quota_millicpus < 1000 * (uint64_t)host->affinity_cpus ? DOCTOR_WARNING
                                                                                : DOCTOR_OK,
                   "CPU quota",
                   "%.2f CPUs by control group: more busy ranks than that are stopped by the "
                   "kernel for up to 100 ms at a time",
                   (double)host->quota_millicpus / 1000);
}

static void say_libraries(void)
{
    static const struct {
        const char *file, *what;
    } libraries[] = {
        {"libcuda.so.1", "NVIDIA driver"},
    };
    for (size_t i = 0; i < sizeof libraries / sizeof *libraries; i++) {
        void *library = dlopen(libraries[i].file, RTLD_NOW | RTLD_LOCAL);
        doctor_say(DOCTOR_OK, "library", "%s: %s %s", libraries[i].what, libraries[i].file,
                   library != NULL ? "is there; this version has no transport that uses it"
                                   : "is not there; nothing in this version needs it");
        if (library != NULL)
            dlclose(library);
    }
}

static void look_at_this_host(void)
{
    doctor_configuration();
    doctor_interfaces();
    doctor_tcp();
    doctor_verbs();
    doctor_ofi();
    doctor_unix_socket();
    doctor_shared_memory();
    doctor_cross_memory();
    doctor_cache_lines();
    say_membarrier();
    say_limits();
    say_cpus();
    say_libraries();
}

/* What comes after --session, with or without '=', or the environment's; empty if there is none. */
static const char *session_argument(int argc, char **argv)
{
    const char *text = optarg;
    if (text == NULL && optind < argc && argv[optind][0] != '-')
        text = argv[optind++];
    if (text == NULL)
        text = getenv("MANTA_SESSION");
    return text != NULL ? text : "";
}

int command_doctor(int argc, char **argv)
{
    static const struct option longs[] = {{"session", optional_argument, NULL, 's'},
                                          {"host", required_argument, NULL, 'H'},
                                          {"help", no_argument, NULL, 'h'},
                                          {NULL, 0, NULL, 0}};
    const char *session = NULL, *host = NULL;
    int option;
    while ((option = getopt_long(argc, argv, "h", longs, NULL)) != -1) {
        if (option == 's') {
            session = session_argument(argc, argv);
        } else if (option == 'H') {
            host = optarg;
        } else {
            return command_usage("doctor", help, option);
        }
    }
    if (optind < argc)
        return command_refuse("doctor", argv[optind]);
    if (session != NULL && host != NULL) {
        fprintf(stderr, "manta doctor: give --session or --host, not both\n");
        return EXIT_USAGE;
    }
    if (session != NULL && session[0] == '\0') {
        fprintf(stderr, "manta doctor: MANTA_SESSION is not set; give --session the string\n");
        return EXIT_USAGE;
    }
    if (session == NULL && host == NULL)
        look_at_this_host();
    else if (doctor_reach(session, host) != 0)
        return EXIT_USAGE;
    printf("\n%d ok, %d warning%s, %d problem%s\n", counts[DOCTOR_OK], counts[DOCTOR_WARNING],
           counts[DOCTOR_WARNING] == 1 ? "" : "s", counts[DOCTOR_PROBLEM],
           counts[DOCTOR_PROBLEM] == 1 ? "" : "s");
    return counts[DOCTOR_PROBLEM] > 0 ? EXIT_PROBLEM : 0;
}
