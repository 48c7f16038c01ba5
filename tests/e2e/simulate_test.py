# SPDX-License-Identifier: Apache-2.0
"""manta simulate and manta placement: rankings, JSON, traces, failures, and what is refused."""

import json
import re

import pytest

from programs import manta

CLUSTER = "rack:2@100Gbit/s,5us,oversub=2 node:2@100Gbit/s,2us ranks:4"


def simulate(*arguments, topology=CLUSTER, **options):
    return manta("simulate", "--topology", topology, *arguments, **options)


def simulated(*arguments, **options):
    result = simulate(*arguments, "--json", **options)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def by_name(report):
    return {row["algorithm"]: row for row in report["algorithms"]}


def test_ranking():
    result = simulate("--coll", "allreduce", "--bytes", "1M")
    assert result.returncode == 0, result.stderr
    times = [float(time) for time in re.findall(r"^[* ]  \w+ +([\d.]+) us", result.stdout, re.M)]
    assert len(times) > 3 and times == sorted(times)
    assert len(re.findall(r"^\* ", result.stdout, re.M)) == 1
    for word in ("busiest:", "least possible:", "between racks of one cluster", "it is for the ranks of one node"):
        assert word in result.stdout


@pytest.mark.parametrize("topology, arguments, words, not_words", [
    ("node:1", (), ["allreduce of 1 MiB, 1 rank on 1 node\n", "all ranks are on one node"], ["racks", "does not run here", "least"]),
    ("node:2", (), ["2 ranks on 2 nodes\n", "between nodes of one cluster"], ["rank on"]),
    ("node:1 ranks:4", ("--algorithm", "ring"), ["between ranks of one node"], ["l3"]),
    ("node:1 numa:2 ranks:4", ("--algorithm", "ring"), ["between ranks of one NUMA ", "between NUMAs of one node "], ["l3"])])
def test_words_fit_the_numbers(topology, arguments, words, not_words):
    text = simulate("--coll", "allreduce", *arguments, topology=topology).stdout
    assert all(word in text for word in words), text
    assert not any(word in text for word in not_words), text


def test_a_barrier_has_no_size():
    text = simulate("--coll", "barrier", topology="node:2").stdout
    assert text.startswith("barrier, 2 ranks on 2 nodes\n") and "of its ranks, 1 was simulated" in text
    assert "for one message between nodes of one cluster" in text


def test_json_is_the_same_each_time():
    first, second = (simulated("--coll", "allreduce", "--bytes", "1M") for _ in range(2))
    for row in first["algorithms"] + second["algorithms"]:
        row.pop("wall_s", None)
    assert first == second
    assert first["ranks"] == 16 and first["nodes"] == 4 and first["bytes"] == 1 << 20
    ring = by_name(first)["ring"]
    assert ring["ns"] >= first["bound_ns"] > 0 and 0 < ring["efficiency"] <= 1 and 0 < ring["busiest_part"] <= 1
    assert sum(ring["level_bytes"].values()) == 2 * 15 * (1 << 20)
    assert ring["messages"] == 2 * 15 * 16 and ring["stuck_ranks"] == 0


def test_part_of_a_cluster_and_segments():
    report = simulated("--coll", "broadcast", "--algorithm", "chain", "--bytes", "100M", "-n", 6)
    (chain,) = report["algorithms"]
    assert report["ranks"] == 6 and report["nodes"] == 2
    assert chain["segments"] == 200 and chain["segments_simulated"] == 62
    long = simulated("--coll", "broadcast", "--algorithm", "chain", "--bytes", "100M", "-n", 6, MANTA_SEGMENT="100M")
    assert by_name(long)["chain"]["segments"] == 1
    assert by_name(long)["chain"]["ns"] > chain["ns"]


def test_equal_ranks_are_simulated_once(tmp_path):
    arguments = ("--coll", "allreduce", "--algorithm", "ring", "--bytes", "1M")
    (ring,) = simulated(*arguments, "--trace", tmp_path / "trace")["algorithms"]
    assert ring["ranks_simulated"] == 8
    assert "8 were simulated" in simulate(*arguments).stdout
    (failing,) = simulated(*arguments, "--fail", "slow=rank:0x1")["algorithms"]
    assert failing["ranks_simulated"] == 16 and failing["ns"] == ring["ns"]


def test_trace(tmp_path):
    path = tmp_path / "trace.json"
    report = simulated("--coll", "allreduce", "--algorithm", "recursive_doubling", "--bytes", "64k", "--trace", path)
    events = json.loads(path.read_text(encoding="utf-8"))["traceEvents"]
    slices = [event for event in events if event["ph"] == "X"]
    assert len(slices) == by_name(report)["recursive_doubling"]["steps"]
    assert {event["tid"] for event in slices} == set(range(16))
    assert all(event["pid"] == event["tid"] // 4 for event in slices)
    end_us = max(event["ts"] + event["dur"] for event in slices)
    assert round(end_us * 1000) == by_name(report)["recursive_doubling"]["ns"]


def test_the_dead_are_named():
    result = simulate("--coll", "broadcast", "--algorithm", "binomial", "--fail", "dead=node:1")
    assert result.returncode == 1
    assert "ranks left waiting for ever" in result.stdout
    waits = re.findall(r"rank (\d+) waits for rank (\d+):", result.stdout)
    assert waits and int(waits[0][1]) in range(4, 8)
    result = simulate("--coll", "allreduce", "--algorithm", "ring", "--fail", "dead=rank:3", "--json", MANTA_SEGMENT="1M")
    (ring,) = json.loads(result.stdout)["algorithms"]
    assert result.returncode == 1 and ring["ns"] is None and ring["stuck_ranks"] == 15
    assert [(wait["rank"], wait["waits_for"]) for wait in ring["stuck"][:2]] == [(2, 3), (4, 3)]


def test_slow_links():
    arguments = ("--coll", "allreduce", "--algorithm", "ring", "--bytes", "1M")
    (well,), (slow,), (uplink,) = (simulated(*arguments, *fail)["algorithms"] for fail in (
        (), ("--fail", "slow=rank:5x0.01"), ("--fail", "slow=rack:0x0.1,slow=rank:1x0.9")))
    assert slow["ns"] > 10 * well["ns"] and slow["busiest"].startswith("rank 5's")
    assert well["ns"] < uplink["ns"]


@pytest.mark.parametrize("fail", ["dead=", "dead=rank", "dead=rank:", "dead=rank:16", "dead=node:4", "slow=rank:1", "slow=rank:1x0",
                                  "slow=rank:1x2", "slow=rank:1xnan", "dead=rank:1x0.5", "slow=zone:0x0.5", "lost=rank:1", ",",
                                  "dead=rank:1,", "dead=core:1", "dead=rank:-1", "dead=rank:99999999999"])
def test_wrong_failures(fail):
    result = simulate("--coll", "allreduce", "--fail", fail)
    assert result.returncode == 2 and "--fail" in result.stderr and not result.stdout


@pytest.mark.parametrize("arguments", [(), ("--coll", "x"), ("--coll", "allreduce", "--algorithm", "x"),
                                       ("--coll", "broadcast", "--root", 16), ("--coll", "allreduce", "-n", 17),
                                       ("--coll", "allreduce", "--rank", 1), ("--coll", "send", "--peer", 16)])
def test_wrong_usage(arguments):
    result = simulate(*arguments)
    assert result.returncode == 2 and result.stderr and not result.stdout


def test_wrong_topology():
    result = manta("simulate", "--coll", "allreduce")
    assert result.returncode == 2 and "--topology is missing" in result.stderr
    result = simulate("--coll", "allreduce", topology="rack:2 shelf:3")
    assert result.returncode == 2 and "shelf" in result.stderr


def test_all_collectives():
    for collective in ("broadcast", "reduce", "allgather", "reduce_scatter", "barrier", "send", "recv"):
        report = simulated("--coll", collective, "--bytes", "4k")
        timed = [row for row in report["algorithms"] if "ns" in row]
        assert timed and all(row["ns"] > 0 for row in timed)
        assert not any("wrong" in row for row in report["algorithms"])


def placement(candidates, *arguments, **options):
    return manta("placement", "--topology", CLUSTER, "--candidates", "-", "--coll", "allreduce", *arguments,
                 stdin=candidates, **options)


def test_placements_best_first(tmp_path):
    result = placement("# far, then near\n0 2\nnode0, node1\n\n")
    assert result.returncode == 0
    assert re.findall(r"^[* ]  (\d) ", result.stdout, re.M) == ["2", "1"]
    named = json.dumps([{"name": "far", "nodes": [0, 2]}, {"name": "near", "nodes": ["node0", 1]}, [0, 9]])
    path = tmp_path / "candidates"
    path.write_text(named, encoding="utf-8")
    result = manta("placement", "--topology", CLUSTER, "--candidates", path, "--coll", "allreduce", "--json")
    rows = json.loads(result.stdout)
    assert [row["name"] for row in rows] == ["near", "far", "3"]
    assert rows[0]["ns"] < rows[1]["ns"] and "node 9" in rows[2]["refused"]


@pytest.mark.parametrize("candidates", ["", "# nothing\n", "0 x\n", "{}", "[", "[1]", '[{"nodes": [-1]}]', '[{"nodes": ["a"]}]',
                                        '[{"nodes": [0.5]}]', "99999999999\n", "node\n"])
def test_wrong_candidates(candidates):
    result = placement(candidates)
    assert result.returncode == 2 and result.stderr and not result.stdout


def test_a_wrong_candidate_is_named_with_its_line(tmp_path):
    path = tmp_path / "some"
    path.write_text("# near\n\n0 1\n0 x\n")
    result = manta("placement", "--topology", CLUSTER, "--candidates", path, "--coll", "allreduce")
    assert f"{path}, line 4: 'x' is no node" in result.stderr
    assert "standard input, candidate far: " in placement('[{"name": "far", "nodes": [-1]}]').stderr


def test_placement_of_too_many_ranks():
    result = placement("0 1\n", "-n", 9)
    assert result.returncode == 1 and "room for 8" in result.stdout
    for arguments, missing in ((("--coll", "allreduce"), "--topology"), (("--topology", CLUSTER), "--candidates"),
                               (("--topology", CLUSTER, "--candidates", "-"), "--coll")):
        result = manta("placement", *arguments)
        assert result.returncode == 2 and f"{missing} is missing" in result.stderr, result.stderr


def test_placement_is_of_collectives():
    result = manta("placement", "--topology", CLUSTER, "--candidates", "none", "--coll", "send")
    assert result.returncode == 2 and "--coll must be a collective" in result.stderr and not result.stdout
