# SPDX-License-Identifier: Apache-2.0
"""One experiment: some sizes of some collectives with some ranks. A calibration run of each
configuration of each peer picks the best for each size, which is then frozen; rounds of fresh runs
follow, all in alternation."""

import dataclasses
import time

import contenders
import figures

PROBE_SIZES = (4, 4 << 10)
HOPELESS = (
    20  # a configuration this many times slower than the best at all probed sizes is not calibrated
)
GIVE_UP = 2  # failures
MORE_ROUNDS = 2  # times as many as wanted, when the placement changed
CALIBRATION_SHARE = 0.45  # of an experiment's time


@dataclasses.dataclass
class Settings:
    rounds: int = 5
    passes: int = 2  # of the calibration
    seconds: float = 0.02  # bound of a size's iterations in a run
    calibration_seconds: float = 0.01
    configurations: int = 99  # of each peer
    prune: float = 2.0
    transport: str | None = None
    check: bool = False
    tell: object = print  # progress


@dataclasses.dataclass
class Experiment:
    ranks: int
    cells: dict  # {coll: [bytes]}
    subjects: list  # contenders that are judged
    peers: list  # contenders to be calibrated
    name: str = ""
    weight: float = 1.0  # part of the time
    rows: list = dataclasses.field(default_factory=list)
    failures: list = dataclasses.field(default_factory=list)
    lacking: list = dataclasses.field(default_factory=list)  # [(contender, reason)]
    frozen: dict = dataclasses.field(default_factory=dict)
    rounds: int = 0
    short: str = ""  # what time did not allow

    def all_cells(self):
        return [(coll, size) for coll, sizes in self.cells.items() for size in sizes]


def group(cells):
    """[(coll, bytes)] -> {coll: [bytes]}"""
    grouped = {}
    for coll, size in cells:
        grouped.setdefault(coll, []).append(size)
    return grouped


def loop_arguments(cells, settings):
    words = []
    for coll, sizes in group(cells).items():
        words += ["--cells", f"{coll}:{','.join(map(str, sorted(sizes)))}"]
    words += ["--root", "rotate", "--back-to-back", "--seconds", f"{settings.seconds}s"]
    return words + (["--check"] if settings.check else [])


def patience(cells, ranks, settings):
    """Seconds that a run may take at most: 12 bounds a size, and 60 passes over all data at 1
    GB/s."""
    moved = (
        sum(
            size * (ranks if coll in ("allgather", "reduce_scatter") else 1) for coll, size in cells
        )
        * ranks
    )
    return 12 * settings.seconds * len(cells) + 60 * moved / 1e9


class Runner:
    """Runs contenders of one experiment and keeps what they said."""

    def __init__(self, experiment, settings):
        self.experiment, self.settings = experiment, settings
        self.failed = {}

    def gave_up(self, contender):
        return self.failed.get(contender.name, 0) >= GIVE_UP

    def run(self, contender, cells, phase, number, settings=None):
        settings = settings or self.settings
        ranks = self.experiment.ranks
        begin = time.monotonic()
        rows, output, wrong = contender.run(
            ranks, loop_arguments(cells, settings), patience(cells, ranks, settings)
        )
        took = time.monotonic() - begin
        for row in rows:
            row.update(
                {
                    "library": contender.library,
                    "config": contender.config,
                    "phase": phase,
                    "round": number,
                }
            )
        self.experiment.rows += rows
        reason = contenders.why_not_measured(output)
        if reason and not rows:
            self.experiment.lacking.append({"name": "/".join(contender.name), "reason": reason})
            self.failed[contender.name] = GIVE_UP
        if wrong:
            self.failed[contender.name] = self.failed.get(contender.name, 0) + 1
            self.experiment.failures.append(
                {
                    "np": ranks,
                    "name": "/".join(contender.name),
                    "phase": phase,
                    "round": number,
                    "text": wrong,
                }
            )
        lines = [row["line_ns"] for row in rows]
        seen = f"line {min(lines)}-{max(lines)} ns" if lines else "no rows"
        self.settings.tell(
            f"{ranks} ranks, {phase} {number}: {'/'.join(contender.name)}, {len(rows)} of"
            f" {len(cells)} sizes, {seen}, {took:.1f} s"
            + (f"; {wrong.splitlines()[0][:200]}" if wrong else "")
        )
        return rows


def probe(runner, experiment):
    """With more ranks than CPUs some configurations are thousands of times slower: find out on two
    sizes, and which to try first."""
    cells = []
    for coll, sizes in experiment.cells.items():
        cells += sorted(
            {
                (coll, min(sizes, key=lambda size, wanted=wanted: abs(size - wanted)))
                for wanted in PROBE_SIZES
            }
        )
    quick = dataclasses.replace(runner.settings, seconds=0.002)
    times = {
        peer.name: {
            figures.cell_of(row): row["b2b_us"] or row["p50_us"]
            for row in runner.run(peer, cells, "probe", 1, quick)
        }
        for peer in experiment.peers
    }
    best = {
        cell: min(mine[cell] for mine in times.values() if cell in mine)
        for cell in cells
        if any(cell in mine for mine in times.values())
    }
    kept = []
    for peer in experiment.peers:
        mine = times[peer.name]
        factor = min((mine[cell] / best[cell] for cell in mine), default=HOPELESS)
        if factor <= HOPELESS:
            kept.append((factor, peer))
            continue
        reason = f"at least {factor:.0f} times slower than the best at each size probed"
        experiment.lacking.append({"name": "/".join(peer.name), "reason": reason})
    return contenders.in_turn([peer for _, peer in sorted(kept, key=lambda entry: entry[0])])


def calibrate(runner, experiment, settings, deadline):
    """Every library at least in one configuration, the others as far as time goes."""
    peers = experiment.peers
    if experiment.ranks > contenders.cpus():
        peers = probe(runner, experiment)
    quick = dataclasses.replace(settings, seconds=settings.calibration_seconds)
    seen, missed = set(), []
    for number in range(1, settings.passes + 1):
        for peer in peers:
            late = time.monotonic() > deadline
            if late and number == 1 and peer.library in seen:
                missed.append("/".join(peer.name))
            if runner.gave_up(peer) or (late and (number > 1 or peer.library in seen)):
                continue
            if runner.run(peer, experiment.all_cells(), "calibration", number, quick):
                seen.add(peer.library)
    if missed:
        experiment.short += f"time allowed no calibration of {', '.join(missed)}; "
    rows = [row for row in experiment.rows if row["phase"] == "calibration"]
    experiment.frozen = figures.freeze(rows, settings.prune)


def plan_round(experiment):
    """[(contender, its cells)]: subjects run all, a peer's configuration what it is the best of."""
    plan = [(subject, experiment.all_cells()) for subject in experiment.subjects]
    for peer in experiment.peers:
        cells = sorted(
            {
                (coll, size)
                for (coll, size, _), choices in experiment.frozen.items()
                for library, choice in choices.items()
                if choice["contends"] and (library, choice["config"]) == peer.name
            }
        )
        if cells:
            plan.append((peer, cells))
    return plan


def has_enough(experiment, settings, runner):
    """Every size has, against every peer that still answers, rounds enough of one class."""
    rows = figures.index(row for row in experiment.rows if row["phase"] == "round")
    gone = {peer.name for peer in experiment.peers if runner.gave_up(peer)}
    for subject in experiment.subjects:
        if runner.gave_up(subject):
            continue
        for (coll, size, figure), choices in experiment.frozen.items():
            for library, choice in choices.items():
                if not choice["contends"] or (library, choice["config"]) in gone:
                    continue
                kinds = [
                    kind
                    for kind, _, _ in figures.pairs_of(
                        rows, subject.name, library, choice["config"], (coll, size), figure
                    )
                ]
                if max(map(kinds.count, kinds), default=0) < settings.rounds:
                    return False
    return True


def conduct(experiment, settings, seconds):
    """Calibrate, freeze, run the rounds; `seconds` bounds it, but for the run that is under way."""
    runner = Runner(experiment, settings)
    begin = time.monotonic()
    if experiment.peers:
        calibrate(runner, experiment, settings, begin + CALIBRATION_SHARE * seconds)
    plan = plan_round(experiment)
    longest = 0.0
    while experiment.rounds < MORE_ROUNDS * settings.rounds:
        now = time.monotonic()
        if experiment.rounds > 0 and now + longest > begin + seconds:
            experiment.short += f"time allowed {experiment.rounds} rounds; "
            break
        experiment.rounds += 1
        first = experiment.rounds % len(plan)
        for contender, cells in plan[first:] + plan[:first]:
            if not runner.gave_up(contender):
                runner.run(contender, cells, "round", experiment.rounds)
        longest = max(longest, time.monotonic() - now)
        if experiment.rounds >= settings.rounds and has_enough(experiment, settings, runner):
            break
    return results_of(experiment, settings)


def results_of(experiment, settings):
    rows = figures.index(row for row in experiment.rows if row["phase"] == "round")
    results = []
    for subject in experiment.subjects:
        for cell in experiment.all_cells():
            for figure in figures.FIGURES:
                choices = experiment.frozen.get((*cell, figure), {})
                for result in figures.compare_cell(
                    rows, subject.name, choices, cell, figure, settings.rounds, experiment.rounds
                ):
                    results.append(
                        {"experiment": experiment.name, "np": experiment.ranks, **result}
                    )
    for result in results:
        result["main"] = figures.is_main(result, results)
    return results
