# SPDX-License-Identifier: Apache-2.0
"""perf/cluster as users run it: right results on emulated nodes, bytes counted, peers compared, nothing
left behind."""

import json
import os
import re
import signal
import subprocess
import sys
import uuid

import pytest

from programs import BUILD, ROOT, binary, environment, is_alive, run, wait_until

TOOL = os.path.join(ROOT, "perf", "cluster")


def is_possible():
    """Namespaces can be made, or everything here is skipped."""
    own = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    return run("unshare", *own, "--net", "--uts", "--mount", "--pid", "--fork", "true").returncode == 0


pytestmark = pytest.mark.skipif(not is_possible(), reason="namespaces cannot be made here")


def cluster(*words, **options):
    return run(sys.executable, TOOL, *words, timeout=100, BUILD=BUILD, **options)


def test_ranks_of_four_nodes_in_two_racks_are_right(tmp_path):
    shape = ("--nodes", "4", "--ranks-per-node", "2", "--rate", "1gbit", "--interfaces", "2", "--racks", "2",
             "--uplink", "1gbit")
    result = cluster("run", *shape, "--", binary("manta-perf"), "--coll", "all", "--max", "16k", "--factor", "64",
                     "--iters", "5", "--check", "--json", tmp_path / "rows")
    assert result.returncode == 0, result.stdout + result.stderr
    rows = [json.loads(line) for line in (tmp_path / "rows").read_text().splitlines()]
    assert rows and all(row["np"] == 8 and row["nodes"] == 4 and row["wrong"] == 0 for row in rows)
    sent = re.findall(r"node(\d) (eth\d) sent (\d+) bytes", result.stderr)
    assert [(node, device) for node, device, _ in sent] == [(n, f"eth{i}") for n in "0123" for i in (0, 1)]
    assert all(sum(int(count) for node, _, count in sent if node == n) > 4 << 10 for n in "0123")


def test_each_rank_is_on_its_node():
    script = "echo at $MANTA_RANK of $MANTA_SIZE on $MANTA_NODE, $(hostname), $(ip -o -4 address show dev eth0)"
    result = cluster("run", "--nodes", "3", "--ranks-per-node", "2", "--no-prefix", "--", "sh", "-c", script)
    assert result.returncode == 0, result.stderr
    for rank in range(6):
        node = rank // 2
        assert re.search(f"at {rank} of 6 on node{node}, node{node}, .*10.77.0.{node + 1}/24", result.stdout)


def test_ranks_know_their_racks(tmp_path):
    shape = ("--nodes", "4", "--ranks-per-node", "2", "--racks", "2", "--uplink", "1gbit")
    result = cluster("run", *shape, "--no-prefix", "--", binary("manta"), "tune", "--out", tmp_path / "tuning")
    assert result.returncode == 0, result.stdout + result.stderr
    text = (tmp_path / "tuning").read_text()
    assert "\nrack uplink_ps_per_byte " in text and "\nnode uplink_ps_per_byte " in text


def test_ranks_in_turn():
    result = cluster("run", "--nodes", "3", "--ranks-per-node", "2", "--round-robin", "--no-prefix", "--", "sh", "-c",
                     "echo $MANTA_RANK on $MANTA_NODE, $(hostname)")
    assert result.returncode == 0, result.stderr
    assert sorted(result.stdout.splitlines()) == [f"{rank} on node{rank % 3}, node{rank % 3}" for rank in range(6)]


def test_how_near_the_bound():
    result = cluster("bound", "--coll", "broadcast", "--rate", "1gbit", "--sizes", "256k", "--calls", "2")
    assert result.returncode == 0, result.stdout + result.stderr
    share = re.search(r"^broadcast +256 KiB +[\d.]+ +([\d.]+) % +[\d.]+ % +([\d.]+) % +\w+$", result.stdout, re.M)
    assert share and float(share.group(1)) > 0 and float(share.group(2)) > 0


def test_the_programs_exit_code_is_the_tools():
    assert cluster("run", "--no-prefix", "--", "sh", "-c", "exit 7").returncode == 7


def test_streams():
    result = cluster("wire", "--rate", "1gbit", "--seconds", "0.5")
    assert result.returncode == 0, result.stderr
    assert float(re.search(r"^([\d.]+) Gbit/s from node0 to node1", result.stdout).group(1)) > 0
    there, back = re.search(r"^([\d.]+) Gbit/s there and ([\d.]+) back", result.stdout, re.M).groups()
    assert float(there) > 0 and float(back) > 0


def test_compares_with_a_peer(tmp_path):
    result = cluster("compare", "--coll", "allreduce", "--max", "64", "--factor", "16", "--rounds", "1", "--seconds",
                     "0.02", "--configurations", "1", "--peers", "openmpi4", "--output", tmp_path / "found.json")
    assert result.returncode == 0, result.stdout + result.stderr
    found = json.loads((tmp_path / "found.json").read_text())
    assert not found["failures"] and found["cluster"]["nodes"] == 2
    for row in found["rows"]:
        assert row["nodes"] == 2 and row["sent_bytes_of_run"] > 0
    for one in found["results"]:
        assert set({**one["peers"], **one["calibration_only"]}) == {"openmpi4"}
    assert re.search(r"size +Manta +openmpi4 +ratio", result.stdout)


def processes_with(mark):
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/environ", "rb") as file:
                if mark.encode() in file.read():
                    found.append(int(name))
        except OSError:
            continue
    return found


KINDS = ("net", "uts", "mnt", "ipc", "pid")


def namespaces_of(pids):
    found = set()
    for pid in pids:
        for kind in KINDS:
            try:
                found.add(os.readlink(f"/proc/{pid}/ns/{kind}"))
            except OSError:
                continue
    return found


def all_namespaces():
    return namespaces_of(filter(is_alive, filter(str.isdigit, os.listdir("/proc"))))


def traces():
    """What could have a name after the tool: devices, named namespaces, mounts of this process."""
    with open("/proc/self/mounts", encoding="utf-8") as file:
        mounts = file.read()
    named = os.listdir("/run/netns") if os.path.isdir("/run/netns") else []
    return sorted(os.listdir("/sys/class/net")), named, mounts


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_nothing_stays_behind(number):
    mark, before = f"CLUSTER_TEST={uuid.uuid4().hex}", traces()
    name, value = mark.split("=")
    words = [sys.executable, TOOL, "run", "--nodes", "3", "--", "sh", "-c", "echo here; exec sleep 100"]
    tool = subprocess.Popen(words, stdout=subprocess.PIPE, env=environment(**{name: value, "BUILD": BUILD}))
    try:
        for _ in range(3):
            assert b"here" in tool.stdout.readline()
        # The tool, its first process, 3 nodes, mantarun, 3 ranks; one that turns into another
        # program has no environment for a moment.
        wait_until(lambda: len(processes_with(mark)) == 9)
        pids = processes_with(mark)
        own = namespaces_of(pids) - namespaces_of(["self"])
        assert len(own) == 5 + 2 * 3  # of the tool, and two of each node
        # While they are open, another test's namespaces get other numbers.
        kept = [os.open(f"/proc/{pid}/ns/{kind}", os.O_RDONLY) for pid in pids for kind in KINDS]
    finally:
        os.kill(tool.pid, number)
        tool.communicate(timeout=20)
    wait_until(lambda: not any(map(is_alive, pids)))
    assert not processes_with(mark)
    assert not own & all_namespaces()
    for file in kept:
        os.close(file)
    assert traces() == before


def test_says_why_it_cannot():
    script = "echo 0 >/proc/sys/user/max_net_namespaces && exec \"$@\""
    words = ["unshare", "--user", "--map-root-user", "sh", "-c", script, "sh", sys.executable, TOOL, "wire"]
    result = run(*words)
    if "unshare" in result.stderr:
        pytest.skip("user namespaces cannot be made here")
    assert result.returncode == 1
    assert "perf/cluster: network namespaces cannot be made here; run as root: " in result.stderr


def test_says_what_the_kernel_lacks():
    result = cluster("run", "--latency", "100us", "--", "true")
    assert result.returncode == 0 or "netem delay 100us" in result.stderr


@pytest.mark.parametrize("words", [["--nodes", "1"], ["--nodes", "33"], ["--uplink", "1gbit"], ["--rate", "fast"],
                                   ["--racks", "3"]])
def test_refuses(words):
    result = cluster("run", *words, "--", "true")
    assert result.returncode == 2 and "usage: perf/cluster" in result.stderr


def test_how_good_the_model_is(tmp_path):
    words = ["accuracy", "--nodes", "2", "--max", "64", "--rounds", "1", "--seconds", "0.01", "--output", tmp_path / "x"]
    result = cluster(*words)
    assert result.returncode == 0, result.stdout + result.stderr
    points = json.loads((tmp_path / "x").read_text())
    assert {point["bytes"] for point in points} == {4, 16, 64}
    assert {"ring", "recursive_doubling"} <= {point["algorithm"] for point in points}
    assert all(point["predicted_us"] > 0 and point["measured_us"] > 0 for point in points)
    assert sum(point["pick"] for point in points) == 3
    assert re.search(r"within 10 % of the best in \d of 3 points", result.stdout)
