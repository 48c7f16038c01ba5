# SPDX-License-Identifier: Apache-2.0
"""The ofi transport as users run it: all collectives over each of libfabric's providers that needs no hardware, and
what is said where something is missing."""

import json
import os
import subprocess

import pytest

from programs import binary, environment, manta, mantarun


def perf(ranks, *arguments, **variables):
    return mantarun("-n", ranks, "--timeout", "50", binary("manta-perf"), "--check", "--iters", "3", "--warmup", "1",
                    *arguments, MANTA_TRANSPORTS="ofi", **variables)


@pytest.mark.parametrize("provider", ["tcp", "net", "shm", "sockets"])
def test_collectives_are_right(tmp_path, provider):
    result = perf(3, "--coll", "all", "--min", "4", "--max", "256k", "--factor", "256", "--json",
                  tmp_path / "rows", MANTA_OFI_PROVIDER=provider)
    assert result.returncode == 0, result.stdout + result.stderr
    seen = [json.loads(line) for line in (tmp_path / "rows").read_text().splitlines()]
    assert len({row["coll"] for row in seen}) == 6
    assert all(row["wrong"] == 0 and row["transport"] == "ofi" for row in seen)


def test_some_nodes_have_no_such_network(tmp_path):
    """By default ofi is for nodes that have a network of libfabric's, or are told of one. Pairs of others use tcp,
    and the log of each rank says so."""
    shell = ('export MANTA_NODE=$MANTA_RANK; [ "$MANTA_RANK" = 2 ] || export MANTA_OFI_PROVIDER=tcp; '
             'exec "$@" 2>"$0.$MANTA_RANK"')
    result = mantarun("-n", 3, "sh", "-c", shell, tmp_path / "log", binary("manta-perf"), "--check", "--coll",
                      "allreduce,broadcast", "--max", "256k", "--factor", "256", "--iters", "3", MANTA_LOG="info")
    logs = [(tmp_path / f"log.{rank}").read_text() for rank in range(3)]
    assert result.returncode == 0, result.stdout + "".join(logs)
    for log in logs[:2]:
        assert "ofi to 1 rank (tcp" in log, log
        assert "tcp to 1 rank (" in log and "; not ofi: rank 2 does not offer ofi)" in log, log
    assert "transport ofi is not used: this host has neither EFA nor Slingshot" in logs[2], logs[2]
    assert "tcp to 2 ranks (" in logs[2], logs[2]


def test_conformance():
    topics = "matching,ordering,mismatch,abort,close,drain,lost,full,sleep,registration,random"
    result = manta("plugin", "check", "ofi", "--only", topics, timeout=200, MANTA_OFI_PROVIDER="tcp")
    assert result.returncode == 0 and "11 passed, 0 failed" in result.stdout, result.stdout + result.stderr


def test_doctor_tells_what_it_finds():
    said = manta("doctor").stdout
    assert "ofi would use " in said
    result = manta("doctor", MANTA_OFI_PROVIDER="pigeon")
    assert result.returncode == 1
    assert "libfabric has no provider pigeon here; it has: " in result.stdout


def test_a_provider_that_is_not_there():
    result = perf(2, MANTA_OFI_PROVIDER="pigeon")
    assert result.returncode != 0
    assert "MANTA_OFI_PROVIDER=pigeon cannot be used: libfabric has no provider pigeon here" in result.stderr


def test_without_libfabric():
    """A mount hides the library: doctor and the transport say what is missing, and nothing else needs it."""
    own = ["--mount"] if os.geteuid() == 0 else ["--user", "--map-root-user", "--mount"]
    if subprocess.run(["unshare", *own, "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("no mount namespaces")
    script = ("for file in $(ldconfig -p | sed -n 's/.*libfabric.so.1 .*=> //p'); do mount --bind /dev/null $file; done; "
              "$1 doctor || true; MANTA_TRANSPORTS=ofi $2 -n 2 $3 --max 4 || true; $2 -n 2 $3 --max 4 --iters 2")
    result = subprocess.run(["unshare", *own, "sh", "-e", "-c", script, "sh", binary("manta"), binary("mantarun"),
                             binary("manta-perf")], capture_output=True, text=True, timeout=60, check=False,
                            env=environment())
    assert result.returncode == 0, result.stdout + result.stderr
    assert "libfabric cannot be loaded" in result.stdout and "nothing here needs it" in result.stdout
    assert "no transport of 'ofi' can be used here: libfabric cannot be loaded" in result.stderr
