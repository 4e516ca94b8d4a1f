"""The figures of groups as text, JSON and table."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from utils.data.image_groups import FILE_NAMES, Attribute, ImageGroups
from utils.evaluation.group_report import (
    MAX_ROWS,
    describe_gap,
    make_comparison,
    make_json,
    make_lines,
    make_rows,
)
from utils.evaluation.groups import GroupedEvaluation, Predictions, evaluate_groups

CLASSES = ["기쁨", "슬픔"]


def evaluated(
    *wrong: int, source: str = "t.csv", size: int = 100, people: bool = False, **more: list[str]
) -> GroupedEvaluation:
    """Groups a, b, … of `size` images of 기쁨, with so many wrong answers each."""
    answers = np.concatenate([np.repeat([1, 0], [count, size - count]) for count in wrong])
    paths = [Path(f"{i}.jpg") for i in range(len(answers))]
    names = [chr(97 + i // size) for i in range(len(answers))]
    attributes = [
        Attribute(name, source, dict(zip(paths, values, strict=True)))
        for name, values in {"sex": names, **more}.items()
    ]
    persons = {path: str(i // 2) for i, path in enumerate(paths)} if people else {}
    predictions = Predictions(paths, np.zeros_like(answers), answers, len(CLASSES))
    return evaluate_groups(predictions, ImageGroups(attributes, persons))


def test_lines_have_a_row_for_each_group_and_the_largest_gap():
    result = evaluated(20, 5)
    assert make_lines(result) == [
        "| group | images | accuracy | 95 % | macro F1 | 95 % | 0 | 1 |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
        "| sex: a | 100 | 80.0% | 71.1–86.7 | 0.889 | 0.837–0.936 | 80.0% | 20.0% |",
        "| sex: b | 100 | 95.0% | 88.8–97.8 | 0.974 | 0.947–0.995 | 95.0% | 5.0% |",
        "",
        "sex: the largest gap is 15.0 points (a: 80.0%, b: 95.0%), larger than chance (p = 0.002)",
        "0 to 1: share of the images that were given this class, with intervals in groups.csv",
        "p: how likely so large a gap is by chance, over all pairs of groups (answers dealt out at "
        "random)",
    ]


def test_lines_of_people_and_of_several_attributes():
    result = evaluated(20, 19, people=True, age=["x|y"] * 100 + ["z"] * 100)
    lines = make_lines(result)
    assert lines[0].startswith("| group | images | people | accuracy |")
    assert (
        lines[2].startswith("| sex: a | 100 | 50 | 80.0% |") and "| age: x\\|y | 100 " in lines[4]
    )
    assert lines[7] == (
        "sex: the largest gap is 1.0 points (a: 80.0%, b: 81.0%), which may be chance (p = 1.000)"
    )
    assert lines[-1] == (
        "p: how likely so large a gap is by chance, over all pairs of groups and 2 attributes "
        "(signs drawn for each of 100 people)"
    )


def test_small_groups_are_marked():
    lines = make_lines(evaluated(5, 5, size=20))
    assert lines[2].startswith("| sex: a * | 20 |")
    assert "sex: no two groups of 30 images or more to compare" in lines
    assert lines[-1] == "* fewer than 30 images: too small, not compared"


def test_groups_of_file_names_that_are_all_too_small_are_one_line():
    result = evaluated(5, 5, size=20, source=FILE_NAMES)
    line = "by sex: no two groups of 30 images or more to compare (see groups.csv)"
    assert make_lines(result) == make_comparison([result] * 2, ["x", "y"]) == [line]


def test_a_gap_beyond_chance_is_named_beside_a_larger_one():
    names = ["x"] * 2000 + ["y"] * 2000
    names[3289:3321] = ["s"] * 32  # the last 11 wrong answers, and 21 right ones
    result = evaluated(200, 200, 300, 300, size=1000, kind=names)
    line = describe_gap(result.attributes[1])
    assert line.startswith(
        "kind: the largest gap is 14.4 points (s: 65.6%, x: 80.0%), which may be chance (p = "
    )
    assert line.endswith(
        "); the largest beyond chance is 9.9 points (y: 70.1%, x: 80.0%), larger than chance (p < "
        "0.001)"
    )


def test_an_attribute_of_many_groups_is_cut_with_a_line():
    result = evaluated(*range(1, 20), size=30)
    lines = make_lines(result)
    assert sum(line.startswith("| sex: ") for line in lines) == MAX_ROWS
    assert "sex: 7 smaller groups are in groups.csv" in lines
    assert len(make_json(result, CLASSES)["attributes"]["sex"]["groups"]) == 19


def test_the_comparison_has_columns_for_each_model():
    results = [evaluated(20, 5), evaluated(10, 10)]
    lines = make_comparison(results, ["x.pt", "y.pt"])
    assert lines[:3] == [
        "| group | images | x.pt | 95 % | y.pt | 95 % |",
        "| --- | --- | --- | --- | --- | --- |",
        "| sex: a | 100 | 80.0% | 71.1–86.7 | 90.0% | 82.6–94.5 |",
    ]
    assert [line.partition(" (")[0] for line in lines[5:7]] == [
        "x.pt: sex: the largest gap is 15.0 points", "y.pt: sex: the largest gap is 0.0 points",
    ]  # fmt: skip
    assert lines[-1].endswith("(answers dealt out at random) for each model")


def test_json_and_rows_hold_every_figure():
    result = evaluated(20, 5, people=True, age=["x"] * 10 + ["y"] * 190)
    report = make_json(result, CLASSES)
    json.dumps(report)
    assert (report["minimum_images"], report["people"]) == (30, 100)
    sex = report["attributes"]["sex"]
    assert sex["source"] == "t.csv" and sex["images_without_group"] == 0
    group = sex["groups"]["a"]
    assert group["accuracy"] == 0.8 and group["accuracy_95"] == pytest.approx(
        [0.711, 0.867], abs=1e-3
    )
    assert (group["images"], group["people"], group["right"], group["too_small"]) == (
        100, 50, 80, False,
    )  # fmt: skip
    assert group["predicted"]["슬픔"] == {
        "images": 20, "share": 0.2, "share_95": pytest.approx([0.133, 0.289], abs=1e-3),
    }  # fmt: skip
    gap = sex["largest_gap"]
    assert (gap["lower"], gap["higher"], gap["beyond_chance"]) == ("a", "b", True)
    assert gap == sex["largest_gap_beyond_chance"] and gap["p"] == gap["p_corrected"] < 0.05
    assert report["attributes"]["age"]["largest_gap"] is None
    assert report["attributes"]["age"]["groups"]["x"]["too_small"] is True

    header, *rows = make_rows(result, CLASSES)
    assert [row[:6] for row in rows] == [
        ["sex", "a", 100, 50, 0, 80], ["sex", "b", 100, 50, 0, 95],
        ["age", "x", 10, 5, 1, 0], ["age", "y", 190, 95, 0, 175],
    ]  # fmt: skip
    first = dict(zip(header, rows[0], strict=True))
    assert (first["accuracy"], first["predicted 슬픔"]) == ("0.800000", "0.200000")
    assert float(first["슬픔 low"]) == pytest.approx(
        group["predicted"]["슬픔"]["share_95"][0], abs=1e-6
    )
