"""What AI-Hub's file names say about a photo: who is on it, and where it was taken.

A name is `<64 hex digits>_<남|여>_<age>_<emotion>_<place>_<time>.jpg`, such as
`0a1b…_여_20_기쁨_도심 환경_20210102030405-006-007.jpg`. The age is a decade, the emotion the one
that the subject was asked to show. In some copies the `&` of a place has become `_`.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from utils.filenames import nfc

_NAME = re.compile(
    r"(?:.*_)?"  # the folders that dataPreparation.py puts before the name of a nested photo
    r"(?P<subject>[^_]+)_(?P<sex>[남여])_(?P<age>[0-9]{1,3})_(?P<emotion>[^_]+)_(?P<place>.+)_"
    r"[0-9]{14}[^_]*"
)


class PhotoName(NamedTuple):
    """The parts of a name."""

    subject: str  # the person
    sex: str  # 남 or 여
    age: str  # the decade, such as 20s
    place: str


def parse_photo_name(name: str) -> PhotoName | None:
    """Return the parts of a file name in any Unicode form, or None if it is none of AI-Hub's."""
    match = _NAME.fullmatch(nfc(name))
    if not match:
        return None
    place = match["place"].replace("_", "&").strip()
    return PhotoName(match["subject"], match["sex"], decade(int(match["age"])), place)


def decade(age: int) -> str:
    """Return the decade of an age in years: 20s for 20 to 29."""
    return f"{age // 10 * 10}s"
