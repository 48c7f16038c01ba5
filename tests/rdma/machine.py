# SPDX-License-Identifier: Apache-2.0
"""An emulated machine that runs one command over this machine's files, which it cannot change.

What the command prints is passed on while it runs. A guest that dies or hangs is an error that
shows the last lines of its console. Nothing of a guest outlives the process that started it.
"""

import contextlib
import ctypes
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

import image

CONSOLE_LINES = 50
TIMED_OUT, DIED = 124, 125
PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None)


class Panicked(Exception):
    """The guest's kernel has found a fault of its own."""


def port(name, chardev):
    return ["-device", f"virtserialport,chardev={chardev},name={name}"]


class Guest:
    """One machine, from boot to the command's end."""

    def __init__(self, words, kernel="stable", cpus=2, memory="2G", shared=None, network=()):
        """words: the command; shared: a folder of the host that the guest may write to, where it is
        /run/shared; network: words for qemu."""
        self.shared = shared
        self.folder = tempfile.mkdtemp(dir=image.FOLDER, prefix="run-")
        self.script = os.path.join(self.folder, "command")
        with open(self.script, "w", encoding="utf-8") as file:
            file.write(f"cd {shlex.quote(os.getcwd())} || exit 127\n{shlex.join(words)}\n")
        self.image = image.get(kernel)
        self.command = self.qemu(cpus, memory, network)
        self.process = None

    def path(self, name):
        return os.path.join(self.folder, name)

    def qemu(self, cpus, memory, network):
        # An emulated TSC ticks as one may wish, but the kernel would not trust it, and each look at the
        # clock would be a system call.
        # On a busy host its timer may miss the few ticks that the kernel looks for when it boots.
        clock = "clocksource=tsc tsc=reliable no_timer_check"
        # Nothing that runs there may keep its kernel busy for 40 s, as was seen once.
        lockup = "watchdog_thresh=20 softlockup_panic=1"
        append = f"console=ttyS0 quiet loglevel=4 panic=-1 {lockup} {clock} manta.run={self.script}"
        share = "local,path=/,mount_tag=host,security_model=none,readonly=on,multidevs=remap"
        shared = ()
        if self.shared:
            append += " manta.shared"
            shared = ("-virtfs", f"local,path={self.shared},mount_tag=shared,security_model=none")
        return [
            *("qemu-system-x86_64", "-M", "q35", "-accel", "tcg,thread=multi", "-cpu", "max"),
            *("-smp", str(cpus), "-m", memory, "-nodefaults", "-display", "none", "-no-reboot"),
            *("-kernel", os.path.join(self.image, "kernel"), "-initrd", os.path.join(self.image, "initrd")),
            *("-append", append, "-virtfs", share, "-device", "virtio-serial"),
            *("-chardev", f"file,id=console,path={self.path('console')}", "-serial", "chardev:console"),
            *("-chardev", "file,id=output,path=/dev/stdout", *port("output", "output")),
            *("-chardev", f"file,id=status,path={self.path('status')}", *port("status", "status")),
            *shared,
            *network,
        ]

    def start(self, take):
        """take(bytes) gets what the command prints."""
        if not shutil.which(self.command[0]):
            raise image.Refused(f"{self.command[0]} is not installed: run `make deps-rdma`")
        with open(self.path("errors"), "wb") as errors:
            self.process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                preexec_fn=lambda: LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL),
            )
        self.reader = threading.Thread(target=self.pass_on, args=(take,), daemon=True)
        self.reader.start()

    def pass_on(self, take):
        while piece := self.process.stdout.read1(65536):
            take(piece)

    def wait(self, end):
        """The command's exit code; `end`: time.monotonic() at which we have waited enough."""
        try:
            self.process.wait(max(0, end - time.monotonic()))
            late = False
        except subprocess.TimeoutExpired:
            late = True
        self.stop()
        self.reader.join()
        status = self.read("status").strip()
        if status and not late:
            return int(status)
        reason = "did not end in time" if late else "ended without an exit code"
        print(f"guest: {reason}; its console's last lines:\n{self.last_lines()}", file=sys.stderr)
        if not late and "Kernel panic" in self.read("console"):
            raise Panicked
        return TIMED_OUT if late else DIED

    def read(self, name):
        try:
            with open(self.path(name), encoding="utf-8", errors="replace") as file:
                return file.read().replace("\r", "")
        except FileNotFoundError:
            return ""

    def last_lines(self):
        lines = self.read("errors").splitlines() + self.read("console").splitlines()
        return "\n".join("    " + line for line in lines[-CONSOLE_LINES:])

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


def cable(folder, number):
    """Words for qemu: the NIC of guest 1 or 2 at an end of a cable whose packets are datagrams."""
    ends = [f"{side}.type=unix,{side}.path={os.path.join(folder, str(end))}"
            for side, end in (("local", number), ("remote", 3 - number))]
    device = f"virtio-net-pci,netdev=cable,mac=52:54:00:00:00:0{number},host_mtu=4400,romfile="
    return ["-netdev", ",".join(("dgram,id=cable", *ends)), "-device", device]


def pair(words, take, end, **options):
    """The exit code of two guests, joined by a cable, that run the same command with GUEST=1 and 2."""
    with tempfile.TemporaryDirectory(prefix="cable-") as folder, contextlib.ExitStack() as stack:
        shared = os.path.join(folder, "shared")
        os.mkdir(shared)
        guests = []
        for number in (1, 2):
            command = ["env", f"GUEST={number}", *words]
            guest = Guest(command, shared=shared, network=cable(folder, number), **options)
            guests.append(stack.enter_context(guest))
            guest.start(take)
        codes = [guest.wait(end) for guest in guests]
        return codes[0] or codes[1]
