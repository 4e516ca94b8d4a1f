"""Charts of the pages, as SVG elements within the HTML.

Colours come from classes of style.css, so that a chart is readable light, dark and printed. Names
are plain text, which is escaped, or Markup: a text in both languages made by
`texts.text(key, "tspan")`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

WIDTH, HEIGHT = 480, 260  # of a chart, in its own units, which are pixels where there is room
LEFT, RIGHT, TOP, BOTTOM = 52, 14, 14, 42  # margins of the plot in it
TICKS = 5  # about as many on an axis
ROW = 30  # height of a row of an interval chart
NAME_WIDTH = 130  # of the names left of an interval chart
FIGURE_WIDTH = 72  # of the figures right of it
MAX_DOTS = 60  # points of a line up to which each has a dot


@dataclass(frozen=True)
class Line:
    """A series of a line chart. A value of None is a gap."""

    name: str  # Markup or plain text
    values: Sequence[float | None]


@dataclass(frozen=True)
class Interval:
    """A row of an interval chart: a fraction with its 95 % interval, all in [0, 1]."""

    name: str  # Markup or plain text
    value: float
    low: float
    high: float
    note: str = ""  # beside the figure: the number of images, for example
    is_faint: bool = False  # too few images


@dataclass(frozen=True)
class Bin:
    """A bin of a reliability diagram. Fractions are in [0, 1]."""

    count: int
    confidence: float
    accuracy: float


def line_chart(
    lines: Sequence[Line],
    x: Sequence[float],
    x_name: str,
    label: str,
    unit: str = "",
    mark: float | None = None,
) -> Markup:
    """Return lines over a shared axis, with a legend.

    `label`: what the chart shows, for who cannot see it. `unit`: "%" for values that are fractions;
    `mark`: where on the axis a vertical line marks the best epoch.
    """
    scale = 100 if unit == "%" else 1
    known = [scale * v for line in lines for v in line.values if v is not None and math.isfinite(v)]
    if not known or not x:
        return Markup("")
    y_ticks = nice_ticks(min(known), max(known))
    x_ticks = [tick for tick in nice_ticks(min(x), max(x)) if min(x) <= tick <= max(x)]
    plot = _Plot((min(x), max(x)), (y_ticks[0], y_ticks[-1]))
    parts = [plot.grid(x_ticks, y_ticks, x_name, unit)]
    if mark is not None:
        vertical = '<line class="mark" x1="{0:.1f}" x2="{0:.1f}" y1="{1}" y2="{2}"/>'
        parts.append(Markup(vertical).format(plot.x(mark), TOP, HEIGHT - BOTTOM))
    for number, line in enumerate(lines, start=1):
        values = [None if v is None or not math.isfinite(v) else scale * v for v in line.values]
        parts.append(plot.line(x, values, number, unit))
    legend = Markup("").join(
        Markup('<span class="key series-{}">{}</span>').format(number, _as_html(line.name))
        for number, line in enumerate(lines, start=1)
    )
    figure = '<figure class="chart">{}<figcaption class="legend">{}</figcaption></figure>'
    return Markup(figure).format(_svg(WIDTH, HEIGHT, label, parts), legend)


def interval_chart(rows: Sequence[Interval], label: str) -> Markup:
    """Return fractions as dots with their 95 % intervals, a row each, on one axis."""
    if not rows:
        return Markup("")
    width, height = 520, ROW * len(rows) + 30
    low, high = min(row.low for row in rows), max(row.high for row in rows)
    ticks = [tick for tick in nice_ticks(100 * low, 100 * high) if 0 <= tick <= 100]
    start, end = min(ticks[0], 100 * low), max(ticks[-1], 100 * high)
    left, right = NAME_WIDTH, width - FIGURE_WIDTH - 60

    def at(percent: float) -> float:
        return left + (percent - start) / max(end - start, 1e-9) * (right - left)

    parts = []
    for tick in ticks:
        line = '<line class="grid" x1="{0:.1f}" x2="{0:.1f}" y1="0" y2="{1}"/>'
        parts.append(Markup(line).format(at(tick), height - 26))
        word = '<text class="tick" x="{:.1f}" y="{}" text-anchor="middle">{}</text>'
        parts.append(Markup(word).format(at(tick), height - 8, f"{tick:g} %"))
    for i, row in enumerate(rows):
        y = ROW * i + ROW / 2
        drawing = Markup(
            '<g class="interval{0}"><title>{1}</title>'
            '<text class="name" x="{2}" y="{3:.1f}" text-anchor="end">{4}</text>'
            '<line class="range" x1="{5:.1f}" x2="{6:.1f}" y1="{7}" y2="{7}"/>'
            '<circle cx="{8:.1f}" cy="{7}" r="4.5"/>'
            '<text class="figure" x="{9}" y="{3:.1f}">{10:.1f} %'
            '<tspan class="note" dx="6">{11}</tspan></text></g>'
        )
        parts.append(
            drawing.format(
                " faint" if row.is_faint else "",
                f"{100 * row.low:.1f}–{100 * row.high:.1f} %",
                NAME_WIDTH - 14, y + 4.5, row.name, at(100 * row.low), at(100 * row.high), y,
                at(100 * row.value), right + 14, 100 * row.value, row.note,
            )
        )  # fmt: skip
    return Markup('<figure class="chart">{}</figure>').format(_svg(width, height, label, parts))


def reliability_chart(bins: Sequence[Bin], x_name: str, y_name: str, label: str) -> Markup:
    """Return the accuracy in each bin of confidence, beside the diagonal of perfect calibration.

    A bin with few images is paler. Hovering shows its figures.
    """
    plot = _Plot((0, 100), (0, 100), height=340)
    ticks = [0.0, 20, 40, 60, 80, 100]
    parts = [plot.grid(ticks, ticks, x_name, "%", y_name)]
    width, most = 100 / len(bins), max(1, *(part.count for part in bins))
    for i, part in enumerate(bins):
        if not part.count:
            continue
        left, right = plot.x(i * width), plot.x((i + 1) * width)
        top = plot.y(100 * part.accuracy)
        bar = Markup(
            '<g class="bin"><title>{0}</title><rect class="catch" x="{1:.1f}" y="{2}" '
            'width="{3:.1f}" height="{4:.1f}"/><rect class="bar" x="{5:.1f}" y="{6:.1f}" '
            'width="{7:.1f}" height="{8:.1f}" fill-opacity="{9:.2f}"/>'
            '<circle class="dot" cx="{10:.1f}" cy="{6:.1f}" r="3.5"/></g>'
        )
        parts.append(
            bar.format(
                f"{100 * i * width / 100:.0f}–{100 * (i + 1) * width / 100:.0f} %: "
                f"{100 * part.accuracy:.1f} % / {100 * part.confidence:.1f} %, n = {part.count:,}",
                left, TOP, right - left, plot.bottom - TOP, left + 1, top, right - left - 2,
                plot.bottom - top, 0.35 + 0.65 * math.sqrt(part.count / most),
                plot.x(100 * part.confidence),
            )
        )  # fmt: skip
    diagonal = '<line class="diagonal" x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}"/>'
    parts.append(Markup(diagonal).format(plot.x(0), plot.y(0), plot.x(100), plot.y(100)))
    svg = _svg(WIDTH, plot.height, label, parts)
    return Markup('<figure class="chart">{}</figure>').format(svg)


def nice_ticks(low: float, high: float) -> list[float]:
    """Return about TICKS round numbers that hold `low` and `high` between them."""
    if high <= low:
        spread = abs(low) or 1.0
        low, high = low - spread / 2, low + spread / 2
    rough = (high - low) / TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]


class _Plot:
    """The area of a chart within its margins, and the places of values in it."""

    def __init__(
        self, x_range: tuple[float, float], y_range: tuple[float, float], height: int = HEIGHT
    ) -> None:
        self.x_range, self.y_range = x_range, y_range
        self.height, self.bottom = height, height - BOTTOM

    def x(self, value: float) -> float:
        low, high = self.x_range
        share = (value - low) / (high - low) if high > low else 0.5
        return LEFT + share * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        low, high = self.y_range
        share = (value - low) / (high - low) if high > low else 0.5
        return self.bottom - share * (self.bottom - TOP)

    def grid(
        self,
        x_ticks: Sequence[float],
        y_ticks: Sequence[float],
        x_name: str,
        unit: str,
        y_name: str = "",
    ) -> Markup:
        """Return the lines and figures of both axes, and their names."""
        parts = []
        for tick in y_ticks:
            line = (
                '<line class="grid" x1="{0}" x2="{1}" y1="{2:.1f}" y2="{2:.1f}"/>'
                '<text class="tick" x="{3}" y="{4:.1f}" text-anchor="end">{5}{6}</text>'
            )
            y = self.y(tick)
            values = (LEFT, WIDTH - RIGHT, y, LEFT - 8, y + 4, f"{tick:g}", unit and f" {unit}")
            parts.append(Markup(line).format(*values))
        for tick in x_ticks:
            word = '<text class="tick" x="{:.1f}" y="{}" text-anchor="middle">{:g}</text>'
            parts.append(Markup(word).format(self.x(tick), self.bottom + 17, tick))
        name = '<text class="axis" x="{}" y="{}" text-anchor="{}">{}</text>'
        parts.append(Markup(name).format(WIDTH - RIGHT, self.height - 6, "end", x_name))
        if y_name:
            parts.append(Markup(name).format(LEFT + 6, TOP + 12, "start", y_name))
        return Markup("").join(parts)

    def line(self, x: Sequence[float], y: Sequence[float | None], number: int, unit: str) -> Markup:
        """Return a series as a line, with a gap where a value is None, and its points."""
        points = [(a, b, self.x(a), self.y(b)) for a, b in zip(x, y, strict=True) if b is not None]
        commands, is_new = [], True
        for a, b in zip(x, y, strict=True):
            if b is not None:
                commands.append(f"{'M' if is_new else 'L'}{self.x(a):.1f} {self.y(b):.1f}")
            is_new = b is None
        radius = 3 if len(points) <= MAX_DOTS else 1.2
        dot = '<circle cx="{:.1f}" cy="{:.1f}" r="{}"><title>{}</title></circle>'
        dots = Markup("").join(
            Markup(dot).format(at_x, at_y, radius, f"{a:g}: {b:.4g}{unit and f' {unit}'}")
            for a, b, at_x, at_y in points
        )
        group = '<g class="line series-{}"><path d="{}"/>{}</g>'
        return Markup(group).format(number, " ".join(commands), dots)


def _svg(width: int, height: int, label: str, parts: Sequence[Markup]) -> Markup:
    """Return an SVG element that grows and shrinks with the page. `label`: attributes or a text."""
    name = label if isinstance(label, Markup) else Markup('aria-label="{}"').format(label)
    element = '<svg viewBox="0 0 {} {}" role="img" {}>{}</svg>'
    return Markup(element).format(width, height, name, Markup("").join(parts))


def _as_html(name: str) -> str:
    """Return a name for a place outside of the SVG."""
    if isinstance(name, Markup):
        return Markup(name.replace("<tspan", "<span").replace("</tspan", "</span"))
    return name
