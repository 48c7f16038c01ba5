#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The benchmark loop over Manta as Python calls it, with NumPy arrays or torch tensors:

    mantarun -n 2 --bind core perf/peers/manta_python.py --arrays torch --max 64

The other options are manta-perf's.
"""

import argparse
import os
import sys

import loop

import manta

WORDS = {"SUM": "sum", "PRODUCT": "prod", "MIN": "min", "MAX": "max"}


class Python(loop.Backend):
    def __init__(self, arrays):
        super().__init__(int(os.environ["MANTA_RANK"]), int(os.environ["MANTA_SIZE"]))
        self.name = f"manta-{arrays}"
        self.is_numpy = arrays == "numpy"
        self.lent = {}

    def join(self):
        self.communicator = manta.Communicator()
        self.transport = "shm"

    def leave(self):
        self.communicator.close()

    def allocate(self, length):
        memory = manta.empty(length, "uint8")
        self.lent[memory.ctypes.data] = memory
        return memory.ctypes.data

    def release(self, address):
        self.tensors.clear()
        del self.lent[address]

    def array(self, tensor):
        return tensor.numpy() if self.is_numpy else tensor

    def broadcast(self, tensor, root):
        broadcast, array = self.communicator.broadcast, self.array(tensor)
        return lambda: broadcast(array, root)

    def allreduce(self, tensor, operation):
        return self.reduction(self.communicator.allreduce, tensor, tensor, operation)

    def reduction(self, method, source, target, operation):
        source, target = self.array(source), self.array(target)
        word = WORDS[operation]
        return lambda: method(source, word, out=target)

    def caller(self, call, source, target):
        comm = self.communicator
        if call.collective == loop.BARRIER:
            return comm.barrier
        if call.collective == loop.BROADCAST:
            return super().caller(call, source, target)
        taken, given = self.operands(call, source, target)
        operation = loop.OPERATIONS[call.op]
        if call.collective == loop.ALLREDUCE:
            return self.reduction(comm.allreduce, taken, given, operation)
        if call.collective == loop.REDUCE_SCATTER:
            return self.reduction(comm.reduce_scatter, taken, given, operation)
        taken, given = self.array(taken), self.array(given)
        if call.collective == loop.ALLGATHER:
            return lambda: comm.allgather(taken, given)
        root, word = call.root, WORDS[operation]
        return lambda: comm.reduce(taken, word, root, given)


def main():
    parser = argparse.ArgumentParser(description="time Manta's collectives as Python calls them")
    parser.add_argument("--arrays", choices=("numpy", "torch"), default="numpy")
    options, rest = parser.parse_known_args()
    return loop.main(Python(options.arrays), rest)


if __name__ == "__main__":
    sys.exit(main())
