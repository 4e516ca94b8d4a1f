"""Targets from labels and from annotators' votes, and class weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.helpers import name_of, row, write_table
from tests.trainings import CLASSES
from utils.data.image_folder import Sample
from utils.errors import StageError
from utils.training import targets


def test_one_hot_is_one_at_the_label():
    samples = [Sample(Path(), 2), Sample(Path(), 0)]
    assert targets.one_hot(samples, CLASSES).tolist() == [[0, 0, 1], [1, 0, 0]]


def test_class_weights_have_a_mean_of_one_over_the_images():
    answers = targets.one_hot([Sample(Path(), 0)] * 30 + [Sample(Path(), 1)] * 10, ["a", "b", "c"])
    assert targets.class_weights(answers, "none") is None
    inverse = targets.class_weights(answers, "inverse")
    assert inverse.tolist() == pytest.approx([40 / 60, 40 / 20, 0])
    effective = targets.class_weights(answers, "effective")
    assert 1 < effective[1] / effective[0] < 3
    assert (30 * effective[0] + 10 * effective[1]) / 40 == pytest.approx(1)


def test_vote_targets_are_the_fractions_of_the_three_annotators(tmp_path):
    seen = [
        "기쁨 기쁨 기쁨",
        "기쁨 중립 기쁨",
        "중립 중립 기쁨",  # the majority is not the folder's class
        "기쁨 기쁨 슬픔",  # a class that the training does not have
        "분노 기쁨 중립",  # no majority
    ]
    rows = [row(name_of("기쁨", i), seen=answers) for i, answers in enumerate(seen)]
    table = write_table(tmp_path / "t.tsv", [*rows, row("기쁨_other.jpg")])
    samples = [Sample(Path("기쁨") / name_of("기쁨", i), 0) for i in (*range(5), 9)]
    probabilities, count = targets.vote_targets(table, samples, ["기쁨", "중립"])
    third = 1 / 3
    # The last sample has no row.
    expected = [[1, 0], [2 * third, third], [1, 0], [1, 0], [1, 0], [1, 0]]
    assert probabilities.flatten().tolist() == pytest.approx(np.ravel(expected).tolist())
    assert count == 2


def test_vote_targets_come_from_the_first_valid_row_of_a_name(tmp_path):
    seen = ("기쁨 기쁨 x", "기쁨 기쁨 기쁨", "기쁨 기쁨 중립")
    table = write_table(tmp_path / "t.tsv", [row("a_기쁨_.jpg", seen=words) for words in seen])
    samples = [Sample(Path("a_기쁨_.jpg"), 0)]
    probabilities, count = targets.vote_targets(table, samples, CLASSES)
    assert count == 1 and probabilities.tolist() == [[1, 0, 0]]


def test_vote_targets_find_a_name_in_either_unicode_form(tmp_path):
    import unicodedata

    name = name_of("기쁨")
    table = write_table(tmp_path / "t.tsv", [row(name, seen="기쁨 기쁨 중립")])
    samples = [Sample(Path(unicodedata.normalize("NFD", name)), 0)]
    assert targets.vote_targets(table, samples, CLASSES)[1] == 1


def test_vote_targets_refuse_what_is_no_table(tmp_path):
    (tmp_path / "t.tsv").write_text("a\tb\n1\t2\n")
    with pytest.raises(StageError, match=r"t\.tsv"):
        targets.vote_targets(tmp_path / "t.tsv", [Sample(Path("a.jpg"), 0)], CLASSES)
