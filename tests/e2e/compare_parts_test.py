# SPDX-License-Identifier: Apache-2.0
"""The parts of perf/compare: placement classes, frozen configurations, ratios, verdicts; peers
that crash or hang."""

import argparse
import os
import sys
import types

import pytest

from programs import ROOT, is_alive, wait_until

sys.path.insert(0, os.path.join(ROOT, "perf", "compare"))

# pylint: disable=wrong-import-position
import contenders  # noqa: E402
import experiment  # noqa: E402
import figures  # noqa: E402
import launch  # noqa: E402
import limits  # noqa: E402
import sizes  # noqa: E402
import svg  # noqa: E402
import table  # noqa: E402

NEAR, FAR = 60, 210


def test_sizes_are_those_of_the_programs():
    """What tests/unit/core/config_test.c takes and refuses."""
    good = {"0": 0, "4096": 4096, "4k": 4096, "4K": 4096, "4KiB": 4096, "3MiB": 3 << 20, "2G": 2 << 30, "1T": 1 << 40}
    assert {text: sizes.parse_size(text) for text in good} == good
    for text in ("", " ", "k", "-1", "+1", "1.5k", "4kk", "4kB", "4Ki", "4iB", "4KiB ", "4 k", "0x10", "1m", "1\n", "\u0664"):
        with pytest.raises(argparse.ArgumentTypeError):
            sizes.parse_size(text)


def row(library, config, microseconds, line=NEAR, after=None, number=1, size=4, coll="allreduce"):
    return {
        "library": library,
        "config": config,
        "coll": coll,
        "bytes": size,
        "p50_us": microseconds,
        "b2b_us": microseconds / 2,
        "line_ns": line,
        "line_after_ns": after or line,
        "round": number,
        "wrong": None,
    }


def test_classes():
    assert [figures.class_of_line(line) for line in (0, 20, 34, 35, 129, 130, 300)] == [
        "one cpu",
        "smt",
        "smt",
        "near",
        "near",
        "far",
        "far",
    ]
    assert figures.class_of(row("a", "x", 1, NEAR, FAR)) == "moved"


def test_freezing_takes_the_best_configuration_of_each_size():
    rows = [
        row("a", "x", 1.0),
        row("a", "y", 2.0),
        row("a", "x", 9.0, size=64),
        row("a", "y", 3.0, size=64),
        row("b", "x", 7.0),
        row("b", "x", 4.0, size=64),
    ]
    frozen = figures.freeze(rows, prune=2)
    assert frozen["allreduce", 4, "p50_us"]["a"] == {"config": "x", "us": 1.0, "contends": True}
    assert frozen["allreduce", 64, "p50_us"]["a"]["config"] == "y"
    assert not frozen["allreduce", 4, "p50_us"]["b"]["contends"], "7 times slower than the best"
    assert frozen["allreduce", 64, "b2b_us"]["b"]["contends"]


def test_freezing_compares_within_one_class():
    """What was measured while the cores were far apart looks slow, and must not lose for that."""
    rows = [row("a", "x", 5.0, FAR), row("a", "x", 1.0), row("a", "y", 1.5), row("b", "x", 1.2)]
    assert figures.freeze(rows, prune=2)["allreduce", 4, "p50_us"]["a"] == {
        "config": "x",
        "us": 1.0,
        "contends": True,
    }


def test_equally_good_configurations_save_runs():
    rows = [
        row("a", "x", 1.0),
        row("a", "y", 1.01),
        row("a", "x", 3.0, size=16),
        row("a", "y", 2.0, size=16),
        row("a", "x", 3.0, size=64),
        row("a", "y", 2.0, size=64),
    ]
    assert figures.freeze(rows, prune=2)["allreduce", 4, "p50_us"]["a"]["config"] == "y"


def compared(rows, wanted=2, **choices):
    choices = {
        name: {"config": "x", "us": 1, "contends": contends} for name, contends in choices.items()
    }
    rounds = len({one["round"] for one in rows})
    return figures.compare_cell(
        figures.index(rows),
        ("manta", "default"),
        choices,
        ("allreduce", 4),
        "p50_us",
        wanted,
        rounds,
    )


def test_ratio_is_the_median_over_rounds_of_one_class():
    rows = []
    for number, (ours, theirs) in enumerate([(1.0, 2.0), (1.0, 3.0), (2.0, 5.0)], 1):
        rows += [row("manta", "default", ours, number=number), row("a", "x", theirs, number=number)]
    rows += [
        row("manta", "default", 9.0, FAR, number=4),
        row("a", "x", 9.0, number=4),
    ]  # not comparable
    rows += [
        row("manta", "default", 1.0, number=5),
        row("a", "x", 90.0, NEAR, FAR, number=5),
    ]  # moved
    near, far = compared(rows, a=True)
    assert (
        near["class"],
        near["ratio"],
        near["low"],
        near["high"],
        near["rounds"],
        near["dropped"],
    ) == ("near", 2.5, 2.0, 3.0, 3, 2)
    assert (far["class"], far["ratio"], far["rounds"]) == ("far", None, 1)


def test_best_peer_is_the_one_that_leaves_the_least():
    rows = []
    for number in (1, 2):
        rows += [
            row("manta", "default", 1.0, number=number),
            row("a", "x", 3.0, number=number),
            row("b", "x", 2.0, number=number),
        ]
    rows += [row("c", "x", 0.5, number=1)]  # in one round only: not enough to be the best
    [result] = compared(rows, a=True, b=True, c=True, d=False)
    assert (result["best_peer"], result["ratio"]) == ("b", 2.0)
    assert set(result["peers"]) == {"a", "b", "c"} and set(result["calibration_only"]) == {"d"}


def result_of(size, ratio, rounds=5, **more):
    return {
        "np": 2,
        "coll": "allreduce",
        "bytes": size,
        "subject": "manta/default",
        "figure": "p50_us",
        "class": "near",
        "ratio": ratio,
        "low": ratio,
        "high": ratio,
        "best_peer": "openmpi4",
        "config": "default",
        "rounds": rounds,
        "dropped": 0,
        "line_ns": NEAR,
        "us": 1.0,
        "experiment": "2 ranks against MPI",
        **more,
    }


def verdict_of(key, results):
    [chosen] = [row for row in table.rows_of_table() if row.key == key]
    return table.evaluate(chosen, results, experiment.Settings())


def test_a_row_holds_by_its_mean_and_its_least_cell():
    """Must 1.5; a cell may be down to 0.95 of that."""
    for ratios, status in (
        ((1.6, 1.5), "holds"),
        ((1.43, 1.7), "holds"),
        ((1.42, 1.7), "missed"),
        ((1.4, 3.0), "missed"),
        ((1.49, 1.5), "missed"),
    ):
        verdict = verdict_of(
            "allreduce-4k", [result_of(4096, ratios[0]), result_of(16384, ratios[1])]
        )
        assert verdict["status"] == status, ratios
        assert verdict["ratio"] == pytest.approx((ratios[0] * ratios[1]) ** 0.5)


def test_a_row_is_not_judged_on_less_than_it_needs():
    few = [result_of(4096, 2.0, rounds=4), result_of(16384, 2.0)]
    assert verdict_of("allreduce-4k", few)["status"] == "too few rounds"
    assert verdict_of("allreduce-4k", few[1:])["status"] == "incomplete"
    far = [result_of(4096, 2.0, **{"class": "far"})]
    verdict = verdict_of("allreduce-4k", far)
    assert verdict["status"] == "not measured" and verdict["reason"] == "no round was near"
    assert verdict_of("far", far)["cells"]


def test_the_cell_of_1_mib_may_be_slower():
    sizes = [1 << 10, 4 << 10, 16 << 10, 64 << 10, 256 << 10]
    results = [result_of(size, 1.2, coll="broadcast") for size in sizes]
    assert (
        verdict_of("broadcast-1k", results + [result_of(1 << 20, 0.91, coll="broadcast")])["status"]
        == "holds"
    )
    assert (
        verdict_of("broadcast-1k", results + [result_of(1 << 20, 0.89, coll="broadcast")])["status"]
        == "missed"
    )


def test_rows_have_powers_of_4():
    cells = {row.key: row.cells() for row in table.rows_of_table()}
    assert cells["broadcast-small"] == [
        ("broadcast", 4),
        ("broadcast", 16),
        ("broadcast", 64),
        ("broadcast", 256),
    ]
    assert cells["others-2"].count(("barrier", 0)) == 1
    assert [size for _, size in cells["allreduce-large"]] == [4 << 20, 16 << 20, 64 << 20]


class Stub:
    """A contender without processes: `answers` gives a run's (rows, output, what went wrong)."""

    def __init__(self, library, config, answer):
        self.library, self.config, self.name = library, config, (library, config)
        self.answer, self.runs = answer, 0

    def run(self, ranks, arguments, seconds):
        self.runs += 1
        cells = [word.split(":") for word in arguments if ":" in word]
        return self.answer(
            self, [(coll, int(size)) for coll, sizes in cells for size in sizes.split(",")]
        )


def steady(microseconds, line=NEAR):
    def answer(_, cells):
        return (
            [row("", "", microseconds, line, size=size, coll=coll) for coll, size in cells],
            "",
            None,
        )

    return answer


def conduct(subject, *peers, rounds=2, seconds=60):
    one = experiment.Experiment(1, {"allreduce": [4, 64]}, [subject], list(peers), "test")
    told = []
    results = experiment.conduct(one, experiment.Settings(rounds=rounds, tell=told.append), seconds)
    assert told
    return one, results


def test_an_experiment_runs_only_what_can_win():
    best, worse, hopeless = (
        Stub("a", "x", steady(2.0)),
        Stub("a", "y", steady(2.5)),
        Stub("b", "x", steady(50.0)),
    )
    one, results = conduct(Stub("manta", "default", steady(1.0)), best, worse, hopeless)
    assert (best.runs, worse.runs, hopeless.runs) == (4, 2, 2), "two calibrations, two rounds"
    assert {result["ratio"] for result in results} == {2.0} and one.rounds == 2
    assert all(
        result["calibration_only"] == {"b": {"config": "x", "us": result["us"] * 50}}
        for result in results
    )


def test_hopeless_configurations_of_crowded_ranks_are_not_calibrated(monkeypatch):
    """One rank and no CPU: crowded. The probe also says which to try first."""
    monkeypatch.setattr(contenders, "cpus", lambda: 0)
    slow, fast, hopeless = (
        Stub("a", name, steady(us)) for name, us in (("x", 6.0), ("y", 2.0), ("z", 90.0))
    )
    one, _ = conduct(Stub("manta", "default", steady(1.0)), slow, fast, hopeless)
    assert hopeless.runs == 1 and [lack["name"] for lack in one.lacking] == ["a/z"]
    order = [(each["phase"], each["config"]) for each in one.rows if each["bytes"] == 4]
    calibrated = [config for phase, config in order if phase == "calibration"]
    assert calibrated == ["y", "x", "y", "x"]


def test_rounds_are_repeated_when_the_cores_move_but_not_for_ever():
    def moving(stub, cells):
        return steady(1.0, FAR if stub.runs % 2 else NEAR)(stub, cells)

    one, results = conduct(Stub("manta", "default", moving), Stub("a", "x", steady(2.0)), rounds=2)
    assert one.rounds == 4
    assert {
        (result["class"], result["rounds"], result["dropped"])
        for result in results
        if result["ratio"]
    } == {("near", 2, 2)}
    one, _ = conduct(
        Stub("manta", "default", steady(1.0, FAR)), Stub("a", "x", steady(2.0)), rounds=2
    )
    assert one.rounds == 4, "twice as many as wanted at most"


def test_a_peer_that_fails_is_reported_and_then_left_out():
    def crash(_, cells):
        return [], "", "was killed by signal 11: it said something"

    broken = Stub("b", "x", crash)
    one, results = conduct(
        Stub("manta", "default", steady(1.0)), Stub("a", "x", steady(2.0)), broken
    )
    assert broken.runs == experiment.GIVE_UP
    assert (
        all("signal 11" in failure["text"] and failure["name"] == "b/x" for failure in one.failures)
        and len(one.failures) == 2
    )
    assert {result["best_peer"] for result in results} == {"a"}


def test_time_ends_an_experiment_but_leaves_a_round():
    one, results = conduct(
        Stub("manta", "default", steady(1.0)),
        Stub("a", "x", steady(2.0)),
        Stub("a", "y", steady(3.0)),
        seconds=0,
    )
    assert one.rounds == 1 and results and "1 rounds" in one.short and "a/y" in one.short


def sh(script, seconds):
    return launch.run(["sh", "-c", script], launch.environment(), seconds)


def test_a_program_that_fails_says_why():
    assert sh("echo fine", 20) == ("fine\n", None)
    output, wrong = sh("echo half; echo it broke >&2; exit 7", 20)
    assert "half" in output and "code 7" in wrong and "it broke" in wrong
    assert "signal 9" in sh("kill -9 $$", 20)[1]
    assert "cannot be started" in launch.run(["/nonexistent/mpirun"], launch.environment(), 20)[1]


def test_a_program_that_hangs_is_killed_with_its_children(tmp_path):
    """Also a child in a session of its own that ignores being asked. A busy host may need longer
    than the first limit to start it."""
    written = tmp_path / "pid"
    child = f"trap '' TERM; echo \\$\\$ > {tmp_path}/pid; sleep 300; sleep 300"
    script = f"trap '' TERM; setsid sh -c \"{child}\" & echo started; sleep 300; sleep 300"
    for seconds in (2, 8, 32):
        written.write_text("")
        output, wrong = sh(script, seconds)
        assert f"did not end within {seconds} s" in wrong
        pid = written.read_text().strip()
        if "started" in output and pid:
            break
    assert "started" in output and pid
    wait_until(lambda: not is_alive(pid))


def test_libraries_variables_are_not_inherited(monkeypatch):
    for name in ("MANTA_ALLREDUCE", "OMPI_MCA_pml", "I_MPI_FABRICS", "MPIR_CVAR_X"):
        monkeypatch.setenv(name, "x")
    kept = launch.environment(MANTA_TRANSPORTS="tcp")
    assert (
        kept["MANTA_TRANSPORTS"] == "tcp"
        and not {"MANTA_ALLREDUCE", "OMPI_MCA_pml", "I_MPI_FABRICS", "MPIR_CVAR_X"} & kept.keys()
    )


def test_limits_grow_with_the_work():
    machine = {
        "cpus": 2,
        "clock_ns": 20,
        "line_ns": 60,
        "yield_ns": 500,
        "write_GBs": 20,
        "read_GBs": 20,
        "dram_GBs": 10,
        "llc_bytes": 32 << 20,
    }
    assert limits.least_us(None, "allreduce", 2, 4) is None
    assert limits.least_us(machine, "barrier", 2, 0) == pytest.approx(0.08)
    assert limits.least_us(machine, "barrier", 4, 0) == pytest.approx(
        1.08
    ), "twice as many ranks as CPUs yield twice"
    assert limits.least_us(machine, "allreduce", 2, 1 << 20) == pytest.approx(
        0.08 + 2 * (1 << 20) / 20e3
    )
    assert limits.least_us(machine, "allreduce", 2, 64 << 20) == pytest.approx(
        0.08 + 4 * (64 << 20) / 10e3
    )
    symmetric = limits.least_us(machine, "allreduce", 2, 1 << 20, symmetric=True)
    assert symmetric == pytest.approx(0.08 + (1 << 20) / 20e3)


def test_plots():
    assert svg.plot("empty", "us", [svg.Series("a", "a", [])]) == ""
    drawn = svg.plot(
        "<one>",
        "us",
        [
            svg.Series("a & b", "a", [(4, 1.0)], {4: (0.5, 2.0)}),
            svg.Series("b", "b", [(4, 2.0), (64, 3.0)]),
        ],
        1.0,
    )
    assert (
        drawn.startswith("<svg")
        and "&lt;one&gt;" in drawn
        and "a &amp; b" in drawn
        and "NaN" not in drawn
    )


def test_half_a_line_of_a_killed_program_is_ignored(tmp_path):

    (tmp_path / "rows").write_text('{"bytes": 4}\n{"bytes": 1')
    assert contenders.read_rows(tmp_path / "rows") == [{"bytes": 4}]
    assert contenders.read_rows(tmp_path / "none") == []


def test_a_launcher_that_binds_otherwise_is_refused(monkeypatch):

    monkeypatch.setattr(contenders, "os", types.SimpleNamespace(sched_getaffinity=lambda _: {0, 1}))
    assert contenders.check_binding([{"binding": "core"}], True) is None
    assert "none" in contenders.check_binding([{"binding": "none"}], True)
