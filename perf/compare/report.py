# SPDX-License-Identifier: Apache-2.0
"""Results as text and as JSON."""

import datetime
import json
import os
import platform
import re

import contenders
import figures
import limits

FIGURE_NAMES = {"p50_us": "p50", "b2b_us": "back-to-back"}


def format_size(size):
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size} {unit}"
        size //= 1024
    return f"{size} TiB"


def format_us(value):
    return f"{value:.3f}" if value < 1 else f"{value:.2f}" if value < 100 else f"{value:.0f}"


def describe_machine():
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        match = re.search(r"model name\s*: (.*)", file.read())
    return {
        "date": datetime.datetime.now().isoformat(timespec="minutes"),
        "cpu": match.group(1) if match else platform.processor(),
        "cpus": contenders.cpus(),
        "kernel": platform.release(),
        "load_at_start": os.getloadavg()[0],
    }


class Report:
    """All there is to tell; grows while experiments end."""

    def __init__(self, options, machine_limits):
        self.machine = describe_machine()
        self.options = options
        self.limits = machine_limits
        self.experiments = []
        self.results = []
        self.table = []
        self.reasons = []  # why something was not compared at all
        self.interrupted = False

    def add(self, experiment, results):
        self.experiments.append(experiment)
        self.results += results

    def lacking(self):
        return [lack for experiment in self.experiments for lack in experiment.lacking]

    def failures(self):
        return [failure for experiment in self.experiments for failure in experiment.failures]

    def notes(self):
        """What a reader must know about what is missing."""
        notes = [f"{name}: {reason}" for name, reason in contenders.NOT_COMPARED.items()] + list(
            self.reasons
        )
        for experiment in self.experiments:
            notes += [
                f"{experiment.name}: {lack['name']}: {lack['reason']}"
                for lack in experiment.lacking
            ]
            notes += (
                [f"{experiment.name}: {experiment.short.strip('; ')}"] if experiment.short else []
            )
        notes += ["interrupted: what was under way is missing"] if self.interrupted else []
        return list(dict.fromkeys(notes))

    def frozen(self):
        """Which configuration of each peer was the best in the calibration."""
        return [
            {
                "experiment": experiment.name,
                "np": experiment.ranks,
                "coll": coll,
                "bytes": size,
                "figure": figure,
                "configurations": {
                    library: {
                        "config": choice["config"],
                        "us": choice["us"],
                        "contends": choice["contends"],
                    }
                    for library, choice in choices.items()
                },
            }
            for experiment in self.experiments
            for (coll, size, figure), choices in sorted(experiment.frozen.items())
        ]

    def least_us(self, result):
        return limits.least_us(
            self.limits,
            result["coll"],
            result["np"],
            result["bytes"],
            result["subject"].endswith("symmetric"),
            result["line_ns"],
        )

    def wrong_rows(self):
        return [row for experiment in self.experiments for row in experiment.rows if row["wrong"]]

    def as_json(self):
        results = [{**result, "limit_us": self.least_us(result)} for result in self.results]
        return {
            "machine": self.machine,
            "options": self.options,
            "limits": self.limits,
            "formulas": limits.FORMULAS,
            "table": self.table,
            "results": results,
            "calibration": self.frozen(),
            "failures": self.failures(),
            "notes": self.notes(),
            "rows": [row for experiment in self.experiments for row in experiment.rows],
        }

    def head(self):
        lines = [
            row["line_ns"]
            for experiment in self.experiments
            for row in experiment.rows
            if row["line_ns"]
        ]
        span = f"; a cache line took {min(lines)}-{max(lines)} ns" if lines else ""
        machine = self.machine
        return (
            f"{machine['date']}, {machine['cpu']}, {machine['cpus']} CPUs, Linux"
            f" {machine['kernel']}, load {machine['load_at_start']:.1f} at the start{span}"
        )

    def groups(self):
        """[((experiment, coll, subject), [results])] of the classes with most rounds; alike in
        text and page."""
        found = {}
        for result in self.results:
            if result["main"]:
                found.setdefault(
                    (result["experiment"], result["coll"], result["subject"]), []
                ).append(result)
        return sorted(found.items())

    def libraries_of(self, results):
        seen = {
            name for result in results for name in (*result["peers"], *result["calibration_only"])
        }
        return [name for name in contenders.FULL_NAMES if name in seen]


def words_of_result(report, result, libraries):
    """The columns of a result, in text and page alike: {head: text}."""
    least = report.least_us(result)
    words = {"size": format_size(result["bytes"]), "Manta": format_us(result["us"])}
    for name in libraries:
        peer, other = result["peers"].get(name), result["calibration_only"].get(name)
        words[name] = "-"
        if peer or other:
            words[name] = format_us((peer or other)["us"]) + ("" if peer else "+")
    words["limit"] = format_us(least) if least else "-"
    words.update({"ratio": "-", "spread": "-", "best peer": "-"})
    if result["ratio"]:
        words["ratio"] = f"{result['ratio']:.2f}"
        words["spread"] = f"{result['low']:.2f}-{result['high']:.2f}"
        words["best peer"] = f"{result['best_peer']}/{result['config']}"
    words["rounds"], words["dropped"] = str(result["rounds"]), str(result["dropped"])
    words["class"] = f"{result['class']} {result['line_ns']} ns"
    return words


def words_of_verdict(verdict):
    """The columns of a row of the table, likewise."""
    words = {"row": verdict["row"], "of": FIGURE_NAMES[verdict["figure"]]}
    words.update({"must": f"{verdict['must']:g}", "aim": f"{verdict['aim']:g}", "ratio": "-"})
    words.update({"least cell": "-", "rounds": str(verdict.get("rounds", 0))})
    status = verdict["status"] + (f": {verdict['reason']}" if verdict["reason"] else "")
    if verdict["ratio"]:
        cell = verdict["least"]
        where = f"{cell['coll']} {format_size(cell['bytes'])}, {cell['np']} ranks"
        words["ratio"] = f"{verdict['ratio']:.2f}"
        words["least cell"] = f"{cell['ratio']:.2f} ({where})"
        if verdict["status"] not in ("holds", "missed"):
            status += f" (so far: {'holds' if verdict['holds'] else 'missed'})"
        elif verdict["reaches_aim"]:
            status += ", reaches the aim"
    words["status"] = status
    return words


def in_order(results, figure):
    chosen = [result for result in results if result["figure"] == figure]
    return sorted(chosen, key=lambda result: result["bytes"])


def write_columns(lines, file):
    """Columns as wide as their longest word; the first and the last to the left."""
    if not lines:
        return
    heads = list(lines[0])
    widths = {head: max(len(head), *(len(line[head]) for line in lines)) for head in heads}
    for line in [{head: head for head in heads}, *lines]:
        cells = [line[head].rjust(widths[head]) for head in heads[1:-1]]
        first, last = line[heads[0]].ljust(widths[heads[0]]), line[heads[-1]]
        print("  ".join([first, *cells, last]), file=file)


def write_group(report, key, results, file):
    against, coll, subject = key
    libraries = report.libraries_of(results)
    for figure in figures.FIGURES:
        chosen = in_order(results, figure)
        if chosen:
            print(f"\n{coll}, {against}, {subject}: {FIGURE_NAMES[figure]} in us", file=file)
        write_columns([words_of_result(report, result, libraries) for result in chosen], file)


def write_text(report, file):
    print(report.head(), file=file)
    print(
        "A ratio is the best peer's time over Manta's, the median of rounds of one class. + after a"
        " peer's time: from the\ncalibration only, it cannot be the best.\n",
        file=file,
    )
    write_columns([words_of_verdict(verdict) for verdict in report.table], file)
    for key, results in report.groups():
        write_group(report, key, results, file)
    for note in report.notes():
        print(f"not compared: {note}" if ":" in note else note, file=file)
    for failure in report.failures():
        print(
            f"failed: {failure['np']} ranks, {failure['name']}, {failure['phase']}"
            f" {failure['round']}: {failure['text']}",
            file=file,
        )


def write_files(report, folder, page):
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, "compare.txt"), "w", encoding="utf-8") as file:
        write_text(report, file)
    with open(os.path.join(folder, "compare.json"), "w", encoding="utf-8") as file:
        json.dump(report.as_json(), file, indent=1)
    with open(os.path.join(folder, "index.html"), "w", encoding="utf-8") as file:
        file.write(page)
