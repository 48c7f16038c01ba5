# SPDX-License-Identifier: Apache-2.0
"""The ABI is what tests/abi has on file. A change that is meant is put on file by `make abi`."""

import os
import shutil
import subprocess

import pytest

import tree

DUMPS = ["libmanta.abi", "transport.abi"]


def dump(folder, include=None):
    command = [os.path.join(tree.ROOT, "tests/abi/dump.sh"), str(folder)] + ([str(include)] if include else [])
    subprocess.run(command, check=True, capture_output=True, env={**os.environ, "BUILD": tree.build()})


def difference(name, folder):
    """Exit code and words of abidiff: what is on file against what is in the folder."""
    result = subprocess.run(["abidiff", os.path.join(tree.ROOT, "tests/abi", name), os.path.join(str(folder), name)],
                            capture_output=True, text=True, check=False)
    return result.returncode, result.stdout + result.stderr


@pytest.fixture(scope="module", name="now")
def fixture_now(tmp_path_factory):
    folder = tmp_path_factory.mktemp("abi")
    dump(folder)
    return folder


@pytest.mark.parametrize("name", DUMPS)
def test_nothing_has_changed(now, name):
    code, words = difference(name, now)
    assert code == 0, f"{words}\nIf that is meant, and breaks nobody (include/manta/transport.h): make abi"


def changed(tmp_path, old, new):
    """Dumps of headers in which one text is another."""
    include = tmp_path / "include"
    shutil.copytree(os.path.join(tree.ROOT, "include"), include)
    headers = [header for header in (include / "manta").iterdir() if old in header.read_text()]
    assert len(headers) == 1 and headers[0].read_text().count(old) == 1
    headers[0].write_text(headers[0].read_text().replace(old, new))
    dump(tmp_path, include)
    return difference("transport.abi", tmp_path)


@pytest.mark.parametrize("old, new, word", [
    ("    uint64_t bytes; /* sum of the pieces; 0 is legal */\n", "    uint32_t bytes;\n", "bytes"),
    ("    uint32_t epoch;   /* of the communicator */\n", "    uint32_t between, epoch;\n", "between"),
    ("    int (*progress)(void *endpoint);\n", "    int (*progress)(void *endpoint, int much);\n", "progress"),
    ("    int (*abort)(void *endpoint, int code);\n", "", "abort"),
    ("    uint64_t transport_private[32];\n", "    uint64_t transport_private[31];\n", "transport_private"),
    ("MANTA_MEMORY_CUDA = 1", "MANTA_MEMORY_CUDA = 2", "MANTA_MEMORY_CUDA"),
    ("MANTA_MESSAGE_DIRECT = 1", "MANTA_MESSAGE_DIRECT = 2", "MESSAGE_DIRECT"),
    ("MANTA_TRANSPORT_ADDRESS_MAX = 1024", "MANTA_TRANSPORT_ADDRESS_MAX = 2048", "ADDRESS_MAX"),
    ("MANTA_PLAN_LOCATIONS = 8", "MANTA_PLAN_LOCATIONS = 4", "LOCATIONS"),
    ("MANTA_ERROR(EAGAIN, -14,", "MANTA_ERROR(EAGAIN, -34,", "MANTA_EAGAIN"),
    ("MANTA_FLOAT32 = 10", "MANTA_FLOAT32 = 12", "MANTA_FLOAT32"),
])
def test_a_change_is_seen(tmp_path, old, new, word):
    """So that the test above can fail."""
    code, words = changed(tmp_path, old, new)
    assert code & 4 and word in words, words


def test_a_lost_function_is_seen(now, tmp_path):
    text = (now / "libmanta.abi").read_text()
    lines = [line for line in text.splitlines() if "<elf-symbol name='manta_allreduce'" not in line]
    (tmp_path / "libmanta.abi").write_text("\n".join(lines) + "\n")
    code, words = difference("libmanta.abi", tmp_path)
    assert code & 8 and "manta_allreduce" in words, words
