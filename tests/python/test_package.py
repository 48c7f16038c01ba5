# SPDX-License-Identifier: Apache-2.0
"""The package itself: what is in it, what importing it pulls in, its types."""

import inspect
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import manta

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "bindings/python"
INSTALLED = Path(manta.__file__).parent


def output_of(*command, **options):
    result = subprocess.run(command, capture_output=True, text=True, check=False, **options)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def test_import_needs_numpy_only():
    program = "import sys, manta; print({'torch', 'ray', 'numpy'} & set(sys.modules))"
    assert output_of(sys.executable, "-c", program).strip() == "{'numpy'}"


def test_library_is_inside():
    extension, = INSTALLED.glob("_manta*.so")
    dynamic = output_of("readelf", "-d", extension)
    assert extension.name == "_manta.abi3.so"
    assert "[libmanta.so.0]" in dynamic and "$ORIGIN]" in dynamic
    maps = Path("/proc/self/maps").read_text()
    assert str((INSTALLED / "libmanta.so.0").resolve()) in maps


def test_wheel(tmp_path):
    """pip builds it offline, with what is compiled already, and leaves the source tree alone."""
    build = os.environ.get("BUILD") or str(ROOT / "build")
    before = sorted(SOURCE.rglob("*"))
    output_of(sys.executable, "-m", "pip", "wheel", "-q", "--no-index", "--no-deps",
              "--no-build-isolation", "-w", str(tmp_path), str(SOURCE),
              env=os.environ | {"MANTA_BUILD": build})
    assert sorted(SOURCE.rglob("*")) == before
    wheel, = tmp_path.glob("*.whl")
    assert wheel.name.startswith(f"manta-{manta.__version__}-cp311-abi3-")
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {"manta/libmanta.so.0", "manta/_manta.abi3.so", "manta/_manta.pyi", "manta/py.typed",
            "manta/ray.py", "manta/_rendezvous.py", "manta/_memory.py"} <= names


def test_everything_has_a_docstring():
    for kind in (manta.Communicator, manta.Request, manta.Registration):
        for name, member in inspect.getmembers(kind):
            if not name.startswith("_"):
                assert inspect.getdoc(member), f"{kind.__name__}.{name}"
    assert "array, op='sum', out=None" in str(inspect.signature(manta.Communicator.allreduce))


def test_stub_matches_the_extension(tmp_path):
    pytest.importorskip("mypy")
    output_of(sys.executable, "-m", "mypy.stubtest", "manta._manta", cwd=tmp_path)


USE = """
import numpy as np
from typing import assert_type
import manta

with manta.Communicator(0, 1, manta.create_session(), transports=["shm"]) as comm:
    array: np.ndarray[tuple[int], np.dtype[np.float32]] = np.ones(3, np.float32)
    request = comm.broadcast_post(bytearray(3), root=0)
    assert_type(request, manta.Request[bytearray])
    assert_type(request.wait(timeout=1.5), bool)
    assert_type(request.result, bytearray)
    same: np.ndarray[tuple[int], np.dtype[np.float32]] = comm.allreduce(array, manta.MAX, array)
    comm.allgather(b"x", out=[bytearray(1)])
    error: manta.MantaError | None = comm.error
    half = comm.split(None)
    assert half is not None
    half.close()
    comm.allreduce(manta.empty((2, 3), "float64"), out=manta.empty([2, 3], np.float64))
    with manta.register(array, remap=True) as registration:
        assert_type(registration, manta.Registration)
    assert_type(manta.memory_info(array).in_place, bool)
try:
    comm.barrier()
except manta.PeerDiedError as died:
    assert_type(died.rank, int)
"""


def test_types(tmp_path):
    pytest.importorskip("mypy")
    (tmp_path / "use.py").write_text(USE)
    (tmp_path / "wrong.py").write_text("import manta\nmanta.Communicator().broadcast([1], 0)\n"
                                       "manta.Communicator().allreduce(b'', op=1.5)\n")
    options = ["--strict", "--follow-imports=silent", "--cache-dir", str(tmp_path / "cache")]
    output_of(sys.executable, "-m", "mypy", *options, "use.py", cwd=tmp_path)
    result = subprocess.run([sys.executable, "-m", "mypy", *options, "wrong.py"], cwd=tmp_path,
                            capture_output=True, text=True, check=False)
    assert result.stdout.count("error:") == 2, result.stdout
