# SPDX-License-Identifier: Apache-2.0
"""Emulated nodes (perf/cluster) of which one is cut off, one loses a rank, one's link becomes a hundred
times slower in the middle of collectives: all ranks are told who is to blame, or get through."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path[:0] = [os.path.join(ROOT, "perf", folder) for folder in ("cluster", "compare")]

import contenders
import jobs
import network
import sandbox

NODES, PER_NODE = 3, 2
RATE, SLOW_RATE = "1gbit", "10mbit"
LIMIT_S = 40  # of a job; the deadline of its calls is longer
UNDER_WAY_BYTES = 256 << 10  # a node has sent so much in calls when the fault comes
# How many calls there are; before which one rank 0 waits for a line while the others are in theirs.
ENDLESS, GATED = ("1000000000", "-1"), ("22", "10")


def rank_pid(job, rank):
    """Of a job's process that is this rank: it was started as that, and became the program."""
    with open(f"/proc/{job.pid}/task/{job.pid}/children", encoding="ascii") as file:
        for pid in file.read().split():
            with open(f"/proc/{pid}/environ", "rb") as variables:
                if f"MANTA_RANK={rank}".encode() in variables.read().split(b"\0"):
                    return int(pid)
    raise RuntimeError(f"there is no rank {rank}")


def cut_off(cluster, _job):
    network.call(*cluster.on(1), "ip", "link", "set", "eth0", "down")


def kill(_cluster, job):
    os.kill(rank_pid(job, 3), signal.SIGKILL)


def slow_down(cluster, _job):
    for on, device in ((cluster.on(1), "eth0"), ((), "port1i0")):
        tokens = ("tbf", "rate", SLOW_RATE, "burst", "32768", "latency", network.QUEUE)
        network.call(*on, "tc", "qdisc", "change", "dev", device, "root", "handle", "1:", *tokens)


COLLECTIVES = ["allreduce", "broadcast"]
FAULTS = {"cut_off": (cut_off, ENDLESS), "kill": (kill, ENDLESS), "slow_down": (slow_down, GATED)}


def start(cluster, coll, calls):
    program = os.path.join(contenders.BUILD, "tests", "fault", "cluster_rank")
    options = ("--keep-going", "--timeout", str(LIMIT_S), "-x", "MANTA_TIMEOUT=100")
    command = [*jobs.mantarun(cluster, *options), program, coll, *calls]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                            text=True)


def await_traffic(cluster, job):
    """Ranks are in the middle of calls."""
    while cluster.sent_bytes()[1, "eth0"] < UNDER_WAY_BYTES:
        if job.poll() is not None:
            raise RuntimeError(f"it ended by itself: {job.stdout.read()}")
        time.sleep(0.002)


def read_endings(job, ranks):
    """What is said until so many ranks have told how they ended; bounded by the job's own limit."""
    said = ""
    job.stdin.write("\n")
    job.stdin.close()
    for line in job.stdout:
        said += line
        ranks -= "] ended with " in line
        if ranks == 0:
            break
    job.terminate()
    job.stdout.read()
    job.wait()
    return said


def scene(fault, coll):
    """In a sandbox: print what came of the fault as JSON."""
    act, calls = FAULTS[fault]
    cluster = network.Cluster(network.Shape(nodes=NODES, per_node=PER_NODE, rate=RATE))
    job = start(cluster, coll, calls)
    await_traffic(cluster, job)
    act(cluster, job)
    begin, before = time.monotonic(), cluster.sent_bytes()[1, "eth0"]
    said = read_endings(job, NODES * PER_NODE - (fault == "kill"))
    after = {"seconds": time.monotonic() - begin, "bytes": cluster.sent_bytes()[1, "eth0"] - before}
    print(json.dumps({"said": said, **after}))
    return 0


def run_scene(fault, coll):
    command = [sys.executable, os.path.abspath(__file__), fault, coll]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MANTA_")}
    result = subprocess.run(command, capture_output=True, text=True, timeout=2 * LIMIT_S, env=kept, check=False)
    if "perf/cluster: " in result.stderr:
        return {"refused": result.stderr.strip()}
    return json.loads(result.stdout) if result.returncode == 0 else {"failed": result.stderr}


@pytest.fixture(scope="module", name="found")
def all_scenes():
    """They mostly wait, so they wait together."""
    found = {}
    scenes = [(fault, coll) for fault in FAULTS for coll in COLLECTIVES]
    threads = [threading.Thread(target=lambda s=s: found.update({s: run_scene(*s)})) for s in scenes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def outcome_of(found, fault, coll):
    outcome = found[fault, coll]
    if "refused" in outcome:
        pytest.skip(outcome["refused"])
    assert "said" in outcome, outcome
    return outcome


def endings_of(outcome):
    """{rank: how it ended}"""
    found = re.findall(r"^\[(\d)\] ended with (.*)", outcome["said"], re.M)
    return {int(rank): text for rank, text in found}


EVERYBODY = set(range(NODES * PER_NODE))


@pytest.mark.parametrize("coll", COLLECTIVES)
def test_a_node_that_is_cut_off_is_named(found, coll):
    outcome = outcome_of(found, "cut_off", coll)
    endings = endings_of(outcome)
    assert endings.keys() == EVERYBODY, outcome
    for rank, ending in endings.items():
        blamed = re.match(r"-\d+: rank (\d) is dead: its host is silent", ending)
        assert blamed, outcome
        nodes = {rank // PER_NODE, int(blamed[1]) // PER_NODE}
        assert len(nodes) == 2 and 1 in nodes, outcome


@pytest.mark.parametrize("coll", COLLECTIVES)
def test_a_rank_that_is_killed_is_named(found, coll):
    outcome = outcome_of(found, "kill", coll)
    endings = endings_of(outcome)
    assert endings.keys() == EVERYBODY - {3}, outcome
    for ending in endings.values():
        assert re.match(r"-\d+: rank 3 is dead: its process ended \(pid \d+\)$", ending), outcome
    assert outcome["seconds"] < 10, outcome


@pytest.mark.parametrize("coll", COLLECTIVES)
def test_a_link_that_becomes_slow_harms_nobody(found, coll):
    outcome = outcome_of(found, "slow_down", coll)
    assert endings_of(outcome) == {rank: "0: well" for rank in EVERYBODY}, outcome
    assert outcome["bytes"] > UNDER_WAY_BYTES, outcome  # over the slow link


if __name__ == "__main__":
    sys.exit(sandbox.run(lambda: scene(*sys.argv[1:])))
