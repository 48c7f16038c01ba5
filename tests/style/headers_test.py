# SPDX-License-Identifier: Apache-2.0
"""Public headers: each function is described as the conventions say, each header compiles alone."""

import re
import subprocess
import tempfile

import pytest

import tree

HEADERS = tree.files(".h")
PUBLIC = [path for path in HEADERS if path.startswith("include/manta/")]
# Bodies that are compiled several times with different parameters, not headers to include.
TEMPLATES = {"core/reduce_divide.h", "core/reduce_float16.h", "core/reduce_lanes512.h", "core/reduce_narrow.h",
             "core/reduce_vector.h"}
WORDS = ["Returns:", "Thread:", "Blocks:", "Since:"]


def functions(text):
    """(comment before it, declaration) of every MANTA_API function."""
    pattern = re.compile(r"/\*((?:[^*]|\*(?!/))*)\*/\s*(MANTA_API\b[^;]*;)", re.S)
    return [(" ".join(re.sub(r"^\s*\*", " ", comment, flags=re.M).split()), " ".join(declaration.split()))
            for comment, declaration in pattern.findall(text)]


def name_of(declaration):
    return re.search(r"(\w+)\s*\(", declaration).group(1)


def test_every_function_has_a_comment():
    for path in PUBLIC:
        text = tree.read(path)
        declared = re.findall(r"^MANTA_API\b[^;]*;", text, re.M | re.S)
        assert len(declared) == len(functions(text)), f"{path}: a function without a comment right before it"


def test_every_comment_is_complete():
    wrong = []
    for path in PUBLIC:
        for comment, declaration in functions(tree.read(path)):
            if re.search(r"Returns, Thread, Blocks,.* Since: as \w+\(\)", comment):
                continue  # says that they are those of another function
            wrong += [f"{name_of(declaration)} does not tell {word}" for word in WORDS if word not in comment]
    assert not wrong, "\n".join(wrong)


def test_every_parameter_is_named_in_the_comment():
    wrong = []
    for path in PUBLIC:
        for comment, declaration in functions(tree.read(path)):
            if re.search(r"Returns, Thread, Blocks,.* Since: as \w+\(\)", comment):
                continue
            inside = declaration[declaration.index("(") + 1:declaration.rindex(")")]
            for parameter in inside.split(","):
                name = parameter.replace("*", " ").split()[-1]
                if name != "void" and not re.search(rf"\b{name}\b", comment):
                    wrong.append(f"{name_of(declaration)}: {name}")
    assert not wrong, "\n".join(wrong)


def test_functions_with_buffers_tell_their_lifetime():
    wrong = []
    for path in PUBLIC:
        for comment, declaration in functions(tree.read(path)):
            if re.search(r"\b(src|dst|buf)\b", declaration) and "Lifetime" not in comment:
                wrong.append(name_of(declaration))
    assert not wrong, ", ".join(wrong)


def compile_alone(path, compiler, standard):
    with tempfile.NamedTemporaryFile("w", suffix=".c" if compiler == "gcc" else ".cc") as unit:
        included = path[len("include/"):] if path.startswith("include/") else path
        unit.write(f"#include <{included}>\nint nothing_else;\n")
        unit.flush()
        command = [compiler, f"-std={standard}", "-fsyntax-only", "-Wall", "-Wextra", "-Werror", "-Iinclude"]
        command += ["-Wpedantic"] if path.startswith("include/") else ["-I.", "-D_GNU_SOURCE"]
        command.append(unit.name)
        return subprocess.run(command, cwd=tree.ROOT, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("path", PUBLIC)
def test_public_header_compiles_alone(path):
    for compiler, standard in (("gcc", "c11"), ("g++", "c++17")):
        result = compile_alone(path, compiler, standard)
        assert result.returncode == 0, f"{standard}: {result.stderr}"


@pytest.mark.parametrize("path", [path for path in HEADERS if path not in PUBLIC and path not in TEMPLATES
                                  and not path.startswith("bindings/")])
def test_internal_header_compiles_alone(path):
    result = compile_alone(path, "gcc", "c11")
    assert result.returncode == 0, result.stderr
