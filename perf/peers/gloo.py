#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The benchmark loop over Gloo (torch.distributed), with the same rules as perf/loop: sources are
rewritten before each call, ranks start together in shared memory, an iteration's time is the
slowest rank's own. Starts its ranks itself."""

import argparse
import json
import mmap
import os
import struct
import sys
import tempfile
import time

OPERATIONS = ("sum", "min", "max", "prod")
COLLECTIVES = ("allreduce", "broadcast", "reduce", "allgather", "barrier")


def parse_size(text):
    units = {"k": 1 << 10, "M": 1 << 20, "G": 1 << 30}
    return int(text[:-1]) * units[text[-1]] if text[-1:] in units else int(text)


def parse_arguments():
    parser = argparse.ArgumentParser(description="time Gloo's collectives, CPU tensors of float32")
    parser.add_argument("-n", "--ranks", type=int, default=2)
    parser.add_argument("--coll", default="allreduce", help=", ".join(COLLECTIVES))
    parser.add_argument("--min", type=parse_size, default=4)
    parser.add_argument("--max", type=parse_size, default=4 << 20)
    parser.add_argument("--factor", type=int, default=4)
    parser.add_argument("--iters", type=int, default=0)
    parser.add_argument("--op", default="sum", choices=OPERATIONS)
    parser.add_argument("--bind", action="store_true", help="each rank on a CPU of its own")
    parser.add_argument("--json", required=True, help="file to append one object a line to")
    return parser.parse_args()


class Page:
    """Shared by fork: one 8-byte counter for each rank's arrivals. Ranks have one writer each."""

    def __init__(self, ranks):
        self.ranks = ranks
        self.memory = mmap.mmap(-1, 64 * ranks)
        self.turn = 0

    def meet(self, rank):
        self.turn += 1
        struct.pack_into("q", self.memory, 64 * rank, self.turn)
        while any(struct.unpack_from("q", self.memory, 64 * r)[0] < self.turn for r in range(self.ranks)):
            os.sched_yield()


def iterations_of(options, count):
    if options.iters:
        return options.iters
    return 300 if count <= 1 << 16 else 50 if count <= 1 << 20 else 10


def call_of(dist, name, source, target, parts, operation):
    """The call as a function without arguments. allreduce and reduce work in place in Gloo."""
    if name == "allreduce":
        return lambda: dist.all_reduce(source, op=operation)
    if name == "broadcast":
        return lambda: dist.broadcast(source, src=0)
    if name == "reduce":
        return lambda: dist.reduce(source, dst=0, op=operation)
    if name == "allgather":
        return lambda: dist.all_gather(parts, source)
    return dist.barrier


def measure(dist, torch, options, page, rank, name, size):
    count = size // 4
    ranks = options.ranks
    source = torch.empty(max(count, 1))
    target = torch.empty(max(count, 1) * (ranks if name == "allgather" else 1))
    parts = list(target.chunk(ranks)) if name == "allgather" else None
    operation = {"sum": dist.ReduceOp.SUM, "min": dist.ReduceOp.MIN, "max": dist.ReduceOp.MAX,
                 "prod": dist.ReduceOp.PRODUCT}[options.op]
    call = call_of(dist, name, source, target, parts, operation)
    iterations = iterations_of(options, size)
    times = torch.zeros(iterations, dtype=torch.float64)
    for turn in range(-iterations // 10 - 2, iterations):
        source.fill_(1.0 + turn % 2)
        page.meet(rank)
        begin = time.perf_counter_ns()
        call()
        took = time.perf_counter_ns() - begin
        if turn >= 0:
            times[turn] = took
    dist.all_reduce(times, op=dist.ReduceOp.MAX)
    return sorted(times.tolist())


def write_row(options, name, size, times):
    count = size // 4
    moved = size * (options.ranks if name == "allgather" else 1)
    p50 = times[len(times) // 2] / 1e3
    factor = {"allreduce": 2 * (options.ranks - 1) / options.ranks,
              "allgather": (options.ranks - 1) / options.ranks}.get(name, 1)
    row = {"coll": name, "np": options.ranks, "nodes": 1, "bytes": size, "count": count,
           "dtype": "float32", "op": options.op, "in_place": int(name in ("allreduce", "reduce")),
           "algorithm": "-", "transport": "gloo", "min_us": times[0] / 1e3, "p50_us": p50,
           "avg_us": sum(times) / len(times) / 1e3, "p99_us": times[(len(times) - 1) * 99 // 100] / 1e3,
           "max_us": times[-1] / 1e3, "algbw_GBs": moved / p50 / 1e3,
           "busbw_GBs": moved / p50 / 1e3 * factor, "wrong": None}
    with open(options.json, "a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")


def run_rank(options, page, rank, store):
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    if options.bind:
        os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[rank]})
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=options.ranks)
    for name in options.coll.split(","):
        if name not in COLLECTIVES:
            continue
        size = options.min if name != "barrier" else 0
        while size <= options.max:
            times = measure(dist, torch, options, page, rank, name, size)
            if rank == 0:
                write_row(options, name, size, times)
            if name == "barrier":
                break
            size *= options.factor
    dist.barrier()
    dist.destroy_process_group()


def main():
    options = parse_arguments()
    page = Page(options.ranks)
    with tempfile.TemporaryDirectory() as folder:
        children = []
        for rank in range(options.ranks):
            child = os.fork()
            if child == 0:
                try:
                    run_rank(options, page, rank, os.path.join(folder, "store"))
                    os._exit(0)
                except BaseException as error:
                    print(f"gloo rank {rank}: {error}", file=sys.stderr)
                    os._exit(1)
            children.append(child)
        codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    return max(map(abs, codes))


if __name__ == "__main__":
    sys.exit(main())
