"""A small stand-in for AI-Hub's downloads: drawn photos in ZIPs, and ZIPs of label files."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

PLACES = ("숙박 및 거주공간", "교통&이동수단(엘리베이터 포함)", "오락&공연시설")


def photo_name(emotion: str, number: int, suffix: str = ".jpg") -> str:
    """The name of a photo, of which every third is of one subject."""
    subject = hashlib.sha256(f"{emotion}{number % 3}".encode()).hexdigest()
    place = PLACES[number % len(PLACES)]
    return f"{subject}_여_20_{emotion}_{place}_20210102030405-006-{number:03d}{suffix}"


def photo(number: int, size: tuple[int, int] = (90, 70), orientation: int = 1) -> bytes:
    """A JPEG with a pattern of its own."""
    generator = np.random.default_rng(number)
    small = generator.integers(0, 255, (6, 6, 3), dtype=np.uint8)
    file, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = orientation
    image = Image.fromarray(small).resize(size, Image.Resampling.BICUBIC)
    image.save(file, "JPEG", quality=90, exif=exif)
    return file.getvalue()


def record(name: str, seen: str = "기쁨 기쁨 기쁨", **more: object) -> dict:
    """A record of a label file. The boxes of annotators A and B are close, that of C is not."""
    boxes = ((10, 8, 60, 58), (11, 9, 61, 59), (2, 2, 30, 30))
    result = {"filename": name, "gender": "여", "age": 20, "isProf": "일반인"}
    for letter, emotion, box in zip("ABC", seen.split(), boxes, strict=True):
        corners = dict(zip(("minX", "minY", "maxX", "maxY"), map(float, box), strict=True))
        result[f"annot_{letter}"] = {"boxes": corners, "faceExp": emotion, "bg": "도심 환경"}
    return result | more


class Stored(zipfile.ZipInfo):
    """An entry whose name is stored as any bytes, without the flag of UTF-8."""

    raw = b""
    flags = 0

    def _encodeFilenameFlags(self):  # noqa: N802 - the name that zipfile calls
        return self.raw, self.flag_bits & ~0x800 | self.flags


def write_zip(
    path: Path,
    files: Iterable[tuple[str | bytes, bytes]],
    encoding: str = "cp949",
    method: int = zipfile.ZIP_STORED,
    flags: int = 0,
    mode: int = 0,
) -> Path:
    """Write an archive. Names that are bytes are stored as they are."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for number, (name, content) in enumerate(files):
            entry = Stored(str(number))
            entry.raw = name.encode(encoding) if isinstance(name, str) else name
            entry.flags, entry.compress_type, entry.external_attr = flags, method, mode << 16
            entry.create_system = 3
            archive.writestr(entry, content)
    return path


def write_labels(path: Path, records: list, encoding: str = "ascii", zipped: bool = True) -> Path:
    """Write a label file, or an archive with it."""
    code = "utf-8" if encoding == "ascii" else encoding
    content = json.dumps(records, ensure_ascii=encoding == "ascii").encode(code)
    if zipped:
        name = path.with_suffix(".json").name
        return write_zip(path, [(name, content)], method=zipfile.ZIP_DEFLATED)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path
