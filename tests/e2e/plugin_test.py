# SPDX-License-Identifier: Apache-2.0
"""Transports that are plugins: the reference plugin, built as its author would build it, under whole
programs and under manta plugin check; and one that does each thing wrong in turn."""

import concurrent.futures
import json
import os
import re
import shutil
import subprocess

import pytest

from programs import BUILD, ROOT, binary, manta, mantarun, run

COLLECTIVES = ["allreduce", "broadcast", "reduce", "allgather", "reduce_scatter", "barrier"]


@pytest.fixture(scope="module", name="plugins")
def fixture_plugins(tmp_path_factory):
    """A folder with the plugins, compiled with an installed prefix alone."""
    folder = tmp_path_factory.mktemp("plugins")
    subprocess.run(["make", "-C", ROOT, "install", f"BUILD={BUILD}", f"PREFIX={folder}/usr"], check=True,
                   capture_output=True, env={k: v for k, v in os.environ.items() if "MAKE" not in k})
    for source in ("reference.c", "faults.c"):
        shutil.copy(os.path.join(ROOT, "tests/abi", source), folder)
    for name in ("reference", "faults"):
        subprocess.run(["gcc", "-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-fPIC", "-shared", "-I",
                        folder / "usr/include", f"{name}.c", "-o", f"{name}.so"], check=True, cwd=folder)
    folder.chmod(0o755)
    return folder


def perf(*arguments, ranks=4, **variables):
    return mantarun("-n", ranks, "--no-prefix", binary("manta-perf"), *arguments, timeout=100, **variables)


def wrong_rank(rank, fault, program, *arguments, ranks=3, options=(), **variables):
    """A program on ranks of which one has a plugin with a fault."""
    shell = f'if [ "$MANTA_RANK" = {rank} ]; then export MANTA_PLUGIN_FAULTY={fault}; fi; exec "$@"'
    return mantarun("-n", ranks, *options, "sh", "-c", shell, "sh", program, *arguments, **variables)


def check(plugin, *arguments, **variables):
    """What manta plugin check finds, by topic, and its exit code."""
    result = manta("plugin", "check", plugin, "--json", *arguments, timeout=150, **variables)
    found = json.loads(result.stdout)
    return {topic["topic"]: topic for topic in found["results"]}, result.returncode, found


def not_passed(topics):
    """Those topics, with what is said of them: the whole table would be cut short."""
    return [f"{name} {topic['result']}: {topic['sentence']}" for name, topic in topics.items()
            if topic["result"] != "passed"]


def test_reference_is_short_and_alone():
    with open(os.path.join(ROOT, "tests/abi/reference.c"), encoding="utf-8") as file:
        text = file.read()
    assert text.count("\n") < 400
    assert re.findall(r"#include (\S+manta\S+)", text) == ["<manta/transport.h>"]
    assert not re.findall(r'#include "', text)


def test_all_collectives_over_the_reference(plugins):
    result = perf("--coll", ",".join(COLLECTIVES), "--min", "4", "--max", "256k", "--factor", "256",
                  "--iters", "20", "--check",
                  "--json", plugins / "perf.json", MANTA_TRANSPORTS=str(plugins / "reference.so"))
    assert result.returncode == 0, result.stdout + result.stderr
    rows = [json.loads(line) for line in (plugins / "perf.json").read_text().splitlines()]
    rows = [row for row in rows if "coll" in row]
    assert {row["coll"] for row in rows} == set(COLLECTIVES)
    assert all(row["wrong"] == 0 for row in rows)


def test_it_is_chosen_by_its_place_in_the_list(plugins):
    both = f"tcp,{plugins}/reference.so"
    for names, used in ((both, "tcp to 2 ranks"), (",".join(reversed(both.split(","))), "reference to 2 ranks")):
        result = perf("--coll", "barrier", "--iters", "20", ranks=3, MANTA_TRANSPORTS=names, MANTA_LOG="info")
        assert result.returncode == 0 and used in result.stderr, result.stderr


@pytest.mark.parametrize("fault, words", [
    ("version", "install one version on all hosts"),
    ("null", "the plugin's open gave the endpoint 0"),
    ("size", "the plugin's address gave the size 5000"),
])
def test_ranks_agree_who_has_it(plugins, fault, words):
    """A rank that has it not, or otherwise, is reached by the next of the list, on both sides."""
    result = wrong_rank(1, fault, binary("manta-perf"), "--coll", "allreduce", "--min", "8", "--max", "8", "--iters", "20", "--check",
                        MANTA_TRANSPORTS=f"{plugins}/faults.so,tcp", MANTA_LOG="debug")
    assert result.returncode == 0, result.stderr
    assert re.search(words, result.stderr), result.stderr
    for rank, peer, by in ((0, 1, "tcp"), (1, 0, "tcp"), (1, 2, "tcp"), (0, 2, "faulty"), (2, 0, "faulty")):
        assert re.search(rf"manta\[{rank}\] debug: rank {peer} is reached by {by} ", result.stderr), (rank, peer)


def test_ranks_agree_whom_it_reaches(plugins):
    """The probe of ranks 1 and 2 says no for lower ranks, that of the lower ranks yes."""
    result = perf("--coll", "allreduce", "--min", "8", "--max", "8", "--iters", "20", "--check", ranks=3,
                  MANTA_TRANSPORTS=f"{plugins}/faults.so,tcp", MANTA_LOG="debug", MANTA_PLUGIN_FAULTY="one-sided")
    assert result.returncode == 0, result.stderr
    assert "is reached by faulty" not in result.stderr
    assert "rank 2 does not reach this rank by it" in result.stderr


def test_without_another_the_reason_is_told(plugins):
    result = wrong_rank(1, "version", binary("manta-perf"), "--coll", "barrier", "--iters", "20", ranks=2,
                        options=["--keep-going"], MANTA_TRANSPORTS=f"{plugins}/faults.so")
    assert result.returncode != 0
    seen_from = {0: "rank 1 does not offer it: it has faulty 1 of another build, this rank has faulty 1;",
                 1: "rank 0 does not offer it: it has faulty 1, this rank has faulty 1 of another build;"}
    assert any(words in result.stderr for words in seen_from.values()), result.stderr


@pytest.mark.parametrize("fault, words", [
    ("code", "the plugin's (send|recv) gave the answer 7"),
    ("status", "the plugin's (send|recv) gave the status 7"),
    ("answer", "the plugin's progress gave the answer 42"),
    ("limit", "the plugin's probe gave the message_bytes_max 4096"),
])
def test_a_wrong_answer_is_an_error_of_the_communicator(plugins, fault, words):
    result = perf("--coll", "allreduce", "--min", "1k", "--max", "1k", ranks=2, MANTA_PLUGIN_FAULTY=fault,
                  MANTA_TRANSPORTS=f"{plugins}/faults.so", MANTA_TIMEOUT="20s")
    assert result.returncode not in (0, 124), result.stdout
    assert re.search(words, result.stderr), result.stderr


def test_what_a_plugin_loses_is_missed_at_the_deadline(plugins):
    for seconds in (1, 5, 25):  # the ranks have to meet within it, too
        result = perf("--coll", "allreduce", "--min", "1k", "--max", "1k", ranks=2, MANTA_PLUGIN_FAULTY="drop",
                      MANTA_TRANSPORTS=f"{plugins}/faults.so", MANTA_TIMEOUT=f"{seconds}s")
        assert result.returncode != 0
        if " in #" in result.stderr:
            break
    waited = re.search(r"rank [01] waited ([\d.]+) s in #\d+ allreduce\(", result.stderr)
    assert waited and float(waited.group(1)) >= seconds, result.stderr


def test_the_manual_s_plugin(plugins):
    """It compiles as it stands, is loaded, and says that it cannot be used."""
    with open(os.path.join(ROOT, "docs/transport-plugin.md"), encoding="utf-8") as file:
        source = re.search(r"^```c\n(.*?)^```", file.read(), re.M | re.S).group(1)
    (plugins / "mine.c").write_text(source)
    subprocess.run(["gcc", "-std=c11", "-Wall", "-Wextra", "-Werror", "-fPIC", "-shared", "-I",
                    plugins / "usr/include", "mine.c", "-o", "mine.so"], check=True, cwd=plugins)
    result = manta("plugin", "check", plugins / "mine.so", "--only", "open")
    assert result.returncode == 77
    assert "nothing was checked: it cannot be used on this host: it is not written yet" in result.stdout
    result = perf("--coll", "barrier", "--iters", "20", ranks=2, MANTA_TRANSPORTS=f"{plugins}/mine.so,tcp",
                  MANTA_LOG="debug")
    assert result.returncode == 0
    assert f"rank 1 is not reached by {plugins}/mine.so: it cannot be used here: it is not written yet" in result.stderr


def test_check_passes_the_simulator():
    topics, code, found = check("sim", "--only", "matching,mismatch,abort,close,sleep,errors,random")
    assert code == 0 and found["passed"] == 7, not_passed(topics)


@pytest.mark.parametrize("transport", ["shm", "tcp", "reference"])
def test_check_passes(plugins, transport):
    name = plugins / "reference.so" if transport == "reference" else transport
    topics, code, found = check(name)
    assert code == 0 and found["failed"] == 0, not_passed(topics)
    skipped = {"registration"} | ({"eager", "counters"} if transport == "reference" else set())
    assert {name for name, topic in topics.items() if topic["result"] == "skipped"} == skipped
    assert len(topics) >= 18


FAULTS = [
    ("drop", "matching", "hung|failed", "not complete|hung"),
    ("lose", "ordering", "hung|failed", "not complete|hung"),
    ("crash", "matching", "crashed", "Segmentation"),
    ("hang", "matching", "hung", "hung"),
    ("block", "ordering", "failed", "no op may block"),
    ("code", "matching", "failed", "gave the answer 7"),
    ("status", "matching", "failed", "gave the status 7"),
    ("size", "open", "failed", "gave the size 5000"),
    ("null", "open", "failed", "gave the endpoint 0"),
    ("limit", "open", "failed", "message_bytes_max 4096"),
    ("answer", "open", "failed", "gave the answer 42"),
    ("text", "errors", "failed", "error tells of"),
    ("silent", "errors", "failed", "no words"),
    ("sum", "errors", "failed", "recv of a message of pieces that have 16 bytes, and says 17 answered 0"),
    ("kind", "errors", "failed|crashed", "recv of a message in memory of an unknown kind answered 0|crashed"),
    ("late", "abort", "crashed", "after abort"),
    ("leak", "close", "failed", "descriptors behind"),
    ("deaf", "sleep", "failed", "slept"),
    ("epoch", "epoch", "failed", "is wrong"),
    ("match", "drain", "failed", "MANTA_EMISMATCH|is wrong"),
    ("blind", "mismatch", "failed", "did not expect"),
    ("grow", "full", "failed", "grew by"),
    ("slow-abort", "mismatch", "failed", "abort took"),
    ("no-abort", "abort", "failed", "still under way"),
    ("unsafe", "abort", "failed", "MANTA_EBUFFER"),
]


WITH_MESSAGES = ("send", "recv", "progress", "send, recv", "recv, progress", "send, progress")


@pytest.fixture(scope="module", name="found")
def fixture_found(plugins):
    """What is found of each fault. Most of the time goes by with waiting, so some run at a time."""
    def find(fault, topic, result, _):
        for limit in ("2", "30") if "hung" in result else ("30",):
            topics, code, whole = check(plugins / "faults.so", "--only", topic, "--limit", limit,
                                        MANTA_PLUGIN_FAULTY=fault)
            if topics[topic]["result"] != "hung" or topics[topic]["ops"] in WITH_MESSAGES:
                break  # else a busy host has kept it from its first message
        return topics, code, whole
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda row: find(*row), FAULTS))
    return {row[0]: result for row, result in zip(FAULTS, results)}


@pytest.mark.parametrize("fault, topic, result, words", FAULTS)
def test_check_finds(found, fault, topic, result, words):
    topics, code, _ = found[fault]
    assert code == 1
    assert re.fullmatch(result, topics[topic]["result"]), topics
    assert re.search(words, topics[topic]["sentence"]), topics
    if result in ("crashed", "hung"):
        assert topics[topic]["ops"] in WITH_MESSAGES


@pytest.mark.parametrize("fault, topics", [("delay", "ordering,abort,sleep"), ("reorder", "matching,ordering,drain")])
def test_check_bears(plugins, fault, topics):
    """What is slow, or in another order, is not wrong."""
    found, code, _ = check(plugins / "faults.so", "--only", topics, MANTA_PLUGIN_FAULTY=fault)
    assert code == 0, not_passed(found)


def test_list(plugins):
    result = manta("plugin", "list", MANTA_TRANSPORTS=f"shm,{plugins}/reference.so")
    assert result.returncode == 0
    assert re.search(rf"^reference +1 +usable +{plugins}/reference.so$", result.stdout, re.M), result.stdout
    assert re.search(r"^tcp +built in +usable", result.stdout, re.M)
    result = manta("plugin", "list", "--json", MANTA_TRANSPORTS="/no/such.so")
    listed = {entry["name"]: entry for entry in json.loads(result.stdout)}
    assert result.returncode == 1
    assert listed["shm"]["usable"] and not listed[""]["usable"]
    assert "there is no plugin at /no/such.so" in listed[""]["why"]


def test_nothing_to_check(plugins):
    """That nothing was found wrong, since nothing could be tried, is no success."""
    result = manta("plugin", "check", "ofi", MANTA_OFI_PROVIDER="pigeon")
    assert result.returncode == 77
    assert "ofi: nothing was checked: it cannot be used on this host: libfabric has no provider pigeon" in result.stdout
    result = manta("plugin", "check", plugins / "reference.so", "--only", "registration")
    assert result.returncode == 77 and "nothing was checked: it registers no memory" in result.stdout


def test_refused_files(plugins, tmp_path):
    loose = tmp_path / "loose.so"
    shutil.copy(plugins / "reference.so", loose)
    loose.chmod(0o666)
    result = manta("plugin", "check", loose)
    assert result.returncode == 1 and "others may write the plugin" in result.stdout
    result = manta("plugin", "check", "./no/such.so")
    assert result.returncode == 2 and "./no/such.so: No such file" in result.stderr
    result = manta("plugin", "check", "nosuch")
    assert result.returncode == 2 and "neither a file nor a built-in transport, which are: shm, tcp" in result.stderr
    result = run(binary("manta"), "doctor", MANTA_TRANSPORTS=str(loose))
    assert "others may write the plugin" in result.stdout


@pytest.mark.parametrize("arguments", [[], ["check"], ["check", "tcp", "shm"], ["nothing"], ["list", "shm"],
                                       ["check", "tcp", "--only", "nonsense"], ["check", "tcp", "--limit", "0"],
                                       ["check", "--what"]])
def test_wrong_usage(arguments):
    result = manta("plugin", *arguments)
    assert result.returncode == 2 and result.stderr
