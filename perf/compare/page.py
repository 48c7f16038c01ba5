# SPDX-License-Identifier: Apache-2.0
"""The page: one HTML file that needs nothing else."""

import html
import os

import contenders
import figures
import limits
import report
import svg

with open(
    os.path.join(os.path.dirname(os.path.abspath(__file__)), "page.css"), encoding="utf-8"
) as file:
    STYLE = file.read()


def escape(value):
    return html.escape(str(value))


def style_of(library):
    return library.removeprefix("ray-")


def style_of_subject(subject):
    return "symmetric" if subject.endswith("symmetric") else "manta"


def time_plot(outcome, results, figure):
    chosen = report.in_order(results, figure)
    series = []
    for library in outcome.libraries_of(results):
        points, notes = [], {}
        for result in chosen:
            peer = result["peers"].get(library) or result["calibration_only"].get(library)
            if peer:
                points.append((result["bytes"], peer["us"]))
                notes[result["bytes"]] = f"{report.format_us(peer['us'])} us, {peer['config']}" + (
                    "" if library in result["peers"] else ", calibration only"
                )
        series.append(
            svg.Series(contenders.FULL_NAMES[library], style_of(library), points, notes=notes)
        )
    if chosen:
        style = style_of_subject(chosen[0]["subject"])
        notes = {
            result["bytes"]: f"{report.format_us(result['us'])} us, line {result['line_ns']} ns"
            for result in chosen
        }
        least = [
            (result["bytes"], value) for result in chosen if (value := outcome.least_us(result))
        ]
        series.append(
            svg.Series(
                chosen[0]["subject"],
                style,
                [(result["bytes"], result["us"]) for result in chosen],
                notes=notes,
            )
        )
        series.append(svg.Series("limit", "limit", least, marks=False))
    return svg.plot(f"Time, {report.FIGURE_NAMES[figure]}", "us", series)


def ratio_plot(results):
    series = []
    for figure in figures.FIGURES:
        chosen = [result for result in report.in_order(results, figure) if result["ratio"]]
        if chosen:
            style = style_of_subject(chosen[0]["subject"]) + (" b2b" if figure == "b2b_us" else "")
            series.append(
                svg.Series(
                    report.FIGURE_NAMES[figure],
                    style,
                    [(result["bytes"], result["ratio"]) for result in chosen],
                    {result["bytes"]: (result["low"], result["high"]) for result in chosen},
                    notes={
                        result["bytes"]: (
                            f"{result['ratio']:.2f} against"
                            f" {result['best_peer']}/{result['config']}, {result['rounds']} rounds,"
                            f" {result['class']}"
                        )
                        for result in chosen
                    },
                )
            )
    return svg.plot(
        "Best peer's time over Manta's",
        "solid: p50, dashed: back-to-back; bars: spread",
        series,
        level=1.0,
    )


def legend(outcome, results):
    names = [(style_of_subject(results[0]["subject"]), results[0]["subject"])]
    names += [
        (style_of(name), contenders.FULL_NAMES[name]) for name in outcome.libraries_of(results)
    ]
    names += [("limit", "physical limit (estimate)")] if outcome.limits else []
    return (
        '<div class="legend">'
        + "".join(f'<span class="{style}"><i></i>{escape(name)}</span>' for style, name in names)
        + "</div>"
    )


def html_table(heads, rows):
    """rows: [[(text, CSS class)]]"""
    head = "".join(f"<th>{escape(text)}</th>" for text in heads)
    body = "".join(
        "<tr>"
        + "".join(f'<td class="{style}">{escape(text)}</td>' for text, style in row)
        + "</tr>"
        for row in rows
    )
    return f"<div class='wide'><table><tr>{head}</tr>{body}</table></div>"


def numbers(outcome, results):
    libraries = outcome.libraries_of(results)
    tables = ""
    for figure in figures.FIGURES:
        lines = [
            report.words_of_result(outcome, result, libraries)
            for result in report.in_order(results, figure)
        ]
        if lines:
            rows = [[(text, "") for text in line.values()] for line in lines]
            tables += f"<p class='quiet'>{report.FIGURE_NAMES[figure]}</p>"
            tables += html_table(lines[0], rows)
    summary = "Numbers (us; + measured in the calibration only)"
    return f"<details><summary>{summary}</summary>{tables}</details>"


def verdicts(outcome):
    if not outcome.table:
        return ""
    rows = []
    for verdict in outcome.table:
        style = verdict["status"] if verdict["status"] in ("holds", "missed") else "unsure"
        words = report.words_of_verdict(verdict)
        rows.append([(text, style * (head == "status")) for head, text in words.items()])
    return (
        "<h2>What one node must show</h2><p class='quiet'>Geometric mean of the cells' ratios to"
        " the best of all peers. A row holds if it reaches what it must and no cell is under 0.95"
        " of that.</p>" + html_table(report.words_of_verdict(outcome.table[0]), rows)
    )


def groups(outcome):
    parts = []
    for (name, coll, subject), results in outcome.groups():
        plots = [time_plot(outcome, results, figure) for figure in figures.FIGURES] + [
            ratio_plot(results)
        ]
        parts.append(
            f"<h2>{escape(coll)}, {escape(name)}, {escape(subject)}</h2>"
            + legend(outcome, results)
            + '<div class="plots">'
            + "".join(f"<div>{plot}</div>" for plot in plots if plot)
            + "</div>"
            + numbers(outcome, results)
        )
    return "".join(parts)


METHOD = f"""<h2>How this was measured</h2>
<p>Every library runs the same loop, compiled against it, in fresh processes that are bound alike.
An iteration's time is the slowest rank's own after a start in shared memory that belongs to the
loop; sources are rewritten before each call; the root is another one each time. Back-to-back is the
time of a call among many in a row. Each peer's best configuration of each size was picked in a
calibration run and then frozen. A ratio is the median over rounds in which all alternate, of the
best peer's time over Manta's; only rows of one placement class are compared (smt: a cache line
takes less than {figures.SMT_NS} ns, far: {figures.FAR_NS} ns or more, near: between), and a row
during which the class changed counts for nothing.</p>
<p>The limit is an estimate: one clock reading and one cache line, then the bytes that must be
copied between cores, or moved in memory when all buffers together exceed the last-level cache. n
bytes, p ranks, W written for others, R read from others (symmetric memory: W = 0):</p>"""


def method(outcome):
    formulas = "".join(f"<li>{coll}: {escape(text)}</li>" for coll, text in limits.FORMULAS.items())
    figures_seen = ", ".join(f"{name} {value}" for name, value in (outcome.limits or {}).items())
    return (
        f"{METHOD}<ul>{formulas}</ul>"
        f"<p class='quiet'>Measured on this machine: {escape(figures_seen or 'nothing')}</p>"
    )


def failures(outcome):
    parts = "".join(f"<li>{escape(note)}</li>" for note in outcome.notes())
    text = f"<h2>Not compared</h2><ul>{parts}</ul>" if parts else ""
    for failure in outcome.failures():
        text += (
            f"<p>{failure['np']} ranks, {escape(failure['name'])}, {failure['phase']}"
            f" {failure['round']} failed:</p><pre>{escape(failure['text'])}</pre>"
        )
    return text


def build(outcome):
    parts = [verdicts(outcome), groups(outcome), failures(outcome), method(outcome)]
    return (
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width'>"
        f"<title>Manta and its peers</title><style>{STYLE}</style></head><body>"
        "<h1>Manta and its peers on this machine</h1>"
        f"<p class='quiet'>{escape(outcome.head())}</p>{''.join(parts)}</body></html>"
    )
