# SPDX-License-Identifier: Apache-2.0
"""Four Ray workers train a network on real images; libmanta carries every gradient.

    python demo/train.py --out build/demo

The interesting part is worker.py. Here the workers are started, watched and checked: they must end
with bitwise equal weights, agree with a single process, classify the test images, and have sent
exactly the model's gradients. Then Ray's Gloo backend does the same, for comparison.
"""

import argparse
import os
import sys
import time
from pathlib import Path
from statistics import mean

import ray
from ray.exceptions import RayError

import checks
import data
import manta.ray
import report
import single
from worker import Epoch, Plan, Worker


def environment() -> dict[str, str]:
    """The workers' environment: one thread each, and every MANTA_* variable of this process."""
    variables = {name: value for name, value in os.environ.items() if name.startswith("MANTA_")}
    if variables.get("MANTA_FAULT"):
        variables.setdefault("MANTA_TRANSPORTS", "sim")  # the transport that can inject faults
    variables.setdefault("MANTA_TIMEOUT", "60")
    return variables | {"OMP_NUM_THREADS": "1"}


def start_ray(plan: Plan) -> None:
    manta.ray.register()  # in this process; the hook does it in the workers
    ray.init(
        address="local",
        num_cpus=plan.workers,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="error",
        runtime_env={
            "worker_process_setup_hook": "manta.ray.register",
            "env_vars": environment(),
        },
    )


def add_epoch(run: report.Run, epochs: list[Epoch], plan: Plan) -> None:
    """Put together what the workers did in one epoch."""
    for step in range(len(epochs[0].losses)):
        run.losses.append(mean(epoch.losses[step] for epoch in epochs))
        run.compute_ms.append(1e3 * mean(epoch.compute_s[step] for epoch in epochs))
        run.communication_ms.append(1e3 * mean(epoch.communication_s[step] for epoch in epochs))
        run.images += plan.workers * plan.batch
    run.calls += epochs[0].calls
    run.bytes += epochs[0].bytes


def train(workers: list, backend: str, plan: Plan, reference: single.Single) -> report.Run:
    """Train over one backend; DemoFailed if anything is not as it must be."""
    run = report.Run(backend)
    marks = ray.get([worker.start.remote(backend) for worker in workers])
    checks.starts([before for before, _ in marks], [after for _, after in marks])
    for number in range(plan.epochs):
        begin = time.perf_counter()
        epochs = ray.get([worker.train_epoch.remote(number) for worker in workers])
        seconds = time.perf_counter() - begin
        run.seconds += seconds
        add_epoch(run, epochs, plan)
        steps = len(epochs[0].losses)
        print(
            f"{backend:5}  epoch {number + 1:2}/{plan.epochs}  loss {mean(run.losses[-steps:]):.4f}  "
            f"{steps * plan.workers * plan.batch / seconds:6.0f} images/s  "
            f"{run.share(steps):4.0%} of the time in communication",
            flush=True,
        )
        checks.finite(run.losses[-steps:], number)
        checks.equal_weights([epoch.fingerprint for epoch in epochs], number)
        if backend == "manta":
            check_traffic(workers, epochs)
    results = ray.get([worker.finish.remote() for worker in workers])
    run.accuracy = results[0][0]
    run.difference = checks.agrees(results[0][1], reference.snapshot, plan.snapshot_step)
    if plan.epochs >= Plan.epochs:
        checks.accurate(run.accuracy)
    return run


def check_traffic(workers: list, epochs: list[Epoch]) -> None:
    buckets, gradient_bytes = ray.get(workers[0].gradient_size.remote())
    for epoch in epochs:
        checks.traffic(epoch.calls, epoch.bytes, buckets, gradient_bytes)


def plan_of(epochs: int) -> Plan:
    """A short training is compared with the single process at its end."""
    plan = Plan(epochs=epochs)
    images, _ = data.load()
    steps = epochs * data.steps_per_epoch(images, plan.workers, plan.batch)
    plan.snapshot_step = min(plan.snapshot_step, steps)
    return plan


def demo(folder: Path, plan: Plan, backends: list[str]) -> None:
    print("single process, for reference ...", flush=True)
    reference = single.train(plan)
    start_ray(plan)
    try:
        workers = [Worker.remote(rank, plan) for rank in range(plan.workers)]
        runs = [train(workers, backend, plan, reference) for backend in backends]
    finally:
        ray.shutdown()
    report.write(runs, reference.losses, folder)
    print(f"\n{report.table(runs)}\n")
    print(
        f"All {plan.workers} workers end with bitwise equal weights; each of the "
        f"{len(runs[0].calls)} steps sent {runs[0].bytes[0]} bytes of gradients in "
        f"{runs[0].calls[0]} allreduce calls of manta.\nPlot and numbers: {folder}"
    )
    if plan.epochs < Plan.epochs:
        print(
            f"The test accuracy was not checked: {plan.epochs} of {Plan.epochs} epochs are too "
            f"few to require {checks.ACCURACY:.0%}."
        )


def at_least_one(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} epochs would train nothing; give 1 or more")
    return number


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("build/demo"), help="folder for the results")
    parser.add_argument("--epochs", type=at_least_one, default=Plan.epochs,
                        help="rounds over the images (default %(default)s)")
    parser.add_argument("--only-manta", action="store_true", help="leave the comparison out")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    try:
        backends = ["manta"] if arguments.only_manta else ["manta", "gloo"]
        demo(arguments.out, plan_of(arguments.epochs), backends)
    except checks.DemoFailed as failure:
        print(f"demo failed: {failure}", file=sys.stderr)
        return 1
    except (manta.MantaError, RayError) as failure:
        print(f"demo failed: {cause_of(failure)}", file=sys.stderr)
        return 1
    return 0


def cause_of(failure: Exception) -> str:
    """A worker's own exception in one line, without Ray's wrapping."""
    cause = getattr(failure, "cause", None) or failure
    return f"{type(cause).__name__}: {cause}"


if __name__ == "__main__":
    sys.exit(main())
