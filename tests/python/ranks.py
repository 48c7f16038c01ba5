# SPDX-License-Identifier: Apache-2.0
"""Processes that are ranks: started once, used by many tests.

    results = ranks.run(function, 4, argument)

calls function(communicator, argument) in 4 processes, each with a fresh communicator of 4 ranks,
and returns what the ranks returned. An exception in a rank is raised here as RankFailed, with the
rank's traceback; `outcomes` gives the exceptions themselves.
"""

import multiprocessing
import traceback
from multiprocessing.connection import Connection, wait

import manta

LIMIT_S = 120  # torch is imported by all at a time


class RankFailed(AssertionError):
    pass


class Outcome:
    """What one rank returned or raised."""

    def __init__(self, value=None, error=None, text=""):
        self.value, self.error, self.text = value, error, text


def _serve(pipe: Connection) -> None:
    """A rank's process: do what comes down the pipe until it closes."""
    pipe.send("here")
    while True:
        try:
            task = pipe.recv()
        except (EOFError, KeyboardInterrupt):
            return
        pipe.send("here")
        pipe.send(_perform(pipe, *task))


def _perform(pipe: Connection, function, arguments, rank, size, options) -> Outcome:
    try:
        if rank == 0:
            pipe.recv()
            session = manta.create_session()
            pipe.send(session)
        else:
            session = pipe.recv()
        with manta.Communicator(rank, size, session, **options) as communicator:
            return Outcome(function(communicator, *arguments))
    except BaseException as error:
        text = traceback.format_exc()
        error.__traceback__ = None
        return Outcome(error=error, text=text)


class Ranks:
    def __init__(self) -> None:
        self.context = multiprocessing.get_context("spawn")
        self.processes, self.pipes = [], []

    def start(self, size: int) -> None:
        first = len(self.processes)
        while len(self.processes) < size:
            here, there = self.context.Pipe()
            process = self.context.Process(target=_serve, args=(there,), daemon=True)
            process.start()
            there.close()
            self.processes.append(process)
            self.pipes.append(here)
        for rank in range(first, size):
            assert self.receive(rank) == "here"

    def begin(self, function, size, *arguments, **options) -> None:
        """Start the ranks on a function; finish with end(). All are there and have imported what the
        function needs before any begins to wait for another."""
        self.start(size)
        options = {"timeout": 30} | options
        for rank, pipe in enumerate(self.pipes[:size]):
            pipe.send((function, arguments, rank, size, options))
        for rank in range(size):
            assert self.receive(rank) == "here"
        self.pipes[0].send("all are here")
        session = self.receive(0)
        assert isinstance(session, str), session.text
        for pipe in self.pipes[1:size]:
            pipe.send(session)

    def receive(self, rank: int):
        if not wait([self.pipes[rank]], LIMIT_S):
            self.close()
            raise RankFailed(f"rank {rank} did not answer within {LIMIT_S} s")
        return self.pipes[rank].recv()

    def end(self, size: int) -> list[Outcome]:
        """Outcomes of all ranks; None for a process that died. Dead ones are replaced later."""
        outcomes = []
        for rank in range(size):
            try:
                outcomes.append(self.receive(rank))
            except (EOFError, ConnectionError):
                outcomes.append(None)
        if None in outcomes:
            self.close()
        return outcomes

    def outcomes(self, function, size, *arguments, **options) -> list[Outcome]:
        self.begin(function, size, *arguments, **options)
        return self.end(size)

    def run(self, function, size, *arguments, **options) -> list:
        outcomes = self.outcomes(function, size, *arguments, **options)
        for rank, outcome in enumerate(outcomes):
            if outcome is None:
                raise RankFailed(f"rank {rank} died")
            if outcome.error is not None:
                raise RankFailed(f"rank {rank} of {size}:\n{outcome.text}")
        return [outcome.value for outcome in outcomes]

    def close(self) -> None:
        for pipe in self.pipes:
            pipe.close()
        for process in self.processes:
            process.join(5)
            if process.is_alive():
                process.kill()
                process.join()
        self.processes, self.pipes = [], []
