# SPDX-License-Identifier: Apache-2.0
"""Running the built programs in tests."""

import os
import subprocess
import time

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


def is_alive(pid):
    """Zombies do not count."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_until(condition, seconds=10):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)
