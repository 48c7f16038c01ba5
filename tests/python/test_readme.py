# SPDX-License-Identifier: Apache-2.0
"""The README's Python programs, taken out of it and run, so that they cannot rot there."""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
BUILD = Path(os.environ.get("BUILD") or ROOT / "build")


def block(containing):
    blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(), re.M | re.S)
    matching = [text for text in blocks if containing in text]
    assert len(matching) == 1
    return matching[0]


def run(command, tmp_path, program):
    path = tmp_path / "program.py"
    path.write_text(program)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MANTA_")}
    result = subprocess.run([*command, sys.executable, str(path)], env=kept, capture_output=True,
                            text=True, timeout=180, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_numpy(tmp_path):
    program = block("manta.Communicator()") + "assert mean[0] == 1 and gradient[-1] == 0\nprint('right')\n"
    launcher = [str(BUILD / "bin" / "mantarun"), "-n", "3", "--no-prefix"]
    assert run(launcher, tmp_path, program) == "right\n" * 3


def test_ray(tmp_path):
    output = run([], tmp_path, block("init_collective_group"))
    assert output.splitlines()[-1] == "[4.0, 4.0, 4.0, 4.0]"
