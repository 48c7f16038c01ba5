# SPDX-License-Identifier: Apache-2.0
"""What libmanta shows to the world: its symbols, and the libraries it needs."""

import os
import re
import subprocess

import tree

LIBRARY = os.path.join(tree.build(), "lib", "libmanta.so")
ARCHIVE = os.path.join(tree.build(), "lib", "libmanta.a")
NEEDED = {"libc.so.6", "libhwloc.so.15", "libcrypto.so.3", "ld-linux-x86-64.so.2", "libm.so.6"}


def output(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def declared():
    text = "".join(tree.read(path) for path in tree.files(".h") if path.startswith("include/manta/"))
    return set(re.findall(r"^MANTA_API\b[^;(]*?\b(manta_\w+)\s*\(", text, re.M | re.S))


def defined(path, *options):
    lines = output("nm", "--defined-only", "--extern-only", *options, path).splitlines()
    return {line.split()[-1].split("@")[0] for line in lines if len(line.split()) >= 3}


def test_exports_are_what_the_headers_declare():
    exported = {name for name in defined(LIBRARY, "-D") if not name.startswith("MANTA_0")}
    assert exported == declared()


def test_archive_hides_the_rest():
    assert defined(ARCHIVE) == declared()


def test_needs_no_other_library():
    needed = set(re.findall(r"NEEDED.*\[(.*)\]", output("readelf", "-d", LIBRARY)))
    assert needed <= NEEDED and "libc.so.6" in needed, needed


def test_soname():
    assert re.search(r"SONAME.*\[libmanta\.so\.0\]", output("readelf", "-d", LIBRARY))


def test_hardening():
    program = output("readelf", "-lW", LIBRARY)
    assert "GNU_RELRO" in program
    assert re.search(r"GNU_STACK.* RW ", program), "the stack must not be executable"
    assert "BIND_NOW" in output("readelf", "-d", LIBRARY) or "NOW" in output("readelf", "-d", LIBRARY)


def test_constructors_are_known():
    """What runs when the library is loaded is listed here, with its reason."""
    known = {"collectives/wait.c"}  # tells core/fork.c what a forked child must forget: no more
    mark = "__attribute__((" + "constructor"
    assert {path for path in tree.files(".c", ".h") if mark in tree.read(path)} <= known
