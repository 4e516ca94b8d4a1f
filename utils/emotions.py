"""The emotions and their names, which of them a text names, and the vote of three annotators."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from utils.filenames import nfc

# The position is the class index. It is also the position in sorted order (NFC), so that a model
# trained on folders of these names, sorted like any class names, has the same indices.
EMOTIONS = ("기쁨", "당황", "분노", "불안", "상처", "슬픔", "중립")
UNKNOWN = "UNKNOWN"  # the class of faces on which no two annotators agree
NO_VOTE = "알수없음"  # what an annotator answers who sees none of the seven

# The names by which data sets call an emotion: first the English noun that pictures show. Those
# below the line are classes of FER2013, FER+, RAF-DB and AffectNet.
_NAMES = {
    "기쁨": "happiness happy joy joyful 기쁜 행복",
    "당황": "embarrassment embarrassed embarrass panic 당황한",
    "분노": "anger angry 화난 화남",
    "불안": "anxiety anxious 불안한",
    "상처": "hurt wound",
    "슬픔": "sadness sad sorrow 슬픈",
    "중립": "neutral neutrality 무표정",
    # ---
    "혐오": "disgust disgusted",
    "공포": "fear fearful afraid scared 두려움",
    "놀람": "surprise surprised 놀란 놀라움",
    "경멸": "contempt contemptuous",
}
ENGLISH = {emotion: names.split()[0] for emotion, names in _NAMES.items()}
_EMOTION_BY_NAME = {
    name: emotion for emotion, names in _NAMES.items() for name in (emotion, *names.split())
}
# What annotators answer who see no emotion, or no face.
_NO_EMOTION = {"unknown", "uncertain", "none", "nf", "noface", "notface", "notaface", "알수없음"}
_NUMBER_BEFORE = re.compile(r"^\d+(?=\D)")
_WORD = re.compile(r"[^\W\d_]+")


def find_emotion(text: str) -> str | None:
    """Return the emotion that the text names, or None if it names none or several."""
    text = nfc(text)
    named = [emotion for emotion in EMOTIONS if emotion in text]
    return named[0] if len(named) == 1 else None


def find_answer(text: str) -> str | None:
    """Return the emotion in an annotator's answer, NO_VOTE for 알수없음, else None."""
    return find_emotion(text) or (NO_VOTE if fold_name(text) == NO_VOTE else None)


def posed_emotion(name: str) -> str | None:
    """Return the emotion that the subject was asked to show, from a photo's file name, or None.

    A name is `<subject>_<sex>_<age>_<emotion>_<place>_<time>.jpg`. A part that equals an emotion
    takes precedence over an emotion that is only contained in the name.
    """
    parts = {part for part in nfc(name).split("_") if part in EMOTIONS}
    return parts.pop() if len(parts) == 1 else find_emotion(name)


def majority_vote(answers: Sequence[str]) -> str:
    """Return the emotion that at least two of three annotators saw, or UNKNOWN if there is none.

    NO_VOTE is no answer: the two others may still agree.
    """
    votes = Counter(answer for answer in answers if answer != NO_VOTE)
    emotion, count = votes.most_common(1)[0] if votes else (UNKNOWN, 0)
    return emotion if count >= 2 else UNKNOWN


def fold_name(name: str) -> str:
    """Return a class name without what people write in different ways.

    That is upper and lower case, the Unicode form, and spaces, `_`, `-` and other marks.
    """
    folded = nfc(nfc(name).casefold())
    return "".join(letter for letter in folded if letter.isalnum()) or folded


def emotion_called(name: str) -> str | None:
    """Return the Korean name of the emotion that a class name means, or None.

    A number before the name, as in `0_angry` and `3 happy`, says nothing about its meaning. The
    name may also be two names of one emotion, as `분노(anger)`.
    """
    emotion = _EMOTION_BY_NAME.get(_NUMBER_BEFORE.sub("", fold_name(name)))
    parts = {_EMOTION_BY_NAME.get(word.casefold()) for word in _WORD.findall(nfc(name))}
    return emotion or (parts.pop() if len(parts) == 1 else None)


def is_no_emotion(name: str) -> bool:
    """Return whether a class name says that no emotion is seen: unknown, NF (no face), 알수없음."""
    return _NUMBER_BEFORE.sub("", fold_name(name)) in _NO_EMOTION
