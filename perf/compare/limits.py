# SPDX-License-Identifier: Apache-2.0
"""What the machine allows, from what perf-limits measured on it. Estimates, not proofs.

A time of n bytes among p ranks that share c CPUs is at least

    one clock reading + one cache line + (p / c) hand-overs of a CPU, when p > c
    + max(bytes copied between cores in the caches, bytes moved in memory)

Ordinary buffers are written once into memory that others see (W) and read once by who needs it
(R); memory that peers read in place saves the first. Memory counts when all buffers together
exceed the last-level cache.
"""

import json
import subprocess

FORMULAS = {
    "allreduce": "W = p n, R = 2 (p - 1) n, memory 2 p n",
    "broadcast": "W = n, R = (p - 1) n, one core writes and another reads at a time; memory p n",
    "reduce": "W = R = (p - 1) n, memory (p + 1) n",
    "allgather": "W = p n, R = p (p - 1) n, memory p n + p p n",
    "reduce_scatter": "W = R = p (p - 1) n, memory p p n + p n",
    "barrier": "nothing but the line",
}


def measure(program):
    """What perf-limits prints; None if it cannot."""
    try:
        done = subprocess.run([program], capture_output=True, text=True, timeout=60, check=False)
        return json.loads(done.stdout) if done.returncode == 0 else None
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return None


def traffic(coll, ranks, size):
    """Bytes written for others, read from others, moved in memory; all ranks together."""
    p, n = ranks, size
    return {
        "allreduce": (p * n, 2 * (p - 1) * n, 2 * p * n),
        "broadcast": (n, (p - 1) * n, p * n),
        "reduce": ((p - 1) * n, (p - 1) * n, (p + 1) * n),
        "allgather": (p * n, p * (p - 1) * n, p * n + p * p * n),
        "reduce_scatter": (p * (p - 1) * n, p * (p - 1) * n, p * p * n + p * n),
    }.get(coll, (0, 0, 0))


def least_us(machine, coll, ranks, size, symmetric=False, line_ns=None):
    """The limit in us; None if the machine was not measured, or has one CPU."""
    if not machine or not machine["line_ns"]:
        return None
    cpus = min(ranks, machine["cpus"])
    written, read, moved = traffic(coll, ranks, size)
    if symmetric:
        written = 0
    write_us, read_us = written / machine["write_GBs"] / 1e3, read / machine["read_GBs"] / 1e3
    cached = (write_us + read_us) / cpus
    if coll == "broadcast":
        cached = max(cached, write_us, read_us / max(1, ranks - 1))
    memory = moved / machine["dram_GBs"] / 1e3 if moved > machine["llc_bytes"] else 0
    start = machine["clock_ns"] + (line_ns or machine["line_ns"])
    if ranks > machine["cpus"]:
        start += ranks / machine["cpus"] * machine["yield_ns"]
    return start / 1e3 + max(cached, memory)
