# SPDX-License-Identifier: Apache-2.0
"""The README's C program, built against an installed copy as the README says, run by mantarun and
as plain processes. The program is taken out of the README, so that it cannot rot there."""

import os
import re
import subprocess

import pytest

from programs import BUILD, ROOT, environment, run

RANKS = 3


def readme_block(language, containing):
    with open(os.path.join(ROOT, "README.md"), encoding="utf-8") as file:
        blocks = re.findall(rf"^```{language}\n(.*?)^```", file.read(), re.M | re.S)
    matching = [block for block in blocks if containing in block]
    assert len(matching) == 1, f"the README must have one {language} block with {containing}"
    return matching[0]


def make(*arguments):
    subprocess.run(["make", "-C", ROOT, f"BUILD={BUILD}", *arguments], check=True, capture_output=True,
                   env={k: v for k, v in os.environ.items() if "MAKE" not in k})


def files_below(folder):
    return {os.path.relpath(os.path.join(above, name), folder) for above, _, names in os.walk(folder) for name in names}


@pytest.fixture(scope="module", name="installed")
def fixture_installed(tmp_path_factory):
    """A fresh copy under a prefix of its own, with the program beside it."""
    folder = tmp_path_factory.mktemp("install")
    make("install", f"PREFIX={folder}/usr")
    (folder / "sum.c").write_text(readme_block("c", "manta_comm_create"))
    return folder


def build(folder, *options):
    """Compile with what pkg-config says, warnings as errors."""
    flags = subprocess.run(["pkg-config", "--cflags", "--libs", *options, "manta"], check=True, capture_output=True,
                           text=True, env=environment(PKG_CONFIG_PATH=f"{folder}/usr/lib/pkgconfig")).stdout.split()
    subprocess.run(["gcc", "-std=c11", "-Wall", "-Wextra", "-Werror", f"{folder}/sum.c", "-o", f"{folder}/sum", *flags],
                   check=True)
    return folder / "sum"


def expected():
    return sorted(f"rank {r} of {RANKS}: 0 + ... + {RANKS - 1} = {sum(range(RANKS))}" for r in range(RANKS))


def test_program_is_short():
    lines = [line for line in readme_block("c", "manta_comm_create").splitlines() if line.strip()]
    assert len(lines) <= 22


def test_with_mantarun(installed):
    program = build(installed)
    result = run(installed / "usr/bin/mantarun", "-n", RANKS, "--no-prefix", program,
                 LD_LIBRARY_PATH=f"{installed}/usr/lib")
    assert result.returncode == 0, result.stderr
    assert sorted(result.stdout.splitlines()) == expected()


def test_as_plain_processes(installed):
    """The very same program, started by hand with rank, size and session in the environment."""
    program = build(installed)
    session = run(installed / "usr/bin/manta", "session", "--host", "127.0.0.1").stdout.strip()
    started = [subprocess.Popen([program], stdout=subprocess.PIPE, text=True,
                                env=environment(MANTA_RANK=str(r), MANTA_SIZE=str(RANKS), MANTA_SESSION=session,
                                                LD_LIBRARY_PATH=f"{installed}/usr/lib"))
               for r in reversed(range(RANKS))]
    lines = [process.communicate(timeout=60)[0].strip() for process in started]
    assert [process.returncode for process in started] == [0] * RANKS
    assert sorted(lines) == expected()


def test_statically(installed):
    """Against libmanta.a: pkg-config --static names what it needs."""
    os.rename(installed / "usr/lib/libmanta.so", installed / "usr/lib/hidden.so")
    try:
        program = build(installed, "--static")
        needed = subprocess.run(["readelf", "-d", program], check=True, capture_output=True, text=True).stdout
        assert "libmanta" not in needed
        result = run(installed / "usr/bin/mantarun", "-n", RANKS, "--no-prefix", program)
        assert sorted(result.stdout.splitlines()) == expected()
    finally:
        os.rename(installed / "usr/lib/hidden.so", installed / "usr/lib/libmanta.so")


def test_without_a_job_it_says_what_to_do(installed):
    result = run(build(installed), LD_LIBRARY_PATH=f"{installed}/usr/lib")
    assert result.returncode != 0
    assert "MANTA_SIZE" in result.stderr and "mantarun" in result.stderr


def test_installed_files(installed):
    listed = files_below(installed / "usr")
    assert sorted(name for name in listed if name.startswith("bin/")) == ["bin/manta", "bin/manta-perf", "bin/mantarun"]
    assert {"lib/libmanta.so", "lib/libmanta.so.0", "lib/libmanta.a", "lib/pkgconfig/manta.pc",
            "include/manta/manta.h", "include/manta/errors.def"} <= listed


def test_destdir(tmp_path):
    """DESTDIR moves the files and leaves the paths inside alone."""
    make("install", "PREFIX=/usr", f"DESTDIR={tmp_path}")
    assert "prefix=/usr\n" in (tmp_path / "usr/lib/pkgconfig/manta.pc").read_text()
    assert (tmp_path / "usr/bin/mantarun").exists()


@pytest.mark.parametrize("destdir", [False, True])
def test_uninstall_leaves_what_is_not_ours(tmp_path, destdir):
    where = ("PREFIX=/opt/manta", f"DESTDIR={tmp_path}") if destdir else (f"PREFIX={tmp_path}/opt/manta",)
    prefix = tmp_path / "opt/manta"
    make("install", *where)
    theirs = {"bin/other", "lib/libother.so", "lib/pkgconfig/other.pc", "include/other.h"}
    for name in theirs:
        (prefix / name).write_text("")
    make("uninstall", *where)
    assert files_below(prefix) == theirs and not (prefix / "include/manta").exists()
    make("uninstall", *where)  # nothing is there any more: that is fine
    make("install", *where)
    (prefix / "include/manta/mine.h").write_text("")
    make("uninstall", *where)
    assert files_below(prefix) == theirs | {"include/manta/mine.h"}
