"""The seven emotions: how one is found in a text, and how three annotators' answers are voted."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Sequence

# The position is the class index. It is also the sorted order (NFC), so that a model trained on
# folders of these names, sorted as any other class names, has the same indices.
EMOTIONS = ("기쁨", "당황", "분노", "불안", "상처", "슬픔", "중립")
ENGLISH = dict(
    zip(
        EMOTIONS,
        ("happiness", "embarrassment", "anger", "anxiety", "hurt", "sadness", "neutral"),
        strict=True,
    )
) | {"혐오": "disgust", "공포": "fear", "놀람": "surprise"}  # which FER2013 has besides
UNKNOWN = "UNKNOWN"


def nfc(text: str) -> str:
    """Text with each Hangul syllable as one character, whichever form it came in (Mac: NFD)."""
    return unicodedata.normalize("NFC", text)


def find_emotion(text: str) -> str | None:
    """The one of the seven words that stands in `text`, or None: none does, or several do."""
    text = nfc(text)
    found = [emotion for emotion in EMOTIONS if emotion in text]
    return found[0] if len(found) == 1 else None


def asked_emotion(name: str) -> str | None:
    """The emotion that a photo's subject was asked to show, from its file name, or None.

    A name is `<subject>_<sex>_<age>_<emotion>_<place>_<time>.jpg`: a part that is exactly an
    emotion counts before a word that merely stands somewhere.
    """
    parts = {part for part in nfc(name).split("_") if part in EMOTIONS}
    return parts.pop() if len(parts) == 1 else find_emotion(name)


def majority(answers: Sequence[str]) -> str:
    """What at least two of three annotators answered; UNKNOWN where all three differ."""
    emotion, votes = Counter(answers).most_common(1)[0]
    return emotion if votes >= 2 else UNKNOWN
