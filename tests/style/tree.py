# SPDX-License-Identifier: Apache-2.0
"""What the style tests know of the tree."""

import os
import subprocess

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def files(*endings):
    """Paths, relative to the root, of what git tracks or would track, with one of these endings."""
    command = ["git", "-C", ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, check=True, capture_output=True).stdout.decode().split("\0")
    return sorted({path for path in listed if path.endswith(endings) and os.path.exists(os.path.join(ROOT, path))})


def read(path):
    with open(os.path.join(ROOT, path), encoding="utf-8") as file:
        return file.read()


def build():
    return os.environ.get("BUILD") or os.path.join(ROOT, "build")
