# SPDX-License-Identifier: Apache-2.0
"""Emulated clusters on this machine: python3 perf/cluster COMMAND --help.

Nodes are network and host-name namespaces, joined by cables and switches whose rates are limited.
Needs root, or to be allowed to make user namespaces, and the programs ip, tc and nsenter. All of
it is gone when the tool ends, also by kill -9. The nodes share this machine's CPUs: what is to be
learned from them is how the wire is used, not how fast a cluster's cores are.

Exit code 1 for a failure (of run: that of mantarun), 2 for wrong usage.
"""

import argparse
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(__file__)), "compare"))

import accuracy
import bound
import contenders
import jobs
import judge
import network
import sandbox
import wire
from sizes import WORDS, parse_size

NODES_MOST = 32


def parse_rate(text):
    network.bits_of(text)
    return text


def add_shape(parser):
    parser.add_argument("--nodes", type=int, default=2, help=f"2 to {NODES_MOST} (default 2)")
    parser.add_argument("--ranks-per-node", type=int, default=1, metavar="N", help="default 1")
    parser.add_argument("--round-robin", action="store_true", help="ranks over nodes, in turn")
    parser.add_argument(
        "--rate", type=parse_rate, help="of each interface: 1gbit, 100mbit (default: no limit)"
    )
    parser.add_argument(
        "--interfaces", type=int, default=1, help="of each node, each with a network of its own"
    )
    parser.add_argument("--racks", type=int, default=1, help="the nodes are spread over")
    parser.add_argument(
        "--uplink", type=parse_rate, help="rate that a rack's nodes share to and from other racks"
    )
    parser.add_argument("--latency", help="one way, such as 100us; the kernel must have netem")


def add_compare(commands):
    text = "Manta and its peers in alternation: a table of medians and ratios"
    parser = commands.add_parser("compare", help=text, description=text)
    add_shape(parser)
    parser.add_argument("--coll", default="allreduce,broadcast", help="as manta-perf's")
    parser.add_argument(
        "--min", type=parse_size, default=4, metavar="SIZE", help=f"{WORDS} (default 4)"
    )
    parser.add_argument(
        "--max", type=parse_size, default=16 << 20, metavar="SIZE", help="(default 16M)"
    )
    parser.add_argument("--factor", type=int, default=4, help="between sizes (default 4)")
    parser.add_argument("--rounds", type=int, default=3, help="after a calibration (default 3)")
    parser.add_argument(
        "--seconds", type=float, default=0.1, help="bound of a size's calls in a run (default 0.1)"
    )
    parser.add_argument(
        "--minutes", type=float, default=10, help="bound of it all but the runs under way"
    )
    parser.add_argument(
        "--peers", default=",".join(contenders.ALL_PEERS), help="comma-separated; empty: none"
    )
    parser.add_argument(
        "--configurations", type=int, default=2, help="that are tried of each peer (default 2)"
    )
    parser.add_argument("--output", help="file for all that was measured, as JSON")


def add_accuracy(commands):
    text = "what the cost model predicts of each algorithm, and what it takes"
    parser = commands.add_parser("accuracy", help=text, description=text)
    add_shape(parser)
    parser.add_argument(
        "--grid", action="store_true", help="of six shapes, instead of the one that options name"
    )
    parser.add_argument("--tune", action="store_true", help="with what manta tune measures there")
    parser.add_argument("--coll", default="allreduce")
    parser.add_argument(
        "--max",
        type=parse_size,
        default=4 << 20,
        metavar="SIZE",
        help=f"of 12 sizes from 4 (default 4M): {WORDS}",
    )
    parser.add_argument("--rounds", type=int, default=2, help="of which the best counts")
    parser.add_argument("--seconds", type=float, default=0.05, help="bound of a size's calls")
    parser.add_argument("--output", help="file for all points, as JSON")


def add_bound(commands):
    text = "how near long vectors come to what the wire allows, in time and in bytes sent"
    parser = commands.add_parser("bound", help=text, description=text)
    add_shape(parser)
    parser.add_argument("--coll", default="allreduce,broadcast", help="one of these, or both")
    parser.add_argument(
        "--sizes",
        type=lambda text: [parse_size(size) for size in text.split(",")],
        default=[1 << 20, 4 << 20, 16 << 20],
        help="default 1M,4M,16M",
    )
    parser.add_argument("--calls", type=int, default=10, help="of a size (default 10)")
    parser.add_argument("--tune", action="store_true", help="with what manta tune measures there")
    parser.add_argument("-x", action="append", default=[], metavar="VARIABLE=VALUE")


def parse_arguments():
    parser = argparse.ArgumentParser(
        prog="perf/cluster",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    text = "a program on all ranks, and the bytes that each interface has sent"
    run = commands.add_parser("run", help=text, description=text)
    add_shape(run)
    run.add_argument("--no-prefix", action="store_true", help='no "[rank] " before output')
    run.add_argument("--timeout", help="end it after this long, as mantarun")
    run.add_argument("-x", action="append", default=[], metavar="VARIABLE=VALUE")
    run.add_argument("program", nargs=argparse.REMAINDER, metavar="-- PROGRAM [arguments]")
    add_compare(commands)
    text = "the goodput of TCP streams between the first node and the last, one way and both ways"
    plain = commands.add_parser("wire", help=text, description=text)
    add_shape(plain)
    plain.add_argument("--seconds", type=float, default=2)
    add_accuracy(commands)
    add_bound(commands)
    options = parser.parse_args()
    least = 1 if options.command == "accuracy" else 2
    if not least <= options.nodes <= NODES_MOST:
        parser.error(f"--nodes must be from {least} to {NODES_MOST}")
    if options.ranks_per_node < 1 or not 1 <= options.interfaces <= 8:
        parser.error("--ranks-per-node must be at least 1, --interfaces from 1 to 8")
    if not 1 <= options.racks <= options.nodes or (options.uplink and options.racks == 1):
        parser.error("--racks must be from 1 to --nodes, and --uplink needs at least 2 of them")
    return options


def run(cluster, options):
    program = options.program[1:] if options.program[:1] == ["--"] else options.program
    if not program:
        print("perf/cluster: there is no program to run", file=sys.stderr)
        return 2
    words = [word for value in options.x for word in ("-x", value)]
    words += ["--no-prefix"] if options.no_prefix else []
    words += ["--timeout", options.timeout] if options.timeout else []
    before = cluster.sent_bytes()
    code = jobs.run(cluster, program, words)
    for (node, device), count in sorted(cluster.sent_bytes().items()):
        sent = count - before[node, device]
        print(f"node{node} {device} sent {sent} bytes", file=sys.stderr)
    return code


def measure_wire(cluster, options):
    last = cluster.shape.nodes - 1
    alone, there, back = wire.of_cluster(cluster, options.seconds)
    print(f"{alone / 1e9:.3f} Gbit/s from node0 to node{last} ({cluster.shape.words()})")
    print(f"{there / 1e9:.3f} Gbit/s there and {back / 1e9:.3f} back at a time")
    return 0 if min(alone, there, back) > 0 else 1


def main():
    options = parse_arguments()
    shape = network.Shape(
        nodes=options.nodes,
        per_node=options.ranks_per_node,
        round_robin=options.round_robin,
        rate=options.rate,
        interfaces=options.interfaces,
        racks=options.racks,
        uplink=options.uplink,
        latency=options.latency,
    )
    commands = {
        "run": run,
        "compare": judge.compare,
        "wire": measure_wire,
        "accuracy": accuracy.of_cluster,
        "bound": bound.of_cluster,
    }
    if options.command == "accuracy" and options.grid:
        same = ["--coll", options.coll, "--max", str(options.max), "--rounds", str(options.rounds)]
        same += ["--seconds", str(options.seconds), *(["--tune"] if options.tune else [])]
        return accuracy.of_grid(same, options.output)
    command = commands[options.command]
    return sandbox.run(lambda: command(network.Cluster(shape), options))


if __name__ == "__main__":
    sys.exit(main())
