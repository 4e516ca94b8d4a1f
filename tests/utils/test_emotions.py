"""The seven emotions, how a text names one, and the vote."""

from __future__ import annotations

import unicodedata

import pytest

from utils.emotions import EMOTIONS, ENGLISH, find_emotion, majority_vote, posed_emotion


def test_emotions_are_in_sorted_order():
    assert " ".join(EMOTIONS) == "기쁨 당황 분노 불안 상처 슬픔 중립"
    assert list(EMOTIONS) == sorted(EMOTIONS)


def test_emotions_have_distinct_english_names():
    assert set(EMOTIONS) <= ENGLISH.keys()
    assert len(set(ENGLISH.values())) == len(ENGLISH) == 10


@pytest.mark.parametrize("form", ["NFC", "NFD"])
@pytest.mark.parametrize("text", ["슬픔", " 슬픔 ", "emotion: 슬픔(강함)", "슬픔, 슬픔"])
def test_find_emotion_in_a_cell(text, form):
    assert find_emotion(unicodedata.normalize(form, text)) == "슬픔"


@pytest.mark.parametrize("text", ["", "모름", "슬픔/기쁨", "sadness"])
def test_find_emotion_returns_none_for_no_emotion_or_several(text):
    assert find_emotion(text) is None


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a1_여_20_상처_실내_2020.jpg", "상처"),
        ("a1_여_20_상처_불안한 곳_2020.jpg", "상처"),
        (unicodedata.normalize("NFD", "a1_여_20_중립_실내_2020.jpg"), "중립"),
        ("my 기쁨 photo.jpg", "기쁨"),
        ("a1_상처_기쁨_.jpg", None),
        ("photo.jpg", None),
    ],
)
def test_posed_emotion_is_the_part_of_the_name_that_is_an_emotion(name, expected):
    assert posed_emotion(name) == expected


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ("기쁨 기쁨 기쁨", "기쁨"),
        ("기쁨 슬픔 기쁨", "기쁨"),
        ("슬픔 기쁨 기쁨", "기쁨"),
        ("기쁨 기쁨 중립", "기쁨"),
        ("기쁨 슬픔 중립", "UNKNOWN"),
    ],
)
def test_majority_vote(answers, expected):
    assert majority_vote(answers.split()) == expected
