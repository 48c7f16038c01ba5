# SPDX-License-Identifier: Apache-2.0
"""perf/loop for libraries that are called from Python: the same C loop, with a Backend's methods
behind its function pointers. What is timed is a function without arguments that the loop calls
through the interpreter's own C API (perf/loop/caller.c): what passes through ctypes is not timed.
"""

import ctypes
import os
import sys
import traceback

import torch

BUILD = os.environ.get("BUILD") or os.path.join(
    os.path.dirname(os.path.abspath(__file__)), "..", "..", "build"
)
LIBRARY = os.path.join(BUILD, "peers", "libperf-loop.so")

# As in manta.h, whose numbers do not change.
ALLREDUCE, BROADCAST, REDUCE, ALLGATHER, REDUCE_SCATTER, BARRIER = range(6)
FLOAT32 = 10
OPERATIONS = {0: "SUM", 1: "PRODUCT", 2: "MIN", 3: "MAX"}


class World(ctypes.Structure):
    _fields_ = [("rank", ctypes.c_int), ("ranks", ctypes.c_int), ("nodes", ctypes.c_int)]


class Call(ctypes.Structure):
    _fields_ = [
        ("collective", ctypes.c_int),
        ("count", ctypes.c_uint64),
        ("dtype", ctypes.c_int),
        ("op", ctypes.c_int),
        ("root", ctypes.c_int),
    ]


OPEN = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(World))
BYTES = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t)
PREPARE = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.POINTER(Call), ctypes.c_void_p, ctypes.c_void_p)
LACKS = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.POINTER(Call))
DESCRIBE = ctypes.CFUNCTYPE(None, ctypes.POINTER(Call), ctypes.c_void_p, ctypes.c_void_p)
ALLOCATE = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_size_t)
RELEASE = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
CLOSE = ctypes.CFUNCTYPE(None)


class Table(ctypes.Structure):
    """struct perf_backend"""

    _fields_ = [
        ("name", ctypes.c_char_p),
        ("open", OPEN),
        ("share", BYTES),
        ("maximum", BYTES),
        ("run", ctypes.c_void_p),
        ("lacks", LACKS),
        ("describe", DESCRIBE),
        ("allocate", ALLOCATE),
        ("release", RELEASE),
        ("close", CLOSE),
    ]


class Caller(ctypes.Structure):
    """struct perf_caller; with the loop under the GIL, Python's C API serves as it is."""

    _fields_ = [
        ("prepare", PREPARE),
        ("invoke", ctypes.c_void_p),
        ("release", ctypes.c_void_p),
        ("complain", ctypes.c_void_p),
    ]


def address(function):
    return ctypes.cast(function, ctypes.c_void_p).value


class Backend:
    """What a library has to say; the base knows how tensors lie over the loop's buffers. Methods
    that stand for a call return a function without arguments that makes it."""

    name = "?"
    transport = "-"
    allocate = release = None  # (bytes) -> address, (address): memory that peers read in place

    def __init__(self, rank, ranks):
        self.rank, self.ranks = rank, ranks
        self.tensors = {}
        self.kept = []
        self.errors = []

    def join(self):
        """Join the group."""
        raise NotImplementedError

    def leave(self):
        """Leave it."""

    def broadcast(self, tensor, root):
        raise NotImplementedError

    def allreduce(self, tensor, operation):
        """In place, as these libraries have it; the operation's name is one of OPERATIONS."""
        raise NotImplementedError

    def collective(self, call, source, target):
        """Any other call; both are tensors, one and the same when in place."""
        raise NotImplementedError

    def lacking(self, collective):
        """Why it has not this collective; None if it has."""
        return None

    def tensor(self, address, count, dtype=torch.float32):
        key = (address, count, dtype)
        if key not in self.tensors:
            size = count * torch.empty(0, dtype=dtype).element_size()
            buffer = (ctypes.c_char * size).from_address(address)
            self.tensors[key] = torch.frombuffer(buffer, dtype=dtype, count=count)
        return self.tensors[key]

    def operands(self, call, source, target):
        taken = self.ranks if call.collective == REDUCE_SCATTER else 1
        given = self.ranks if call.collective == ALLGATHER else 1
        return self.tensor(source, call.count * taken), self.tensor(target, call.count * given)

    def caller(self, call, source, target):
        """The function that makes a call of the loop, `target` being where its result belongs."""
        if call.collective == BARRIER:
            return self.collective(call, None, None)
        if call.collective == BROADCAST:
            return self.broadcast(self.tensor(target, call.count), call.root)
        taken, given = self.operands(call, source, target)
        if call.collective != ALLREDUCE:
            return self.collective(call, taken, given)
        reduce = self.allreduce(given, OPERATIONS[call.op])
        return reduce if source == target else after_copy(given, taken, reduce)

    def refuses(self, call):
        if call.dtype != FLOAT32:
            return f"{self.name} is measured with float32 only"
        if call.op not in OPERATIONS:
            return f"{self.name} has no such operation"
        return self.lacking(call.collective)

    def complain(self, *error):
        """What an exception in a call becomes: ctypes would only print it and go on."""
        self.errors.append("".join(traceback.format_exception(*error)))
        print(f"{self.name} rank {self.rank}: {self.errors[-1]}", file=sys.stderr, flush=True)

    def guard(self, method, *arguments):
        """0, or -1 after an exception."""
        try:
            method(*arguments)
            return 0
        except Exception:
            self.complain(*sys.exc_info())
            return -1

    def table(self):
        """The C structure; whoever calls perf_main keeps the backend, and it keeps the rest."""

        def enter(world):
            rc = self.guard(self.join)
            world[0] = World(self.rank, self.ranks, 1)
            return rc

        def share(address, length):
            return self.guard(self.broadcast(self.tensor(address, length, torch.uint8), 0))

        def maximum(address, count):
            """Also of words that lie where others lay before: not from the cache of tensors."""
            values = (ctypes.c_char * (8 * count)).from_address(address)
            return self.guard(
                self.allreduce(torch.frombuffer(values, dtype=torch.int64, count=count), "MAX")
            )

        def lacks(call):
            reason = self.refuses(call[0])
            if reason is None:
                return None
            self.kept.append(ctypes.create_string_buffer(reason.encode()))
            return ctypes.addressof(self.kept[-1])

        def describe(_, algorithm, transport):
            ctypes.memmove(algorithm, b"-\0", 2)
            word = self.transport.encode()[:31] + b"\0"
            ctypes.memmove(transport, word, len(word))

        return Table(
            self.name.encode(),
            OPEN(enter),
            BYTES(share),
            BYTES(maximum),
            address(library().perf_caller_run),
            LACKS(lacks),
            DESCRIBE(describe),
            ALLOCATE(self.allocate) if self.allocate else ALLOCATE(),
            RELEASE(self.release) if self.release else RELEASE(),
            CLOSE(lambda: self.guard(self.leave) and None),
        )

    def caller_table(self):
        def prepare(call, source, target):
            try:
                self.kept.append(self.caller(call[0], source or 0, target or 0))
                return id(self.kept[-1])
            except Exception:
                self.complain(*sys.exc_info())
                return None

        api = ctypes.pythonapi
        return Caller(
            PREPARE(prepare),
            address(api.PyObject_CallNoArgs),
            address(api.Py_DecRef),
            address(api.PyErr_Print),
        )


def after_copy(target, source, call):
    """`call`, for libraries that know in place only."""

    def both():
        target.copy_(source)
        call()

    return both


def library():
    """With the GIL held in its functions: no other thread of this program has anything to do."""
    return ctypes.PyDLL(LIBRARY)


def keep_to_cpu(number):
    """Keep this thread to a CPU of its own, if there are enough; libraries' threads inherit it."""
    os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[number]})


def main(backend, arguments):
    """perf_main with these options; its exit code."""
    torch.set_num_threads(1)
    table, caller, loop = backend.table(), backend.caller_table(), library()
    words = [backend.name.encode(), *(word.encode() for word in arguments)]
    # The loop's getopt starts afresh in each call of a process.
    ctypes.c_int.in_dll(ctypes.CDLL(None), "optind").value = 0
    sys.excepthook = backend.complain  # where PyErr_Print() goes
    try:
        loop.perf_caller_use(ctypes.byref(caller))
        return loop.perf_main(
            ctypes.byref(table), len(words), (ctypes.c_char_p * (len(words) + 1))(*words, None)
        )
    finally:
        sys.excepthook = sys.__excepthook__
