# SPDX-License-Identifier: Apache-2.0
"""Every collective between processes, on NumPy arrays, against NumPy's own arithmetic."""

import array
import tracemalloc

import numpy as np
import pytest

import manta

DTYPES = ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float16",
          "float32", "float64"]
LENGTHS = [0, 1, 7, 1000, 100_003]


def vector(rank: int, length: int, dtype: str) -> np.ndarray:
    """Small whole numbers that differ by rank: sums are exact in every dtype."""
    return ((np.arange(length) + rank) % 5 + 1).astype(dtype)


def combined(size: int, length: int, dtype: str, op: str) -> np.ndarray:
    parts = np.stack([vector(rank, length, dtype) for rank in range(size)])
    if op == "sum":
        return parts.sum(0, dtype=dtype)
    if op == "prod":
        return parts.prod(0, dtype=dtype)
    if op == "avg":
        total = parts.sum(0, dtype="float64")
        exact = total / size
        return np.trunc(exact).astype(dtype) if np.dtype(dtype).kind in "iu" else exact.astype(dtype)
    functions = {"min": np.minimum, "max": np.maximum, "band": np.bitwise_and,
                 "bor": np.bitwise_or, "bxor": np.bitwise_xor}
    return functions[op].reduce(parts)


def allreduce_all(comm, dtype, ops):
    for op in ops:
        for length in LENGTHS:
            expected = combined(comm.size, length, dtype, op)
            source = vector(comm.rank, length, dtype)
            kept = source.copy()
            result = comm.allreduce(source, op)
            assert result.dtype == source.dtype and result is not source
            np.testing.assert_array_equal(result, expected, f"{op} of {length} {dtype}")
            np.testing.assert_array_equal(source, kept)
            assert comm.allreduce(source, op, out=source) is source
            np.testing.assert_array_equal(source, expected)


@pytest.mark.parametrize("size", [2, 3, 4])
def test_allreduce(ranks, size):
    for dtype in DTYPES:
        integer = np.dtype(dtype).kind in "iu"
        ops = ["sum", "prod", "min", "max", "avg"] + ["band", "bor", "bxor"] * integer
        if size == 4 and dtype == "float16":
            ops.remove("prod")  # 5 * 1 * 2 * 3 is exact, but its order of rounding is not NumPy's
        ranks.run(allreduce_all, size, dtype, ops)


def move_all(comm, dtypes):
    size, rank = comm.size, comm.rank
    for dtype in dtypes:
        for length in LENGTHS:
            for root in range(size):
                data = vector(rank, length, dtype)
                assert comm.broadcast(data, root) is data
                np.testing.assert_array_equal(data, vector(root, length, dtype))
            parts = [vector(other, length, dtype) for other in range(size)]
            gathered = comm.allgather(parts[rank])
            np.testing.assert_array_equal(gathered, np.concatenate(parts))
            in_place = np.zeros(size * length, dtype)
            own = in_place[rank * length : (rank + 1) * length]
            own[:] = parts[rank]
            assert comm.allgather(own, out=in_place) is in_place
            np.testing.assert_array_equal(in_place, np.concatenate(parts))


@pytest.mark.parametrize("size", [2, 3, 4])
def test_broadcast_and_allgather(ranks, size):
    ranks.run(move_all, size, ["int8", "uint16", "float32", "int64", "float64"])


def reduce_all(comm, dtypes):
    size, rank = comm.size, comm.rank
    for dtype in dtypes:
        for length in LENGTHS:
            total = combined(size, length, dtype, "sum")
            for root in range(size):
                source = vector(rank, length, dtype)
                result = comm.reduce(source, "sum", root)
                np.testing.assert_array_equal(source, vector(rank, length, dtype))
                assert (result is None) == (rank != root)
                if rank == root:
                    np.testing.assert_array_equal(result, total)
            wide = np.concatenate([vector(rank, length, dtype)] * size)
            np.testing.assert_array_equal(comm.reduce_scatter(wide), total)
            part = wide[rank * length : (rank + 1) * length]
            assert comm.reduce_scatter(wide, "sum", part) is part
            np.testing.assert_array_equal(part, total)


@pytest.mark.parametrize("size", [2, 3, 4])
def test_reduce_and_reduce_scatter(ranks, size):
    ranks.run(reduce_all, size, ["int8", "uint16", "float32", "int64", "float64"])


def exchange(comm):
    following, previous = (comm.rank + 1) % comm.size, (comm.rank - 1) % comm.size
    for length in [0, 1, 5000, 300_000]:
        data = vector(comm.rank, length, "float64")
        incoming = np.zeros(length)
        requests = [comm.recv_post(incoming, previous), comm.send_post(data, following)]
        assert all(request.wait() for request in requests)
        np.testing.assert_array_equal(incoming, vector(previous, length, "float64"))
        assert requests[0].result is incoming and requests[1].result is None
    if comm.rank == 0:
        comm.send(np.arange(10), 1)
    if comm.rank == 1:
        np.testing.assert_array_equal(comm.recv(np.zeros(10, int), 0), np.arange(10))


@pytest.mark.parametrize("size", [2, 4])
def test_send_and_recv(ranks, size):
    ranks.run(exchange, size)


def shapes(comm):
    size, rank = comm.size, comm.rank
    matrix = np.full((3, 2), rank, np.int32)
    assert comm.allreduce(matrix).shape == (3, 2)
    assert comm.allgather(matrix).shape == (3 * size, 2)
    assert comm.allgather(matrix, out=np.empty((size, 3, 2), np.int32))[rank, 0, 0] == rank
    assert comm.allgather(np.float32(rank)).tolist() == list(range(size))
    assert comm.reduce_scatter(np.ones((2 * size, 5))).shape == (2, 5)
    assert comm.allreduce(np.array(rank)).shape == ()
    complex_sum = comm.allreduce(np.full(3, complex(rank, 1), np.complex64))
    np.testing.assert_array_equal(complex_sum, np.full(3, complex(sum(range(size)), size)))
    flags = comm.allreduce(np.array([rank == 0, False]), "bor")
    assert flags.dtype == bool and flags.tolist() == [True, False]


def test_shapes(ranks):
    ranks.run(shapes, 3)


def lists(comm):
    size, rank = comm.size, comm.rank
    mine = np.arange(100, dtype=np.float32) + rank
    apart = [np.zeros(100, np.float32) for _ in range(size)]
    assert comm.allgather(mine, out=apart) is apart
    whole = np.zeros((size, 100), np.float32)
    comm.allgather(mine, out=list(whole))
    for other in range(size):
        np.testing.assert_array_equal(apart[other], np.arange(100) + other)
        np.testing.assert_array_equal(whole[other], np.arange(100) + other)
    expected = np.arange(100) * size + sum(range(size)) + size * 100 * rank
    sources = [np.arange(100, dtype=np.float32) + rank + 100 * other for other in range(size)]
    np.testing.assert_array_equal(comm.reduce_scatter(sources), expected)
    np.testing.assert_array_equal(comm.reduce_scatter(list(np.stack(sources))), expected)
    request = comm.allgather_post(mine, out=apart)
    for piece in apart:
        assert piece.shape == (100,)
    request.wait()
    np.testing.assert_array_equal(np.stack(apart), whole)


def test_lists_of_buffers(ranks):
    ranks.run(lists, 4)


def peak_bytes(function) -> int:
    tracemalloc.start()
    function()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak


def adjacent_lists(comm):
    length = 1 << 18
    mine = np.ones(length, np.float32)
    apart = [np.zeros(length, np.float32) for _ in range(2 * comm.size)][::2]
    whole = list(np.zeros((comm.size, length), np.float32))
    total = np.zeros(length, np.float32)
    assert peak_bytes(lambda: comm.allgather(mine, out=whole)) < mine.nbytes
    assert peak_bytes(lambda: comm.reduce_scatter(whole, "sum", total)) < mine.nbytes
    assert peak_bytes(lambda: comm.reduce_scatter(whole, "sum", whole[comm.rank])) < mine.nbytes
    assert peak_bytes(lambda: comm.allgather(mine, out=apart)) >= comm.size * mine.nbytes
    assert peak_bytes(lambda: comm.allgather(mine, out=apart)) < mine.nbytes  # once is enough
    assert peak_bytes(lambda: comm.allgather(mine[:9], out=[a[:9] for a in apart])) < mine.nbytes
    assert all((piece == 1).all() for piece in apart) and (total == comm.size).all()


def test_adjacent_buffers_need_no_copy(ranks):
    ranks.run(adjacent_lists, 2)


def lists_under_way(comm):
    """Calls that overlap do not share the memory in which their buffers are put together."""
    lengths = [700, 30, 700, 5000, 1]
    mine = [np.arange(length, dtype=np.float64) + comm.rank for length in lengths]
    apart = [[np.zeros(length) for _ in range(comm.size)] for length in lengths]
    for _ in range(3):
        requests = [
            comm.allgather_post(own, out=out) for own, out in zip(mine, apart, strict=True)
        ]
        for request in reversed(requests):
            request.wait()
        for own, out in zip(mine, apart, strict=True):
            for other, piece in enumerate(out):
                np.testing.assert_array_equal(piece, own - comm.rank + other)
                piece[:] = -1
    left = comm.split(0)
    pending = left.allgather_post(mine[0], out=apart[0]) if comm.rank == 0 else None
    left.close()  # with a list under way
    del pending, left
    comm.barrier()


def test_lists_under_way_at_once(ranks):
    ranks.run(lists_under_way, 3)


def other_buffers(comm):
    numbers = array.array("d", [comm.rank, 1])
    assert comm.allreduce(numbers, out=numbers) is numbers
    assert numbers.tolist() == [sum(range(comm.size)), comm.size]
    raw = bytearray(b"root" if comm.rank == 0 else b"????")
    comm.broadcast(memoryview(raw))
    assert raw == b"root"
    gathered = bytearray(2 * comm.size)
    comm.allgather(bytes([comm.rank, 7]), out=gathered)
    assert gathered == b"".join(bytes([rank, 7]) for rank in range(comm.size))


def test_buffer_protocol(ranks):
    ranks.run(other_buffers, 3)


def many_posted(comm):
    arrays = [np.full(50 * i + 1, comm.rank + i, np.int64) for i in range(20)]
    requests = [comm.allreduce_post(data, out=data) for data in arrays]
    requests.append(comm.barrier_post())
    assert requests[-1].wait(20) and all(request.wait() for request in requests)
    for i, data in enumerate(arrays):
        np.testing.assert_array_equal(data, sum(rank + i for rank in range(comm.size)))
    posted = comm.allgather_post(np.arange(2))
    while not posted.test():
        pass
    assert posted.done and posted.result.shape == (2 * comm.size,)


def test_posted(ranks):
    ranks.run(many_posted, 4)


def divide(comm):
    colour = comm.rank % 2
    half = comm.split(colour, key=-comm.rank)
    assert half.size == comm.size // 2 and half.rank == (comm.size - 1 - comm.rank) // 2
    total = half.allreduce(np.array([comm.rank]))
    assert total[0] == sum(range(colour, comm.size, 2))
    comm.barrier()
    assert comm.split(None if comm.rank else 0) is None or comm.rank == 0
    half.close()
    return comm.allreduce(np.array([1]))[0]


def test_split(ranks):
    assert ranks.run(divide, 4) == [4] * 4


def count(comm):
    comm.allreduce(np.ones(1000, np.float32))
    comm.allreduce_post(np.ones(10, np.int8)).wait()
    comm.broadcast(np.ones(3))
    stats = comm.stats()
    assert stats["calls"] == {"allreduce": 2, "broadcast": 1, "reduce": 0, "allgather": 0,
                              "reduce_scatter": 0, "barrier": 0, "send": 0, "recv": 0}
    assert stats["bytes"]["allreduce"] == 4010 and stats["bytes"]["broadcast"] == 24
    compiled = stats["plans_compiled"]
    comm.allreduce(np.ones(1000, np.float32))
    assert comm.stats()["plans_compiled"] == compiled


def test_stats(ranks):
    ranks.run(count, 2)


def describe(comm, path):
    text = comm.explain("allreduce", 1 << 20, "float32", "sum")
    assert "allreduce" in text and "chosen" in text
    comm.barrier()
    comm.dump(f"{path}/{comm.rank}.json")
    assert comm.error is None


def test_explain_and_dump(ranks, tmp_path):
    ranks.run(describe, 2, str(tmp_path))
    assert "barrier" in (tmp_path / "1.json").read_text()



def test_two_communicators_in_one_process(ranks):
    ranks.run(two, 2)


def two(comm):
    other = comm.split(0)
    first = comm.allreduce_post(np.array([1.0]))
    if comm.rank == 0:
        other.barrier()
        assert first.wait()
    else:
        assert first.wait()
        other.barrier()
    other.close()


def test_version():
    assert manta.__version__.count(".") == 2
