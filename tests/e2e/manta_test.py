# SPDX-License-Identifier: Apache-2.0
"""The subcommands of manta."""

import os
import pty
import re
import socket
import subprocess

import pytest

from programs import ROOT, binary, environment, manta


def variables():
    with open(f"{ROOT}/core/config.def", encoding="utf-8") as file:
        return re.findall(r"^MT_CONFIG\((\w+),", file.read(), re.M)


def test_help_of_all():
    listed = re.findall(r"^  (\w+) ", manta("--help").stdout, re.M)
    assert {"info", "explain", "plan", "topo", "doctor", "session"} <= set(listed)
    for command in listed:
        result = manta(command, "--help")
        assert result.returncode == 0 and f"usage: manta {command}" in result.stdout
        for wrong in ("--nonsense", "nonsense"):
            result = manta(command, wrong)
            assert result.returncode == 2 and not result.stdout
            assert "nonsense" in result.stderr and f"See manta {command} --help" in result.stderr


def test_help_and_version_are_commands():
    assert manta("help").stdout == manta("--help").stdout
    assert manta("help", "topo").stdout == manta("topo", "--help").stdout
    assert manta("version").stdout == manta("--version").stdout
    assert manta("help").returncode == manta("help", "topo").returncode == manta("version").returncode == 0


@pytest.mark.parametrize("arguments", [[], ["nothing"], ["help", "nothing"], ["help", "topo", "more"], ["version", "more"], ["explain"], ["explain", "--coll", "allreduce"], ["plan", "-n", 4],
                                       ["explain", "--coll", "x", "-n", 4], ["explain", "--coll", "allreduce", "-n", 0],
                                       ["explain", "--coll", "broadcast", "-n", 4, "--root", 4],
                                       ["explain", "--coll", "allreduce", "-n", 4, "--bytes", "1x"],
                                       ["explain", "--coll", "allreduce", "-n", 4, "--bytes", 3],
                                       ["explain", "--coll", "send", "-n", 4, "--bytes", 12, "--dtype", "float64"],
                                       ["explain", "--coll", "allreduce", "-n", 4, "--op", "band"],
                                       ["explain", "--coll", "allreduce", "-n", 1, "--bytes", 2**64 - 1],
                                       ["explain", "--coll", "allgather", "-n", 4, "--bytes", 2**61],
                                       ["plan", "--coll", "allreduce", "--algorithm", "x", "-n", 4],
                                       ["plan", "--coll", "allreduce", "--algorithm", "ring", "-n", 4, "--rank", 4],
                                       ["plan", "--coll", "send", "--algorithm", "direct", "-n", 1],
                                       ["plan", "--coll", "send", "--algorithm", "direct", "-n", 4, "--peer", 0],
                                       ["plan", "--coll", "recv", "--algorithm", "direct", "-n", 4, "--rank", 2, "--peer", 2],
                                       ["plan", "--coll", "send", "--algorithm", "direct", "-n", 4, "--peer", 4],
                                       ["plan", "--coll", "send", "--algorithm", "direct", "-n", 4, "--root", 2],
                                       ["plan", "--coll", "reduce", "--algorithm", "binomial", "-n", 4, "--peer", 2],
                                       ["explain", "--coll", "recv", "-n", 1],
                                       ["session", "--port", "0"], ["session", "--port", "x"], ["info", "--x"],
                                       ["doctor", "--x"], ["explain", "--coll", "allreduce", "-n", 4, "more"]])
def test_wrong_usage(arguments):
    result = manta(*arguments)
    assert result.returncode == 2 and result.stderr and not result.stdout


def test_info():
    result = manta("info")
    assert result.returncode == 0
    for word in ("libmanta", "CPUs", "caches", "allreduce", "ring"):
        assert word in result.stdout


def test_config_lists_every_variable_and_its_origin():
    result = manta("info", "--config", MANTA_LOG="debug")
    assert result.returncode == 0
    for name in variables():
        assert re.search(rf"^MANTA_{name}\b", result.stdout, re.M), name
    assert re.search(r"^MANTA_LOG +debug +\(from the environment\)", result.stdout, re.M)


def test_config_tells_what_is_wrong():
    result = manta("info", "--config", MANTA_TIMEOUT="soon")
    assert result.returncode == 1 and "MANTA_TIMEOUT" in result.stdout.split("problem:")[1]


def test_config_keeps_the_secret():
    session = manta("session").stdout.strip()
    result = manta("info", "--config", MANTA_SESSION=session)
    assert session not in result.stdout + result.stderr


def test_explain_lists_all_algorithms_and_marks_one():
    result = manta("explain", "--coll", "allreduce", "--bytes", "1M", "-n", 4)
    assert result.returncode == 0
    for name in ("ring", "recursive_doubling", "fused"):
        assert name in result.stdout
    assert len(re.findall(r"^\* +\w+ +[\d.]+ us", result.stdout, re.M)) == 1


def test_explain_counts_whole_elements():
    refused = manta("explain", "--coll", "allreduce", "-n", 4, "--bytes", 3)
    assert refused.returncode == 2 and "whole number of elements" in refused.stderr
    assert manta("explain", "--coll", "allreduce", "-n", 4, "--bytes", 3, "--dtype", "int8").returncode == 0
    assert manta("explain", "--coll", "barrier", "-n", 4, "--bytes", 3).returncode == 0


def test_explain_orders_by_prediction():
    result = manta("explain", "--coll", "allreduce", "--bytes", "64M", "-n", 8, "--nodes", 8)
    times = [float(text) for text in re.findall(r"([\d.]+) us", result.stdout)]
    assert len(times) >= 2 and times[1:] == sorted(times[1:]) and times[0] <= 1.05 * times[1]


def test_explain_says_why_the_second_best_runs(tmp_path):
    """Another one than the lowest may run: of prices that are nearly equal, or where nobody knows the network's speed. That is
    not called the best."""
    best, equal = "the cost model's best", "within 5 % of the cost model's best, and picked by its number of messages"
    unknown = "nobody knows the network's speed (manta tune measures it), and this is good both if it is\n  fast, as predicted, and at 1 Gbit/s"
    tuning = tmp_path / "tuning"
    tuning.write_text("manta-tuning 1\nnode uplink_ps_per_byte 100\n")
    seen = set()
    for others, variables in ((unknown, {}), (equal, {"MANTA_TUNING": tuning})):
        for size, ranks, nodes in (("16k", 16, "4x4"), ("64k", 16, "4x4"), ("1M", 8, "2x4"), ("64M", 8, 8), ("16M", 4, 4)):
            text = manta("explain", "--coll", "allreduce", "--bytes", size, "-n", ranks, "--nodes", nodes, **variables).stdout
            times = [float(time) for time in re.findall(r"([\d.]+) us", text)]
            why = best if times[0] == min(times) else others
            assert text.endswith(f"\n* runs: {why}\n"), text
            seen.add(why)
    assert seen == {best, equal, unknown}


def test_explain_obeys_the_override():
    result = manta("explain", "--coll", "allreduce", "--bytes", "4", "-n", 4, MANTA_ALLREDUCE="0-4k:ring,4k-:recursive_doubling")
    assert result.returncode == 0 and re.search(r"^\* +ring", result.stdout, re.M)


def test_explain_says_when_the_override_cannot_be():
    result = manta("explain", "--coll", "allreduce", "-n", 4, "--nodes", 2, MANTA_ALLREDUCE="fused")
    assert result.returncode == 1 and "fused" in result.stdout


def test_explain_refuses_a_garbled_override():
    result = manta("explain", "--coll", "allreduce", "-n", 4, MANTA_ALLREDUCE="4k-0:ring")
    assert result.returncode == 1 and "MANTA_ALLREDUCE" in result.stderr


@pytest.mark.parametrize("ranks", [1, 2, 5, 16])
def test_plan_proves_and_prints(ranks):
    result = manta("plan", "--coll", "allreduce", "--algorithm", "ring", "-n", ranks)
    assert result.returncode == 0
    assert f"proved for {ranks} ranks" in result.stdout
    assert len(re.findall(r"^rank \d+ of", result.stdout, re.M)) == ranks


def test_plan_of_every_algorithm_of_info():
    listed = re.findall(r"^  (allreduce|broadcast|reduce|allgather|reduce_scatter|barrier|send|recv) +(.*)$", manta("info").stdout, re.M)
    assert len(listed) == 8
    for collective, names in listed:
        assert names.split()
        for name in names.split():
            nodes = "abab" if name == "ordered_ring" else "2"
            result = manta("plan", "--coll", collective, "--algorithm", name, "-n", 4, "--rank", 3, "--nodes", nodes)
            assert result.returncode == 0 and "proved for 4 ranks" in result.stdout, (collective, name)


@pytest.mark.parametrize("nodes, ranks, algorithm, steps", [
    ("2x2", 4, "rails_ring", 2), ("2x1+2", 4, "leaders_doubling", 2), ("aabbb", 5, "rails_doubling", 4), ("3", 6, "leaders_ring", 2)])
def test_plan_on_nodes(nodes, ranks, algorithm, steps):
    arguments = ["plan", "--coll", "allreduce", "--algorithm", algorithm, "-n", ranks, "--nodes", nodes]
    result = manta(*arguments, "--rank", ranks - 1)
    assert result.returncode == 0 and f"proved for {ranks} ranks" in result.stdout
    assert result.stdout.count("fused") == steps
    plain = manta(*arguments, "--plain")
    assert plain.returncode == 0 and "proved" in plain.stdout and "fused" not in plain.stdout


@pytest.mark.parametrize("nodes, reason", [("2x2", "number of ranks"), ("3+", "ranks of each node"), ("0x2", "ranks of each node"), ("6", "more nodes"), ("5x1", "no two ranks"), ("5", "no two ranks"), ("1", "on one node"), ("aBc", "ranks of each node")])
def test_plan_refuses_nodes(nodes, reason):
    result = manta("plan", "--coll", "allreduce", "--algorithm", "leaders_ring", "-n", 5, "--nodes", nodes)
    assert result.returncode != 0 and reason in result.stderr


def test_the_last_nodes_count():
    result = manta("plan", "--coll", "allreduce", "--algorithm", "leaders_ring", "-n", 5, "--nodes", "2+1+2", "--nodes", 2)
    assert result.returncode == 0 and "leaders_ring" in result.stdout
    assert result.stdout.count("fused") == 2 * 5


def test_sends_and_receives_of_a_plan_match():
    result = manta("plan", "--coll", "broadcast", "--algorithm", "binomial", "-n", 7, "--root", 3)
    sends, receives, rank = [], [], None
    for line in result.stdout.splitlines():
        if match := re.match(r"rank (\d+) of", line):
            rank = int(match.group(1))
        elif match := re.match(r"\s*\d+ (send|recv) .* (?:to|from) (\d+) #(\d+)", line):
            kind, peer, number = match.groups()
            (sends if kind == "send" else receives).append(
                (rank, int(peer), number) if kind == "send" else (int(peer), rank, number))
    assert len(sends) == 6 and sorted(sends) == sorted(receives)


@pytest.mark.parametrize("collective, rank, peer, sender, receiver", [
    ("send", None, None, 0, 1), ("recv", None, None, 1, 0), ("send", 3, None, 3, 0), ("send", 2, 4, 2, 4), ("recv", None, 3, 3, 0)])
def test_plan_of_a_pair(collective, rank, peer, sender, receiver):
    arguments = [*(["--rank", rank] if rank is not None else []), *(["--peer", peer] if peer is not None else [])]
    result = manta("plan", "--coll", collective, "--algorithm", "direct", "-n", 5, *arguments)
    assert result.returncode == 0 and "1 messages" in result.stdout
    assert re.findall(r"^rank (\d+) of", result.stdout, re.M) == [str(r) for r in sorted([sender, receiver])]
    assert re.search(rf" send .* to {receiver} ", result.stdout) and re.search(rf" recv .* from {sender} ", result.stdout)


def test_explain_of_a_pair():
    result = manta("explain", "--coll", "send", "-n", 5, "--nodes", 5, "--peer", 4)
    assert result.returncode == 0 and "between rank 0 and rank 4" in result.stdout and "* " in result.stdout


def test_doctor():
    result = manta("doctor")
    lines = result.stdout.strip().splitlines()
    assert all(re.match(r"(ok|warning|problem) +\S", line) for line in lines[:-2])
    problems = sum(line.startswith("problem") for line in lines)
    assert result.returncode == (1 if problems else 0)
    for subject in ("interface", "shared memory", "cross memory", "locked memory", "open files", "CPU affinity",
                    "CPU quota", "library", "membarrier", "unix socket"):
        assert any(subject in line for line in lines), subject


def test_session():
    result = manta("session", "--host", "127.0.0.1", "--port", "4711")
    assert result.returncode == 0
    assert re.fullmatch(r"manta1:[A-Za-z0-9_-]{43}@127\.0\.0\.1:4711\n", result.stdout)


def test_session_needs_an_address_and_a_port_of_its_own():
    result = manta("session", "--host", "192.0.2.250")
    assert result.returncode == 1 and not result.stdout
    assert "192.0.2.250 is no address of this host; make the session on the host where rank 0" in result.stderr
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        result = manta("session", "--host", "127.0.0.1", "--port", port)
    assert result.returncode == 1 and f"port {port} is taken; name another one" in result.stderr


LONG = ["plan", "--coll", "allreduce", "--algorithm", "ring", "-n", "1900"]  # many seconds, of which few are waited for


def test_what_takes_long_is_told():
    with subprocess.Popen([binary("manta"), *LONG], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
                          env=environment()) as process:
        assert process.stderr.readline() in [f"manta plan: ring {doing}; this takes a while\n"
                                             for doing in ("is compiled", "is proved for 1900 ranks")]
        process.kill()


def test_a_terminal_sees_progress():
    ours, theirs = pty.openpty()
    with subprocess.Popen([binary("manta"), *LONG], stdout=subprocess.DEVNULL, stderr=theirs,
                          env=environment()) as process:
        os.close(theirs)
        seen = b""
        while not re.search(rb"\rring is (proved for 1900 ranks( \[.*\])?|compiled) \d+ s", seen):
            seen += os.read(ours, 4096)
        process.kill()
    os.close(ours)


def test_plans_that_are_too_long():
    result = manta("plan", "--coll", "allreduce", "--algorithm", "ring", "-n", 20000)
    assert result.returncode == 1 and "try fewer ranks" in result.stderr
