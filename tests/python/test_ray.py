# SPDX-License-Identifier: Apache-2.0
"""The Ray backend on Ray's real processes: one cluster, a few actors, many scenarios."""

import os
import time

import numpy as np
import pytest
import ray
import torch
from ray.experimental import collective as eager_collective
from ray.util import collective

import manta
import manta.ray

SIZE = 3


@pytest.fixture(scope="module", autouse=True)
def cluster():
    manta.ray.register()
    here = os.path.dirname(os.path.abspath(__file__))
    path = os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH")]))
    ray.init(address="local", num_cpus=12, include_dashboard=False, log_to_driver=False,
             runtime_env={"worker_process_setup_hook": "manta.ray.register",
                          "env_vars": {"MANTA_TIMEOUT": "30", "PYTHONPATH": path}})
    yield
    ray.shutdown()


class Rank:
    """An actor that does what the test says."""

    def __init__(self):
        torch.set_num_threads(1)

    def call(self, function, *arguments):
        return function(*arguments)


def actors(count=SIZE, **options):
    """All have started before any waits for another, which takes long on a busy host."""
    remote = ray.remote(num_cpus=0.1)(Rank)
    started = [remote.options(**options).remote() for _ in range(count)]
    ray.get([actor.call.remote(int) for actor in started], timeout=180)
    return started


@pytest.fixture(scope="module")
def workers(cluster):
    return actors()


def everywhere(workers, function, *arguments):
    """function(rank, *arguments) on every worker; what they returned."""
    return ray.get([worker.call.remote(function, rank, *arguments)
                    for rank, worker in enumerate(workers)], timeout=60)


def join(rank, size, name):
    collective.init_collective_group(size, rank, "manta", name)


def leave(rank, name):
    collective.destroy_collective_group(name)


@pytest.fixture(scope="module")
def group(workers):
    everywhere(workers, join, SIZE, "shared")
    yield workers
    everywhere(workers, leave, "shared")


def kinds(values, dtype="float32"):
    """The same data as NumPy array and as torch tensor."""
    array = np.array(values, dtype)
    return [array, torch.from_numpy(array.copy())]


def check_allreduce(rank):
    ops = {"SUM": 6, "PRODUCT": 6, "MIN": 1, "MAX": 3}
    for name, expected in ops.items():
        for data in kinds([[rank + 1] * 4] * 2):
            collective.allreduce(data, "shared", getattr(collective.types.ReduceOp, name))
            assert data.tolist() == [[expected] * 4] * 2, name
    for data in kinds([rank + 1]):  # the op of the last call does not stick
        collective.allreduce(data, "shared")
        assert data.tolist() == [6]
    half = torch.ones(1000, dtype=torch.bfloat16)
    collective.allreduce(half, "shared")
    assert (half == SIZE).all()


def check_broadcast_and_reduce(rank):
    for root in range(SIZE):
        for data in kinds([rank, rank]):
            collective.broadcast(data, root, "shared")
            assert data.tolist() == [root, root]
        for data in kinds([rank, 1]):
            collective.reduce(data, root, "shared")
            assert data.tolist() == ([3, SIZE] if rank == root else [rank, 1])


def check_allgather(rank):
    for index in range(2):
        data = kinds([rank, rank + 10])[index]
        apart = [kinds([0, 0])[index] for _ in range(SIZE)]
        collective.allgather(apart, data, "shared")
        assert [piece.tolist() for piece in apart] == [[r, r + 10] for r in range(SIZE)]
        whole = kinds(np.zeros((SIZE, 2)))[index]
        whole[rank] = data
        collective.allgather(list(whole), whole[rank], "shared")
        assert whole.tolist() == [[r, r + 10] for r in range(SIZE)]


def check_reducescatter(rank):
    for index in range(2):
        result = kinds([0, 0])[index]
        apart = [kinds([rank, r])[index] for r in range(SIZE)]
        collective.reducescatter(result, apart, "shared")
        assert result.tolist() == [3, SIZE * rank]
        assert apart[0].tolist() == [rank, 0]
        whole = kinds([[rank, r] for r in range(SIZE)])[index]
        collective.reducescatter(result, list(whole), "shared", collective.types.ReduceOp.MAX)
        assert result.tolist() == [SIZE - 1, rank]


def check_send_and_recv(rank):
    for data in kinds([1.5] * 1000):
        if rank == 0:
            collective.send(data, 2, "shared")
        elif rank == 2:
            data[:] = 0
            collective.recv(data, 0, "shared")
            assert data.tolist() == [1.5] * 1000
    collective.barrier("shared")


def check_symmetric_memory(rank):
    """Tensors that the other workers read in place, cut into parts, and in all their lists."""
    for dtype in ("float32", torch.float32):
        whole = manta.empty((SIZE, 5000), dtype)
        assert manta.memory_info(whole).in_place
        for _ in range(3):
            for part in whole:
                part[:] = rank + 1
                collective.allreduce(part, "shared")
            assert (whole == 6).all()
            collective.broadcast(whole, 1, "shared")
            whole[rank] = rank
            collective.allgather(list(whole), whole[rank], "shared")
            assert all((whole[r] == r).all() for r in range(SIZE))
            collective.reducescatter(whole[rank], list(whole), "shared")
            assert (whole[rank] == SIZE * rank).all()
            whole[:] = rank
            collective.reduce(whole, 0, "shared")
            assert (whole == (3 if rank == 0 else rank)).all()


def check_refusals(rank):
    with pytest.raises(ValueError, match="contiguous"):
        collective.allreduce(np.ones((3, 3))[:, 0], "shared")
    with pytest.raises(TypeError, match="dtype"):
        collective.allreduce(np.array(["text"]), "shared")
    with pytest.raises(manta.InvalidArgumentError, match="one actor for each device"):
        collective.collective.get_group_handle("shared").allreduce([np.ones(1)] * 2)
    collective.barrier("shared")


@pytest.mark.parametrize("check", [
    check_allreduce, check_broadcast_and_reduce, check_allgather, check_reducescatter,
    check_send_and_recv, check_symmetric_memory, check_refusals,
], ids=lambda check: check.__name__.removeprefix("check_"))
def test_collective(group, check):
    everywhere(group, check)


def test_group_tells_rank_and_size(group):
    def look(rank):
        handle = collective.collective.get_group_handle("shared")
        assert collective.get_rank("shared") == rank == handle.communicator.rank
        assert collective.get_collective_group_size("shared") == SIZE == handle.communicator.size
        assert handle.backend() == "MANTA" and handle.group_name == "shared"
        return handle.communicator.stats()["calls"]["allreduce"]

    assert len(set(everywhere(group, look))) == 1


def total(rank, name):
    data = np.array([rank + 1.0])
    collective.allreduce(data, name)
    return data[0]


def test_register_again_does_nothing():
    manta.ray.register()
    manta.ray.register()
    assert collective.collective.is_backend_available("manta")


def test_create_on_the_driver(workers):
    collective.create_collective_group(workers, SIZE, list(range(SIZE)), "manta", "declared")
    assert everywhere(workers, total, "declared") == [6] * SIZE
    everywhere(workers, leave, "declared")


def test_create_eagerly(workers):
    handle = eager_collective.create_collective_group(workers, "manta", "eager")
    assert everywhere(workers, total, "eager") == [6] * SIZE
    eager_collective.destroy_collective_group(handle)


def test_create_by_environment():
    def variables(rank):
        return {"collective_group_name": "by_environment", "collective_rank": str(rank),
                "collective_world_size": "2", "collective_backend": "manta"}

    pair = [actors(1, runtime_env={"env_vars": variables(rank)})[0] for rank in range(2)]
    assert everywhere(pair, total, "by_environment") == [3, 3]
    for actor in pair:
        ray.kill(actor)


def test_destroy_and_create_again(workers):
    for _ in range(5):
        everywhere(workers, join, SIZE, "again")
        assert everywhere(workers, total, "again") == [6] * SIZE
        everywhere(workers, leave, "again")


def test_stale_keys_are_not_used(workers):
    """What a crashed group of the same name left in the store must not mislead the next one."""
    from ray.experimental import internal_kv

    offer = f"offer/{ray.get_runtime_context().namespace}/stale"
    internal_kv._internal_kv_put(offer, b"old", namespace="manta")
    internal_kv._internal_kv_put("old/rank/1", b"nonce", namespace="manta")
    go = b'{"session": "manta1:none@127.0.0.1:1", "nonces": {"1": "nonce", "2": "nonce"}}'
    internal_kv._internal_kv_put("old/go", go, namespace="manta")
    others = [workers[rank].call.remote(join, rank, SIZE, "stale") for rank in (1, 2)]
    limit = time.monotonic() + 60
    while len(internal_kv._internal_kv_list("old/rank/", namespace="manta")) < 2:
        assert time.monotonic() < limit
        time.sleep(0.01)  # both have answered the old offer
    ray.get([workers[0].call.remote(join, 0, SIZE, "stale"), *others], timeout=60)
    assert everywhere(workers, total, "stale") == [6] * SIZE
    everywhere(workers, leave, "stale")
    internal_kv._internal_kv_del("old/", del_by_prefix=True, namespace="manta")
    assert internal_kv._internal_kv_list("", namespace="manta") == []


def test_several_groups(workers):
    def both(rank):
        order = list(range(SIZE))
        collective.init_collective_group(SIZE, rank, "manta", "forward")
        collective.init_collective_group(SIZE, SIZE - 1 - rank, "manta", "backward")
        data = np.array([float(rank)])
        collective.broadcast(data, 0, "backward")
        assert data[0] == order[-1]
        collective.broadcast(data, 0, "forward")
        assert collective.get_rank("backward") == SIZE - 1 - rank
        total_of_both = total(rank, "forward") + total(rank, "backward")
        collective.destroy_collective_group("forward")
        collective.destroy_collective_group("backward")
        return total_of_both

    assert everywhere(workers, both) == [12] * SIZE


@pytest.mark.parametrize("text, seconds", [("", 600), ("2", 2), ("0.5", 0.5), ("250ms", 0.25)])
def test_timeout_is_read_as_libmanta_reads_it(monkeypatch, text, seconds):
    monkeypatch.setenv("MANTA_TIMEOUT", text)
    assert manta._rendezvous.timeout_s() == seconds
    monkeypatch.setenv("MANTA_TIMEOUT", text + " minutes")
    with pytest.raises(ValueError, match="MANTA_TIMEOUT must be a time"):
        manta._rendezvous.timeout_s()


def set_timeout(rank, seconds):
    os.environ["MANTA_TIMEOUT"] = seconds


def test_timeout():
    """MANTA_TIMEOUT bounds the creation and each call, and the late rank is named."""
    pair = actors(2)
    everywhere(pair, set_timeout, "1")
    with pytest.raises(manta.DeadlineError, match="rank 1 of group 'lonely' did not come"):
        ray.get(pair[0].call.remote(join, 0, 2, "lonely"), timeout=60)
    with pytest.raises(manta.DeadlineError, match="rank 1 of group 'lonely' waited 1 s for rank 0"):
        ray.get(pair[1].call.remote(join, 1, 2, "lonely"), timeout=60)
    everywhere(pair, set_timeout, "12")  # two that both come have time enough
    everywhere(pair, join, 2, "pair")
    with pytest.raises(manta.DeadlineError, match="rank 1") as caught:
        ray.get(pair[0].call.remote(total, 0, "pair"), timeout=60)
    assert caught.value.rank == 1
    for actor in pair:
        ray.kill(actor)


# The sim transport kills rank 2 inside its fifth allreduce: when it has posted the second of that
# call's messages and looked once how they get on. A barrier comes before each, so that nobody is still
# in the fourth.
KILLED_IN_CALL = 5
MORTAL = {"MANTA_TRANSPORTS": "sim", "MANTA_SIM_INNER": "tcp",
          "MANTA_FAULT": f"kill@rank=2:call={2 * KILLED_IN_CALL}:step=2:middle=1"}


def test_killed_worker(tmp_path):
    """One worker dies in the middle of an allreduce: Ray says so of it, manta in the others."""
    trio = actors(3, runtime_env={"env_vars": MORTAL})
    everywhere(trio, join, 3, "doomed")

    def reduce_until_killed(rank):
        data = np.zeros(1 << 20)
        for calls in range(2 * KILLED_IN_CALL):
            (tmp_path / f"{rank}").write_text(str(calls))
            collective.barrier("doomed")
            collective.allreduce(data, "doomed")

    calls = [worker.call.remote(reduce_until_killed, rank) for rank, worker in enumerate(trio)]
    with pytest.raises(ray.exceptions.RayActorError):
        ray.get(calls[2], timeout=60)
    for rank in (0, 1):
        with pytest.raises(manta.PeerDiedError, match="rank 2 is dead") as caught:
            ray.get(calls[rank], timeout=60)
        assert caught.value.rank == 2
    ended = [int((tmp_path / f"{rank}").read_text()) for rank in range(3)]
    assert ended == [KILLED_IN_CALL - 1] * 3  # all were in that call, and nobody's ended
    everywhere(trio[:2], leave, "doomed")
    everywhere(trio[:2], join, 2, "doomed")  # the survivors go on
    assert everywhere(trio[:2], total, "doomed") == [3, 3]
    for actor in trio[:2]:
        ray.kill(actor)
