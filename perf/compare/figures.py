# SPDX-License-Identifier: Apache-2.0
"""From rows to ratios. A row is what perf/loop wrote, with the library, its configuration and the
round.

Virtual CPUs move between host cores, and the same program is then 2 to 8 times faster or slower.
So each row tells how long a cache line took between its ranks' cores, before and after; two rows
are compared only if they are of one round and of one placement class.
"""

import math
import statistics

FIGURES = ("p50_us", "b2b_us")
SMT_NS, FAR_NS = (
    35,
    130,
)  # a line takes less: one core's threads; more: it crosses between L3 caches
TIE = 1.03  # configurations this close are equally good
CLASSES = ("smt", "near", "far", "one cpu")  # "moved" is not one: it is compared with nothing


def class_of_line(nanoseconds):
    if nanoseconds == 0:
        return "one cpu"
    return "smt" if nanoseconds < SMT_NS else "near" if nanoseconds < FAR_NS else "far"


def class_of(row):
    before, after = class_of_line(row["line_ns"]), class_of_line(row["line_after_ns"])
    return before if before == after else "moved"


def cell_of(row):
    return row["coll"], row["bytes"]


def commonest_class(rows):
    """The class that most rows are of; None if all have moved."""
    seen = [kind for kind in map(class_of, rows) if kind in CLASSES]
    return max(CLASSES, key=seen.count) if seen else None


def geometric_mean(values):
    return math.exp(statistics.fmean(map(math.log, values)))


def value_of(rows, figure, kind):
    """The best of a configuration's calibration runs: noise only adds. Rows of class `kind` count;
    where there are none, any; None without rows."""
    values = [(class_of(row) == kind, row[figure]) for row in rows if row[figure]]
    wanted = [value for fits, value in values if fits] or [value for _, value in values]
    return min(wanted) if wanted else None


def index(rows):
    """{(library, config, cell): [rows]}"""
    found = {}
    for row in rows:
        found.setdefault((row["library"], row["config"], cell_of(row)), []).append(row)
    return found


def calibrated(rows):
    """{(coll, bytes, figure): {library: {config: us}}}"""
    by_cell, values = {}, {}
    for (library, config, cell), some in index(rows).items():
        by_cell.setdefault(cell, {})[library, config] = some
    for cell, by_name in by_cell.items():
        kind = commonest_class([row for some in by_name.values() for row in some])
        for figure in FIGURES:
            for (library, config), some in by_name.items():
                value = value_of(some, figure, kind)
                if value is not None:
                    values.setdefault((*cell, figure), {}).setdefault(library, {})[config] = value
    return values


def freeze(rows, prune):
    """Each library's best configuration of each cell and figure, from calibration rows; of equally
    good ones that which is the best of most cells, for fewer runs.

    {(coll, bytes, figure): {library: {"config", "us", "contends"}}}; a library whose best needs
    more than `prune` times the best of all need not be measured again there: it cannot be the best
    peer.
    """
    values, wins = calibrated(rows), {}
    for by_library in values.values():
        for library, by_config in by_library.items():
            name = library, min(by_config, key=by_config.get)
            wins[name] = wins.get(name, 0) + 1
    frozen = {}
    for key, by_library in values.items():
        best = min(min(by_config.values()) for by_config in by_library.values())
        frozen[key] = {}
        for library, by_config in by_library.items():
            least = min(by_config.values())
            equal = [config for config, value in by_config.items() if value <= TIE * least]
            config = max(equal, key=lambda config, library=library: wins.get((library, config), 0))
            frozen[key][library] = {
                "config": config,
                "us": by_config[config],
                "contends": least <= prune * best,
            }
    return frozen


def pairs_of(rows, subject, library, config, cell, figure):
    """[(class, subject's us, library's us)] of each round in which both rows are of one class;
    rows as index() has them."""
    ours, theirs = (
        {row["round"]: row for row in rows.get((*name, cell), []) if row[figure]}
        for name in (subject, (library, config))
    )
    return [
        (class_of(ours[number]), ours[number][figure], theirs[number][figure])
        for number in sorted(ours.keys() & theirs.keys())
        if class_of(ours[number]) == class_of(theirs[number]) != "moved"
    ]


def summarize(pairs):
    """Median of the ratios peer/subject of one class, and how far they spread."""
    ratios = [theirs / ours for _, ours, theirs in pairs]
    return {
        "us": statistics.median(theirs for _, _, theirs in pairs),
        "ratio": statistics.median(ratios),
        "low": min(ratios),
        "high": max(ratios),
        "rounds": len(pairs),
    }


def compare_cell(rows, subject, choices, cell, figure, wanted, rounds):
    """One result for each class that any round was of. `rows` as index() has them, `choices` as
    freeze() has them for the cell; `wanted`: rounds that are enough; of peers that have as many,
    or as many as any has, the one with the lowest ratio is the best."""
    mine = [row for row in rows.get((*subject, cell), []) if row[figure]]
    contending = {name: choice for name, choice in choices.items() if choice["contends"]}
    left_out = {
        name: {"config": choice["config"], "us": choice["us"]}
        for name, choice in choices.items()
        if not choice["contends"]
    }
    pairs = {
        name: pairs_of(rows, subject, name, choice["config"], cell, figure)
        for name, choice in contending.items()
    }
    results = []
    for kind in CLASSES:
        ours = [row for row in mine if class_of(row) == kind]
        if not ours:
            continue
        peers = {
            name: {"config": contending[name]["config"], **summarize(chosen)}
            for name, every in pairs.items()
            if (chosen := [pair for pair in every if pair[0] == kind])
        }
        result = {
            "coll": cell[0],
            "bytes": cell[1],
            "subject": "/".join(subject),
            "figure": figure,
            "class": kind,
            "us": statistics.median(row[figure] for row in ours),
            "best_peer": None,
            "config": None,
            "ratio": None,
            "low": None,
            "high": None,
            "rounds": len(ours),
            "peers": peers,
            "calibration_only": left_out,
            "line_ns": round(statistics.median(row["line_ns"] for row in ours)),
        }
        if peers:
            enough = min(wanted, max(peer["rounds"] for peer in peers.values()))
            name = min(
                (name for name, peer in peers.items() if peer["rounds"] >= enough),
                key=lambda name: peers[name]["ratio"],
            )
            result.update(
                {
                    "best_peer": name,
                    **{
                        key: peers[name][key]
                        for key in ("config", "ratio", "low", "high", "rounds")
                    },
                }
            )
        result["dropped"] = rounds - result["rounds"]
        results.append(result)
    return results


def is_main(result, results):
    """Whether its class has the most rounds of those of the same cell."""
    same = [
        other
        for other in results
        if all(
            other[key] == result[key]
            for key in ("experiment", "coll", "bytes", "subject", "figure")
        )
    ]
    return result is max(same, key=lambda other: other["rounds"])
