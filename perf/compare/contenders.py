# SPDX-License-Identifier: Apache-2.0
"""What is compared: libraries, each in the configurations that are worth trying."""

import dataclasses
import json
import os
import re
import sys
import tempfile

import launch

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.path.abspath(os.environ.get("BUILD") or os.path.join(ROOT, "build"))
PEERS = os.path.join(BUILD, "peers")

START_SECONDS = 60  # at most, until a launcher's ranks run

# Launcher's arguments of each configuration of Open MPI. Open MPI 4 has shared memory in "vader", 5
# in "sm".
OPEN_MPI = {
    "default": {},
    "ucx": {"pml": "ucx", "pml_ucx_tls": "any", "pml_ucx_devices": "any"},
    "sm": {"coll_sm_priority": "100"},
    "no-cma": {"pml": "ob1", "btl": "self,{btl}", "{no_cma}": "{no_cma_value}"},
    "han": {"coll_han_priority": "100"},
    "adapt": {"coll_adapt_priority": "100"},
    "ob1": {"pml": "ob1", "btl": "self,{btl}"},
}
OPEN_MPI_WORDS = {
    "openmpi4": {
        "btl": "vader",
        "no_cma": "btl_vader_single_copy_mechanism",
        "no_cma_value": "none",
    },
    "openmpi5": {"btl": "sm", "no_cma": "smsc", "no_cma_value": "^cma"},
}
GATHER = {
    f"MPIR_CVAR_{name}_POSIX_INTRA_ALGORITHM": "release_gather"
    for name in ("BCAST", "REDUCE", "ALLREDUCE", "BARRIER")
}
# How a node's collectives are put together: 2 has been two times faster than what MPICH 5 chooses.
COMPOSED = {f"MPIR_CVAR_{name}_COMPOSITION": "2" for name in ("BCAST", "REDUCE", "ALLREDUCE")}
MPICH = {
    "mpich4": {"default": {}, "release_gather": GATHER, "composed": COMPOSED},
    "mpich5": {
        "default": {},
        "composed": {**COMPOSED, **GATHER},
        "release_gather": GATHER,
        "no-cma": {"MPIR_CVAR_CH4_CMA_ENABLE": "0"},
        "ofi": {"MPIR_CVAR_CH4_NETMOD": "ofi"},
    },
}
INTEL_MPI = {
    "default": {},
    "shm": {"I_MPI_FABRICS": "shm"},
    "pt2pt": {"I_MPI_COLL_INTRANODE": "pt2pt"},
    "icx": {"I_MPI_SHM": "icx"},
}
# With more ranks than CPUs, how they wait decides; tried besides the others.
CROWDED = {
    "mpich5": {
        "heavy_yield": {"MPIR_CVAR_ENABLE_HEAVY_YIELD": "1", "MPIR_CVAR_POLLS_BEFORE_YIELD": "1"}
    },
    "intelmpi": {
        "wait": {"I_MPI_WAIT_MODE": "1"},
        "yield": {"I_MPI_THREAD_YIELD": "2"},
        "wait-pt2pt": {"I_MPI_WAIT_MODE": "1", "I_MPI_COLL_INTRANODE": "pt2pt"},
    },
}

MPI_PEERS = ("openmpi4", "openmpi5", "mpich4", "mpich5", "intelmpi")
ALL_PEERS = (*MPI_PEERS, "gloo")
FULL_NAMES = {
    "manta": "Manta",
    "openmpi4": "Open MPI 4 (Debian)",
    "openmpi5": "Open MPI 5 (PyPI)",
    "mpich4": "MPICH 4 (Debian)",
    "mpich5": "MPICH 5 (PyPI)",
    "intelmpi": "Intel MPI (PyPI)",
    "gloo": "Gloo (torch.distributed)",
    "ray-manta": "Manta through ray.util.collective",
    "ray-gloo": "Gloo through ray.util.collective",
}
SHORT_NAMES = {"gloo": "Gloo", "ray-gloo": "Gloo through Ray"}  # the others are MPI
NOT_COMPARED = {
    "UCC": "neither Debian 12 nor PyPI has a package of it",
    "Gloo from C": (
        "no package has its headers; it is called through torch.distributed instead, "
        "which costs it a few us a call"
    ),
}


def cpus():
    return len(os.sched_getaffinity(0))


@dataclasses.dataclass(frozen=True)
class Contender:
    """A library in one configuration."""

    library: str
    config: str
    start: tuple  # launcher, as a function of (ranks, bound) that gives its words
    program: tuple
    variables: tuple = ()
    options: tuple = ()  # for the loop
    needs: str = ""  # file without which it cannot run
    hint: str = ""  # how to get it
    bind: bool = True  # ranks to CPUs, if there are enough

    @property
    def name(self):
        return self.library, self.config

    def missing(self):
        return None if os.path.exists(self.needs) else self.hint

    def run(self, ranks, arguments, seconds):
        """(rows, output, what went wrong or None). Rows written before it failed are kept."""
        bound = self.bind and ranks <= cpus()
        with tempfile.TemporaryDirectory(prefix="perf-rows-") as folder:
            path = os.path.join(folder, "rows")
            command = [
                *self.start(ranks, bound),
                *self.program,
                *arguments,
                *self.options,
                "--json",
                path,
            ]
            output, wrong = launch.run(
                command, launch.environment(**dict(self.variables)), START_SECONDS + seconds
            )
            rows = read_rows(path)
        return rows, output, wrong or check_binding(rows, bound)


def read_rows(path):
    """Whole lines only: the last one of a killed program may be half."""
    rows = []
    if os.path.exists(path):
        with open(path, encoding="utf-8") as file:
            for line in file:
                try:
                    rows.append(json.loads(line))
                except ValueError:
                    break
    return rows


def check_binding(rows, bound):
    wanted = "core" if bound else "none"
    for row in rows:
        if cpus() > 1 and row["binding"] != wanted:
            return (
                f"its ranks were bound to '{row['binding']}' and not, as all others', to '{wanted}'"
            )
    return None


def manta(transport=None):
    binary = os.path.join(BUILD, "bin")
    variables = (("MANTA_TRANSPORTS", transport),) if transport else ()

    def start(ranks, bound):
        return [
            f"{binary}/mantarun",
            "-n",
            str(ranks),
            "--bind",
            "core" if bound else "none",
            "--no-prefix",
        ]

    common = {
        "start": start,
        "program": (f"{binary}/manta-perf",),
        "variables": variables,
        "needs": f"{binary}/manta-perf",
        "hint": "run make first",
    }
    plain = Contender("manta", "default", **common)
    return plain, dataclasses.replace(plain, config="symmetric", options=("--symmetric",))


def open_mpi(library, transport=None):
    launcher = (
        "mpirun.openmpi" if library == "openmpi4" else os.path.join(PEERS, library, "bin", "mpirun")
    )
    words = OPEN_MPI_WORDS[library]
    configurations = OPEN_MPI
    if transport == "tcp":
        configurations = {"tcp": {"pml": "ob1", "btl": "self,tcp"}}
    found = []
    for config, settings in configurations.items():
        arguments = [
            word
            for key, value in settings.items()
            for word in ("--mca", key.format(**words), value.format(**words))
        ]

        def start(ranks, bound, arguments=arguments):
            binding = ["--bind-to", "core"] if bound else ["--oversubscribe", "--bind-to", "none"]
            return [launcher, "--allow-run-as-root", *binding, *arguments, "-n", str(ranks)]

        found.append(mpi_contender(library, config, start))
    return found


def hydra(library, ranks):
    configurations = MPICH[library] if library in MPICH else INTEL_MPI
    if ranks > cpus():
        configurations = {"default": {}, **CROWDED.get(library, {}), **configurations}
    intel = library == "intelmpi"
    launcher = (
        "mpirun.mpich"
        if library == "mpich4"
        else os.path.join(PEERS, library, "bin", "mpiexec.hydra" if intel else "mpirun")
    )

    def start(count, bound):
        if intel:
            binding = (
                ["-genv", "I_MPI_PIN", "1", "-genv", "I_MPI_PIN_DOMAIN", "core"]
                if bound
                else ["-genv", "I_MPI_PIN", "0"]
            )
        else:
            binding = ["-bind-to", "core" if bound else "none"]
        return [launcher, *binding, "-n", str(count)]

    return [
        mpi_contender(library, config, start, variables)
        for config, variables in configurations.items()
    ]


def mpi_contender(library, config, start, variables=None):
    program = os.path.join(PEERS, library, "mpi-perf")
    root = os.path.join(PEERS, library)
    mine = dict(variables or {})
    if library == "intelmpi":
        mine.update(
            {
                "I_MPI_ROOT": root,
                "PATH": os.path.join(root, "bin") + os.pathsep + os.environ.get("PATH", ""),
            }
        )
    return Contender(
        library,
        config,
        start,
        (program,),
        tuple(mine.items()),
        needs=program,
        hint="run make peers first",
    )


def gloo():
    script = os.path.join(ROOT, "perf", "peers", "gloo.py")

    def start(ranks, bound):
        return [sys.executable, script, "-n", str(ranks), *(["--bind"] if bound else [])]

    # In place: Gloo has nothing else, and a copy would count against it.
    variables = {"BUILD": BUILD, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    return [
        Contender(
            "gloo",
            "default",
            start,
            (),
            tuple(variables.items()),
            ("--in-place",),
            os.path.join(PEERS, "libperf-loop.so"),
            "run make peers first",
        )
    ]


def contenders_of(libraries, ranks, settings):
    """Configurations of libraries, the most promising of each first: time may end before the
    last."""
    found = []
    for library in libraries:
        if library.startswith("openmpi"):
            configurations = open_mpi(library, settings.transport)
        else:
            configurations = gloo() if library == "gloo" else hydra(library, ranks)
        found += configurations[: settings.configurations]
    return in_turn(found)


def in_turn(found):
    """The first configuration of each library, then the second of each, and so on."""
    places, ranked = {}, []
    for contender in found:
        places[contender.library] = places.get(contender.library, -1) + 1
        ranked.append((places[contender.library], contender))
    return [contender for _, contender in sorted(ranked, key=lambda entry: entry[0])]


def why_not_measured(output):
    """What the loop said it lacks; None if nothing."""
    found = re.search(r"# not measured: (.*)", output)
    return found.group(1) if found else None


def installed(contenders):
    """(those that can run, ["name: why not"] of the others, once a library)."""
    usable, reasons = [], {}
    for contender in contenders:
        reason = contender.missing()
        if reason is None:
            usable.append(contender)
        else:
            reasons.setdefault(contender.library, f"{contender.library}: {reason}")
    return usable, sorted(reasons.values())
