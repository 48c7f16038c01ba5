# SPDX-License-Identifier: Apache-2.0
"""The table, the plot and the numbers behind them."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean, median

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt  # noqa: E402


@dataclass
class Run:
    """One training over one backend; lists have one entry per step, the mean over the workers."""

    backend: str
    losses: list[float] = field(default_factory=list)
    compute_ms: list[float] = field(default_factory=list)
    communication_ms: list[float] = field(default_factory=list)
    calls: list[int] = field(default_factory=list)
    bytes: list[int] = field(default_factory=list)
    images: int = 0
    seconds: float = 0.0
    accuracy: float = 0.0
    difference: float = 0.0

    def share(self, last: int = 0) -> float:
        """Communication's part of the time, over the last steps (0: all)."""
        communication = sum(self.communication_ms[-last:])
        return communication / (communication + sum(self.compute_ms[-last:]))


def table(runs: list[Run]) -> str:
    rows = [("", *(run.backend for run in runs))]

    def row(name: str, form: str, value) -> None:
        rows.append((name, *(form.format(value(run)) for run in runs)))

    row("steps", "{}", lambda run: len(run.losses))
    row("images/s", "{:.0f}", lambda run: run.images / run.seconds)
    row("compute per step, median ms", "{:.2f}", lambda run: median(run.compute_ms))
    row("communication per step, median ms", "{:.2f}", lambda run: median(run.communication_ms))
    row("share of time in communication", "{:.0%}", Run.share)
    row("final loss, mean of 10 steps", "{:.4f}", lambda run: mean(run.losses[-10:]))
    row("test accuracy", "{:.1%}", lambda run: run.accuracy)
    row("difference from single process", "{:.1e}", lambda run: run.difference)
    widths = [max(len(line[column]) for line in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(
            [line[0].ljust(widths[0])]
            + [cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True)]
        )
        for line in rows
    )


def plot(runs: list[Run], single_losses: list[float], path: Path) -> None:
    figure, (curves, bars) = plt.subplots(1, 2, figsize=(12, 4.5), width_ratios=[2, 1])
    manta = runs[0]
    curves.plot(manta.losses, color="tab:blue", linewidth=2.5, label=f"workers over {manta.backend}")
    curves.plot(single_losses, color="black", linewidth=0.8, label="single process")
    curves.set(xlabel="step", ylabel="training loss", yscale="log", title="the same curve")
    curves.legend()

    names = [run.backend for run in runs]
    compute = [median(run.compute_ms) for run in runs]
    communication = [median(run.communication_ms) for run in runs]
    bars.bar(names, compute, color="tab:gray", label="compute")
    bars.bar(names, communication, bottom=compute, color="tab:orange",
             label="communication\n(with waiting for the slowest)")
    highest = max(a + b for a, b in zip(compute, communication, strict=True))
    bars.set(ylabel="median ms per step", title="where a step's time goes", ylim=(0, 1.3 * highest))
    bars.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)


def write(runs: list[Run], single_losses: list[float], folder: Path) -> None:
    plot(runs, single_losses, folder / "training.png")
    numbers = {"single_process_losses": single_losses, "runs": [vars(run) for run in runs]}
    (folder / "training.json").write_text(json.dumps(numbers, indent=1))
    (folder / "training.txt").write_text(table(runs) + "\n")
