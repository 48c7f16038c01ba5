# SPDX-License-Identifier: Apache-2.0
"""Compare Manta with its peers on this machine: python3 perf/compare --help.

Every library runs the same loop (perf/loop) in fresh processes. A calibration run of each
configuration of each peer picks the best for each size; rounds follow in which all alternate. A
ratio is the median over the rounds of one placement class (near: the cores share a cache; far:
they do not) of the best peer's time over Manta's.

Exit code 1 if Manta failed, or a result was wrong, 2 for wrong usage.
"""

import argparse
import os
import signal
import sys
import time

import contenders
import experiment
import limits
import page
import ray_contender
import report
import table
from sizes import WORDS, parse_size

LIMITS = os.path.join(contenders.BUILD, "bin", "perf-limits")


def parse_arguments():
    parser = argparse.ArgumentParser(
        prog="perf/compare",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "-n", "--ranks", type=int, nargs="+", default=[2, 4], help="numbers of ranks (default 2 4)"
    )
    parser.add_argument(
        "--coll", default="allreduce,broadcast", help="collectives, as manta-perf's, or all"
    )
    parser.add_argument(
        "--min", type=parse_size, default=4, metavar="SIZE", help=f"{WORDS} (default 4)"
    )
    parser.add_argument(
        "--max",
        type=parse_size,
        metavar="SIZE",
        help="default 16M; of the table, what its rows say",
    )
    parser.add_argument("--factor", type=int, default=4)
    parser.add_argument(
        "--table",
        action="store_true",
        help="measure and judge the rows of the table instead of the above",
    )
    parser.add_argument(
        "--rows",
        default="",
        help="only rows that have one of these comma-separated words in key or text",
    )
    parser.add_argument("--list-rows", action="store_true", help="print the rows and stop")
    parser.add_argument(
        "--rounds",
        type=int,
        default=5,
        help="of one placement class, that a ratio needs (default 5)",
    )
    parser.add_argument(
        "--minutes",
        type=float,
        help="bound of it all but for the runs under way (default 14, quick 5)",
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help=(
            "2 rounds, one calibration of two configurations of each peer, fewer and smaller sizes"
        ),
    )
    parser.add_argument(
        "--peers",
        default=",".join(contenders.ALL_PEERS),
        help="comma-separated; empty: Manta alone",
    )
    parser.add_argument(
        "--transport",
        help="let Manta use only this one; with tcp, Open MPI too, and no other MPI is compared",
    )
    parser.add_argument(
        "--check",
        action="store_true",
        help="Manta alone, every result compared with a reference, no times",
    )
    parser.add_argument(
        "--output",
        default=os.path.join(contenders.BUILD, "bench"),
        help="folder of page, text and JSON",
    )
    options = parser.parse_args()
    unknown = set(filter(None, options.peers.split(","))) - set(contenders.ALL_PEERS)
    if unknown:
        parser.error(
            f"--peers knows {', '.join(contenders.ALL_PEERS)}, and not {', '.join(sorted(unknown))}"
        )
    if options.factor < 2 or options.rounds < 1 or min(options.ranks) < 1:
        parser.error("--factor must be at least 2, --rounds and --ranks at least 1")
    return options


def settle(options):
    """Settings from options."""
    settings = experiment.Settings(
        rounds=options.rounds, transport=options.transport, check=options.check
    )
    options.minutes = options.minutes or (5 if options.quick else 14)
    if options.quick:
        settings.rounds, settings.passes, settings.seconds, settings.configurations = (
            min(2, options.rounds),
            1,
            0.01,
            2,
        )
        options.factor = max(options.factor, 16)
    if options.check:
        settings.rounds, options.peers = 1, ""
    begin = time.monotonic()

    def tell(text):
        spent = int(time.monotonic() - begin)
        print(f"[{spent // 60:2}:{spent % 60:02}] {text}", file=sys.stderr, flush=True)

    settings.tell = tell
    return settings


def sweep(options, settings):
    """Experiments of the ranks, collectives and sizes that the options name."""
    names = (
        ("allreduce", "broadcast", *table.OTHERS)
        if options.coll == "all"
        else options.coll.split(",")
    )
    largest = options.max or (4 if options.quick else 16) << 20
    sizes, size = [], options.min
    while size <= largest and len(sizes) < 64:
        sizes.append(size)
        size *= options.factor
    found, reasons = [], []
    for ranks in options.ranks:
        libraries = [name for name in options.peers.split(",") if name]
        if options.transport:
            libraries = [
                name
                for name in libraries
                if name == "gloo" or (name.startswith("openmpi") and options.transport == "tcp")
            ]
        peers, missing = contenders.installed(contenders.contenders_of(libraries, ranks, settings))
        reasons += missing
        cells = {coll: [0] if coll == "barrier" else sizes for coll in names}
        plain, symmetric = contenders.manta(options.transport)
        found.append(
            experiment.Experiment(
                ranks,
                cells,
                [plain, symmetric],
                peers,
                f"{ranks} ranks",
                table.weight_of(peers, cells),
            )
        )
    return found, sorted(set(reasons))


def tabulate(options, settings, rows, cluster):
    """Experiments of the table's rows. What is left out of --peers is left out here, too."""
    largest = options.max or (4 << 20 if options.quick else table.LARGEST)
    found, reasons = table.experiments_of(rows, settings, largest, cluster)
    libraries = [name for name in options.peers.split(",") if name]
    kept = []
    for one in found:
        one.peers = [
            peer
            for peer in one.peers
            if peer.library in libraries or (peer.library == "ray-gloo" and "gloo" in libraries)
        ]
        if one.peers or options.check:
            kept.append(one)
    return sorted(kept, key=lambda one: one.weight), reasons


def conduct_all(experiments, settings, options, progress):
    """Each gets its part of the time that is left, so what one saves is the others'."""
    end = time.monotonic() + 60 * options.minutes
    for number, one in enumerate(experiments):
        share = one.weight / sum(other.weight for other in experiments[number:])
        seconds = max(0.0, end - time.monotonic()) * share
        settings.tell(
            f"{one.name}:"
            f" {', '.join(f'{coll} {len(sizes)} sizes' for coll, sizes in one.cells.items())};"
            f" {len(one.peers)} configurations of peers; {seconds:.0f} s"
        )
        progress(one, experiment.conduct(one, settings, seconds))


def judge(outcome, rows, settings):
    outcome.table = [
        table.evaluate(row, outcome.results, settings, outcome.lacking()) for row in rows
    ]


def measure(options, settings, rows, cluster):
    outcome = report.Report(
        {name: value for name, value in vars(options).items() if name != "output"},
        limits.measure(LIMITS),
    )
    if options.table:
        experiments, outcome.reasons = tabulate(options, settings, rows, cluster)
    else:
        experiments, outcome.reasons = sweep(options, settings)
    for reason in outcome.reasons:
        settings.tell(f"without {reason}")

    def progress(one, results):
        outcome.add(one, results)
        judge(outcome, rows, settings)
        report.write_files(outcome, options.output, page.build(outcome))

    try:
        conduct_all(experiments, settings, options, progress)
    except KeyboardInterrupt:
        outcome.interrupted = True
    judge(outcome, rows, settings)
    report.write_files(outcome, options.output, page.build(outcome))
    return outcome


def interrupt(_number, _frame):
    raise KeyboardInterrupt


def main():
    options = parse_arguments()
    rows = (
        table.select([word for word in options.rows.split(",") if word])
        if options.table or options.list_rows
        else []
    )
    if options.list_rows:
        for row in rows:
            print(f"{row.key:<22}{row.must:>6}{row.aim:>6}  {row.text}")
        return 0
    reason = contenders.manta()[0].missing()
    if reason:
        print(f"perf/compare: there is no manta-perf: {reason}", file=sys.stderr)
        return 1
    settings = settle(options)
    signal.signal(signal.SIGTERM, interrupt)
    cluster = ray_contender.RayCluster()
    try:
        outcome = measure(options, settings, rows, cluster)
    finally:
        cluster.close()
    report.write_text(outcome, sys.stdout)
    print(f"\npage, text and JSON are in {options.output}")
    ours = [failure for failure in outcome.failures() if "manta" in failure["name"]]
    return 1 if ours or outcome.wrong_rows() or outcome.interrupted else 0


if __name__ == "__main__":
    sys.exit(main())
