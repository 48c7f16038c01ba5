# SPDX-License-Identifier: Apache-2.0
"""The backend "manta" of ray.util.collective.

    manta.ray.register()                       # in the driver
    ray.init(runtime_env={"worker_process_setup_hook": "manta.ray.register"})   # and in the workers

After that, backend="manta" works wherever Ray takes the name of a backend. NumPy arrays and torch
CPU tensors, C-contiguous; results are left in the caller's tensors, as Ray has it. What is sent
often is best allocated by manta.empty(): workers of one node then read it in place.
MANTA_TIMEOUT (seconds) bounds each call and the creation of a group.
"""

from __future__ import annotations

from typing import Any

from ray.util.collective.backend_registry import _global_registry, register_collective_backend
from ray.util.collective.collective_group.base_collective_group import BaseGroup

import manta
from manta import _manta, _rendezvous

__all__ = ["MantaGroup", "register"]

BACKEND = "MANTA"

# By name: the numbers differ between ray.util.collective and Ray's compiled graphs.
_OPS = {"SUM": "sum", "PRODUCT": "prod", "MIN": "min", "MAX": "max", "AVG": "avg"}


def register() -> None:
    """Make the backend known to Ray in this process. Calling it again does nothing."""
    if not _global_registry.is_registered(BACKEND):
        register_collective_backend(BACKEND, MantaGroup)


class MantaGroup(BaseGroup):
    """A collective group whose calls go to one manta.Communicator."""

    def __init__(self, world_size: int, rank: int, group_name: str) -> None:
        super().__init__(world_size, rank, group_name)
        self._communicator = _rendezvous.join(world_size, rank, group_name)

    @property
    def communicator(self) -> manta.Communicator:
        """The communicator, for its stats(), explain() and error."""
        return self._communicator

    @classmethod
    def backend(cls) -> str:
        return BACKEND

    @classmethod
    def check_backend_availability(cls) -> bool:
        return True

    def destroy_group(self) -> None:
        self._communicator.close()

    def allreduce(self, tensor: list[Any], allreduce_options: Any = None) -> None:
        # Ray hands over the options *class* and changes it in the next call: read it now.
        op = _op_of(allreduce_options)
        array = _single(tensor)
        self._communicator.allreduce(array, op, array)

    def barrier(self, barrier_options: Any = None) -> None:
        self._communicator.barrier()

    def reduce(self, tensor: list[Any], reduce_options: Any = None) -> None:
        op, root = _op_of(reduce_options), getattr(reduce_options, "root_rank", 0)
        array = _single(tensor)
        # out only matters at the root: elsewhere the tensor stays as it is.
        self._communicator.reduce(array, op, root, array)

    def allgather(
        self, tensor_list: list[list[Any]], tensor: list[Any], allgather_options: Any = None
    ) -> None:
        # Received in place where the list's tensors lie one after another in memory.
        self._communicator.allgather(_single(tensor), _single(tensor_list))

    def broadcast(self, tensor: list[Any], broadcast_options: Any = None) -> None:
        self._communicator.broadcast(_single(tensor), getattr(broadcast_options, "root_rank", 0))

    def reducescatter(
        self, tensor: list[Any], tensor_list: list[list[Any]], reducescatter_options: Any = None
    ) -> None:
        op = _op_of(reducescatter_options)
        self._communicator.reduce_scatter(_single(tensor_list), op, _single(tensor))

    def send(self, tensor: list[Any], send_options: Any) -> None:
        self._communicator.send(_single(tensor), send_options.dst_rank)

    def recv(self, tensor: list[Any], recv_options: Any) -> None:
        self._communicator.recv(_single(tensor), recv_options.src_rank)


def _single(tensors: list[Any]) -> Any:
    """What Ray wrapped in a list of one entry for each device."""
    if len(tensors) == 1:
        return tensors[0]
    raise _manta.make_error(
        manta.InvalidArgumentError.code,
        f"backend manta takes one tensor per process, not {len(tensors)}: "
        "make one actor for each device",
    )


def _op_of(options: Any) -> str:
    if options is None:
        return "sum"
    name = options.reduceOp._name_  # `.name`, but four times as fast
    op = _OPS.get(name)
    if op is not None:
        return op
    raise _manta.make_error(
        manta.NotSupportedError.code, f"backend manta does not know the reduction {name}"
    )
