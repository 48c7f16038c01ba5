#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The benchmark loop through ray.util.collective, over Manta or over Gloo, each in actors of its
own.

A cluster takes long to start, so one serves many runs. It reads one JSON object a line,
{"backend": "manta", "ranks": 2, "bind": true, "arguments": ["--max", "64"]}, runs the loop in
fresh actors, and answers with {"code": 0, "errors": ""}. The end of its input ends it.
"""

import json
import os
import sys

import loop

HERE = os.path.dirname(os.path.abspath(__file__))
GROUP = "perf"


class Collective(loop.Backend):
    """Calls of ray.util.collective; what is behind them is the backend's name."""

    def __init__(self, rank, ranks, backend):
        super().__init__(rank, ranks)
        self.name = f"ray-{backend}"
        self.transport = self.backend = backend

    def join(self):
        from ray.util import collective
        from ray.util.collective.types import ReduceOp

        self.module, self.operations = collective, ReduceOp
        collective.init_collective_group(self.ranks, self.rank, self.backend, GROUP)

    def leave(self):
        self.module.barrier(GROUP)
        self.module.destroy_collective_group(GROUP)

    def broadcast(self, tensor, root):
        broadcast = self.module.broadcast
        return lambda: broadcast(tensor, root, GROUP)

    def allreduce(self, tensor, operation):
        allreduce, operation = self.module.allreduce, self.operations[operation]
        return lambda: allreduce(tensor, GROUP, operation)

    def collective(self, call, source, target):
        module, operation = self.module, self.operations[loop.OPERATIONS[call.op]]
        if call.collective == loop.BARRIER:
            return lambda: module.barrier(GROUP)
        if call.collective == loop.ALLGATHER:
            parts = list(target.chunk(self.ranks))
            return lambda: module.allgather(parts, source, GROUP)
        if call.collective == loop.REDUCE_SCATTER:
            parts = list(source.chunk(self.ranks))
            return lambda: module.reducescatter(target, parts, GROUP, operation)
        root = call.root

        def reduce():
            module.reduce(target, root, GROUP, operation)

        return reduce if source is target else loop.after_copy(target, source, reduce)


class Rank:
    """The actor."""

    def run(self, rank, ranks, backend, bind, arguments):
        if bind:
            loop.keep_to_cpu(rank)
        calls = Collective(rank, ranks, backend)
        code = loop.main(calls, arguments)
        return code, "".join(calls.errors)


def run(ray, request):
    remote = ray.remote(num_cpus=0)(Rank)
    actors = [remote.remote() for _ in range(request["ranks"])]
    try:
        ended = ray.get(
            [
                actor.run.remote(
                    rank,
                    request["ranks"],
                    request["backend"],
                    request["bind"],
                    request["arguments"],
                )
                for rank, actor in enumerate(actors)
            ],
            timeout=request.get("timeout", 120),
        )
        return {
            "code": max(code for code, _ in ended),
            "errors": "".join(errors for _, errors in ended),
        }
    except Exception as error:
        return {"code": 1, "errors": str(error)}
    finally:
        for actor in actors:
            ray.kill(actor)


def main():
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # Ray writes to standard output too
    import ray

    variables = {
        name: value
        for name, value in os.environ.items()
        if name.startswith("MANTA_") or name == "BUILD"
    }
    variables["PYTHONPATH"] = os.pathsep.join(filter(None, [HERE, os.environ.get("PYTHONPATH")]))
    hook = {}
    try:
        import manta.ray

        manta.ray.register()
        hook = {"worker_process_setup_hook": "manta.ray.register"}
    except ImportError as error:
        print(f"without Manta's backend: {error}", file=sys.stderr)
    ray.init(
        address="local",
        num_cpus=4,
        include_dashboard=False,
        log_to_driver=False,
        runtime_env={"env_vars": variables, **hook},
    )
    for line in sys.stdin:
        answers.write(json.dumps(run(ray, json.loads(line))) + "\n")
        answers.flush()
    ray.shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
