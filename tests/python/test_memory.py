# SPDX-License-Identifier: Apache-2.0
"""Symmetric memory: arrays and tensors over it, how long they live, and what is refused."""

import gc
import mmap
import os
import subprocess
import sys
import threading
import weakref

import numpy as np
import pytest
import torch

import manta
from manta import _manta

NUMPY_NAMES = [name for name in manta.DTYPES if "float8" not in name and name != "bfloat16"]
OTHERS = ["bool", "complex64", "complex128"]
MEBIBYTE = 1 << 20


def mappings():
    """Symmetric memory that this process has mapped, in bytes."""
    total = 0
    with open("/proc/self/maps", encoding="utf-8") as file:
        for line in file:
            if "/memfd:manta-memory" in line:
                begin, end = (int(word, 16) for word in line.split()[0].split("-"))
                total += end - begin
    return total


@pytest.mark.parametrize("name", NUMPY_NAMES + OTHERS)
def test_numpy_dtypes(name):
    array = manta.empty((3, 5), name)
    assert isinstance(array, np.ndarray) and array.shape == (3, 5) and array.dtype == name
    assert array.flags.c_contiguous and array.flags.writeable and not array.any()
    assert manta.memory_info(array).in_place
    assert manta.empty(2, np.dtype(name)).dtype == name


@pytest.mark.parametrize("name", [*manta.DTYPES, *OTHERS])
def test_torch_dtypes(name):
    for tensor in (manta.empty((3, 5), getattr(torch, name)), manta.empty((3, 5), name, torch=True)):
        assert isinstance(tensor, torch.Tensor) and tensor.shape == (3, 5)
        assert tensor.dtype == getattr(torch, name) and tensor.is_contiguous()
        assert not tensor.requires_grad and not tensor.to(torch.complex128).any()
        assert manta.memory_info(tensor).in_place


def test_numpy_dtype_for_a_tensor():
    assert manta.empty(2, np.int16, torch=True).dtype == torch.int16
    assert manta.empty(2, torch=True).dtype == torch.float32
    assert manta.empty(2).dtype == np.float32


@pytest.mark.parametrize("shape, expected", [
    ((), ()), (7, (7,)), ([2, 3], (2, 3)), (np.int64(4), (4,)), (torch.Size([2, 2]), (2, 2)),
    (0, (0,)), ((3, 0, 2), (3, 0, 2)), (range(1, 4), (1, 2, 3)),
])
def test_shapes(alone, shape, expected):
    for array in (manta.empty(shape), manta.empty(shape, torch.float64)):
        assert tuple(array.shape) == expected
        assert tuple(alone.allreduce(array).shape) == expected
        assert manta.memory_info(array).in_place == (0 not in expected)


@pytest.mark.parametrize("arguments, error, words", [
    ((3, "float31"), TypeError, "float31"),
    ((3, "U5"), TypeError, "DTYPES"),
    ((3, object), TypeError, "DTYPES"),
    ((3, ">f4"), TypeError, "DTYPES"),
    ((3, np.longdouble), TypeError, "DTYPES"),
    ((3, torch.complex32), TypeError, "DTYPES"),
    ((-1,), manta.InvalidArgumentError, "negative"),
    (((2, -3), torch.int8), manta.InvalidArgumentError, "negative"),
    ((1.5,), TypeError, "float"),
    (("ab",), TypeError, "str"),
    ((1 << 61, "float64"), OverflowError, "int"),
    ((1 << 44, "float64"), manta.MantaError, "memory"),
])
def test_refused(arguments, error, words):
    with pytest.raises(error, match=words):
        manta.empty(*arguments)


def test_ml_dtypes_are_named():
    if "ml_dtypes" in sys.modules:
        pytest.skip("ml_dtypes is loaded, so NumPy has bfloat16")
    with pytest.raises(TypeError, match="ml_dtypes"):
        manta.empty(3, "bfloat16")


@pytest.mark.parametrize("options", [{}, {"torch": True}])
def test_memory_lives_as_long_as_its_last_view(options):
    before = mappings()
    array = manta.empty((4, MEBIBYTE), "uint8", **options)
    assert mappings() >= before + 4 * MEBIBYTE
    part = array[1:3]
    other = part.reshape(-1)[5:]  # of one piece, so no copy
    array[1, 5] = 77
    del array, part
    gc.collect()
    assert mappings() >= before + 4 * MEBIBYTE
    assert int(other[0]) == 77
    del other
    gc.collect()
    assert mappings() == before


def test_shared_between_numpy_and_torch():
    before = mappings()
    array = manta.empty(MEBIBYTE, "float32")
    tensor = torch.from_numpy(array)
    view = memoryview(array)
    del array
    tensor.fill_(3)
    assert view[MEBIBYTE - 1] == 3 and manta.memory_info(tensor).in_place
    del tensor, view
    gc.collect()
    assert mappings() == before


def test_memory_in_a_cycle_is_collected():
    class Array(np.ndarray):
        pass

    before = mappings()
    array = manta.empty(MEBIBYTE, "uint8").view(Array)
    array.itself = array
    del array
    gc.collect()
    assert mappings() == before


def test_many_times():
    before = mappings()
    for turn in range(300):
        array = manta.empty(5000, torch.int32 if turn % 2 else "int32")
        array[:] = turn
        assert int(array[4999]) == turn
    del array
    assert mappings() == before


def test_threads_allocate_and_free():
    before, failures = mappings(), []

    def work(number):
        for _ in range(50):
            arrays = [manta.empty(3000, "int64") for _ in range(4)]
            for array in arrays:
                if array.any():
                    failures.append(number)
                array += number

    threads = [threading.Thread(target=work, args=(number,)) for number in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not failures and mappings() == before


def in_calls(comm):
    """Every collective, with symmetric arrays on some ranks, private ones on others."""
    size, rank = comm.size, comm.rank
    for count in (1, 1000, 300_001):
        for kind in ("numpy", "torch"):
            torch_too = {"torch": True} if kind == "torch" else {}

            def make(length, private=False):
                if private:
                    return torch.zeros(length) if torch_too else np.zeros(length, np.float32)
                return manta.empty(length, "float32", **torch_too)

            mine, total = make(count), make(count, private=rank == 1)
            mine[:] = rank + 1
            comm.allreduce(mine, "sum", total)
            assert (total == size * (size + 1) / 2).all() and (mine == rank + 1).all()
            comm.allreduce(mine, "max", mine)
            assert (mine == size).all()
            mine[:] = rank
            comm.broadcast(mine, 1)
            assert (mine == 1).all()
            mine[:] = rank
            whole = make(size * count, private=rank == 0)
            comm.allgather(mine, whole)
            assert all((whole[r * count:(r + 1) * count] == r).all() for r in range(size))
            comm.reduce_scatter(whole, "sum", mine)
            assert (mine == size * rank).all()
            request = comm.allreduce_post(mine, out=mine)
            request.wait()
            assert (mine == size * sum(range(size))).all()


def test_in_every_collective(ranks):
    ranks.run(in_calls, 3)


def forgotten(comm):
    """A posted call keeps the memory; then it goes. It outlives the communicator it was used in."""
    other = comm.split(0)
    array = manta.empty(MEBIBYTE, "uint8")
    array[:] = comm.rank
    alive = weakref.ref(array)
    if comm.rank == 0:
        request = other.recv_post(array, 1)
        del array
        gc.collect()
        assert alive() is not None
        comm.barrier()
        request.wait()
        assert (request.result == 1).all()
        array = request.result
        del request
    else:
        comm.barrier()
        other.send(array, 0)
    other.close()
    assert array[5] == 1
    comm.allreduce(array, "max", out=array)
    del array
    gc.collect()
    assert alive() is None


def test_posted_calls_keep_it_and_communicators_do_not(ranks):
    ranks.run(forgotten, 2)


def closed_under_way(comm):
    """A communicator that is closed with a call under way lets go of the memory."""
    other = comm.split(0)
    array = manta.empty(4 * MEBIBYTE, "uint8")
    alive = weakref.ref(array)
    if comm.rank == 0:
        other.recv_post(array, 1)
    del array
    gc.collect()
    assert (alive() is None) == (comm.rank == 1)
    other.close()
    gc.collect()
    assert alive() is None
    comm.barrier()


def test_close_lets_go(ranks):
    ranks.run(closed_under_way, 2)


def forked(comm):
    array = manta.empty(1000)
    array[:] = comm.rank
    comm.allreduce(array, out=array)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            array[0] = 99  # the same memory
            del array
            gc.collect()  # is the parent's to free
            code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    assert array[0] == 99 and array[1] == 1
    comm.allreduce(array, "max", out=array)
    return os.waitstatus_to_exitcode(status)


def test_fork_shares_it(ranks):
    assert ranks.run(forked, 2) == [0, 0]


@pytest.mark.parametrize("program", [
    "keep = manta.empty(1000)",
    "keep = manta.empty(1000, torch.float32)",
    "keep = manta.register(array, remap=True)",
    "comm = manta.Communicator(0, 1, manta.create_session()); keep = manta.empty(9); "
    "request = comm.allreduce_post(keep)",
    "import builtins; builtins.keep = [manta.empty(9), manta.empty(9, torch.int8)]",
])
def test_at_the_interpreter_s_exit(program):
    head = "import numpy, torch, manta\narray = numpy.ones(100000)\n"
    result = subprocess.run([sys.executable, "-X", "dev", "-c", head + program], timeout=100,
                            capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert "rror" not in result.stderr, result.stderr


# ---- memory of others


def private(count=100_000):
    """An array in pages of its own: what malloc() gives may share its first and last one."""
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    return np.frombuffer(mmap.mmap(-1, 8 * count, flags=flags), np.float64)


def test_register_without_remap():
    array = private()
    with manta.register(array) as registration:
        found = manta.memory_info(array)
        assert not found.in_place and found.reason
    assert isinstance(registration, manta.Registration)
    registration.close()
    registration.close()
    assert not manta.memory_info(array).in_place


@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy, memoryview])
def test_remap_keeps_contents_and_address(kind):
    array = private()
    array[:] = np.arange(array.size)
    address = array.ctypes.data
    data = kind(array)
    registration = manta.register(data, remap=True)
    found = manta.memory_info(data)
    assert found.in_place, found.reason
    np.testing.assert_array_equal(array, np.arange(array.size))
    registration.close()
    np.testing.assert_array_equal(array, np.arange(array.size))
    array[7] = 70
    assert data[7] == 70 and array.ctypes.data == address


def test_memory_that_cannot_be_moved_back_stays_registered():
    """Private pages are the process's own, which a limit can refuse."""
    program = """
import mmap, resource, numpy, manta
flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
array = numpy.frombuffer(mmap.mmap(-1, 1 << 27, flags=flags), numpy.float64)
registration = manta.register(array, remap=True)
hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
data_kib = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmData"))
resource.setrlimit(resource.RLIMIT_DATA, ((data_kib << 10) + (1 << 25), hard))
try:
    registration.close()
except (manta.OutOfMemoryError, manta.SystemCallError) as error:
    assert "moved back" in error.sentence, error
else:
    raise AssertionError("it was closed")
assert manta.memory_info(array).in_place
resource.setrlimit(resource.RLIMIT_DATA, (hard, hard))
registration.close()
assert not manta.memory_info(array).in_place
"""
    result = subprocess.run([sys.executable, "-c", program], timeout=100, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def test_registration_keeps_the_buffer_and_ends_with_its_object():
    data = torch.from_numpy(private())
    alive = weakref.ref(data)
    registration = manta.register(data, remap=True)
    del data
    gc.collect()
    assert alive() is not None
    del registration
    gc.collect()
    assert alive() is None
    data = torch.from_numpy(private())
    data.registration = manta.register(data)  # a cycle
    alive = weakref.ref(data)
    del data
    gc.collect()
    assert alive() is None


def test_register_refuses():
    with pytest.raises(manta.InvalidArgumentError, match="no elements"):
        manta.register(np.empty(0))
    with pytest.raises(TypeError):
        manta.register("text")
    with pytest.raises(manta.InvalidArgumentError, match="contiguous"):
        manta.register(np.ones((9, 9))[:, 0])
    array = private()
    with manta.register(array), pytest.raises(manta.InvalidArgumentError, match="overlap"):
        manta.register(array[5:])
    symmetric = manta.empty(1000)
    manta.register(symmetric).close()
    assert manta.memory_info(symmetric).in_place  # as before
    with pytest.raises(TypeError, match="Registration"):
        manta.Registration()


def remapped(comm):
    data = private(200_000)
    data[:] = comm.rank + 1
    with manta.register(data, remap=True):
        comm.allreduce(data, out=data)
        assert (data == comm.size * (comm.size + 1) / 2).all()
    comm.allreduce(data, "max", out=data)
    assert (data == comm.size * (comm.size + 1) / 2).all()


def test_calls_with_remapped_memory(ranks):
    ranks.run(remapped, 3)


def test_memory_object():
    for wrong in (0, -5):
        with pytest.raises(manta.InvalidArgumentError, match="at least 1"):
            _manta.Memory(wrong)
    memory = _manta.Memory(10)
    with memoryview(memory) as view:
        assert view.nbytes == memory.nbytes == 10 and not view.readonly and bytes(view) == bytes(10)
