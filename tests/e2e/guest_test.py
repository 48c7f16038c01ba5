# SPDX-License-Identifier: Apache-2.0
"""tests/rdma/guest where it cannot work: without qemu or a kernel its tests are skipped, with the reason;
a guest that dies or hangs is a failure, with its console's last lines. What it calls are stand-ins."""

import importlib.util
import os
import shutil
import sys

import pytest

from programs import ROOT, run

# Writes to the file that is the guest's console, as a kernel does.
QEMU = """#!/bin/bash
for word; do
    case $word in file,id=console,path=*) console=${word##*=} ;; esac
done
for ((i = 0; i < 80; i++)); do echo "line $i" >>"$console"; done
echo "Kernel panic - not syncing: nothing to do" >>"$console"
"""


@pytest.fixture(name="host")
def make_host(tmp_path, monkeypatch):
    """A host that has nothing but what a test adds: a function that adds a program."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("bash", "sleep", "env"):
        (folder / name).symlink_to(shutil.which(name))
    (folder / "python3").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    (folder / "python3").chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setenv("BUILD", str(tmp_path))
    monkeypatch.chdir(ROOT)

    def add(name, text):
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    return add


def have_kernel(tmp_path):
    """One that nothing boots, where tests/rdma/image.py looks for it."""
    spec = importlib.util.spec_from_file_location("image", os.path.join(ROOT, "tests/rdma/image.py"))
    image = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(image)
    place = tmp_path / "rdma" / f"stable-{image.inputs()}"
    place.mkdir(parents=True)
    for name in ("kernel", "initrd"):
        (place / name).write_text("")


def guest(*options):
    return run(sys.executable, os.path.join(ROOT, "tests/rdma/guest"), *options, "true")


def phase(tmp_path):
    """One test of the phase, as `make check` runs and counts it."""
    return run(sys.executable, "tests/run", "--suite", "rdma", "--limit", 30, "--results", tmp_path / "results",
               "tests/rdma/faults_test.sh")


def is_skipped(tmp_path, reason):
    result = guest("--test")
    assert result.returncode == 0 and result.stdout.startswith("skip guest: "), result
    assert reason in result.stdout
    result = guest()
    assert result.returncode == 125 and reason in result.stderr, result
    result = phase(tmp_path)
    assert result.returncode == 0 and "1 skipped" in result.stdout, result


def test_without_apt(tmp_path, host):
    assert host
    is_skipped(tmp_path, "apt-cache is not installed: run `make deps-rdma`")


def test_without_a_kernel(tmp_path, host):
    host("apt-get", "#!/bin/bash\n")
    host("apt-cache", "#!/bin/bash\necho 'E: No packages found' >&2\nexit 100\n")
    is_skipped(tmp_path, "E: No packages found")


def test_without_qemu(tmp_path, host):
    assert host
    have_kernel(tmp_path)
    is_skipped(tmp_path, "qemu-system-x86_64 is not installed: run `make deps-rdma`")


def test_a_guest_that_dies(tmp_path, host):
    host("qemu-system-x86_64", QEMU)
    have_kernel(tmp_path)
    result = guest()
    assert result.returncode == 125, result
    lines = result.stderr.splitlines()
    assert lines[0] == "guest: ended without an exit code; its console's last lines:"
    assert lines[-1].strip() == "Kernel panic - not syncing: nothing to do" and len(lines) == 51
    result = guest("--test")
    assert result.returncode == 125 and result.stderr.count("the test begins again in a fresh guest") == 1, result
    result = phase(tmp_path)
    assert result.returncode != 0 and "Kernel panic" in result.stdout, result


def test_a_guest_that_hangs(tmp_path, host):
    host("qemu-system-x86_64", QEMU + "exec sleep 60\n")
    have_kernel(tmp_path)
    for seconds in (1, 5, 25):  # a busy host may need longer to begin with it
        result = guest("--test", "--timeout", seconds)
        assert result.returncode == 124, result
        assert "guest: did not end in time; its console's last lines:" in result.stderr
        if "Kernel panic" in result.stderr:
            return
    pytest.fail("the console's last lines are missing")
