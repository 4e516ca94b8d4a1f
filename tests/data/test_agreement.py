"""The annotators' agreement over a table."""

from __future__ import annotations

import math

import pytest

from utils.data.agreement import Agreement
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
