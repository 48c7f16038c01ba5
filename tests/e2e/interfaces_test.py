# SPDX-License-Identifier: Apache-2.0
"""Two hosts (network namespaces of this test's own) with two networks each, of which the first is
down beyond the interface: which one is used, and what is said of it."""

import os
import subprocess

import pytest

from programs import binary, environment

LIMIT_S = 60
# Of each host: a network that ends in nothing, listed first, and one that leads to the other host.
DEAD, ALIVE = "10.77.1", "10.77.2"


def words(text):
    return text.split()


class Hosts:
    """Two processes that hold a network namespace each."""

    def __init__(self):
        own = ["--net"] if os.geteuid() == 0 else ["--user", "--map-root-user", "--net"]
        script = f"unshare --net sleep {LIMIT_S} & echo $!; exec sleep {LIMIT_S}"
        self.process = subprocess.Popen(["unshare", *own, "sh", "-c", script], stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, text=True, start_new_session=True)
        line = self.process.stdout.readline()
        if not line:
            pytest.skip(f"no network namespaces: {self.process.communicate()[1].strip()}")
        self.pids = [self.process.pid, int(line)]
        taken = {os.readlink("/proc/self/ns/net")}  # the second host begins in the first one's
        for host, pid in enumerate(self.pids):
            while os.readlink(f"/proc/{pid}/ns/net") in taken:
                pass
            taken.add(os.readlink(f"/proc/{pid}/ns/net"))
            self.call(host, "ip link set lo up")
            self.call(host, "ip link add dead type veth peer name nowhere")
            self.call(host, f"ip addr add {DEAD}.{host + 1}/24 dev dead")
            self.call(host, "ip link set nowhere up")
            self.call(host, "ip link set dead up")
        self.call(0, f"ip link add alive type veth peer name alive netns {self.pids[1]}")
        for host in (0, 1):
            self.call(host, f"ip addr add {ALIVE}.{host + 1}/24 dev alive")
            self.call(host, "ip link set alive up")

    def on(self, host, command):
        users = [] if os.geteuid() == 0 else ["--user", "--preserve-credentials"]
        return ["nsenter", "--target", str(self.pids[host]), *users, "--net", *command]

    def call(self, host, command):
        return subprocess.run(self.on(host, words(command)), check=True, capture_output=True, text=True).stdout

    def close(self):
        for pid in self.pids:
            os.kill(pid, 9)
        self.process.communicate()


@pytest.fixture(name="hosts")
def two_hosts():
    hosts = Hosts()
    yield hosts
    hosts.close()


def run_ranks(hosts, level):
    """What the two ranks wrote to stderr."""
    session = hosts.call(0, f"{binary('manta')} session --host {ALIVE}.1").strip()
    perf = [binary("manta-perf"), *words("--coll allreduce --min 4 --max 4 --iters 10 --check")]
    processes = []
    for rank in (0, 1):
        variables = environment(MANTA_RANK=str(rank), MANTA_SIZE="2", MANTA_SESSION=session, MANTA_LOG=level,
                                MANTA_NODE=f"host{rank}", MANTA_TRANSPORTS="tcp", MANTA_TIMEOUT="50s")
        processes.append(subprocess.Popen(hosts.on(rank, perf), env=variables, stdin=subprocess.DEVNULL,
                                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
    said = [process.communicate(timeout=LIMIT_S)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    return said


def test_the_interface_that_answers_is_used_and_named(hosts):
    said = run_ranks(hosts, "info")
    assert (f"tcp to 1 rank (alive {ALIVE}.1; rank 1 at {ALIVE}.2, first that answered of its 2 addresses, "
            "dialled by the control plane so far)") in said[0]
    assert (f"tcp to 1 rank (alive {ALIVE}.2; rank 0 at {ALIVE}.1, from where it dialled this rank, "
            "not dialled yet)") in said[1]
    assert "is reached by" not in "".join(said)  # what was announced came true


def test_debug_tells_what_did_not_answer(hosts):
    said = run_ranks(hosts, "debug")
    assert f"rank 1 is not reached at {DEAD}.2" in said[0]
    assert f"rank 1 is reached by alive {ALIVE}.1 at {ALIVE}.2, first that answered of its 2 addresses" in said[0]
    assert f"rank 0 is reached by alive {ALIVE}.2 at {ALIVE}.1, from where it dialled this rank" in said[1]
