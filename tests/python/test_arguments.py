# SPDX-License-Identifier: Apache-2.0
"""What is refused, with which exception and words; and what one rank alone can show."""

import gc
import pickle
import sys

import numpy as np
import pytest

import manta
from manta import _manta


def refused(kind, words, function, *arguments, **options):
    with pytest.raises(kind, match=words) as caught:
        function(*arguments, **options)
    return caught.value


def test_dtypes(alone):
    for code in "bBhHiIlLqQefd":
        data = np.arange(3).astype(code)
        np.testing.assert_array_equal(alone.allreduce(data, "max"), data)
    refused(TypeError, "dtype >f4", alone.allreduce, np.ones(2, ">f4"))
    refused(TypeError, "dtype .S4", alone.allreduce, np.ones(2, "S4"))
    refused(TypeError, "datetime64", alone.allreduce, np.ones(2, "M8[s]"))
    refused(TypeError, "dtype object", alone.broadcast, np.array([None]))
    refused(TypeError, "not <class 'list'>", alone.allreduce, [1, 2])
    refused(TypeError, "not <class 'float'>", alone.send, 1.5, 0)


def test_bool_and_complex(alone):
    flags, numbers = np.array([True, False]), np.array([1j, 2])
    assert alone.allreduce(flags, "band").tolist() == [True, False]
    assert alone.allreduce(numbers, "avg").tolist() == [1j, 2]
    refused(ValueError, "booleans cannot be added", alone.allreduce, flags)
    refused(ValueError, "complex numbers take", alone.allreduce, numbers, "max")
    refused(ValueError, "must be the same", alone.allreduce, flags, "max", np.zeros(2, np.uint8))


def test_layout(alone):
    table = np.ones((4, 4))
    refused(ValueError, "not C-contiguous", alone.allreduce, table[:, 1])
    refused(ValueError, "not C-contiguous", alone.broadcast, table.T[1:])
    fixed = np.ones(3)
    fixed.flags.writeable = False
    refused(ValueError, "out is read-only|array is read-only", alone.allreduce, fixed, out=fixed)
    refused(ValueError, "read-only", alone.recv, fixed, 0)
    assert alone.allreduce(fixed).flags.writeable
    assert alone.broadcast(fixed, 0) is fixed  # the root only reads
    refused(ValueError, "read-only", alone.allgather, fixed, out=b"x" * 24)
    refused(TypeError, "out= is needed", alone.allreduce, b"abc")


def test_out_must_fit(alone):
    data = np.ones((2, 3))
    refused(ValueError, "shape", alone.allreduce, data, out=np.ones(6))
    refused(ValueError, "shape", alone.reduce, data, out=np.ones((3, 2)))
    refused(ValueError, "float64 and out has float32", alone.allreduce, data,
            out=np.ones((2, 3), np.float32))
    refused(ValueError, "6 elements for this array, not 7", alone.allgather, data, out=np.ones(7))
    refused(ValueError, "6 elements", alone.reduce_scatter, data, out=np.ones(5))
    refused(ValueError, "first dimension", alone.reduce_scatter, np.float64(1))
    refused(ValueError, "one buffer for each of the 1 ranks, not 2", alone.allgather, data,
            out=[data, data])


def test_partly_overlapping_buffers_are_refused(alone):
    data = np.zeros(10)
    refused(manta.InvalidArgumentError, "overlap", alone.allreduce, data[:8], out=data[1:9])


def test_op_and_root(alone):
    data = np.ones(2)
    for op in (manta.MAX, "max", np.int64(3).item()):
        assert alone.allreduce(data, op).tolist() == [1, 1]
    refused(ValueError, "not 'add'", alone.allreduce, data, "add")
    refused(ValueError, "not 8", alone.allreduce, data, 8)
    refused(ValueError, "not None", alone.allreduce, data, None)
    refused(ValueError, "integer dtypes", alone.allreduce, data, "bxor")
    refused(ValueError, "root must be a whole number, 0 or more", alone.broadcast, data, -1)
    refused(ValueError, "root", alone.broadcast, data, 1)
    refused(ValueError, "root must be a whole number, 0 or more", alone.reduce, data, root=2**40)
    refused(TypeError, "integer", alone.broadcast, data, 0.5)
    refused(ValueError, "peer", alone.send, data, 0)
    refused(ValueError, "peer", alone.recv, data, 3)


def test_argument_lists(alone):
    data = np.ones(2)
    refused(TypeError, "lacks the argument 'array'", alone.allreduce)
    refused(TypeError, "lacks the argument 'peer'", alone.send, data)
    refused(TypeError, "unexpected argument 'sum'", alone.allreduce, data, sum=1)
    refused(TypeError, "twice the argument 'array'", alone.allreduce, data, array=data)
    refused(TypeError, "at most 2 arguments", alone.broadcast, data, 0, 1)
    refused(TypeError, "at most 0 arguments", alone.barrier, 1)
    assert alone.allreduce(array=data, out=None, op="sum").tolist() == [1, 1]


def test_creation():
    refused(manta.SchedulerError, "MANTA_RANK|mantarun", manta.Communicator)
    refused(manta.SchedulerError, "^MANTA_SESSION is not set, but the rest is", manta.Communicator, 0, 2)
    refused(manta.SchedulerError, "^MANTA_SIZE and MANTA_SESSION are not set", manta.Communicator, 0)
    refused(manta.InvalidArgumentError, "^the size is 0; it must be the number of ranks", manta.Communicator, 0, 0)
    refused(manta.InvalidArgumentError, "^rank 3 of 2: rank must be 0", manta.Communicator, 3, 2)
    session = manta.create_session()
    refused(manta.SchedulerError, "^MANTA_SIZE is not set", manta.Communicator, 0, session=session)
    refused(ValueError, "rank", manta.Communicator, -1, 1, session)
    refused(ValueError, "rank 3 of 2", manta.Communicator, 3, 2, session)
    refused(ValueError, "timeout", manta.Communicator, 0, 1, session, timeout=0)
    refused(ValueError, "timeout", manta.Communicator, 0, 1, session, timeout=float("nan"))
    refused(TypeError, "session must be a string", manta.Communicator, 0, 1, 5)
    refused(TypeError, "str", manta.Communicator, 0, 1, session, transports=[1])
    refused(ValueError, "session", manta.Communicator, 0, 2, "not a session")


def test_late_rank_is_named():
    session = manta.create_session()
    error = refused(manta.DeadlineError, "1", manta.Communicator, 0, 2, session, timeout=0.3)
    assert isinstance(error, TimeoutError) and error.code_name == "ETIMEOUT"


def test_closed():
    comm = manta.Communicator(0, 1, manta.create_session(), transports=["tcp"])
    assert repr(comm) == "<manta.Communicator rank 0 of 1>" and not comm.closed
    with comm as same:
        assert same is comm
        pending = comm.allreduce_post(np.ones(3))
        pending.wait()
    comm.close()
    assert comm.closed and "closed" in repr(comm) and pending.result.tolist() == [1, 1, 1]
    for call in (comm.barrier, comm.stats, comm.abort, comm.dump, comm.__enter__,
                 lambda: comm.error, lambda: comm.split(0), lambda: comm.barrier_post()):
        refused(ValueError, "closed", call)
    refused(ValueError, "created once", comm.__init__, 0, 1, "x")
    with pytest.raises(TypeError):
        pickle.dumps(comm)
    with pytest.raises(TypeError):
        manta.Request()


def test_error_classes():
    assert sorted(_manta.ERROR_CLASSES, reverse=True) == list(range(-1, -21, -1))
    for code, kind in _manta.ERROR_CLASSES.items():
        assert issubclass(kind, manta.MantaError) and kind.code == code and kind.__doc__
        assert getattr(manta, kind.__name__) is kind and kind.__name__ in manta.__all__
        error = _manta.make_error(code, "what happened", 3)
        assert type(error) is kind and str(error) == error.sentence == "what happened"
        again = pickle.loads(pickle.dumps(error))
        assert type(again) is kind and again.rank == 3 and again.sentence == "what happened"
    assert type(_manta.make_error(-999, "?")) is manta.MantaError


def test_explain(alone):
    assert "broadcast" in alone.explain("broadcast", 100, np.dtype("int8"), root=0)
    assert alone.explain("reduce", 5, np.float32, "max") == alone.explain("reduce", 5, op="max")
    refused(ValueError, "no collective 'gather'", alone.explain, "gather", 1)
    refused(TypeError, "no dtype 'float128'", alone.explain, "send", 1, "float128")


def test_dump_needs_a_folder(alone, tmp_path):
    refused(manta.SystemCallError, "missing/file: No such file", alone.dump, tmp_path / "missing" / "file")


def test_references_are_returned(alone):
    data = np.ones(100)
    before = sys.getrefcount(data)
    for _ in range(50):
        alone.allreduce(data, out=data)
        alone.broadcast(data)
        alone.allgather(data, out=[data])
        alone.allreduce_post(data, "max").wait()
        with pytest.raises(ValueError):
            alone.allreduce(data, "none")
        with pytest.raises(ValueError):
            alone.allreduce(data, out=np.ones(3))
    gc.collect()
    assert sys.getrefcount(data) == before
    data.resize(200, refcheck=True)  # not exported any more
