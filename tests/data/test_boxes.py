"""The cell of an annotator's boxes, and the consensus of three annotators."""

from __future__ import annotations

import pytest

from tests.helpers import box_cell
from utils.data.boxes import MAX_BOXES, consensus, parse_boxes
from utils.imaging.geometry import Box, BoxError

BOX_MEMBERS = '"minX": 1, "minY": 2.5, "maxX": 30, "maxY": 40'


@pytest.mark.parametrize(
    "cell",
    [
        f'{{"boxes": [{{{BOX_MEMBERS}}}]}}',
        f"[{{{BOX_MEMBERS}}}]",
        f'{{"boxes": [{{"label": "기쁨", {BOX_MEMBERS}}}]}}',
        '[{"minX": "1", "minY": "2.5", "maxX": "30", "maxY": "40"}]',
        '[{"minX": 30, "minY": 40, "maxX": 1, "maxY": 2.5}]',
    ],
)
def test_parse_boxes_reads_every_form_of_a_cell(cell):
    assert parse_boxes(cell) == [Box(1, 2.5, 30, 40)]


@pytest.mark.parametrize(
    "cell",
    [
        "",
        "{",
        "7",
        "null",
        "{}",
        "[]",
        '{"boxes": []}',
        '{"boxes": 3}',
        "[1]",
        "[null]",
        '[{"minX": 1}]',
        '[{"minX": "a", "minY": 2, "maxX": 3, "maxY": 4}]',
        '[{"minX": NaN, "minY": 2, "maxX": 3, "maxY": 4}]',
        '[{"minX": 1e999, "minY": 2, "maxX": 3, "maxY": 4}]',
        f'[{{"minX": {"9" * 400}, "minY": 2, "maxX": 3, "maxY": 4}}]',
        "[" * 100_000,
        f"[{','.join(['{}'] * 101)}]",
    ],
)
def test_parse_boxes_refuses_a_cell_without_a_box(cell):
    with pytest.raises(BoxError):
        parse_boxes(cell)


def test_consensus_averages_the_closest_two_of_three():
    near, nearer, careless = Box(10, 10, 50, 50), Box(14, 12, 54, 52), Box(200, 0, 300, 90)
    expected = Box(12, 11, 52, 51)
    for three in ([near, nearer, careless], [careless, near, nearer], [nearer, careless, near]):
        assert consensus([[box] for box in three]) == expected


def test_consensus_takes_the_face_on_which_annotators_agree():
    one, other = Box(0, 0, 40, 40), Box(100, 100, 140, 140)
    assert consensus([[one, other], [Box(101, 101, 141, 141)], [Box(60, 0, 90, 40)]]) == Box(
        100.5, 100.5, 140.5, 140.5
    )


def test_parse_boxes_reads_what_box_cell_writes():
    assert parse_boxes(box_cell(1, 2, 3, 4)) == [Box(1, 2, 3, 4)]


def test_parse_boxes_keeps_several_boxes_in_their_order():
    second = '{"minX": 5, "minY": 6, "maxX": 7, "maxY": 8}'
    assert parse_boxes(f"[{second}, {{{BOX_MEMBERS}}}]") == [Box(5, 6, 7, 8), Box(1, 2.5, 30, 40)]


@pytest.mark.parametrize(
    ("cell", "reason"),
    [
        ("", "is empty"),
        ("{", "is not JSON"),
        ("[]", "has no box"),
        ('[{"minX": 1}]', "without the numbers minX, minY, maxX, maxY"),
        ('[{"minX": NaN, "minY": 2, "maxX": 3, "maxY": 4}]', "not a finite number"),
        (f"[{','.join(['{}'] * (MAX_BOXES + 1))}]", "has 101 boxes; the limit is 100"),
    ],
)
def test_parse_boxes_says_what_is_wrong(cell, reason):
    with pytest.raises(BoxError, match=reason):
        parse_boxes(cell)


def test_consensus_takes_the_first_of_equally_close_pairs():
    one, two, three = Box(0, 0, 10, 10), Box(2, 0, 12, 10), Box(4, 0, 14, 10)
    assert consensus([[one], [two], [three]]) == Box(1, 0, 11, 10)


def test_consensus_compares_boxes_of_different_annotators_only():
    twin = [Box(0, 0, 10, 10), Box(0, 0, 10, 10)]
    assert consensus([twin, [Box(40, 0, 50, 10)], [Box(44, 0, 54, 10)]]) == Box(42, 0, 52, 10)
