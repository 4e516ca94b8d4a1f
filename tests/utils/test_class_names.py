"""Classes that are the same by another name."""

from __future__ import annotations

import unicodedata

import pytest

from utils.class_names import (
    describe_other_names,
    find_synonyms,
    match_classes,
    name_numbers,
)
from utils.errors import StageError

KOREAN = ["기쁨", "당황", "분노", "슬픔"]


def match(names: str, known: str) -> dict[str, str]:
    return match_classes(names.split(), known.split(), "data/test")


@pytest.mark.parametrize(
    ("names", "known", "expected"),
    [
        ("angry happy", "기쁨 당황 분노 슬픔", "분노 기쁨"),
        ("분노 기쁨", "anger joy", "anger joy"),
        ("0_angry 1_Happy 2-SAD", "sadness happiness anger", "anger happiness sadness"),
        ("angry sad", "0_angry 5_sad", "0_angry 5_sad"),
        ("Very_Tired", "verytired asleep", "verytired"),
        ("0 3", "0_angry 1_fear 3_sad", "0_angry 3_sad"),
        ("0_angry 3_sad", "0 1 2 3", "0 3"),
        ("00 03", "0 3", "0 3"),
        ("3_happy 0_sad", "3_sad 0_happy", "0_happy 3_sad"),  # the word counts, not the number
        ("cat", "cat Cat", "cat"),  # by the very name
    ],
)
def test_match_classes(names, known, expected):
    assert list(match(names, known).values()) == expected.split()
    assert list(match(names, known)) == names.split()


@pytest.mark.parametrize(
    ("names", "known"),
    [
        ("0 1 2", "angry happy sad"),  # which number means which class differs from set to set
        ("놀람 surprise", "당황 기쁨"),
        ("1_cat", "1_dog"),
        ("calm", "neutral"),
        ("12", "1 2"),
        ("unknown", "기쁨"),
        ("★", "♥"),
    ],
)
def test_match_classes_leaves_out_what_no_class_means(names, known):
    assert match(names, known) == {}


def test_match_classes_takes_either_unicode_form():
    decomposed = unicodedata.normalize("NFD", "분노")
    assert match_classes([decomposed], KOREAN, "") == {decomposed: "분노"}
    assert match_classes(["분노"], [decomposed], "") == {"분노": decomposed}
    assert match_classes(["angry"], [decomposed], "") == {"angry": decomposed}


@pytest.mark.parametrize(
    ("names", "known", "message"),
    [
        (
            "angry anger",
            "분노 기쁨",
            r"data/test: angry and anger are the same class \(분노\)",
        ),
        ("분노 anger", "분노 기쁨", r"data/test: 분노 and anger are the same class; put them into"),
        ("angry", "분노 anger 기쁨", "data/test: angry may be the class 분노 or anger; rename it"),
        ("3_happy", "3 happy", "3_happy may be the class happy or 3"),
    ],
)
def test_match_classes_refuses_what_is_ambiguous(names, known, message):
    with pytest.raises(StageError, match=message):
        match(names, known)


def test_describe_other_names_leaves_out_equal_ones():
    matched = {"angry": "분노", "기쁨": "기쁨", unicodedata.normalize("NFD", "슬픔"): "슬픔"}
    assert describe_other_names(matched) == "angry = 분노"
    assert describe_other_names({"기쁨": "기쁨"}) == ""


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ("0 1 2", "neutral happy sad"),
        ("2 00 calm", "sad neutral calm"),
        ("1 2 3", "neutral happy sad"),  # RAF-DB's numbers begin at 1
        ("1 2", "happy sad"),
        ("calm 0_angry", "calm 0_angry"),
    ],
)
def test_name_numbers(names, expected):
    assert name_numbers(names.split(), ["neutral", "happy", "sad"], "x") == expected.split()


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("0 3", "x: --classes names 3 classes, from 0 to 2, but there is 3"),
        ("1 3 4", "x: --classes names 3 classes, from 1 to 3, but there is 4"),
        ("0 neutral", "x: with --classes, two are called neutral"),
        ("1 01", "x: with --classes, two are called happy"),
    ],
)
def test_name_numbers_refuses_other_numbers(names, message):
    with pytest.raises(StageError, match=message):
        name_numbers(names.split(), ["neutral", "happy", "sad"], "x")


def test_find_synonyms_are_names_of_one_emotion():
    names = ["angry", "calm", "sad", "분노", "3_calm", "sadness", "anger"]
    assert find_synonyms(names) == [["angry", "분노", "anger"], ["sad", "sadness"]]
    assert find_synonyms(KOREAN) == []
