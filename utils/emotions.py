"""The seven emotions, which of them a text names, and the majority vote of three annotators."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from utils.filenames import nfc

# The position is the class index. It is also the position in sorted order (NFC), so that a model
# trained on folders of these names, sorted like any class names, has the same indices.
EMOTIONS = ("기쁨", "당황", "분노", "불안", "상처", "슬픔", "중립")
ENGLISH = dict(
    zip(
        EMOTIONS,
        ("happiness", "embarrassment", "anger", "anxiety", "hurt", "sadness", "neutral"),
        strict=True,
    )
) | {"혐오": "disgust", "공포": "fear", "놀람": "surprise"}  # further classes of FER2013
UNKNOWN = "UNKNOWN"  # the class of faces on which no two annotators agree


def find_emotion(text: str) -> str | None:
    """Return the emotion that the text names, or None if it names none or several."""
    text = nfc(text)
    named = [emotion for emotion in EMOTIONS if emotion in text]
    return named[0] if len(named) == 1 else None


def posed_emotion(name: str) -> str | None:
    """Return the emotion that the subject was asked to show, from a photo's file name, or None.

    A name is `<subject>_<sex>_<age>_<emotion>_<place>_<time>.jpg`. A part that equals an emotion
    takes precedence over an emotion that is only contained in the name.
    """
    parts = {part for part in nfc(name).split("_") if part in EMOTIONS}
    return parts.pop() if len(parts) == 1 else find_emotion(name)


def majority_vote(answers: Sequence[str]) -> str:
    """Return the emotion that at least two of three annotators saw, or UNKNOWN if all differ."""
    emotion, votes = Counter(answers).most_common(1)[0]
    return emotion if votes >= 2 else UNKNOWN
