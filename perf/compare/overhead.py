# SPDX-License-Identifier: Apache-2.0
"""What a call costs more from Python than from C: make overhead, or with --help for its options.

The same loop runs over libmanta from C, with NumPy arrays, with torch tensors, and through
ray.util.collective, in place, in rounds in which all alternate. The table has the median of the
rounds, and in brackets the median of what a round's call took longer than C's in the same round.
"""

import argparse
import dataclasses
import os
import statistics
import sys

import contenders
import experiment
import ray_contender

C = "from C"
FIGURES = {"p50_us": "a call by itself", "b2b_us": "calls in a row"}


def python(arrays):
    """libmanta as the package's user calls it."""
    plain, _ = contenders.manta()
    script = os.path.join(contenders.ROOT, "perf", "peers", "manta_python.py")
    return contenders.Contender(
        f"manta-{arrays}",
        "default",
        plain.start,
        (sys.executable, script, "--arrays", arrays),
        (("BUILD", contenders.BUILD), ("OMP_NUM_THREADS", "1")),
        ("--in-place",),
        os.path.join(contenders.PEERS, "libperf-loop.so"),
        "run make overhead",
    )


def from_c():
    plain, _ = contenders.manta()
    return dataclasses.replace(plain, options=("--in-place",))


def measure(callers, cells, options):
    """{(caller, cell, figure): [us of each round]}; None after a failure."""
    settings = experiment.Settings(seconds=options.seconds)
    arguments = experiment.loop_arguments(cells, settings)
    seconds = experiment.patience(cells, options.ranks, settings)
    times = {}
    for _ in range(options.rounds):
        for name, caller in callers.items():
            rows, output, wrong = caller.run(options.ranks, arguments, seconds)
            if wrong or len(rows) != len(cells):
                print(f"{name}: {wrong or output}", file=sys.stderr)
                return None
            for row in rows:
                for figure in FIGURES:
                    key = name, (row["coll"], row["bytes"]), figure
                    times.setdefault(key, []).append(row[figure])
    return times


def row_of(times, names, cell, figure):
    """A line of the table: C's time, then each other caller's and how much it is more."""
    base = times[C, cell, figure]
    words = [f"{cell[0]} {cell[1]} B", FIGURES[figure], f"{statistics.median(base):.2f}"]
    for name in names:
        mine = times[name, cell, figure]
        more = statistics.median(ours - theirs for ours, theirs in zip(mine, base, strict=True))
        words.append(f"{statistics.median(mine):.2f} ({more:+.2f})")
    return words


def parse():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("-n", "--ranks", type=int, default=2)
    parser.add_argument("--coll", default="allreduce", help="comma-separated")
    parser.add_argument("--bytes", default="4", help="comma-separated sizes (default 4)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.2, help="bound of a size in a run")
    parser.add_argument("--without-ray", action="store_true")
    return parser.parse_args()


def main():
    options = parse()
    sizes = [int(size) for size in options.bytes.split(",")]
    cells = [
        (coll, size)
        for coll in options.coll.split(",")
        for size in ([0] if coll == "barrier" else sizes)
    ]
    cluster = ray_contender.RayCluster()
    callers = {C: from_c(), "NumPy": python("numpy"), "torch": python("torch")}
    if not options.without_ray:
        callers["Ray, torch"] = ray_contender.RayContender("manta", cluster)
    reasons = [f"{name}: {why}" for name, why in missing(callers)]
    if reasons:
        print("\n".join(reasons), file=sys.stderr)
        return 1
    try:
        times = measure(callers, cells, options)
    finally:
        cluster.close()
    if times is None:
        return 1
    ranks, rounds = options.ranks, options.rounds
    print(f"# {ranks} ranks, us, median of {rounds} rounds; in brackets: more than from C")
    table = [["call", "figure", *callers]]
    table += [
        row_of(times, list(callers)[1:], cell, figure) for cell in cells for figure in FIGURES
    ]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for words in table:
        print(
            "  ".join(word.ljust(width) for word, width in zip(words, widths, strict=True)).rstrip()
        )
    return 0


def missing(callers):
    for name, caller in callers.items():
        reason = caller.missing()
        if reason:
            yield name, reason


if __name__ == "__main__":
    sys.exit(main())
