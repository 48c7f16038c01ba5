# SPDX-License-Identifier: Apache-2.0
"""A function run in namespaces of its own: processes, network, host name, mounts, System V memory.

Nothing in them has a name outside. They are held by processes of the pid namespace alone, whose
first process dies with the tool, and with it the kernel kills all others: so nothing stays behind,
also after kill -9.
"""

import ctypes
import os
import select
import signal
import sys
import traceback

CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWIPC = 0x00020000, 0x04000000, 0x08000000
CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = 0x10000000, 0x20000000, 0x40000000
MS_REC, MS_PRIVATE, MS_BIND = 0x4000, 1 << 18, 0x1000
PR_SET_PDEATHSIG = 1

LIBC = ctypes.CDLL(None, use_errno=True)


class Refused(Exception):
    """The system does not let us, in words."""


def check(result, what):
    if result != 0:
        raise Refused(f"{what}: {os.strerror(ctypes.get_errno())}")


def unshare(flags, what):
    check(LIBC.unshare(flags), what)


def mount(source, target, kind, flags=0):
    words = [word.encode() if word else None for word in (source, target, kind)]
    check(LIBC.mount(*words, ctypes.c_ulong(flags), None), f"cannot mount {target}")


def write(path, text):
    with open(path, "w", encoding="ascii") as file:
        file.write(text)


def become_root():
    """In a user namespace, where we are not root."""
    user, group = os.geteuid(), os.getegid()
    if user == 0:
        return
    unshare(CLONE_NEWUSER, "namespaces need root, or user namespaces, which cannot be made here")
    write("/proc/self/setgroups", "deny")
    write("/proc/self/uid_map", f"0 {user} 1")
    write("/proc/self/gid_map", f"0 {group} 1")


def die_with_the_tool(alive):
    """`alive` is the end of a pipe that the tool holds the other end of: it may be dead already."""
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    poll = select.poll()
    poll.register(alive, 0)
    if poll.poll(0):
        os._exit(1)


def settle():
    """What the first process does before all others come: temporary files go with the mounts."""
    unshare(
        CLONE_NEWNET | CLONE_NEWUTS | CLONE_NEWNS | CLONE_NEWIPC,
        "network namespaces cannot be made here; run as root",
    )
    mount("none", "/", None, MS_REC | MS_PRIVATE)
    mount("proc", "/proc", "proc")
    mount("tmpfs", "/dev/shm", "tmpfs")
    os.environ["TMPDIR"] = "/dev/shm"


def first_process(function, alive):
    """Exit code. Of a pid namespace's first process, signals without a handler are ignored."""
    try:
        die_with_the_tool(alive)
        signal.signal(signal.SIGTERM, interrupt)
        signal.signal(signal.SIGINT, interrupt)
        settle()
        return function()
    except Refused as refusal:
        print(f"perf/cluster: {refusal}", file=sys.stderr)
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except BaseException:
        traceback.print_exc()
    return 1


def interrupt(_number, _frame):
    raise KeyboardInterrupt


def run(function):
    """function() in namespaces of its own; its exit code."""
    ours, theirs = os.pipe()
    try:
        become_root()
        unshare(CLONE_NEWPID, "pid namespaces cannot be made here; run as root")
    except Refused as refusal:
        print(f"perf/cluster: {refusal}", file=sys.stderr)
        return 1
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        os.close(theirs)
        code = first_process(function, ours)
        sys.stdout.flush()
        os._exit(code)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: os.kill(child, signal.SIGTERM))
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return code if code >= 0 else 128 - code
