# SPDX-License-Identifier: Apache-2.0
"""What the conventions say about files."""

import re
import subprocess

import tree

SOURCES = (".c", ".h", ".py", ".sh", ".def", ".pyi")
PROGRAMS = (".c", ".h")
# Words that mean "not done". Put together here, so that this file does not contain them.
UNFINISHED = re.compile(r"\b(" + "|".join(["TO" + "DO", "FIX" + "ME", "X" + "XX", "HA" + "CK", "W" + "IP"]) + r")\b")
LINES_MOST = 600
COLUMNS_MOST = 100


def test_licence_line_comes_first():
    wrong = []
    for path in tree.files(*SOURCES, "Makefile"):
        head = tree.read(path).split("\n")[:3]
        if not any("SPDX-License-Identifier: Apache-2.0" in line for line in head):
            wrong.append(path)
    assert not wrong, "no SPDX line: " + ", ".join(wrong)


def test_nothing_is_left_undone():
    wrong = []
    for path in tree.files(*SOURCES, "Makefile", ".md", ".txt"):
        for number, line in enumerate(tree.read(path).split("\n"), 1):
            if UNFINISHED.search(line):
                wrong.append(f"{path}:{number}: {line.strip()}")
    assert not wrong, "\n".join(wrong)


def test_no_file_is_too_long():
    wrong = [f"{path}: {lines} lines" for path in tree.files(*SOURCES)
             if (lines := tree.read(path).count("\n")) > LINES_MOST]
    assert not wrong, "\n".join(wrong)


def test_no_line_is_too_long():
    """An X-list's sentence may be longer: it is one string."""
    wrong = []
    for path in tree.files(*PROGRAMS):
        for number, line in enumerate(tree.read(path).split("\n"), 1):
            if len(line) > COLUMNS_MOST:
                wrong.append(f"{path}:{number}: {len(line)} columns")
    assert not wrong, "\n".join(wrong)


def test_format():
    paths = tree.files(*PROGRAMS)
    result = subprocess.run(["clang-format", "--dry-run", "-Werror", *paths], cwd=tree.ROOT,
                            capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[:4000]


def test_no_tabs_or_trailing_blanks():
    wrong = []
    for path in tree.files(*SOURCES):
        for number, line in enumerate(tree.read(path).split("\n"), 1):
            if "\t" in line or line != line.rstrip():
                wrong.append(f"{path}:{number}")
    assert not wrong, ", ".join(wrong)


def test_no_macro_returns_or_jumps():
    wrong = []
    for path in tree.files(*PROGRAMS):
        for macro in re.findall(r"^[ ]*#[ ]*define(?:.*\\\n)*.*$", tree.read(path), re.M):
            makes_function = re.search(r"\bstatic\b|^\s*#\s*define\s+\w+\([^)]*\)[\s\\]*case\b", macro)
            if re.search(r"\b(return|goto)\b", macro) and not makes_function:
                wrong.append(f"{path}: {macro.split(chr(10))[0]}")
    assert not wrong, "\n".join(wrong)


def test_library_is_a_good_guest():
    """No exit, abort, signal handler or standard output in the library."""
    forbidden = re.compile(r"(?<![\w.>])(exit|_exit|abort|printf|puts|putchar|signal|sigaction)\s*\(|\bstdout\b")
    wrong = []
    for path in tree.files(".c"):
        if path.split("/")[0] not in ("core", "topology", "gpu", "scheduler", "transport", "plan", "collectives"):
            continue
        code = re.sub(r'/\*.*?\*/|"(?:[^"\\]|\\.)*"', "", tree.read(path), flags=re.S)
        for match in forbidden.finditer(code):
            wrong.append(f"{path}: {match.group(0)}")
    assert not wrong, "\n".join(wrong)


def test_no_path_of_one_machine():
    """Nothing names a folder that only exists where the code was written."""
    pattern = re.compile(r"(?<![\w.$}/])/(work|home|root|Users)/\w+")
    wrong = []
    for path in tree.files(*SOURCES, "Makefile", ".md", ".txt", ".svg"):
        for number, line in enumerate(tree.read(path).split("\n"), 1):
            if pattern.search(line):
                wrong.append(f"{path}:{number}: {line.strip()}")
    assert not wrong, "\n".join(wrong)
