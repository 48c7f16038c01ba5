# SPDX-License-Identifier: Apache-2.0
"""Collective communication between processes, on one node and on many.

    with manta.Communicator() as comm:
        total = comm.allreduce(array)

A Communicator needs rank, size and a session, from mantarun's environment or as arguments; see
help(manta.Communicator). manta.ray is the backend for ray.util.collective.
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
    Request,
    SchedulerError,
    SystemCallError,
    TransportError,
    TryAgainError,
    VersionError,
    __version__,
    create_session,
)

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
    "MismatchError",
    "NotSupportedError",
    "OutOfMemoryError",
    "PeerDiedError",
    "PeerLeftError",
    "PlanError",
    "Request",
    "SchedulerError",
    "SystemCallError",
    "TransportError",
    "TryAgainError",
    "VersionError",
    "__version__",
    "create_session",
]

_atexit.register(_manta.close_all)
