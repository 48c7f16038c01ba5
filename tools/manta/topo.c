/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/manta/topo.h"

#include <getopt.h>
#include <string.h>
#include <unistd.h>

#include "tools/manta/manta.h"
#include "topology/host.h"
#include "topology/machine.h"
#include "topology/synthetic.h"

static const char help[] =
    "usage: manta topo [--topology SPEC|FILE.json|FILE.xml] [--json] [--svg FILE] [--ranks]\n"
    "Print what this host consists of, and what of it this process may use; or a cluster.\n"
    "  --topology WHAT  a file that --json wrote (.json) or lstopo (.xml), or a line such as\n"
    "                   \"rack:4@100Gbit/s,5us,oversub=2 node:16@200Gbit/s numa:2 core:32 gpu:8\"\n"
    "  --json           as JSON, to be changed and given to --topology\n"
    "  --svg FILE       draw it as well\n"
    "  --ranks          where ranks sit, and in which order a ring visits them best\n"
    "\n"
    "Words of a line:\n"
    "  LEVEL:COUNT[@LINK]  so many in each of the level named before it, from far to near: zone,\n"
    "                      rack, node, package, numa, l3, core; those not named: one each\n"
    "  nic:COUNT[@RATE]    network cards of a node; RATE of each, where node has none\n"
    "  gpu:COUNT           GPUs of a node\n"
    "  ranks:COUNT         of a node (default: one for each GPU, without GPUs for each core)\n"
    "  size:COUNT          ranks in all, if they do not fill it\n"
    "  place=ORDER         packed (default), roundrobin, random, random:SEED\n"
    "  net=rdma            between nodes cards write into memory: transports verbs and ofi\n"
    "LINK is how one of the level is tied to its siblings, with commas between:\n"
    "  RATE                100Gbit/s, 12.5GB/s: for one rank; at node: of each card\n"
    "  TIME                5us, 300ns: latency; core=TIME: work of a core at each end\n"
    "  oversub=NUMBER      node, rack, zone: of what its cards carry, one part in NUMBER leaves "
    "it\n"
    "Exit code 1 if it cannot be written, 2 for wrong usage or a topology that cannot be read.\n";

static int has_ending(const char *text, const char *ending)
{
    size_t length = strlen(text), tail = strlen(ending);
    return length > tail && strcmp(text + length - tail, ending) == 0;
}

int topo_load(const char *text, struct mt_cluster *cluster_out, struct mt_error *error)
{
    if (has_ending(text, ".json"))
        return topo_json_read(text, cluster_out, error);
    if (has_ending(text, ".xml"))
        return mt_cluster_of_xml(text, cluster_out, error);
    if (access(text, F_OK) == 0)
        return mt_error_set(
            error, MANTA_EINVAL,
            "%.200s is a file; the name of a topology must end in .json (manta topo "
            "--json writes one) or in .xml (lstopo does)",
            text);
    return mt_cluster_parse(text, cluster_out, error);
}

int topo_load_ranks(const char *text, uint32_t size, struct mt_topology **topology_out,
                    struct mt_error *error)
{
    struct mt_cluster cluster;
    *topology_out = NULL;
    int rc = topo_load(text, &cluster, error);
    if (rc)
        return rc;
    if (size)
        cluster.size = size;
    rc = mt_cluster_topology(&cluster, topology_out, error);
    mt_cluster_close(&cluster);
    return rc;
}

static void print_usable(void)
{
    const struct mt_host *host = mt_host();
    printf("this process may use %u CPU%s (%u in the affinity mask", host->cpus,
           host->cpus == 1 ? "" : "s", host->affinity_cpus);
    if (host->quota_millicpus > 0)
        printf(", %.2f by cgroup quota", (double)host->quota_millicpus / 1000);
    printf(")\n");
}

struct topo_options {
    const char *topology, *svg; /* NULL: this host; not to be drawn */
    int json, ranks;
};

static int fail(const struct mt_error *error, int rc)
{
    fprintf(stderr, "manta topo: %s\n", error->sentence);
    return rc == MANTA_EINVAL ? EXIT_USAGE : EXIT_PROBLEM;
}

static int show(const struct topo_options *options, const struct mt_cluster *cluster)
{
    struct mt_topology *topology = NULL;
    struct mt_error error;
    int code = 0;
    int rc = options->ranks || cluster->size ? mt_cluster_topology(cluster, &topology, &error) : 0;
    if (rc)
        return fail(&error, rc);
    if (options->json && topo_json_write(cluster, options->ranks ? topology : NULL, stdout)) {
        fprintf(stderr, "manta topo: no memory\n");
        code = EXIT_PROBLEM;
    }
    if (!options->json) {
        topo_print(cluster);
        if (!options->topology)
            print_usable();
        if (options->ranks)
            topo_print_ranks(topology);
    }
    mt_topology_free(topology);
    int failed = options->svg && code == 0 ? topo_svg_write(cluster, options->svg) : 0;
    if (failed)
        fprintf(stderr, "manta topo: cannot write %s: %s\n", options->svg, strerror(failed));
    return failed ? EXIT_PROBLEM : code;
}

int command_topo(int argc, char **argv)
{
    static const struct option longs[] = {
        {"topology", required_argument, NULL, 't'}, {"json", no_argument, NULL, 'j'},
        {"svg", required_argument, NULL, 's'},      {"ranks", no_argument, NULL, 'r'},
        {"help", no_argument, NULL, 'h'},           {NULL, 0, NULL, 0}};
    struct topo_options options = {.topology = NULL};
    struct mt_cluster cluster;
    struct mt_error error;
    int option;
    while ((option = getopt_long(argc, argv, "h", longs, NULL)) != -1) {
        if (option == 't') {
            options.topology = optarg;
        } else if (option == 's') {
            options.svg = optarg;
        } else if (option == 'j') {
            options.json = 1;
        } else if (option == 'r') {
            options.ranks = 1;
        } else {
            return command_usage("topo", help, option);
        }
    }
    if (optind < argc)
        return command_refuse("topo", argv[optind]);
    int rc = options.topology ? topo_load(options.topology, &cluster, &error)
                              : mt_cluster_of_host(&cluster, &error);
    if (rc)
        return fail(&error, rc);
    int code = show(&options, &cluster);
    mt_cluster_close(&cluster);
    return code;
}
