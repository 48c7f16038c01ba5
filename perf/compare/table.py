# SPDX-License-Identifier: Apache-2.0
"""What one node must show, and aims at: ratios to the best of all peers, row by row.

A row's cells are the powers of 4 in its range. It holds if the geometric mean of their ratios
reaches what it must, and no cell is under 0.95 of that. Figures: "p50" is a call's time when all
ranks start together, "b2b" a call's time among many in a row, the root another one each time.
"""

import dataclasses

import contenders
import experiment
import figures
import ray_contender

FLOOR = 0.95
KIB, MIB = 1 << 10, 1 << 20
LARGEST, LARGEST_CROWDED, LARGEST_OTHER = 64 * MIB, 16 * MIB, 4 * MIB
OTHERS = ("reduce", "allgather", "reduce_scatter", "barrier")


@dataclasses.dataclass(frozen=True)
class Row:
    key: str
    text: str
    must: float
    aim: float
    ranks: tuple
    colls: tuple
    low: int
    high: int
    figure: str = "p50_us"
    subject: str = "manta/default"
    far: bool = False
    peers: tuple = contenders.MPI_PEERS
    floors: tuple = ()  # ((bytes, ratio that suffices in this cell), ...)

    def cells(self):
        sizes = [4**i for i in range(1, 16) if self.low <= 4**i <= self.high]
        return [
            (coll, size) for coll in self.colls for size in ([0] if coll == "barrier" else sizes)
        ]

    def group(self, ranks):
        """Rows of one group are measured in one experiment."""
        return ranks, self.peers


def rows_of_table():
    both = ("allreduce", "broadcast")
    rows = [
        Row(
            "allreduce-small",
            "2 ranks allreduce <= 1 KiB, latency",
            1.7,
            2.2,
            (2,),
            ("allreduce",),
            4,
            KIB,
        ),
        Row(
            "allreduce-small-b2b",
            "2 ranks allreduce <= 1 KiB, back-to-back",
            2.0,
            3.4,
            (2,),
            ("allreduce",),
            4,
            KIB,
            "b2b_us",
        ),
        Row(
            "allreduce-4k",
            "2 ranks allreduce 4-16 KiB",
            1.5,
            2.5,
            (2,),
            ("allreduce",),
            4 * KIB,
            16 * KIB,
        ),
        Row(
            "allreduce-64k",
            "2 ranks allreduce 64 KiB-1 MiB, private buffers",
            1.3,
            1.6,
            (2,),
            ("allreduce",),
            64 * KIB,
            MIB,
        ),
        Row(
            "allreduce-large",
            "2 ranks allreduce >= 4 MiB, private",
            1.7,
            2.2,
            (2,),
            ("allreduce",),
            4 * MIB,
            LARGEST,
        ),
        Row(
            "broadcast-small",
            "2 ranks broadcast <= 256 B, rotating root",
            1.8,
            2.5,
            (2,),
            ("broadcast",),
            4,
            256,
            "b2b_us",
        ),
        Row(
            "broadcast-1k",
            "2 ranks broadcast 1 KiB-1 MiB, private (1 MiB: 0.9 allowed)",
            1.05,
            1.5,
            (2,),
            ("broadcast",),
            KIB,
            MIB,
            floors=((MIB, 0.9),),
        ),
        Row(
            "broadcast-large",
            "2 ranks broadcast >= 4 MiB, private",
            1.4,
            2.2,
            (2,),
            ("broadcast",),
            4 * MIB,
            LARGEST,
        ),
        Row(
            "symmetric-allreduce",
            "symmetric >= 64 KiB, allreduce",
            2.5,
            5,
            (2,),
            ("allreduce",),
            64 * KIB,
            LARGEST,
            subject="manta/symmetric",
        ),
        Row(
            "symmetric-broadcast",
            "symmetric >= 64 KiB, broadcast",
            2.2,
            6,
            (2,),
            ("broadcast",),
            64 * KIB,
            LARGEST,
            subject="manta/symmetric",
        ),
        Row(
            "far", "cores far apart, private, all sizes", 1.0, 1.3, (2,), both, 4, LARGEST, far=True
        ),
    ]
    for ranks, must, aim in ((4, 1.4, 1.9), (8, 2.0, 2.9)):
        rows.append(
            Row(
                f"crowded-{ranks}-small",
                f"{ranks} ranks on 2 cores, allreduce <= 4 KiB",
                must,
                aim,
                (ranks,),
                ("allreduce",),
                4,
                4 * KIB,
                "b2b_us",
            )
        )
    rows.append(
        Row(
            "crowded-large",
            "4 / 8 ranks on 2 cores, allreduce and broadcast above",
            1.2,
            2.0,
            (4, 8),
            both,
            16 * KIB,
            LARGEST_CROWDED,
            "b2b_us",
        )
    )
    rows += [
        Row(
            "others-2",
            "the other collectives, 2 ranks, every size",
            1.0,
            1.5,
            (2,),
            OTHERS,
            4,
            LARGEST_OTHER,
        ),
        Row(
            "others-4",
            "the other collectives, 4 ranks, every size",
            1.0,
            1.5,
            (4,),
            OTHERS,
            4,
            LARGEST_OTHER,
            "b2b_us",
        ),
        Row(
            "gloo", "Gloo, any size <= 1 MiB, from C", 50, 200, (2,), both, 4, MIB, peers=("gloo",)
        ),
        Row(
            "gloo-ray",
            "Gloo, any size <= 1 MiB, through ray.util.collective",
            10,
            20,
            (2,),
            both,
            4,
            MIB,
            subject="ray-manta/default",
            peers=("ray-gloo",),
        ),
    ]
    return rows


def select(words):
    """The rows of which a word is a part of key or text; all without words."""
    rows = rows_of_table()
    return [
        row
        for row in rows
        if not words or any(word in row.key or word in row.text for word in words)
    ]


def experiments_of(rows, settings, largest, cluster):
    """What must be measured for these rows: [Experiment], and why something cannot be: [text]."""
    wanted, reasons = {}, []
    for row in rows:
        for ranks in row.ranks:
            cells = [cell for cell in row.cells() if cell[1] <= largest]
            group = wanted.setdefault(row.group(ranks), {"cells": set(), "subjects": set()})
            group["cells"].update(cells)
            group["subjects"].add(row.subject)
    found = []
    for (ranks, peers), group in wanted.items():
        if peers == ("ray-gloo",):
            judged, against = [ray_contender.RayContender("manta", cluster)], [
                ray_contender.RayContender("gloo", cluster)
            ]
        else:
            judged = [
                subject
                for subject in contenders.manta(settings.transport)
                if "/".join(subject.name) in group["subjects"]
            ]
            against = contenders.contenders_of(peers, ranks, settings)
        usable, missing = contenders.installed(judged + against)
        reasons += missing
        judged, against = [one for one in judged if one in usable], [
            one for one in against if one in usable
        ]
        if judged:
            cells = experiment.group(sorted(group["cells"]))
            found.append(
                experiment.Experiment(
                    ranks, cells, judged, against, name_of(ranks, peers), weight_of(against, cells)
                )
            )
    return found, reasons


def name_of(ranks, peers):
    return (
        f"{ranks} ranks against"
        f" {' and '.join(contenders.SHORT_NAMES.get(name, 'MPI') for name in peers[:1])}"
    )


def weight_of(peers, cells):
    """Part of the time: a launch costs as much as 20 sizes; the rounds as much as calibrating 20
    configurations."""
    return (20 + len(peers)) * (20 + sum(map(len, cells.values())))


def cell_results(row, results, ranks):
    """{cell: result} of a row: its figure, in the class it asks for, the one with most rounds."""
    classes = ("far",) if row.far else figures.CLASSES if ranks > 2 else ("smt", "near", "one cpu")
    chosen = {}
    for result in results:
        cell = figures.cell_of(result)
        if (
            result["np"] != ranks
            or result["subject"] != row.subject
            or result["figure"] != row.figure
            or result["ratio"] is None
            or result["best_peer"] not in row.peers
            or result["class"] not in classes
            or cell not in row.cells()
        ):
            continue
        if cell not in chosen or result["rounds"] > chosen[cell]["rounds"]:
            chosen[cell] = result
    return chosen


def why_empty(row, results, lacking):
    """Why a row has no cells."""
    for lack in lacking:
        if lack["name"] == row.subject:
            return lack["reason"]
    seen = {
        result["class"]
        for result in results
        if result["np"] in row.ranks and result["subject"] == row.subject
    }
    if not seen:
        return ""
    wanted = "far" if row.far else "near"
    return "no peer was measured" if wanted in seen else f"no round was {wanted}"


def evaluate(row, results, settings, subjects_lacking=()):
    """The verdict on a row: "holds", "missed", "too few rounds" or "not measured"."""
    cells, lacking = [], []
    for ranks in row.ranks:
        chosen = cell_results(row, results, ranks)
        cells += [
            {
                key: chosen[cell][key]
                for key in (
                    "np",
                    "coll",
                    "bytes",
                    "ratio",
                    "low",
                    "high",
                    "best_peer",
                    "config",
                    "rounds",
                    "dropped",
                    "class",
                    "line_ns",
                    "us",
                )
            }
            for cell in row.cells()
            if cell in chosen
        ]
        lacking += [(ranks, *cell) for cell in row.cells() if cell not in chosen]
    verdict = {
        "key": row.key,
        "row": row.text,
        "must": row.must,
        "aim": row.aim,
        "figure": row.figure,
        "subject": row.subject,
        "cells": cells,
        "cells_not_measured": lacking,
        "ratio": None,
        "status": "not measured",
        "reason": why_empty(row, results, subjects_lacking),
    }
    if not cells:
        return verdict
    floors = dict(row.floors)
    verdict["ratio"] = figures.geometric_mean([cell["ratio"] for cell in cells])
    least = min(cells, key=lambda cell: cell["ratio"] / floors.get(cell["bytes"], FLOOR * row.must))
    under = [cell for cell in cells if cell["ratio"] < floors.get(cell["bytes"], FLOOR * row.must)]
    verdict["least"] = {key: least[key] for key in ("np", "coll", "bytes", "ratio")}
    verdict["cells_under"] = len(under)
    verdict["holds"] = verdict["ratio"] >= row.must and not under
    verdict["reaches_aim"] = verdict["holds"] and verdict["ratio"] >= row.aim
    verdict["rounds"] = min(cell["rounds"] for cell in cells)
    verdict["reason"] = f"{len(lacking)} cells were not measured" if lacking else ""
    if verdict["rounds"] < settings.rounds or lacking:
        verdict["status"] = (
            "too few rounds" if verdict["rounds"] < settings.rounds else "incomplete"
        )
    else:
        verdict["status"] = "holds" if verdict["holds"] else "missed"
        if under and verdict["ratio"] >= row.must:
            verdict["reason"] = f"{len(under)} of {len(cells)} cells are too low"
    return verdict
