# SPDX-License-Identifier: Apache-2.0
"""manta tune: what it writes, and what becomes of it."""

import json
import os
import re

import pytest

from programs import binary, manta, mantarun, run


def tune(tmp_path, *where):
    result = mantarun(*where, "--no-prefix", binary("manta"), "tune", "--out", tmp_path / "tuning", "--json",
                      tmp_path / "json")
    assert result.returncode == 0, result.stdout + result.stderr
    return (tmp_path / "tuning").read_text(), json.loads((tmp_path / "json").read_text())


def values(text):
    return {line.rsplit(" ", 1)[0]: int(line.rsplit(" ", 1)[1]) for line in text.splitlines()[2:]}


@pytest.mark.parametrize("where, levels", [(["-n", 1], []), (["-n", 2], ["node"]),
                                           (["-n", 4, "--nodes", 2], ["node", "cluster"]),
                                           (["-n", 3, "--nodes", 3], ["cluster"])])
def test_measures_every_level_there_is(tmp_path, where, levels):
    text, found = tune(tmp_path, *where)
    assert text.startswith("manta-tuning 1\n# manta tune: ")
    lines = values(text)
    for level in ("node", "cluster"):
        assert (f"{level} beta_ps_per_byte" in lines) == (level in levels)
        assert (level in found["levels"]) == (level in levels)
    assert ("node uplink_ps_per_byte" in lines) == (len(levels) == 2)  # one rank alone has its own way only
    assert ("cluster copy_ps_per_byte" in lines) == ("cluster" in levels)
    assert lines["gamma_ps_per_byte"] == found["gamma_ps_per_byte"] > 0
    flat = {f"{level} {name}": value for level, some in found["levels"].items() for name, value in some.items()}
    flat.update({name: value for name, value in found.items() if isinstance(value, int)})
    assert flat == lines


def test_what_cannot_be_written_is_told_once(tmp_path):
    result = mantarun("-n", 2, binary("manta"), "tune", "--out", tmp_path / "none" / "tuning")
    assert result.returncode == 1 and "No such file" in result.stderr
    assert "destroyed" not in result.stderr, result.stderr


def test_the_model_goes_by_it(tmp_path):
    """A wire a thousand times slower, and what is said of it."""
    path = tmp_path / "slow"
    path.write_text("manta-tuning 1\n" + "".join(
        f"{level} beta_ps_per_byte 800000\n" for level in ("rack", "zone", "cluster")))
    words = ("explain", "--coll", "allreduce", "--bytes", "1M", "-n", 4, "--nodes", 4)
    fast, slow = (float(re.search(r"^\* +\w+ +([\d.]+) us", manta(*words, **variables).stdout, re.M).group(1))
                  for variables in ({}, {"MANTA_TUNING": str(path)}))
    assert slow > 100 * fast
    right = mantarun("-n", 3, "--nodes", 3, binary("manta-perf"), "--check", "--max", "64k", "--factor", "64", "--iters",
                     "5", MANTA_TUNING=str(path))
    assert right.returncode == 0, right.stdout + right.stderr


def test_ranks_must_have_the_same_values(tmp_path):
    for name, value in (("a", 5), ("b", 6)):
        (tmp_path / name).write_text(f"manta-tuning 1\nnode core_ns {value}\n")
    script = f"[ $MANTA_RANK = 0 ] && export MANTA_TUNING={tmp_path}/a || export MANTA_TUNING={tmp_path}/b; exec $0"
    result = mantarun("-n", 2, "sh", "-c", script, binary("manta-perf"))
    assert result.returncode != 0
    assert re.search(r'MANTA_TUNING is "a file of values \w+" on rank 0 and "a file of values \w+" on rank 1', result.stderr)


@pytest.mark.parametrize("where, words, names", [
    (["-n", 3], ["allreduce", "--bytes", "1k"], {"fused", "ring", "recursive_doubling"}),
    (["-n", 4, "--nodes", 2], ["broadcast", "--root", 3], {"chain", "binomial"}),
    (["-n", 2], ["barrier"], {"fused", "dissemination"}),
    (["-n", 2, "--nodes", 2], ["reduce_scatter", "--bytes", "12"], {"ring", "direct"})])
def test_explain_measures_every_algorithm(where, words, names):
    result = mantarun(*where, "--no-prefix", binary("manta"), "explain", "--measure", "--coll", *words)
    assert result.returncode == 0, result.stdout + result.stderr
    times = dict(re.findall(r"^[* ] +(\w+) +[\d.]+ us +([\d.]+) us", result.stdout, re.M))
    assert names <= set(times) and all(float(time) > 0 for time in times.values())
    assert len(re.findall(r"^\* +\w+ +\d", result.stdout, re.M)) == 1 and "measured" in result.stdout


def test_explain_tells_when_its_measurements_are_no_good():
    cpu = str(min(os.sched_getaffinity(0)))
    result = run("taskset", "-c", cpu, binary("mantarun"), "-n", 2, "--no-prefix", binary("manta"), "explain", "--measure",
                 "--coll", "barrier")
    assert result.returncode == 0, result.stderr
    assert len(re.findall("^Do not trust what was measured: there are more ranks than CPUs", result.stdout, re.M)) == 1


def test_explain_measures_what_an_override_leaves():
    result = mantarun("-n", 2, "--no-prefix", binary("manta"), "explain", "--measure", "--coll", "allreduce",
                      MANTA_ALLREDUCE="0-4k:ring", MANTA_FEEDBACK="1")
    assert result.returncode == 0 and re.search(r"^\* +fused", result.stdout, re.M), result.stderr


def test_explain_tells_of_the_ranks_that_there_are():
    words = ("--coll", "allreduce", "--bytes", "64k")
    result = mantarun("-n", 4, "--nodes", 2, "--no-prefix", binary("manta"), "explain", *words)
    assert result.returncode == 0 and "4 ranks on 2 nodes" in result.stdout
    assert "measured" not in result.stdout
    result = mantarun("-n", 2, "--no-prefix", binary("manta"), "explain", "-n", 8, "--nodes", 2, *words)
    assert result.stdout.count("8 ranks on 2 nodes") == 2  # each speaks for itself of what is meant


@pytest.mark.parametrize("words", [["-n", "2"], ["--nodes", "2"]])
def test_explain_measures_the_ranks_that_there_are(words):
    wrong = ["explain", "--measure", "--coll", "allreduce", *words]
    assert mantarun("-n", 2, binary("manta"), *wrong).returncode == 2
    assert mantarun("-n", 2, binary("manta"), "explain", "--measure", "--coll", "send").returncode == 2
    result = manta("explain", "--measure", "--coll", "allreduce")
    assert result.returncode == 2 and "mantarun" in result.stderr


def test_says_what_it_cannot(tmp_path):
    result = manta("tune")
    assert result.returncode == 1 and "mantarun" in result.stderr
    assert manta("tune", "more").returncode == 2
    result = mantarun("-n", 1, binary("manta"), "tune", "--out", tmp_path / "no" / "file")
    assert result.returncode == 1 and "cannot write" in result.stderr and not result.stdout
    (tmp_path / "odd").write_text("manta-tuning 1\nnode alpha_ns fast\n")
    for words in (("explain", "--coll", "barrier", "-n", 2), ("doctor",)):
        result = manta(*words, MANTA_TUNING=str(tmp_path / "odd"))
        assert result.returncode == 1 and "line 2, 'node alpha_ns fast'" in result.stdout + result.stderr
