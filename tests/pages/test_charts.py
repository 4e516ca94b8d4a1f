"""Charts: where their points are, and that no name becomes markup."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from utils.pages.charts import (
    Bin,
    Interval,
    Line,
    interval_chart,
    line_chart,
    nice_ticks,
    reliability_chart,
)
from utils.pages.texts import text

HOSTILE = "</svg><script>'\"&"


def parse(chart: str) -> ElementTree.Element:
    return ElementTree.fromstring(chart)


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [(0, 100, [0, 20, 40, 60, 80, 100]), (0.31, 0.33, [0.31, 0.315, 0.32, 0.325, 0.33]),
     (1, 36, [0, 10, 20, 30, 40]), (0, 0, [-0.6, -0.4, -0.2, 0, 0.2, 0.4, 0.6])],
)  # fmt: skip
def test_ticks_are_round_and_hold_the_values(low, high, ticks):
    assert nice_ticks(low, high) == pytest.approx(ticks)


def test_a_line_chart_has_a_point_per_value_and_gaps():
    lines = [Line(HOSTILE, [0.5, None, 0.7, 0.9]), Line(text("frame.dark", "tspan"), [0.1] * 4)]
    chart = parse(line_chart(lines, [1, 2, 3, 4], text("frame.light", "tspan"), HOSTILE, "%", 3))
    groups = [group for group in chart.iter("g") if "line" in group.get("class", "")]
    assert [len(group.findall("circle")) for group in groups] == [3, 4]
    assert groups[0].find("path").get("d").count("M") == 2
    assert [title.text for title in groups[0].iter("title")] == ["1: 50 %", "3: 70 %", "4: 90 %"]
    heights = [float(circle.get("cy")) for circle in groups[0].iter("circle")]
    assert heights == sorted(heights, reverse=True)
    assert chart.find("svg").get("aria-label") == HOSTILE
    assert [key.text or key[0].text for key in chart.iter("span") if "key" in key.get("class", "")]
    assert chart.find("svg/line[@class='mark']") is not None


@pytest.mark.parametrize("values", [[], [None, None], [float("nan")] * 2])
def test_a_line_chart_of_nothing_is_empty(values):
    assert line_chart([Line("a", values)], list(range(len(values))), "x", "y") == ""


def test_a_line_chart_of_one_point_can_be_drawn():
    assert parse(line_chart([Line("a", [0.3])], [1], "x", "y", "%"))


def test_intervals_lie_around_their_values():
    rows = [Interval(HOSTILE, 0.8, 0.7, 0.9, "n = 30"), Interval("b", 1.0, 0.4, 1.0, is_faint=True)]
    chart = parse(interval_chart(rows, "label"))
    first, second = (g for g in chart.iter("g") if "interval" in g.get("class", ""))
    line, circle = first.find("line"), first.find("circle")
    assert float(line.get("x1")) < float(circle.get("cx")) < float(line.get("x2"))
    assert "faint" in second.get("class")
    assert re.search("80.0 %", ElementTree.tostring(first, "unicode"))


def test_a_reliability_chart_leaves_out_empty_bins():
    bins = [Bin(0, 0, 0), Bin(10, 0.4, 0.5), Bin(90, 0.9, 0.8)]
    chart = parse(reliability_chart(bins, "confidence", "accuracy", "label"))
    bars = [bar for bar in chart.iter("rect") if bar.get("class") == "bar"]
    assert len(bars) == 2
    assert float(bars[0].get("height")) < float(bars[1].get("height"))
    assert next(chart.iter("title")).text == "33–67 %: 50.0 % / 40.0 %, n = 10"
