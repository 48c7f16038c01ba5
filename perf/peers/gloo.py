#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The benchmark loop over Gloo, through torch.distributed. Starts its ranks itself, unless told where
they meet: then it is the rank MANTA_RANK."""

import argparse
import os
import sys
import tempfile
import traceback

import loop


class Gloo(loop.Backend):
    name = "gloo"
    transport = "gloo"

    def __init__(self, rank, ranks, store):
        super().__init__(rank, ranks)
        self.store = store

    def join(self):
        import torch.distributed as dist

        self.dist = dist
        self.operations = {name: getattr(dist.ReduceOp, name) for name in loop.OPERATIONS.values()}
        dist.init_process_group(
            "gloo", init_method=f"file://{self.store}", rank=self.rank, world_size=self.ranks
        )

    def leave(self):
        self.dist.barrier()
        self.dist.destroy_process_group()

    def broadcast(self, tensor, root):
        broadcast = self.dist.broadcast
        return lambda: broadcast(tensor, src=root)

    def allreduce(self, tensor, operation):
        all_reduce, operation = self.dist.all_reduce, self.operations[operation]
        return lambda: all_reduce(tensor, op=operation)

    def collective(self, call, source, target):
        dist, operation = self.dist, self.operations[loop.OPERATIONS[call.op]]
        if call.collective == loop.BARRIER:
            return dist.barrier
        if call.collective == loop.ALLGATHER:
            return lambda: dist.all_gather_into_tensor(target, source)
        if call.collective == loop.REDUCE_SCATTER:
            return lambda: dist.reduce_scatter_tensor(target, source, op=operation)
        root = call.root

        def reduce():
            dist.reduce(target, dst=root, op=operation)

        return reduce if source is target else loop.after_copy(target, source, reduce)


def run_rank(options, rest, rank, store):
    if options.bind:
        loop.keep_to_cpu(rank)
    return loop.main(Gloo(rank, options.ranks, store), rest)


def main():
    parser = argparse.ArgumentParser(
        description="time Gloo's collectives, CPU tensors of float32; other options are "
        "manta-perf's"
    )
    parser.add_argument("-n", "--ranks", type=int, default=2)
    parser.add_argument("--bind", action="store_true", help="each rank on a CPU of its own")
    parser.add_argument("--store", help="file in which the ranks meet, which others start, too")
    options, rest = parser.parse_known_args()
    if options.store:
        return run_rank(options, rest, int(os.environ["MANTA_RANK"]), options.store)
    children = []
    with tempfile.TemporaryDirectory() as folder:
        for rank in range(options.ranks):
            child = os.fork()
            if child == 0:
                code = 1
                try:
                    code = run_rank(options, rest, rank, os.path.join(folder, "store"))
                except BaseException:
                    traceback.print_exc()
                os._exit(code)
            children.append(child)
        codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    return max(map(abs, codes))


if __name__ == "__main__":
    sys.exit(main())
