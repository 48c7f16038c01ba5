# SPDX-License-Identifier: Apache-2.0
"""How the ranks of a Ray group find one another, through the key-value store of Ray's GCS.

A name can be used again, and what a crashed group left in the store must never be taken for the
new group's. So every round has a random id, and every rank a random nonce:

    offer/<namespace>/<group>    <- round        written by rank 0
    <round>/rank/<rank>          <- nonce        written by the others when they see the offer
    <round>/go                   <- session and all nonces, written by rank 0 when all are there

A rank joins only by a `go` that holds its own nonce, which an old one cannot; and rank 0 only reads
nonces of its own round, which no old one is. When all have joined, rank 0 deletes the keys.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import time
from collections.abc import Callable

import ray
from ray.experimental import internal_kv

import manta
from manta import _manta

_NAMESPACE = "manta"
_POLL_FIRST_S, _POLL_LAST_S = 0.001, 0.05
_UNITS = {"": 1.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
_ETIMEOUT = manta.DeadlineError.code


def join(size: int, rank: int, group_name: str) -> manta.Communicator:
    """A communicator of the group's ranks; returns when all have joined."""
    if size == 1:
        return manta.Communicator(0, 1, manta.create_session())
    offer = f"offer/{ray.get_runtime_context().namespace}/{group_name}"
    deadline = time.monotonic() + timeout_s()
    if rank == 0:
        return _Host(size, group_name, offer, deadline).run()
    session = _Guest(rank, group_name, offer, deadline).run()
    return manta.Communicator(rank, size, session)


def timeout_s() -> float:
    """MANTA_TIMEOUT in seconds, as libmanta reads it."""
    text = os.environ.get("MANTA_TIMEOUT") or "600"
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(s|ms|us|ns|)", text, re.ASCII)
    if found:
        return float(found.group(1)) * _UNITS[found.group(2)]
    raise _manta.make_error(
        manta.InvalidArgumentError.code,
        f"MANTA_TIMEOUT must be a time in seconds or with its unit, e.g. 2, 0.5 or 250ms, not {text!r}",
    )


class _Host:
    """Rank 0: offers a round, waits for the others, starts them."""

    def __init__(self, size: int, group_name: str, offer: str, deadline: float) -> None:
        self.size, self.group_name, self.offer, self.deadline = size, group_name, offer, deadline
        self.round = secrets.token_hex(16)

    def run(self) -> manta.Communicator:
        _put(self.offer, self.round.encode())
        try:
            nonces = {rank: self.nonce_of(rank) for rank in self.wait_for_all()}
            session = manta.create_session()
            _put(f"{self.round}/go", json.dumps({"session": session, "nonces": nonces}).encode())
            return manta.Communicator(0, self.size, session)
        finally:
            self.clean_up()

    def wait_for_all(self) -> set[int]:
        prefix = f"{self.round}/rank/"
        found: set[int] = set()

        def all_there() -> bool:
            found.update(int(key.decode().removeprefix(prefix)) for key in _keys(prefix))
            return len(found) == self.size - 1

        if not _poll(all_there, self.deadline):
            raise self.late(found)
        return found

    def late(self, found: set[int]) -> manta.MantaError:
        missing = sorted(set(range(1, self.size)) - found)
        named = ", ".join(map(str, missing[:10])) + (", ..." if len(missing) > 10 else "")
        return _manta.make_error(
            _ETIMEOUT,
            f"rank {named} of group '{self.group_name}' did not come within "
            f"{timeout_s():g} s; raise MANTA_TIMEOUT if it was only slow",
            missing[0],
        )

    def nonce_of(self, rank: int) -> str:
        return (_get(f"{self.round}/rank/{rank}") or b"").decode()

    def clean_up(self) -> None:
        if _get(self.offer) == self.round.encode():
            _delete(self.offer)
        _delete(f"{self.round}/", prefix=True)


class _Guest:
    """Any other rank: answers the offer that stands, until a `go` is meant for it."""

    def __init__(self, rank: int, group_name: str, offer: str, deadline: float) -> None:
        self.rank, self.group_name, self.offer, self.deadline = rank, group_name, offer, deadline
        self.nonce = secrets.token_hex(16)
        self.round: str | None = None
        self.session: str | None = None

    def run(self) -> str:
        if _poll(self.is_started, self.deadline) and self.session:
            return self.session
        self.withdraw()
        raise _manta.make_error(
            _ETIMEOUT,
            f"rank {self.rank} of group '{self.group_name}' waited {timeout_s():g} s for rank 0 "
            f"and the others to create it; raise MANTA_TIMEOUT if they were only slow",
            0,
        )

    def is_started(self) -> bool:
        if self.round and (answer := _get(f"{self.round}/go")):
            content = json.loads(answer)
            if content["nonces"].get(str(self.rank)) == self.nonce:
                self.session = content["session"]
                return True
        offered = _get(self.offer)
        if offered and offered.decode() != self.round:
            self.withdraw()
            self.round = offered.decode()
            _put(f"{self.round}/rank/{self.rank}", self.nonce.encode())
        return False

    def withdraw(self) -> None:
        if self.round:
            _delete(f"{self.round}/rank/{self.rank}")


def _poll(condition: Callable[[], bool], deadline: float) -> bool:
    """Ask until the answer is yes (True) or the deadline has passed (False)."""
    pause = _POLL_FIRST_S
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(pause)
        pause = min(pause * 1.5, _POLL_LAST_S)
    return True


def _put(key: str, value: bytes) -> None:
    internal_kv._internal_kv_put(key, value, namespace=_NAMESPACE)


def _get(key: str) -> bytes | None:
    return internal_kv._internal_kv_get(key, namespace=_NAMESPACE)


def _keys(prefix: str) -> list[bytes]:
    return internal_kv._internal_kv_list(prefix, namespace=_NAMESPACE)


def _delete(key: str, prefix: bool = False) -> None:
    internal_kv._internal_kv_del(key, del_by_prefix=prefix, namespace=_NAMESPACE)
