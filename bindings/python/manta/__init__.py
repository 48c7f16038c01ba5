# SPDX-License-Identifier: Apache-2.0
"""Collective communication between processes, on one node and on many.

    with manta.Communicator() as comm:
        total = comm.allreduce(array)

A Communicator needs rank, size and a session, from mantarun's environment or as arguments; see
help(manta.Communicator). manta.empty() makes arrays that ranks of one node read in place.
manta.ray is the backend for ray.util.collective.
"""

import atexit as _atexit

from manta import _manta
from manta._manta import (
    AVG,
    BAND,
    BOR,
    BXOR,
    DTYPES,
    MAX,
    MIN,
    PROD,
    SUM,
    AbortedError,
    AlgorithmError,
    AuthenticationError,
    BufferUnsafeError,
    BusyError,
    Communicator,
    DeadlineError,
    ForkError,
    InternalError,
    InvalidArgumentError,
    MantaError,
    MismatchError,
    NotSupportedError,
    OutOfMemoryError,
    PeerDiedError,
    PeerLeftError,
    PlanError,
    Registration,
    Request,
    SchedulerError,
    SystemCallError,
    TransportError,
    TryAgainError,
    VersionError,
    __version__,
    create_session,
    register,
)
from manta._memory import MemoryInfo, empty, memory_info

__all__ = [
    "AVG",
    "BAND",
    "BOR",
    "BXOR",
    "DTYPES",
    "MAX",
    "MIN",
    "PROD",
    "SUM",
    "AbortedError",
    "AlgorithmError",
    "AuthenticationError",
    "BufferUnsafeError",
    "BusyError",
    "Communicator",
    "DeadlineError",
    "ForkError",
    "InternalError",
    "InvalidArgumentError",
    "MantaError",
    "MemoryInfo",
    "MismatchError",
    "NotSupportedError",
    "OutOfMemoryError",
    "PeerDiedError",
    "PeerLeftError",
    "PlanError",
    "Registration",
    "Request",
    "SchedulerError",
    "SystemCallError",
    "TransportError",
    "TryAgainError",
    "VersionError",
    "__version__",
    "create_session",
    "empty",
    "memory_info",
    "register",
]

_atexit.register(_manta.close_all)
