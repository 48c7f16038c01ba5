# SPDX-License-Identifier: Apache-2.0
"""Line plots as SVG text, sizes along a logarithmic axis. Colours are CSS classes of the page."""

import dataclasses
import html
import math

WIDTH, HEIGHT = 420, 300
LEFT, RIGHT, TOP, BOTTOM = 44, 10, 44, 40


@dataclasses.dataclass
class Series:
    name: str
    style: str  # CSS class
    points: list  # [(size, value)] in order
    spread: dict = dataclasses.field(default_factory=dict)  # {size: (low, high)}
    marks: bool = True
    notes: dict = dataclasses.field(default_factory=dict)  # {size: text shown at its mark}


def short_size(size):
    for unit in ("", "K", "M", "G"):
        if size < 1024:
            return f"{size}{unit}"
        size //= 1024
    return f"{size}T"


def ticks_between(low, high):
    """Powers of ten, with 2 and 5 between them when there are few."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    steps = (1,) if last - first > 3 else (1, 2, 5)
    return [
        step * 10.0**power
        for power in range(first, last + 1)
        for step in steps
        if low <= step * 10.0**power <= high
    ]


def tick_text(value):
    if value >= 1e6:
        return f"{value / 1e6:g}M"
    return f"{value / 1e3:g}k" if value >= 1e3 else f"{value:g}"


class Plane:
    """From sizes and values to places in the drawing."""

    def __init__(self, sizes, values):
        self.sizes = sizes
        self.low, self.high = min(values) / 1.25, max(values) * 1.25

    def x(self, size):
        """Sizes lie evenly: they are powers."""
        if len(self.sizes) == 1:
            return (LEFT + WIDTH - RIGHT) / 2
        return (
            LEFT + 12 + (WIDTH - RIGHT - LEFT - 24) * self.sizes.index(size) / (len(self.sizes) - 1)
        )

    def y(self, value):
        value = min(max(value, self.low), self.high)
        return (
            HEIGHT
            - BOTTOM
            - (HEIGHT - TOP - BOTTOM) * math.log(value / self.low) / math.log(self.high / self.low)
        )


def axes(plane, label, unit):
    parts = []
    for value in ticks_between(plane.low, plane.high):
        y = plane.y(value)
        parts.append(
            f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/><text'
            f' class="tick" x="{LEFT - 6}" y="{y + 4:.1f}"'
            f' text-anchor="end">{tick_text(value)}</text>'
        )
    for number, size in enumerate(plane.sizes):
        if len(plane.sizes) <= 8 or number % 2 == 0:
            parts.append(
                f'<text class="tick" x="{plane.x(size):.1f}" y="{HEIGHT - BOTTOM + 17}"'
                f' text-anchor="middle">{short_size(size)}</text>'
            )
    parts.append(
        f'<text class="label" x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 8}"'
        ' text-anchor="middle">bytes</text><text class="title" x="8"'
        f' y="17">{html.escape(label)}</text><text class="label" x="8"'
        f' y="33">{html.escape(unit)}</text>'
    )
    return parts


def draw_series(plane, series):
    points = [(plane.x(size), plane.y(value), size, value) for size, value in series.points]
    parts = []
    if len(points) > 1:
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y, _, _ in points)
        parts.append(f'<polyline class="line {series.style}" points="{path}"/>')
    for x, y, size, value in points:
        if size in series.spread:
            low, high = (plane.y(end) for end in series.spread[size])
            parts.append(
                f'<line class="bar {series.style}" x1="{x:.1f}" x2="{x:.1f}" y1="{low:.1f}"'
                f' y2="{high:.1f}"/>'
            )
        if series.marks or len(points) == 1:
            note = series.notes.get(size, f"{value:.3g}")
            parts.append(
                f'<circle class="mark {series.style}" cx="{x:.1f}" cy="{y:.1f}"'
                f' r="3.2"><title>{html.escape(series.name)}, {short_size(size)}:'
                f" {html.escape(note)}</title></circle>"
            )
    return parts


def plot(label, unit, series, level=None):
    """An SVG element; `level` is a value to draw a line at. Empty without points."""
    series = [one for one in series if one.points]
    if not series:
        return ""
    sizes = sorted({size for one in series for size, _ in one.points})
    values = [value for one in series for _, value in one.points] + ([level] if level else [])
    values += [end for one in series for ends in one.spread.values() for end in ends]
    plane = Plane(sizes, values)
    parts = axes(plane, label, unit)
    if level:
        parts.append(
            f'<line class="level" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{plane.y(level):.1f}"'
            f' y2="{plane.y(level):.1f}"/>'
        )
    for one in series:
        parts += draw_series(plane, one)
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{html.escape(label)}">'
        + "".join(parts)
        + "</svg>"
    )
