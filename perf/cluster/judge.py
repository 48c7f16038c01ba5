# SPDX-License-Identifier: Apache-2.0
"""Manta and its peers in alternation on one cluster, as perf/compare does it on one node, and what came
out as a table and as JSON."""

import json
import os
import sys
import time

import contenders
import experiment
import jobs
import report


def sizes_of(options):
    sizes, size = [], options.min
    while size <= options.max:
        sizes.append(size)
        size *= options.factor
    return sizes


def settings_of(options):
    begin = time.monotonic()

    def tell(text):
        print(f"[{time.monotonic() - begin:5.0f} s] {text}", file=sys.stderr, flush=True)

    return experiment.Settings(
        rounds=options.rounds,
        passes=1,
        seconds=options.seconds,
        calibration_seconds=options.seconds / 2,
        tell=tell,
    )


def conduct(cluster, options):
    """(experiment, results, [why something is not compared])"""
    settings = settings_of(options)
    libraries = [name for name in options.peers.split(",") if name]
    wanted = jobs.peers(cluster, libraries, options.configurations)
    usable, reasons = contenders.installed(wanted)
    sizes = sizes_of(options)
    cells = {coll: [0] if coll == "barrier" else sizes for coll in options.coll.split(",")}
    subject = jobs.manta(cluster)
    one = experiment.Experiment(cluster.shape.ranks, cells, [subject], usable, "cluster")
    return one, experiment.conduct(one, settings, 60 * options.minutes), reasons


def words_of(result, libraries):
    words = {"size": report.format_size(result["bytes"]), "Manta": report.format_us(result["us"])}
    for name in libraries:
        peer, other = result["peers"].get(name), result["calibration_only"].get(name)
        words[name] = "-"
        if peer or other:
            words[name] = report.format_us((peer or other)["us"]) + ("" if peer else "+")
    words.update({"ratio": "-", "spread": "-", "rounds": str(result["rounds"]), "best peer": "-"})
    if result["ratio"]:
        words["ratio"] = f"{result['ratio']:.2f}"
        words["spread"] = f"{result['low']:.2f}-{result['high']:.2f}"
        words["best peer"] = f"{result['best_peer']}/{result['config']}"
    return words


def write(one, results, reasons, file):
    print(
        "A ratio is the best peer's time over Manta's, the median over the rounds. + after a peer's"
        " time: from the\ncalibration only, it cannot be the best.",
        file=file,
    )
    for coll in one.cells:
        for figure, name in report.FIGURE_NAMES.items():
            chosen = report.in_order(
                [result for result in results if result["coll"] == coll and result["main"]], figure
            )
            if not chosen:
                continue
            seen = {
                lib for result in chosen for lib in (*result["peers"], *result["calibration_only"])
            }
            libraries = [lib for lib in contenders.FULL_NAMES if lib in seen]
            print(f"\n{coll}, {name} in us", file=file)
            report.write_columns([words_of(result, libraries) for result in chosen], file)
    print(file=file)
    for reason in reasons + [f"{lack['name']}: {lack['reason']}" for lack in one.lacking]:
        print(f"not compared: {reason}", file=file)
    if one.short:
        print(one.short.strip("; "), file=file)
    for name, text in {failure["name"]: failure["text"] for failure in one.failures}.items():
        print(f"failed: {name}: {text}", file=file)


def compare(cluster, options):
    one, results, reasons = conduct(cluster, options)
    print(cluster.shape.words())
    write(one, results, reasons, sys.stdout)
    if options.output:
        os.makedirs(os.path.dirname(os.path.abspath(options.output)), exist_ok=True)
        found = {
            "cluster": vars(cluster.shape),
            "machine": report.describe_machine(),
            "results": results,
            "failures": one.failures,
            "lacking": one.lacking,
            "reasons": reasons,
            "rows": one.rows,
        }
        with open(options.output, "w", encoding="utf-8") as file:
            json.dump(found, file, indent=1)
    ours = [failure for failure in one.failures if failure["name"].startswith("manta")]
    return 1 if ours or any(row["wrong"] for row in one.rows) else 0
