# SPDX-License-Identifier: Apache-2.0
"""Build the package `manta`: libmanta.so by the tree's Makefile, then the extension beside it.

MANTA_BUILD names the Makefile's build folder (default: build/ of the tree), so that a library that
is up to date there is not compiled again. Nothing is written below bindings/python.
"""

import os
import re
import shutil
import subprocess
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

HERE = Path(__file__).resolve().parent
TREE = HERE.parent.parent
if not (TREE / "include/manta/manta.h").exists():
    raise SystemExit("manta is built within its source tree: pip install TREE/bindings/python")
BUILD = Path(os.environ.get("MANTA_BUILD") or TREE / "build").absolute()
SCRATCH = BUILD / "python"
HEADER = (TREE / "include/manta/manta.h").read_text()


def version_part(name: str) -> str:
    found = re.search(rf"#define MANTA_VERSION_{name} (\d+)", HEADER)
    assert found, f"include/manta/manta.h has no MANTA_VERSION_{name}"
    return found.group(1)


MAJOR, MINOR, PATCH = (version_part(name) for name in ("MAJOR", "MINOR", "PATCH"))


class BuildWithLibrary(build_ext):
    """Make libmanta.so first, and put it into the package under its soname."""

    def run(self) -> None:
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "MFLAGS"))}
        jobs = os.environ.get("MANTA_JOBS") or str(os.cpu_count() or 1)
        command = ["make", "-C", str(TREE), f"-j{jobs}", f"BUILD={BUILD}", "lib"]
        subprocess.run(command, check=True, env=environment)
        super().run()
        soname = f"libmanta.so.{MAJOR}"
        package = HERE / "manta" if self.inplace else Path(self.build_lib) / "manta"
        shutil.copyfile(BUILD / "lib" / soname, package / soname)


SCRATCH.mkdir(parents=True, exist_ok=True)
os.chdir(HERE)
setup(
    version=f"{MAJOR}.{MINOR}.{PATCH}",
    cmdclass={"build_ext": BuildWithLibrary},
    options={
        "build": {"build_base": str(SCRATCH)},
        "egg_info": {"egg_base": str(SCRATCH)},
        "bdist_wheel": {"py_limited_api": "cp311"},
    },
    ext_modules=[
        Extension(
            "manta._manta",
            sources=sorted(str(path.relative_to(HERE)) for path in HERE.glob("extension/*.c")),
            depends=["extension/extension.h"],
            include_dirs=[str(TREE / "include")],
            library_dirs=[str(BUILD / "lib")],
            libraries=["manta"],
            define_macros=[("_GNU_SOURCE", None)],
            extra_compile_args=["-std=c11", "-O2", "-fvisibility=hidden", "-Wall", "-Wextra", "-Werror"],
            extra_link_args=["-Wl,-rpath,$ORIGIN", "-Wl,-z,relro,-z,now"],
            py_limited_api=True,
        )
    ],
)
