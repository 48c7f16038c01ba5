# SPDX-License-Identifier: Apache-2.0
"""Contenders that are called through ray.util.collective: all of a comparison in one cluster."""

import json
import os
import select
import subprocess
import sys
import tempfile

import contenders
import launch

RAY_START_SECONDS = 90  # at most, until a Ray cluster runs


class RayCluster:
    """One cluster for all runs through ray.util.collective; started when first needed."""

    def __init__(self):
        self.program = None

    def start(self):
        script = os.path.join(contenders.ROOT, "perf", "peers", "ray_collective.py")
        variables = launch.environment(
            BUILD=contenders.BUILD, OMP_NUM_THREADS="1", GLOO_SOCKET_IFNAME="lo"
        )
        self.program = launch.Program(
            [sys.executable, script], variables, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def ask(self, request, seconds):
        """The answer, or None and the program is gone."""
        if self.program is None:
            self.start()
            seconds += RAY_START_SECONDS
        process = self.program.process
        try:
            process.stdin.write(json.dumps(request) + "\n")
            process.stdin.flush()
            readable, _, _ = select.select([process.stdout], [], [], seconds)
            line = process.stdout.readline() if readable else ""
        except OSError:
            line = ""
        if line:
            return json.loads(line), None
        said = launch.words_of(self.program.text()) or "nothing"
        self.close()
        return (
            None,
            f"the Ray cluster did not answer within {seconds:.0f} s, or ended; it had said: {said}",
        )

    def close(self):
        if self.program is not None:
            self.program.process.stdin.close()
            self.program.close()
            self.program = None


class RayContender:
    """A backend of ray.util.collective; the loop is called from Python, in actors."""

    config = "default"

    def __init__(self, backend, cluster):
        self.library, self.backend, self.cluster = f"ray-{backend}", backend, cluster
        self.name = self.library, self.config

    def missing(self):
        if not os.path.exists(os.path.join(contenders.PEERS, "libperf-loop.so")):
            return "run make peers first"
        modules = "ray, torch" + (", manta.ray" if self.backend == "manta" else "")
        test = subprocess.run(
            [sys.executable, "-c", f"import {modules}"], capture_output=True, text=True, check=False
        )
        return (
            None
            if test.returncode == 0
            else f"{modules} cannot be imported by {sys.executable}; run make bench"
        )

    def run(self, ranks, arguments, seconds):
        bound = ranks <= contenders.cpus()
        with tempfile.TemporaryDirectory(prefix="perf-rows-") as folder:
            path = os.path.join(folder, "rows")
            request = {
                "backend": self.backend,
                "ranks": ranks,
                "bind": bound,
                "timeout": contenders.START_SECONDS + seconds,
                "arguments": [*arguments, "--in-place", "--json", path],
            }
            answer, wrong = self.cluster.ask(request, contenders.START_SECONDS + seconds + 10)
            rows = contenders.read_rows(path)
        if answer is not None and answer["code"] != 0:
            wrong = f"failed: {launch.words_of(answer['errors'])}"
        return rows, "", wrong or contenders.check_binding(rows, bound)
