"""The annotators' agreement over a table."""

from __future__ import annotations

import math
from collections import Counter

import pytest

from utils.data.agreement import Agreement, FleissKappa
from utils.emotions import NO_VOTE
from utils.imaging.geometry import Box

WHOLE, HALF, ELSEWHERE = Box(0, 0, 10, 10), Box(0, 0, 10, 5), Box(50, 50, 60, 60)


def agreement_of(*rows: str) -> Agreement:
    agreement = Agreement()
    for answers in rows:
        agreement.add(answers.split(), [[WHOLE]] * 3)
    return agreement


def test_agreement_counts_unanimous_and_divided_rows():
    agreement = agreement_of("기쁨 기쁨 기쁨", "슬픔 슬픔 슬픔", "기쁨 슬픔 슬픔", "기쁨 슬픔 중립")
    # Fleiss: observed (1 + 1 + 1/3 + 0) / 4, by chance (5² + 6² + 1²) / 12².
    kappa = (7 / 12 - 62 / 144) / (1 - 62 / 144)
    assert agreement.kappa == pytest.approx(kappa)
    assert str(agreement) == (
        "annotators, over 4 rows: 50.0 % unanimous, 25.0 % two of three, 25.0 % none equal; "
        f"Fleiss' kappa {kappa:.3f}; median IoU of their boxes 1.000"
    )


def test_agreement_kappa_is_1_if_all_agree_and_not_a_number_for_one_answer():
    assert agreement_of("기쁨 기쁨 기쁨", "슬픔 슬픔 슬픔").kappa == pytest.approx(1)
    assert math.isnan(agreement_of("기쁨 기쁨 기쁨").kappa)


def test_agreement_kappa_is_negative_below_chance():
    assert agreement_of("기쁨 슬픔 중립", "기쁨 슬픔 중립").kappa == pytest.approx(-0.5)


def test_agreement_takes_the_median_of_all_pairs_of_annotators():
    agreement = Agreement()
    agreement.add(["기쁨"] * 3, [[WHOLE], [WHOLE], [HALF]])  # 1, 1/2, 1/2
    assert str(agreement).endswith("median IoU of their boxes 0.500")


def test_agreement_compares_the_face_that_two_annotators_mean():
    agreement = Agreement()
    agreement.add(["기쁨"] * 3, [[ELSEWHERE, WHOLE], [WHOLE], [WHOLE, ELSEWHERE]])
    assert str(agreement).endswith("median IoU of their boxes 1.000")


def test_agreement_without_rows():
    assert str(Agreement()) == "no rows on which to compare the annotators"


def test_agreement_counts_only_the_votes_and_boxes_that_there_are():
    agreement = Agreement()
    agreement.add(["기쁨", NO_VOTE, "기쁨"], [[WHOLE], [], [HALF]])
    agreement.add(["슬픔", NO_VOTE, NO_VOTE], [[], [], []])
    agreement.add([NO_VOTE] * 3, [])
    assert str(agreement) == (
        "annotators, over 3 rows: 0.0 % unanimous, 33.3 % two of three, 66.7 % none equal; "
        "Fleiss' kappa 1.000; median IoU of their boxes 0.500"
    )
    nothing = Agreement()
    nothing.add([NO_VOTE] * 3, [])
    assert str(nothing).endswith("Fleiss' kappa nan; median IoU of their boxes nan")


# --- Fleiss' kappa


def kappa_of(*counts: dict) -> FleissKappa:
    kappa = FleissKappa()
    for each in counts:
        kappa.add(each)
    return kappa


# The example of Wikipedia's "Fleiss' kappa": 14 raters put 10 subjects into 5 classes.
WIKIPEDIA = (
    "0 0 0 0 14", "0 2 6 4 2", "0 0 3 5 6", "0 3 9 2 0", "2 2 8 1 1", "7 7 0 0 0", "3 2 6 3 0",
    "2 5 3 2 2", "6 5 2 1 0", "0 2 2 3 7",
)  # fmt: skip
# The data set cac.raw4raters of R's irrCAC, after Krippendorff: a row per rater, - if he did not
# rate the subject. irrCAC gives 0.76117.
FOUR_RATERS = (
    "1 2 3 3 2 1 4 1 2 - - -",
    "1 2 3 3 2 2 4 1 2 5 - 3",
    "- 3 3 3 2 3 4 2 2 5 1 -",
    "1 2 3 3 2 4 4 1 2 5 1 -",
)


def test_fleiss_kappa_of_the_published_example():
    kappa = kappa_of(
        *(dict(zip("abcde", map(int, line.split()), strict=True)) for line in WIKIPEDIA)
    )
    assert kappa.value == pytest.approx(0.210, abs=5e-4)
    assert (kappa.images, kappa.votes) == (10, 140)


def test_fleiss_kappa_of_unequal_numbers_of_votes():
    subjects = zip(*(line.split() for line in FOUR_RATERS), strict=True)
    kappa = kappa_of(*(Counter(rating for rating in s if rating != "-") for s in subjects))
    assert kappa.value == pytest.approx(0.76117, abs=5e-6)


def test_fleiss_kappa_without_a_pair_or_a_second_class_is_not_a_number():
    for counts in ([], [{"a": 1}, {"b": 1}], [{"a": 3}, {"a": 2, "b": 0}], [{}, {"a": 0}]):
        assert math.isnan(kappa_of(*counts).value)
