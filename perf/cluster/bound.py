# SPDX-License-Identifier: Apache-2.0
"""How near collectives of long vectors come to what the wire allows: of allreduce, 2n(p-1)/p bytes
to and from each of p nodes; of broadcast, n."""

import os
import sys
import tempfile

import accuracy
import contenders
import jobs
import launch
import report
import wire

WARMUP, LIMIT_SECONDS, WIRE_SECONDS = 2, 120, 1.5


def least_bytes(coll, size, nodes):
    """That some node must send, and some node receive."""
    return 2 * size * (nodes - 1) / nodes if coll == "allreduce" else size


def measure(cluster, coll, size, options, variables):
    """Its row, and the most bytes that a node has sent in a call."""
    with tempfile.TemporaryDirectory() as folder:
        rows = os.path.join(folder, "rows")
        words = [os.path.join(jobs.BIN, "manta-perf"), "--cells", f"{coll}:{size}", "--json", rows]
        words += ["--iters", str(options.calls), "--warmup", str(WARMUP), "--seconds", "60"]
        settings = [word for value in variables for word in ("-x", value)]
        command = [*jobs.mantarun(cluster, "--no-prefix", *settings), *words]
        before = cluster.sent_bytes()
        output, wrong = launch.run(command, launch.environment(), LIMIT_SECONDS)
        after = cluster.sent_bytes()
        if wrong is not None:
            raise RuntimeError(f"{wrong}: {output}")
        sent = max(after[key] - before[key] for key in after)
        return contenders.read_rows(rows)[0], sent / (options.calls + WARMUP)


def words_of(coll, size, row, sent, least, bits):
    best_us = 8e6 * least / bits
    return {
        "collective": coll,
        "size": report.format_size(size),
        "us": report.format_us(row["p50_us"]),
        "of the bound": f"{100 * best_us / row['p50_us']:.1f} %",
        "fastest": f"{100 * best_us / row['min_us']:.1f} %",
        "bytes": f"{100 * sent / least:.1f} %",
        "algorithm": row["algorithm"],
    }


def of_cluster(cluster, options):
    alone, *both = wire.of_cluster(cluster, WIRE_SECONDS)
    both = min(both)
    print(cluster.shape.words())
    print(f"one stream carries {alone / 1e9:.3f} Gbit/s, each of one both ways {both / 1e9:.3f}")
    lines, variables = [], list(options.x)
    if options.tune:
        tuned = accuracy.tune(cluster, os.path.join(os.environ["TMPDIR"], "tuning"))
        variables += [f"{name}={value}" for name, value in tuned.items()]
    for coll in options.coll.split(","):
        bits = both if coll == "allreduce" else alone
        for size in options.sizes:
            row, sent = measure(cluster, coll, size, options, variables)
            least = least_bytes(coll, size, cluster.shape.nodes)
            lines.append(words_of(coll, size, row, sent, least, bits))
    report.write_columns(lines, sys.stdout)
    return 0
