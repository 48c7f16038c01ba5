# SPDX-License-Identifier: Apache-2.0
"""Running the built programs in tests."""

import os
import subprocess

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.environ.get("BUILD") or os.path.join(ROOT, "build")


def binary(name):
    return os.path.join(BUILD, "bin", name)


def environment(**variables):
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MANTA_")}
    return {**kept, **variables}


def run(*command, timeout=60, stdin="", **variables):
    """The finished process, with what it printed as text."""
    return subprocess.run([str(word) for word in command], input=stdin, capture_output=True, text=True,
                          timeout=timeout, env=environment(**variables), check=False)


def mantarun(*arguments, **options):
    return run(binary("mantarun"), *arguments, **options)


def manta(*arguments, **options):
    return run(binary("manta"), *arguments, **options)
