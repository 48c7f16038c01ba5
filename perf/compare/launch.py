# SPDX-License-Identifier: Apache-2.0
"""Start a program, wait for it no longer than agreed, leave nothing of it behind."""

import os
import signal
import subprocess
import tempfile
import time
import uuid

MARK = "PERF_COMPARE_RUN"  # in the environment of all that we start, however it forks
GRACE = 3  # seconds between asking and killing
TEXT = 1500  # of what a failed program said


def environment(**variables):
    """The caller's, without what would change how a library runs."""
    prefixes = (
        "MANTA_",
        "OMPI_",
        "PMIX_",
        "PRTE_",
        "MPIR_",
        "MPICH_",
        "I_MPI_",
        "HYDRA_",
        "PMI_",
        "UCX_",
        "FI_",
    )
    kept = {name: value for name, value in os.environ.items() if not name.startswith(prefixes)}
    return {**kept, **variables}


def marked(mark):
    """Processes that carry the mark. Those of other users cannot be looked at, and are none of
    ours."""
    found = []
    for name in os.listdir("/proc"):
        if not name.isdigit() or int(name) == os.getpid():
            continue
        try:
            with open(f"/proc/{name}/environ", "rb") as file:
                if f"{MARK}={mark}".encode() in file.read().split(b"\0"):
                    found.append(int(name))
        except OSError:
            continue
    return found


def sweep(mark):
    """Kill what is left; it may start more while it is being killed."""
    for _ in range(50):
        left = marked(mark)
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        if not left:
            return
        time.sleep(0.02)


def words_of(text):
    """The part of an output that tells most: its end, without a launcher's ornaments."""
    lines = [line.strip() for line in text.splitlines() if line.strip(" =-*|+\t")]
    return "\n".join(lines)[-TEXT:]


class Program:
    """A started program; `folder` is its TMPDIR, gone with it."""

    def __init__(self, command, variables, **options):
        self.mark = uuid.uuid4().hex
        self.folder = tempfile.TemporaryDirectory(prefix="perf-compare-")
        self.output = tempfile.TemporaryFile(mode="w+", errors="replace", dir=self.folder.name)
        options.setdefault("stdin", subprocess.DEVNULL)
        options.setdefault("stdout", self.output)
        self.process = subprocess.Popen(
            command,
            env={**variables, MARK: self.mark, "TMPDIR": self.folder.name},
            stderr=self.output,
            start_new_session=True,
            text=True,
            **options,
        )

    def text(self):
        self.output.seek(0)
        return self.output.read()

    def close(self):
        """Ask it to end, then make it."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(GRACE)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        sweep(self.mark)
        self.output.close()
        self.folder.cleanup()


def run(command, variables, seconds):
    """(output, None), or (output, what went wrong)."""
    try:
        program = Program(command, variables)
    except OSError as error:
        return "", f"cannot be started: {error}"
    try:
        code = program.process.wait(seconds)
        text = program.text()
        if code == 0:
            return text, None
        what = f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
        return text, f"{what}: {words_of(text) or 'it said nothing'}"
    except subprocess.TimeoutExpired:
        text = program.text()
        return (
            text,
            (
                f"did not end within {seconds:.0f} s and was killed; it had said:"
                f" {words_of(text) or 'nothing'}"
            ),
        )
    finally:
        program.close()
