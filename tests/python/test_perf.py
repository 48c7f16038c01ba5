# SPDX-License-Identifier: Apache-2.0
"""The benchmark loop called from Python: results are right, a failed call ends it with its reason,
and the table of what Python costs more has every row. No times are judged."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("BUILD") or ROOT / "build")
PEER = ROOT / "perf" / "peers" / "manta_python.py"


def run(*words):
    variables = {name: value for name, value in os.environ.items() if not name.startswith("MANTA_")}
    return subprocess.run([str(word) for word in words], capture_output=True, text=True, timeout=300,
                          check=False, env=variables | {"BUILD": str(BUILD)})


def ranks(count, *words):
    launcher = (BUILD / "bin" / "mantarun", "-n", count, "--no-prefix", "--timeout", "100")
    return run(*launcher, sys.executable, *words)


@pytest.mark.parametrize("arrays", ["numpy", "torch"])
@pytest.mark.parametrize("place", [[], ["--in-place"], ["--symmetric"]], ids=["apart", "in-place", "symmetric"])
def test_every_collective_is_right(arrays, place):
    result = ranks(3, PEER, "--arrays", arrays, "--coll", "all", "--max", "4k", "--factor", "32",
                   "--iters", "20", "--root", "rotate", "--check", *place)
    assert result.returncode == 0, result.stdout + result.stderr
    rows = [line.split() for line in result.stdout.splitlines() if re.match(r" +\d", line)]
    assert len(rows) == 5 * 3 + 1 and {row[-1] for row in rows} == {"0"}


FAILING = """
import sys
sys.path.insert(0, sys.argv.pop(1))
import manta_python

class Failing(manta_python.Python):
    def caller(self, call, source, target):
        made = super().caller(call, source, target)
        turns = iter(range(3))
        return lambda: made() if next(turns) < 2 else self.nonsense

sys.exit(manta_python.loop.main(Failing("numpy"), ["--min", "4", "--max", "4", "--iters", "10"]))
"""


def test_a_failed_call_ends_the_loop(tmp_path):
    program = tmp_path / "failing.py"
    program.write_text(FAILING)
    result = ranks(2, program, PEER.parent)
    assert result.returncode != 0
    assert "AttributeError" in result.stderr and "nonsense" in result.stderr


def test_overhead():
    script = ROOT / "perf" / "compare" / "overhead.py"
    result = run(sys.executable, script, "--coll", "allreduce,barrier", "--bytes", "4,64",
                 "--rounds", "1", "--seconds", "0.01")
    assert result.returncode == 0, result.stdout + result.stderr
    _, head, *rows = result.stdout.splitlines()
    assert head.split("  ")[0] == "call" and head.endswith("Ray, torch")
    calls = ["allreduce 4 B", "allreduce 64 B", "barrier 0 B"]
    assert [row.split("  ")[0] for row in rows] == [call for call in calls for _ in range(2)]
    for row in rows:
        assert len(re.findall(r"\d+\.\d\d \([+-]\d+\.\d\d\)", row)) == 3
