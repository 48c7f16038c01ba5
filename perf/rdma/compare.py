# SPDX-License-Identifier: Apache-2.0
"""Inside the emulated machine of tests/rdma: Manta between two nodes, beside programs that measure the
RDMA devices themselves (perftest) and MPI libraries over the same devices and GIDs. Rounds in
alternation; medians of the rounds. Nothing is asserted. Peers that do not run are listed with what they
said.

    make rdma-perf RDMA_PERF='--rounds 5 --transports shm,verbs,tcp'
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.environ.get("BUILD") or os.path.join(ROOT, "build")
FABRIC = os.path.join(ROOT, "tests", "rdma", "inside", "fabric.sh")
SECONDS = 90  # for one run
ROWS = "/run/rows.json"
PORT = "18600"

# As many messages of a size as take one to three seconds: a host is often slow for a tenth of one.
LAT, BW = {8: 4000}, {65536: 600, 1 << 20: 60}
WAKES = "15"
SECONDS_OF_CELL = "0.6"
SENT = 64  # bytes of an 8-byte message with what Manta puts before it: what ib_send_lat sends beside it
CELLS = {"allreduce": (8, 4096, 65536, 1 << 20), "broadcast": (8, 4096, 65536, 1 << 20)}

# With the GID of the IPv4 address UCX's first contact, by datagrams, gets no answer over rxe. So all use
# the link-local one (but libfabric, which asks for addresses): the kernel takes some 8 % longer for a
# packet of IPv4 here, where that goes by policy.
GID = "0"
UCX = f"UCX_IB_GID_INDEX={GID} UCX_TLS=rc,self UCX_NET_DEVICES=rxe_n$RANK_VARIABLEr0:1"
OFI = "FI_UNIVERSE_SIZE=16 FI_VERBS_DEVICE_NAME=rxe_n$RANK_VARIABLEr0"
OPEN_MPI = "mpirun.openmpi --allow-run-as-root --oversubscribe --bind-to none -np 2 --mca btl self"
MPI = {
    "Open MPI, UCX": (OPEN_MPI + " --mca pml ucx", UCX, "openmpi4"),
    "Open MPI, libfabric": (
        OPEN_MPI + " --mca pml cm --mca mtl ofi --mca mtl_ofi_provider_include verbs;ofi_rxm",
        OFI,
        "openmpi4",
    ),
    "MPICH, UCX": ("env MPIR_CVAR_NOLOCAL=1 mpiexec.mpich -np 2", UCX, "mpich4"),
}
RANK_VARIABLES = {"openmpi4": "${OMPI_COMM_WORLD_RANK}", "mpich4": "${PMI_RANK}"}


class Failed(Exception):
    """What a program said that did not do its work."""


def run(words):
    try:
        result = subprocess.run(words, capture_output=True, text=True, timeout=SECONDS, check=False)
    except subprocess.TimeoutExpired as error:
        raise Failed(f"did not end within {SECONDS} s") from error
    if result.returncode != 0:
        said = (result.stderr + result.stdout).strip().splitlines()
        raise Failed(" / ".join(line.strip() for line in said[-4:]) or f"exit code {result.returncode}")
    return result.stdout


def on_fabric(script, *words):
    """Words that run a line of bash, with functions of the fabric, and these as $1, $2, ..."""
    return ["bash", "-c", f'. "{FABRIC}"; {script}', "bash", *words]


def read_rows():
    with open(ROWS, encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    found = {(row["coll"], row["bytes"]): row["p50_us"] for row in rows}
    return found | {(row["coll"], row["bytes"], "min"): row["min_us"] for row in rows}


def loop_options():
    words = ["--json", ROWS, "--seconds", SECONDS_OF_CELL]
    for coll, sizes in CELLS.items():
        words += ["--cells", coll + ":" + ",".join(map(str, sizes))]
    return words


def manta(transports, *words):
    script = 'with_ranks "$1" 2 --no-prefix -x MANTA_VERBS_GID="$2"; "${mantarun[@]}" "${@:3}"'
    return run(on_fabric(script, transports, GID, *words))


def manta_collectives(transports):
    manta(transports, os.path.join(BUILD, "bin", "manta-perf"), *loop_options())
    return read_rows()


def mpi_collectives(name):
    launcher, variables, library = MPI[name]
    program = os.path.join(BUILD, "peers", library, "mpi-perf")
    variables = variables.replace("$RANK_VARIABLE", RANK_VARIABLES[library])
    run([*launcher.split(), "sh", "-c", f'{variables} exec "$0" "$@"', program, *loop_options()])
    return read_rows()


def rows_of(output):
    return [json.loads(line) for line in output.splitlines() if line.startswith("{")]


def manta_points(transports):
    point = os.path.join(BUILD, "bin", "point-perf")
    found = {}
    asked = [("lat", count, [size]) for size, count in LAT.items()]
    asked += [("bw", count, [size]) for size, count in BW.items()] + [("wake", WAKES, [])]
    for what, count, sizes in asked:
        for row in rows_of(manta(transports, point, what, str(count), *map(str, sizes))):
            found[what, row["bytes"]] = row["MBs" if what == "bw" else "us"]
    return found


def perftest(program, size, count):
    """The columns of the only line of numbers that the client prints."""
    script = f"""
        set -- "$@" -F -p {PORT} -x {GID}
        "$@" -d rxe_n1r0 >/dev/null 2>&1 & server=$!
        for try in 1 2 3 4 5 6 7 8 9 10; do
            sleep 0.5
            "$@" -d rxe_n0r0 127.0.0.1 && break
        done
        kill $server 2>/dev/null
        [ $try != 10 ]"""
    output = run(on_fabric(script, program, "-s", str(size), "-n", str(count)))
    for line in output.splitlines():
        if re.match(rf"\s*{size}\s+\d+\s", line):
            return [float(word) for word in line.split()]
    raise Failed("no figures in: " + " / ".join(output.strip().splitlines()[-4:]))


def perftest_points():
    """Typical latency in us; bandwidth in MB/s: perftest's are MiB/s. And how fast who sleeps on a
    completion channel wakes: no program of perftest tells."""
    found = {("lat", size): perftest("ib_write_lat", size, count)[4] for size, count in LAT.items()}
    found["send lat", SENT] = perftest("ib_send_lat", SENT, LAT[8])[4]
    found |= {("bw", size): perftest("ib_write_bw", size, count)[3] * 1.048576 for size, count in BW.items()}
    bare = manta("verbs", os.path.join(BUILD, "bin", "point-perf"), "wake-bare", WAKES)
    return found | {("wake", row["bytes"]): row["us"] for row in rows_of(bare)}


class Subjects:
    """Who is measured, round by round."""

    def __init__(self, functions):
        self.functions = functions
        self.rounds = {name: [] for name in functions}
        self.failures = {}

    def measure(self):
        for name, function in self.functions.items():
            if name in self.failures:
                continue
            if os.path.exists(ROWS):
                os.unlink(ROWS)
            try:
                self.rounds[name].append(function())
            except (Failed, FileNotFoundError) as failure:
                self.failures[name] = str(failure)

    def rounds_of(self, name):
        """None of who failed in one."""
        return self.rounds[name] if name not in self.failures else []

    def values(self, name, cell):
        return [found[cell] for found in self.rounds_of(name) if cell in found]

    def median(self, name, cell):
        values = self.values(name, cell)
        return statistics.median(values) if values else None

    def ratios(self, name, other, cell):
        """Of one to the other in the same round, sorted: a host that slows down slows both."""
        pairs = zip(self.rounds_of(name), self.rounds_of(other))
        return sorted(its[cell] / mine[cell] for mine, its in pairs if cell in mine and cell in its)


def show(value):
    return f"{value:10.1f}" if value is not None else f"{'-':>10}"


def at_best(subjects, cell, mine):
    ours = subjects.values(mine, cell)
    theirs = [time for name in subjects.functions if name != mine for time in subjects.values(name, cell)]
    if not ours or not theirs:
        return ""
    return f"; at best {min(ours):.1f} us, others {min(theirs):.1f} us: {min(theirs) / min(ours):.2f}"


def report(title, subjects, cells, mine, higher_is_better=()):
    """A line for each cell; the ratio, a median over the rounds beside the least and the most, is above
    1 where ours is better than the best of the others. An emulated CPU has phases of half its speed, which
    last as long as a few hundred short calls: for these the calls at best, of all rounds, are told, too."""
    others = [name for name in subjects.functions if name != mine]
    print(f"\n{title}\n{'':22}" + "".join(f"  {name:>20}" for name in (mine, *others)) + "   ratio")
    medians = []
    for cell in cells:
        ours = subjects.median(mine, cell)
        theirs = [subjects.median(name, cell) for name in others]
        line = f"{cell[0]:>10} {cell[1]:>8} B" + "".join(" " * 12 + show(value) for value in (ours, *theirs))
        known = [subjects.ratios(mine, name, cell) for name in others]
        if cell[0] in higher_is_better:
            known = [[1 / ratio for ratio in reversed(rounds)] for rounds in known]
        known = [rounds for rounds in known if rounds]
        if known:
            best = min(known, key=statistics.median)
            medians.append(statistics.median(best))
            line += f"  {medians[-1]:6.2f} ({best[0]:.2f} to {best[-1]:.2f})"
        print(line + at_best(subjects, (*cell, "min"), mine))
    if medians:
        print(f"geometric mean {statistics.geometric_mean(medians):.2f}, least {min(medians):.2f}")
    for name, why in subjects.failures.items():
        print(f"{name} does not run: {why}")
    sys.stdout.flush()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--transports", default="shm,tcp", help="MANTA_TRANSPORTS of the library measured")
    parser.add_argument("--no-mpi", action="store_true", help="only perftest beside it")
    options = parser.parse_args()
    mine = "Manta, " + options.transports
    points = Subjects({mine: lambda: manta_points(options.transports), "perftest": perftest_points})
    peers = {} if options.no_mpi else {name: lambda name=name: mpi_collectives(name) for name in MPI}
    collectives = Subjects({mine: lambda: manta_collectives(options.transports), **peers})
    print(f"Linux {os.uname().release}, {os.cpu_count()} CPUs, emulated; medians of {options.rounds} rounds")
    begin = time.monotonic()
    for number in range(options.rounds):
        points.measure()
        collectives.measure()
        print(f"round {number + 1} ended after {time.monotonic() - begin:.0f} s", flush=True)
    cells = [("lat", size) for size in LAT] + [("send lat", SENT)] + [("bw", size) for size in BW]
    cells.append(("wake", 8))
    report(
        "Messages between two nodes: lat in us one way, bw in MB/s, wake in us from send to who slept",
        points,
        cells,
        mine,
        ("bw",),
    )
    cells = [(coll, size) for coll, sizes in CELLS.items() for size in sizes]
    report("Collectives of two nodes, p50 in us", collectives, cells, mine)
    return 0


if __name__ == "__main__":
    sys.exit(main())
