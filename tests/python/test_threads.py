# SPDX-License-Identifier: Apache-2.0
"""Ctrl-C, the GIL, other threads, forks, and buffers that outlive their names."""

import contextlib
import gc
import os
import signal
import sys
import threading
import time
import weakref

import numpy as np
import pytest

import manta


def wait_until_busy(comm):
    """Return when another thread is in a blocking call of the communicator. explain() keeps the
    GIL, so it never gets in that thread's way; and that this one runs at all, shows that the
    blocking call has released the GIL."""
    while True:
        try:
            comm.explain("barrier", 0)
        except manta.BusyError:
            return


def started(function, *arguments):
    thread = threading.Thread(target=function, args=arguments)
    thread.start()
    return thread


def interrupt_in(comm, call):
    """Send SIGINT once the communicator is in a call, which must end by it."""

    def interrupt():
        wait_until_busy(comm)
        os.kill(os.getpid(), signal.SIGINT)

    thread = started(interrupt)
    with pytest.raises(KeyboardInterrupt):
        call()
    thread.join()


def ctrl_c(comm, posted):
    """Rank 0 is interrupted while the others are not there; they learn of it by the abort."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    data = np.zeros(1 << 20)
    if comm.rank == 0:
        call = comm.allreduce_post(data, out=data).wait if posted else lambda: comm.allreduce(data)
        interrupt_in(comm, call)
        with pytest.raises(manta.AbortedError):
            comm.barrier()
        return
    with pytest.raises(manta.AbortedError, match="rank 0|signal handler"):
        comm.recv(data, 0)


@pytest.mark.parametrize("posted", [False, True])
def test_ctrl_c_aborts(ranks, posted):
    """It does, long before anybody's deadline, which would be another exception."""
    ranks.run(ctrl_c, 2, posted)


def entries(folder):
    return len(os.listdir(f"/proc/self/{folder}"))


def threads_held():
    """Without those that are ending: one that was joined may be seen for a moment longer."""
    flags = []
    for thread in os.listdir("/proc/self/task"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            with open(f"/proc/self/task/{thread}/stat", encoding="utf-8", errors="replace") as file:
                flags.append(int(file.read().rpartition(")")[2].split()[6]))
    return sum(not flag & 4 for flag in flags)  # PF_EXITING of the kernel's include/linux/sched.h


@pytest.mark.parametrize("rank", [0, 1])
def test_ctrl_c_while_joining(rank):
    """It ends the wait, leaves nothing behind, and the session serves again."""
    session = manta.create_session()
    files, threads = entries("fd"), threads_held()
    timer = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):  # at the deadline it would be another exception
        timer.start()
        manta.Communicator(rank, 2, session, timeout=60)
    timer.join()
    assert threads_held() == threads
    assert entries("fd") == files

    made = {}
    other = started(lambda: made.update(other=manta.Communicator(1 - rank, 2, session, timeout=60)))
    made["self"] = manta.Communicator(rank, 2, session, timeout=60)
    other.join()
    assert {made["self"].rank, made["other"].rank} == {0, 1}
    for communicator in made.values():
        communicator.close()


def handler_returns(comm):
    """A signal handler that raises nothing runs during the wait, and the wait goes on: here the
    handler itself sends what the other rank needs before it answers."""
    with comm.split(0) as other:
        if comm.rank == 1:
            other.recv(np.zeros(1), 0)
            comm.send(np.ones(1), 0)
            return

        def poke():
            wait_until_busy(comm)
            os.kill(os.getpid(), signal.SIGUSR1)

        signal.signal(signal.SIGUSR1, lambda *_: other.send(np.zeros(1), 1))
        thread = started(poke)
        assert comm.recv(np.zeros(1), 1)[0] == 1
        thread.join()


def test_signal_handlers_run_during_a_wait(ranks):
    ranks.run(handler_returns, 2)


def other_thread_runs(comm):
    """Rank 0 blocks in a receive that only its own other thread can bring to an end."""
    with comm.split(0) as other:
        if comm.rank == 1:
            other.recv(np.zeros(1), 0)
            comm.send(np.ones(1), 0)
            return

        def release():
            wait_until_busy(comm)
            other.send(np.zeros(1), 1)

        thread = started(release)
        assert comm.recv(np.zeros(1), 1)[0] == 1
        thread.join()


def test_gil_is_released(ranks):
    ranks.run(other_thread_runs, 2)


def second_thread(comm):
    if comm.rank == 1:
        with pytest.raises(manta.AbortedError, match="seen enough"):
            comm.recv(np.zeros(1), 0)
        return
    failures = []

    def intrude():
        wait_until_busy(comm)
        for call in (comm.barrier, comm.close, lambda: comm.send(np.zeros(1), 1)):
            try:
                call()
                failures.append(call)
            except manta.BusyError as error:
                assert "another thread" in str(error)
        assert comm.stats()["calls"]["barrier"] == 0 and comm.error is None
        comm.abort("seen enough")

    thread = started(intrude)
    with pytest.raises(manta.AbortedError, match="seen enough"):
        comm.barrier()
    thread.join()
    assert not failures


def test_second_thread_gets_busy_error(ranks):
    ranks.run(second_thread, 2)


def forgotten_buffer(comm):
    """Request and array lose their names; the bytes still arrive, and then the array goes."""
    if comm.rank == 1:
        comm.barrier()
        comm.send(np.full(1 << 16, 7.0), 0)
        for _ in range(100):
            comm.barrier_post().wait()
        return

    class Array(np.ndarray):
        pass

    memory = np.zeros(1 << 16)
    data = memory.view(Array)
    alive = weakref.ref(data)
    comm.recv_post(data, 1)
    del data
    gc.collect()
    assert alive() is not None
    comm.barrier()
    for _ in range(100):
        comm.barrier_post().wait()
    gc.collect()
    assert alive() is None and (memory == 7).all()


def test_buffers_live_as_long_as_the_request(ranks):
    ranks.run(forgotten_buffer, 2)


def closed_with_requests(comm):
    data = np.zeros(10)
    before = sys.getrefcount(data)
    other = comm.split(0)
    if comm.rank == 0:
        request = other.recv_post(data, 1)
        assert request.wait(0.01) is False and request.done is False
        with pytest.raises(ValueError, match="wait\\(\\) first"):
            request.result
        other.close()
        with pytest.raises(manta.AbortedError, match="closed before"):
            request.wait()
        assert request.done
        del request
        assert sys.getrefcount(data) == before
    comm.barrier()
    other.close()


def test_close_with_requests_under_way(ranks):
    ranks.run(closed_with_requests, 2)


def collected(comm):
    """A communicator in a cycle with its own request is closed by the garbage collector."""
    half = comm.split(0)
    data = np.zeros(10)
    before = sys.getrefcount(data)
    half.recv_post(data, 1 - comm.rank)
    del half
    gc.collect()
    assert sys.getrefcount(data) == before
    comm.barrier()


def test_garbage_collection(ranks):
    ranks.run(collected, 2)


def forked(comm):
    comm.barrier()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            comm.barrier()
        except manta.ForkError:
            code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    comm.barrier()
    return os.waitstatus_to_exitcode(status)


def test_fork(ranks):
    assert ranks.run(forked, 2) == [0, 0]


def disagree(comm):
    data = np.zeros(512, np.float32)
    if comm.rank == 0:
        comm.allreduce(data)
    else:
        comm.broadcast(data)


def test_mismatch_names_both_calls(ranks):
    for outcome in ranks.outcomes(disagree, 2):
        assert isinstance(outcome.error, manta.MismatchError), outcome.text
        assert "allreduce" in str(outcome.error) and "broadcast" in str(outcome.error)


def die(comm, victim):
    comm.barrier()
    if comm.rank == victim:
        os.kill(os.getpid(), signal.SIGKILL)
    comm.allreduce(np.zeros(1 << 20))


def test_dead_rank_is_named(ranks):
    outcomes = ranks.outcomes(die, 3, 1)
    assert outcomes[1] is None
    for outcome in (outcomes[0], outcomes[2]):
        assert isinstance(outcome.error, manta.PeerDiedError), outcome.text
        assert outcome.error.rank == 1 and "rank 1" in str(outcome.error)
        assert isinstance(outcome.error, ConnectionError)


def late(comm, seen):
    if comm.rank == 1:
        while not seen.exists():  # alive, but it does not call
            time.sleep(0.01)
        return
    with pytest.raises(manta.DeadlineError, match="rank 1") as caught:
        comm.barrier()
    seen.touch()
    assert caught.value.rank == 1


def test_deadline_names_the_late_rank(ranks, tmp_path):
    ranks.run(late, 2, tmp_path / "seen", timeout=12)  # within which they have to meet, too


def lose_a_buffer(comm, variables):
    """A communicator of its own whose transport, at an abort, cannot get rank 0's buffers back."""
    os.environ.update(variables)
    text = np.zeros(512, np.uint8)
    if comm.rank == 0:
        session = manta.create_session().encode()
        text[:len(session)] = list(session)
    comm.broadcast(text)
    other = manta.Communicator(comm.rank, 2, bytes(text).rstrip(b"\0").decode(), timeout=30)
    for name in variables:
        del os.environ[name]
    if comm.rank == 1:
        comm.barrier()
        other.abort("the test says so")
        other.close()
        return
    data = np.zeros(1000)
    kept = weakref.ref(data)
    request = other.allreduce_post(data, out=data)
    comm.barrier()
    with pytest.raises(manta.BufferUnsafeError, match="may still be written"):
        request.wait()
    del data, request
    gc.collect()
    assert kept() is not None  # the library may still write there
    with pytest.raises(manta.AbortedError):
        other.barrier()
    other.close()
    gc.collect()
    assert kept() is None


def test_unsafe_buffers_are_kept_until_the_communicator_is_closed(ranks):
    ranks.run(lose_a_buffer, 2, {"MANTA_TRANSPORTS": "sim", "MANTA_FAULT": "unsafe@rank=0"})
