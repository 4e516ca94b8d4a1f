"""The seven emotions, how a text names one, and the vote."""

from __future__ import annotations

import unicodedata

import pytest

from tests.helpers import ROOT
from utils.emotions import (
    EMOTIONS,
    ENGLISH,
    NO_VOTE,
    emotion_called,
    find_answer,
    find_emotion,
    fold_name,
    is_no_emotion,
    majority_vote,
    posed_emotion,
)


def test_emotions_are_in_sorted_order():
    assert " ".join(EMOTIONS) == "기쁨 당황 분노 불안 상처 슬픔 중립"
    assert list(EMOTIONS) == sorted(EMOTIONS)


def test_emotions_have_distinct_english_names():
    assert set(EMOTIONS) <= ENGLISH.keys()
    assert len(set(ENGLISH.values())) == len(ENGLISH) == 11
    assert ENGLISH["경멸"] == "contempt"


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
        ("기쁨 알수없음 기쁨", "기쁨"),
        ("기쁨 슬픔 알수없음", "UNKNOWN"),
        ("알수없음 알수없음 기쁨", "UNKNOWN"),
        ("알수없음 알수없음 알수없음", "UNKNOWN"),
    ],
)
def test_majority_vote(answers, expected):
    assert majority_vote(answers.split()) == expected


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("알수없음", NO_VOTE),
        (unicodedata.normalize("NFD", " 알 수 없음"), NO_VOTE),
        ("분노", "분노"),
        ("", None),
        ("모름", None),
    ],
)
def test_find_answer_knows_an_annotator_who_cannot_tell(text, answer):
    assert find_answer(text) == answer


@pytest.mark.parametrize(
    ("emotion", "names"),
    [
        ("기쁨", "기쁨 happy Happiness JOY 행복 3_happy 3happy 03.Happy happy_ h-a-p-p-y"),
        ("당황", "당황 embarrassed Embarrassment panic"),
        ("분노", "분노 angry anger Anger 0_angry 0-분노 _anger_ 분노(Anger) 2_angry_화난"),
        ("불안", "불안 anxious anxiety"),
        ("상처", "상처 hurt"),
        ("슬픔", "슬픔 sad Sadness 4.sad"),
        ("중립", "중립 neutral 무표정"),
        ("혐오", "혐오 disgust Disgusted"),
        ("공포", "공포 fear Fearful"),
        ("놀람", "놀람 surprise surprised SURPRISE"),
        ("경멸", "경멸 contempt 7_contempt"),
    ],
)
@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_emotion_called_knows_nouns_adjectives_and_marks(emotion, names, form):
    for name in names.split():
        assert emotion_called(unicodedata.normalize(form, name)) == emotion
    assert emotion_called(f" 3 {names.split()[1]} ") == emotion


@pytest.mark.parametrize(
    "name", ["", "3", "007", "unhappy", "calm", "unknown", "sad_happy", "very_sad", "화"]
)
def test_emotion_called_does_not_guess(name):
    assert emotion_called(name) is None


@pytest.mark.parametrize("page", ["docs/file-formats.md", "docs/ko/file-formats.md"])
def test_the_names_in_the_documentation_are_known(page):
    lines = (ROOT / page).read_text(encoding="utf-8").splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("| 기쁨 | 당황"))
    emotions, _, names = (
        [cell.strip() for cell in line.strip("|").split("|")] for line in lines[start : start + 3]
    )
    assert emotions == list(ENGLISH)
    for emotion, words in zip(emotions, names, strict=True):
        assert {emotion_called(word) for word in words.split(", ")} == {emotion}


def test_every_name_means_one_emotion():
    from utils.emotions import _EMOTION_BY_NAME, _NAMES

    assert len(_EMOTION_BY_NAME) == len(_NAMES) + sum(len(n.split()) for n in _NAMES.values())


@pytest.mark.parametrize("name", ["unknown", "UNKNOWN", "NF", "No-Face", "알수없음", "9_Uncertain"])
def test_is_no_emotion(name):
    assert is_no_emotion(name)
    assert not is_no_emotion("neutral")


def test_fold_name_leaves_marks_alone_in_a_name_of_marks():
    assert fold_name("Very_Tired 2") == "verytired2"
    assert fold_name("★") != fold_name("♥")
