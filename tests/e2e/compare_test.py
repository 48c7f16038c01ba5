# SPDX-License-Identifier: Apache-2.0
"""perf/compare as users run it: Manta and peers in alternation; page, text and JSON."""

import json
import os
import subprocess
import sys

import pytest

from programs import BUILD, ROOT, environment

sys.path.insert(0, os.path.join(ROOT, "perf", "compare"))

# pylint: disable=wrong-import-position
import figures  # noqa: E402


def compare(output, *arguments):
    result = subprocess.run(
        [
            sys.executable,
            os.path.join(ROOT, "perf", "compare"),
            "--output",
            str(output),
            *arguments,
        ],
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
        env=environment(BUILD=BUILD),
    )
    if result.returncode != 0:
        return result, None
    with open(output / "compare.json", encoding="utf-8") as file:
        return result, json.load(file)


def class_of_all(seen):
    """How near the CPUs were one another in all rounds; None if virtual ones moved meanwhile: what
    was measured while they were near is not compared with what was while they were far."""
    classes = {figures.class_of(row) for row in seen["rows"] if row["phase"] != "calibration"}
    return classes.pop() if len(classes) == 1 else None


def test_compares_with_what_is_installed(tmp_path):
    result, seen = compare(
        tmp_path,
        "-n",
        "2",
        "--coll",
        "allreduce",
        "--max",
        "64",
        "--factor",
        "16",
        "--rounds",
        "1",
        "--peers",
        "openmpi4,gloo",
    )
    assert result.returncode == 0, result.stderr
    plain = [one for one in seen["results"] if one["subject"] == "manta/default" and one["main"]]
    cells = {(one["figure"], one["bytes"]) for one in plain}
    wanted = {("b2b_us", 4), ("b2b_us", 64), ("p50_us", 4), ("p50_us", 64)}
    assert len(plain) == len(cells) and cells <= wanted, plain
    stayed = class_of_all(seen) in figures.CLASSES
    assert cells == wanted or not stayed, result.stderr
    for one in plain:
        measured = {*one["peers"], *one["calibration_only"]}
        assert measured <= {"openmpi4", "gloo"}, result.stderr
        assert len(measured) == 2 or not stayed, result.stderr
        assert (
            one["best_peer"] is None or one["ratio"] == one["peers"][one["best_peer"]]["ratio"] > 0
        )
    configurations = {
        row["config"]
        for row in seen["rows"]
        if row["library"] == "openmpi4" and row["phase"] == "calibration"
    }
    assert {"default", "sm", "han", "no-cma"} <= configurations
    assert all(row["root"] == "rotate" and "line_ns" in row for row in seen["rows"])
    assert any("UCC" in note for note in seen["notes"])
    assert "best peer" in (tmp_path / "compare.txt").read_text()
    page = (tmp_path / "index.html").read_text()
    assert (
        "<svg" in page and "physical limit" in page and "http" not in page.replace("http-equiv", "")
    )


def test_a_row_of_the_table(tmp_path):
    result, seen = compare(
        tmp_path,
        "--table",
        "--rows",
        "allreduce-4k",
        "--peers",
        "openmpi4",
        "--quick",
        "--minutes",
        "0.5",
    )
    assert result.returncode == 0, result.stderr
    [verdict] = seen["table"]
    assert verdict["key"] == "allreduce-4k" and verdict["must"] == 1.5 and verdict["aim"] == 2.5
    measured = [cell["bytes"] for cell in verdict["cells"]]
    kind = class_of_all(seen)
    if kind == "far":
        assert measured == [] and verdict["reason"] == "no round was near"
    elif kind in figures.CLASSES:
        assert measured == [4096, 16384], result.stdout
        assert verdict["status"] in ("holds", "missed", "too few rounds")
    else:
        assert set(measured) <= {4096, 16384}, result.stdout
    assert verdict["row"] in (tmp_path / "index.html").read_text()


def test_every_cell_can_be_checked(tmp_path):
    result, seen = compare(tmp_path, "--table", "--rows", "others-2", "--max", "4k", "--check")
    assert result.returncode == 0, result.stdout + result.stderr
    assert {row["coll"] for row in seen["rows"]} == {
        "reduce",
        "allgather",
        "reduce_scatter",
        "barrier",
    }
    assert all(row["wrong"] == 0 for row in seen["rows"])


@pytest.mark.parametrize(
    "arguments", [["--peers", "nccl"], ["--rounds", "0"], ["--factor", "1"], ["-n", "0"], ["--x"]]
)
def test_wrong_usage(tmp_path, arguments):
    result, _ = compare(tmp_path, *arguments)
    assert result.returncode == 2 and result.stderr


def test_rows_are_listed(tmp_path):
    result = subprocess.run(
        [
            sys.executable,
            os.path.join(ROOT, "perf", "compare"),
            "--list-rows",
            "--rows",
            "symmetric",
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=environment(BUILD=BUILD),
    )
    assert result.returncode == 0 and [line.split()[0] for line in result.stdout.splitlines()] == [
        "symmetric-allreduce",
        "symmetric-broadcast",
    ]
    assert not list(tmp_path.iterdir())
