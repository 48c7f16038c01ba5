# SPDX-License-Identifier: Apache-2.0
"""How good the cost model is on one cluster: for each size of a collective, what every algorithm is
predicted to take and what it takes; how often the model's pick is as good as the best."""

import json
import os
import re
import statistics
import subprocess
import sys
import tempfile

import contenders
import jobs
import launch
import report

SIZES = [4, 16, 64, 256, *(k << 10 for k in (1, 4, 16, 64, 128, 256, 1024, 4096))]
GOOD = 1.1  # times the best measured: as good as that
LIMIT_SECONDS = 240

# The grid: what --nodes and so on say. One node's ranks share memory.
SHAPES = {
    "2 ranks, one node": ["--nodes", "1", "--ranks-per-node", "2"],
    "4 ranks, one node": ["--nodes", "1", "--ranks-per-node", "4"],
    "2 nodes, no limit": ["--nodes", "2"],
    "4 nodes, 1gbit": ["--nodes", "4", "--rate", "1gbit"],
    "2 nodes of 2, 1gbit": ["--nodes", "2", "--ranks-per-node", "2", "--rate", "1gbit"],
    "2 racks of 2 nodes, 1gbit": [
        *("--nodes", "4", "--rate", "1gbit", "--racks", "2", "--uplink", "1gbit")
    ],
}


def run(cluster, words, **variables):
    """What a program says on all ranks of the cluster."""
    settings = [word for name, value in variables.items() for word in ("-x", f"{name}={value}")]
    bound = "core" if cluster.shape.ranks <= contenders.cpus() else "none"
    command = [*jobs.mantarun(cluster, "--no-prefix", "--bind", bound, *settings), *words]
    output, wrong = launch.run(command, launch.environment(), LIMIT_SECONDS)
    return output if wrong is None else f"failed: {wrong}\n"


def tune(cluster, path):
    said = run(cluster, [os.path.join(jobs.BIN, "manta"), "tune", "--out", path])
    if not os.path.exists(path):
        raise RuntimeError(f"manta tune {said}")
    return {"MANTA_TUNING": path}


def predict(cluster, coll, size, variables):
    """[(algorithm, us)], the pick first."""
    explain = [os.path.join(jobs.BIN, "manta"), "explain", "--coll", coll, "--bytes", str(size)]
    said = run(cluster, explain, **variables)
    found = re.findall(r"^([* ]) +(\w+) +([\d.]+) us", said, re.M)
    if not any(mark == "*" for mark, _, _ in found):
        raise RuntimeError(f"manta explain {said}")
    return sorted(
        ((name, float(us)) for _, name, us in found),
        key=lambda entry: next(m != "*" for m, n, _ in found if n == entry[0]),
    )


def measure(cluster, coll, sizes, algorithm, seconds):
    """{size: us} of one run with the algorithm alone."""
    with tempfile.TemporaryDirectory() as folder:
        rows = os.path.join(folder, "rows")
        cells = f"{coll}:{','.join(map(str, sizes))}"
        words = [os.path.join(jobs.BIN, "manta-perf"), "--cells", cells, "--json", rows]
        run(
            cluster,
            [*words, "--seconds", f"{seconds}s"],
            **{f"MANTA_{coll.upper()}": algorithm},
        )
        return {row["bytes"]: row["p50_us"] for row in contenders.read_rows(rows)}


def points_of(cluster, options):
    """[{"bytes", "algorithm", "predicted_us", "measured_us", "pick"}]; the best of the rounds
    counts, for what disturbs only adds."""
    variables = {}
    if options.tune:
        variables = tune(cluster, os.path.join(os.environ["TMPDIR"], "tuning"))
    sizes = [size for size in SIZES if size <= options.max]
    predicted = {size: predict(cluster, options.coll, size, variables) for size in sizes}
    algorithms = sorted({name for some in predicted.values() for name, _ in some})
    measured = {}
    for number in range(options.rounds):
        for algorithm in algorithms:
            found = measure(cluster, options.coll, sizes, algorithm, options.seconds)
            for size, us in found.items():
                key = size, algorithm
                measured[key] = min(us, measured.get(key, us))
            print(
                f"round {number + 1}: {algorithm}, {len(found)} sizes", file=sys.stderr, flush=True
            )
    return [
        {
            "bytes": size,
            "algorithm": name,
            "predicted_us": us,
            "measured_us": measured[size, name],
            "pick": place == 0,
        }
        for size in sizes
        for place, (name, us) in enumerate(predicted[size])
        if (size, name) in measured
    ]


def error_of(point):
    return abs(point["predicted_us"] - point["measured_us"]) / point["measured_us"]


def judge(points):
    """A line of the table for each size."""
    lines = []
    for size in sorted({point["bytes"] for point in points}):
        some = [point for point in points if point["bytes"] == size]
        pick = next((point for point in some if point["pick"]), None)
        best = min(some, key=lambda point: point["measured_us"])
        if pick is None:
            continue
        lines.append(
            {
                "bytes": size,
                "pick": pick["algorithm"],
                "predicted_us": pick["predicted_us"],
                "measured_us": pick["measured_us"],
                "best": best["algorithm"],
                "best_us": best["measured_us"],
                "good": pick["measured_us"] <= GOOD * best["measured_us"],
            }
        )
    return lines


def summary_of(points):
    lines = judge(points)
    return {
        "points": len(lines),
        "good": sum(line["good"] for line in lines),
        "error_of_picks": statistics.median(error_of(point) for point in points if point["pick"]),
        "error_of_all": statistics.median(map(error_of, points)),
    }


def write(points):
    report.write_columns(
        [
            {
                "size": report.format_size(line["bytes"]),
                "predicted": report.format_us(line["predicted_us"]),
                "measured": report.format_us(line["measured_us"]),
                "best": report.format_us(line["best_us"]),
                "good": "yes" if line["good"] else "no",
                "pick, and what was better": line["pick"]
                + ("" if line["good"] else f", {line['best']}"),
            }
            for line in judge(points)
        ],
        sys.stdout,
    )


def say(summary):
    share = 100 * summary["good"] / summary["points"]
    print(
        f"the pick is within 10 % of the best in {summary['good']} of {summary['points']} points"
        f" ({share:.0f} %); predictions are off by {100 * summary['error_of_picks']:.0f} % (median,"
        f" picks), {100 * summary['error_of_all']:.0f} % (all algorithms)",
        flush=True,
    )


def of_cluster(cluster, options):
    points = points_of(cluster, options)
    print(f"\n{options.coll}, {cluster.shape.words()}{', tuned' if options.tune else ''}, us")
    write(points)
    say(summary_of(points))
    if options.output:
        with open(options.output, "w", encoding="utf-8") as file:
            json.dump(points, file, indent=1)
    return 0


def of_grid(arguments, output):
    """Each shape by a tool of its own; `arguments`: of this one, without the shape."""
    every, failed = [], 0
    with tempfile.TemporaryDirectory() as folder:
        for number, (name, shape) in enumerate(SHAPES.items()):
            path = os.path.join(folder, str(number))
            words = [sys.executable, sys.argv[0], "accuracy", *shape, *arguments, "--output", path]
            failed += subprocess.run(words, check=False).returncode != 0
            if os.path.exists(path):
                with open(path, encoding="utf-8") as file:
                    every.append({"shape": name, "points": json.load(file)})
    # Sizes of different shapes are different points.
    points = [
        {**point, "bytes": (number, point["bytes"])}
        for number, one in enumerate(every)
        for point in one["points"]
    ]
    print("\nall shapes:")
    if points:
        say(summary_of(points))
    if output:
        with open(output, "w", encoding="utf-8") as file:
            json.dump(every, file, indent=1)
    return 1 if failed or not points else 0
