# SPDX-License-Identifier: Apache-2.0
"""Arrays in symmetric memory: ranks of the node read them in place, where others are copied."""

from __future__ import annotations

import importlib
import math
import operator
import sys
from collections.abc import Iterable
from typing import Any, NamedTuple, SupportsIndex

import numpy as np

from manta import _manta

_DTYPES = frozenset((*_manta.DTYPES, "bool", "complex64", "complex128"))


class MemoryInfo(NamedTuple):
    """Do ranks of this node read an array in place, and why or why not?"""

    in_place: bool
    reason: str


def empty(
    shape: SupportsIndex | Iterable[SupportsIndex], dtype: Any = "float32", *, torch: bool = False
) -> Any:
    """A new array that the other ranks of this node read in place, where others are copied for them.

    Fused collectives of more than 64 KiB do; elsewhere it is as good as any other array.

    A NumPy array; with a torch dtype, or torch=True, a torch CPU tensor. dtype: one of
    manta.DTYPES, "bool", "complex64" or "complex128", as a name, NumPy or torch dtype. Its contents
    are zeros. No communicator is needed, and other ranks need not do the same.

    The memory is freed when the last array, view or tensor over it is gone; a call that was posted
    keeps it, and a communicator's end does not matter. It takes whole pages and a file descriptor,
    so make few large arrays and cut them. A forked child sees the same memory and must not use it
    for calls.
    """
    extents = _extents(shape)
    if torch or _is_torch(dtype):
        return _tensor(extents, dtype)
    if isinstance(dtype, str) and dtype not in _DTYPES:
        raise _unknown(dtype)
    return _array(extents, dtype)


def memory_info(buffer: Any) -> MemoryInfo:
    """Tell whether ranks of this node read an array in place, and why or why not.

    The reason is in the words of C: manta_mem_alloc() is what manta.empty() calls, MANTA_MEM_REMAP
    is manta.register(buffer, remap=True).
    """
    return MemoryInfo(*_manta.memory_query(buffer))


def _extents(shape: SupportsIndex | Iterable[SupportsIndex]) -> tuple[int, ...]:
    parts = shape if isinstance(shape, Iterable) else (shape,)
    extents = tuple(operator.index(part) for part in parts)
    if any(extent < 0 for extent in extents):
        raise _manta.make_error(
            _manta.InvalidArgumentError.code, f"shape must not be negative, and is {extents}"
        )
    return extents


def _is_torch(dtype: Any) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(dtype, torch.dtype)


def _unknown(dtype: Any) -> TypeError:
    return TypeError(f"manta has no dtype {dtype!r}; see manta.DTYPES")


def _array(extents: tuple[int, ...], given: Any) -> np.ndarray[Any, Any]:
    try:
        dtype = np.dtype(given)
    except TypeError as error:
        raise TypeError(
            f"NumPy has no dtype {given!r}; import ml_dtypes, which adds it, or pass torch=True"
        ) from error
    if dtype.name not in _DTYPES or not dtype.isnative:
        raise _unknown(given)
    if 0 in extents:
        return np.empty(extents, dtype)
    memory: Any = _manta.Memory(math.prod(extents) * dtype.itemsize)
    return np.ndarray(extents, dtype, memory)


def _tensor(extents: tuple[int, ...], given: Any) -> Any:
    torch = importlib.import_module("torch")
    dtype = given
    if not isinstance(given, torch.dtype):
        dtype = getattr(torch, given if isinstance(given, str) else np.dtype(given).name, None)
    if not isinstance(dtype, torch.dtype) or str(dtype).removeprefix("torch.") not in _DTYPES:
        raise _unknown(given)
    if 0 in extents:
        return torch.empty(extents, dtype=dtype)
    memory = _manta.Memory(math.prod(extents) * dtype.itemsize)
    return torch.frombuffer(memory, dtype=dtype).view(extents)
