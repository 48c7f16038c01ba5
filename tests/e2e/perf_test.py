# SPDX-License-Identifier: Apache-2.0
"""manta-perf: correct results counted, JSON as promised, wrong usage refused."""

import json
import os

import pytest

from programs import binary, mantarun, run

FIELDS = ("coll np nodes bytes count dtype op in_place algorithm transport min_us p50_us avg_us p99_us "
          "max_us algbw_GBs busbw_GBs wrong root memory iterations b2b_us binding line_ns line_after_ns").split()
COLLECTIVES = ["allreduce", "broadcast", "reduce", "allgather", "reduce_scatter", "barrier"]


def perf(ranks, *arguments, nodes=None, seconds=50, **variables):
    where = ["--nodes", nodes] if nodes else []
    return mantarun("-n", ranks, *where, "--timeout", seconds, binary("manta-perf"), "--check", "--iters", "20",
                    *arguments, timeout=seconds + 10, **variables)


def rows(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("ranks, nodes", [(1, None), (2, None), (3, None), (4, 2), (3, 3)])
def test_all_collectives_are_right(tmp_path, ranks, nodes):
    result = perf(ranks, "--coll", "all", "--max", "256k", "--factor", "16", "--json", tmp_path / "rows", nodes=nodes)
    assert result.returncode == 0, result.stdout + result.stderr
    seen = rows(tmp_path / "rows")
    assert [row["coll"] for row in seen if row["bytes"] in (0, 4)] == COLLECTIVES
    for row in seen:
        assert list(row) == FIELDS
        assert row["wrong"] == 0 and row["np"] == ranks and row["nodes"] == (nodes or 1)
        assert 0 < row["min_us"] <= row["p50_us"] <= row["p99_us"] <= row["max_us"]
        assert ranks == 1 or row["algorithm"] != "-"


@pytest.mark.parametrize("ranks, arguments", [(64, ["--coll", "all", "--min", "4k", "--max", "4k"]),
                                              (130, ["--cells", "barrier:0"])])
def test_many_ranks_share_the_memory_of_a_node(tmp_path, ranks, arguments):
    """Far more than there are CPUs: all go through shared memory with the default of MANTA_SHM_MAX."""
    result = perf(ranks, *arguments, "--iters", "3", "--warmup", "1", "--json", tmp_path / "rows", seconds=180)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "is not used" not in result.stderr, result.stderr
    seen = rows(tmp_path / "rows")
    assert seen and {row["transport"] for row in seen} == {"shm"}
    assert all(row["wrong"] == 0 and row["np"] == ranks for row in seen)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float16",
                                   "bfloat16", "float32", "float64", "float8_e4m3", "float8_e5m2"])
def test_all_dtypes_are_right(dtype):
    operations = ["sum", "prod", "min", "max", "avg"] + (["band", "bor", "bxor"] if "int" in dtype else [])
    for operation in operations:
        result = perf(3, "--min", "1000", "--max", "1000", "--iters", "3", "--dtype", dtype, "--op", operation)
        assert result.returncode == 0, f"{operation}: {result.stdout}{result.stderr}"


def test_in_place_and_rotating_root():
    for arguments in (["--coll", "allreduce,reduce,allgather,reduce_scatter", "--in-place"],
                      ["--coll", "broadcast,reduce", "--root", "rotate"], ["--coll", "broadcast,reduce", "--root", "2"]):
        result = perf(3, "--max", "64k", "--factor", "16", *arguments)
        assert result.returncode == 0, result.stdout + result.stderr


def test_back_to_back_and_line_latency(tmp_path):
    """What is timed in a row, with another root each time, and where the ranks were meanwhile."""
    result = mantarun("-n", 2, "--bind", "core", "--timeout", "50", binary("manta-perf"), "--cells", "broadcast:4,1k",
                      "--cells", "barrier:0", "--root", "rotate", "--back-to-back", "--iters", "40", "--json", tmp_path / "rows")
    assert result.returncode == 0, result.stdout + result.stderr
    seen = rows(tmp_path / "rows")
    assert [(row["coll"], row["bytes"]) for row in seen] == [("broadcast", 4), ("broadcast", 1024), ("barrier", 0)]
    apart = len(os.sched_getaffinity(0)) > 1
    for row in seen:
        assert row["b2b_us"] > 0 and row["root"] == "rotate" and row["iterations"] == 40
        assert (row["line_ns"] > 0, row["line_after_ns"] > 0) == (apart, apart)
        assert not apart or row["binding"] == "core"


def test_more_ranks_than_cpus_measure_the_line_too(tmp_path):
    ranks = 2 * len(os.sched_getaffinity(0))
    result = perf(ranks, "--cells", "allreduce:4", "--root", "1", "--back-to-back", "--json", tmp_path / "rows")
    assert result.returncode == 0, result.stdout + result.stderr
    [row] = rows(tmp_path / "rows")
    assert row["b2b_us"] is None and row["wrong"] == 0, "checked calls in a row are not timed"
    assert (row["line_ns"] > 0) == (ranks > 2) and row["binding"] == ("none" if ranks > 2 else "mixed")


def test_time_bounds_the_iterations(tmp_path):
    """A bound that nothing keeps: one iteration, and no larger size. One that all keep changes nothing."""
    bounded = mantarun("-n", 2, "--timeout", "50", binary("manta-perf"), "--max", "64", "--seconds", "1ns", "--json",
                       tmp_path / "bounded")
    assert bounded.returncode == 0 and "larger sizes are left out" in bounded.stdout
    assert [(row["bytes"], row["iterations"]) for row in rows(tmp_path / "bounded")] == [(4, 1)]
    free = mantarun("-n", 2, "--timeout", "50", binary("manta-perf"), "--max", "16", "--seconds", "40", "--json",
                    tmp_path / "free")
    assert free.returncode == 0, free.stdout + free.stderr
    assert [(row["bytes"], row["iterations"]) for row in rows(tmp_path / "free")] == [(4, 2000), (16, 2000)]


@pytest.mark.parametrize("collective", ["allreduce", "broadcast"])
def test_bare_calls_are_right_as_far_as_they_go(tmp_path, collective):
    """Without a library two ranks exchange what fits beside a number, and nothing that does not."""
    result = perf(2, "--coll", collective, "--min", "8", "--factor", "127", "--bare", "--json", tmp_path / "rows")
    assert result.returncode == 0, result.stdout + result.stderr
    assert [(row["algorithm"], row["bytes"], row["wrong"]) for row in rows(tmp_path / "rows")] == [
        ("bare", 8, 0), ("bare", 1016, 0)]
    assert "not measured: larger vectors do not fit" in result.stdout


@pytest.mark.parametrize("ranks, arguments, words", [(2, ["--dtype", "int8"], "float32 only"),
                                                     (3, [], "manta-perf --bare: run it with two ranks")])
def test_bare_calls_say_what_they_cannot(ranks, arguments, words):
    result = perf(ranks, "--bare", "--max", "4", *arguments)
    assert words in result.stdout + result.stderr


def test_a_corrupted_message_is_counted():
    result = perf(2, "--min", "4k", "--max", "4k", MANTA_FAULT="corrupt", MANTA_ALLREDUCE="ring")
    assert result.returncode != 0
    wrong = [line.split()[-1] for line in result.stdout.splitlines() if line.startswith("[0]   ")]
    assert wrong and int(wrong[0]) > 0, result.stdout + result.stderr


def test_forced_algorithm_is_the_one_that_runs(tmp_path):
    for name in ("ring", "recursive_doubling"):
        path = tmp_path / name
        assert perf(3, "--max", "4", "--json", path, MANTA_ALLREDUCE=name).returncode == 0
        assert [row["algorithm"] for row in rows(path)] == [name]


def test_a_file_that_cannot_be_written_is_a_failure(tmp_path):
    result = perf(2, "--max", "16", "--json", tmp_path / "none" / "rows")
    assert result.returncode == 1 and result.stderr.count("No such file") == 1, result.stderr
    assert len([line for line in result.stdout.splitlines() if line.startswith("[0]   ")]) == 2


@pytest.mark.parametrize("arguments", [["--coll", "send"], ["--coll", "x"], ["--dtype", "x"], ["--op", "x"],
                                       ["--op", "band"], ["--min", "8", "--max", "4"], ["--factor", "1"], ["more"],
                                       ["--root", "x"], ["--x"], ["--cells", "x:4"], ["--cells", "allreduce"],
                                       ["--cells", "allreduce:4,x"], ["--seconds", "x"], ["--seconds", "0"]])
def test_wrong_usage(arguments):
    result = run(binary("manta-perf"), *arguments)
    assert result.returncode == 2 and result.stderr


def test_a_root_that_is_no_rank_is_wrong_usage():
    result = perf(2, "--root", "2")
    assert result.returncode == 2 and result.stderr.count("below the number of ranks, 2") == 1, result.stderr


@pytest.mark.parametrize("name, value", [("SHM_DISTANCE", "nearby"), ("SHM_GROUPS", "3"), ("SHM_GROUPS", "")])
def test_wrong_value_of_a_transport_ends_it(name, value):
    """Going on without the transport would be slow, and nobody would know why."""
    result = perf(2, "--max", "4", **{f"MANTA_{name}": value})
    if value:
        assert result.returncode == 1 and f"MANTA_{name} is '{value}'; it must be" in result.stderr, result.stderr
    else:
        assert result.returncode == 0, result.stderr
