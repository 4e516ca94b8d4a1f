"""Make a small sample like the real dataset: photos and a table of three annotators, some broken.

The photos are painted. The table has the quirks of the real one: quoted cells, bare lists, names in
NFD, careless boxes, a byte order mark. A few rows and files are broken on purpose; each of them
ends in an error log, and nowhere else.
"""

from __future__ import annotations

import io
import json
import random
import unicodedata
from pathlib import Path

from PIL import Image

from demo.draw import draw_photo
from utils.data.annotations import ANNOTATORS, COLUMNS
from utils.data.boxes import CORNERS
from utils.emotions import EMOTIONS
from utils.imaging.geometry import Box

ANNOTATOR_ACCURACY = 0.85  # how often an annotator sees the posed emotion
CARELESS = 0.05  # how often an annotator draws a box anywhere
EXIF_ORIENTATION = 0x0112
# How a photo is stored for each EXIF orientation that a phone writes.
_TURN = Image.Transpose
STORED = {3: _TURN.ROTATE_180, 6: _TURN.ROTATE_90, 8: _TURN.ROTATE_270}
PLACES = ("실내", "공원&산", "도심 환경", "교통 및 이동수단(택시)", "오락 공간")


def make_sample(folder: Path, url: str, per_class: int, seed: int = 0) -> Path:
    """Write photos to `folder`/photos, and a table that lists them as files below `url`.

    Return the table's path. The same arguments give the same files.
    """
    rng = random.Random(seed)
    photos = folder / "photos"
    photos.mkdir(parents=True, exist_ok=True)
    rows = []
    for number in range(per_class * len(EMOTIONS)):
        emotion = EMOTIONS[number % len(EMOTIONS)]
        photo, box = draw_photo(emotion, rng)
        name = _name(emotion, number, rng)
        # One photo in ten was taken with the phone held another way.
        orientation = rng.choice(tuple(STORED)) if number % 10 == 3 else 1
        (photos / name).write_bytes(_jpeg(photo, orientation))
        rows.append(_row(name, url, emotion, box, rng))
    rows += _broken_rows(photos, url, rng)
    rng.shuffle(rows)
    table = folder / "emotions.tsv"
    lines = ["\t".join(cells) for cells in (COLUMNS, *rows)]
    table.write_text("\n".join(lines) + "\n", encoding="utf-8-sig")
    return table


def _broken_rows(photos: Path, url: str, rng: random.Random) -> list[list[str]]:
    """Return a row for each way in which real ones fail."""
    photo, box = draw_photo("기쁨", rng)
    jpeg = _jpeg(photo)

    def row(subject: str, content: bytes | None = None, **cells: str) -> list[str]:
        name = f"{subject}_여_20_기쁨_실내_20201231000000-000-000.jpg"
        if content:
            (photos / name).write_bytes(content)
        row = dict(zip(COLUMNS, _row(name, url, "기쁨", box, rng), strict=True))
        return list((row | cells).values())

    away = json.dumps({"boxes": [dict(zip(CORNERS, (900, 900, 950, 950), strict=True))]})
    return [
        row("gone"),
        row("page", b"<!DOCTYPE html><html><body>Please log in</body></html>"),
        row("truncated", jpeg[: len(jpeg) // 2]),
        row("escape", jpeg, name="../../escape_기쁨_.jpg"),
        row("local", url="file:///etc/hostname"),
        row("unsure", jpeg, TaskB_emotion="모름"),
        row("garbled", jpeg, TaskC_result='{"boxes": [{"minX": 12'),
        row("outside", jpeg, TaskA_result=away, TaskB_result=away),
    ]


def _row(name: str, url: str, emotion: str, box: Box, rng: random.Random) -> list[str]:
    """Return one photo's cells, as three annotators might fill them."""
    answers = [_answer(emotion, rng) for _ in ANNOTATORS]
    place = name.split("_")[4]
    boxes = [_box_cell(box, label, rng) for label in answers]
    if rng.random() < 0.1:
        name = unicodedata.normalize("NFD", name)
    return [
        name,
        f"{url}/{unicodedata.normalize('NFC', name)}",
        *answers,
        place,
        place,
        place,
        *boxes,
    ]


def _answer(emotion: str, rng: random.Random) -> str:
    return emotion if rng.random() < ANNOTATOR_ACCURACY else rng.choice(EMOTIONS)


def _box_cell(box: Box, label: str, rng: random.Random) -> str:
    """Return a cell with an annotator's box, in one of the forms of the real table."""
    if rng.random() < CARELESS:
        corners = [rng.uniform(-20, 200), rng.uniform(-20, 150)]
        corners += [corners[0] + rng.uniform(50, 250), corners[1] + rng.uniform(50, 200)]
    else:
        corners = [value + rng.gauss(0, 3) for value in box]
    entry = {"label": label} | {k: round(v, 3) for k, v in zip(CORNERS, corners, strict=True)}
    if rng.random() < 0.1:
        entry |= {corner: str(entry[corner]) for corner in CORNERS}
    cell = json.dumps([entry] if rng.random() < 0.1 else {"boxes": [entry]}, ensure_ascii=False)
    return '"' + cell.replace('"', '""') + '"' if rng.random() < 0.5 else cell


def _name(emotion: str, number: int, rng: random.Random) -> str:
    subject = f"{number // 6:032x}"
    person = f"{rng.choice('여남')}_{rng.randrange(10, 60, 10)}"
    return f"{subject}_{person}_{emotion}_{rng.choice(PLACES)}_20201231{number:06d}-000-000.jpg"


def _jpeg(photo: Image.Image, orientation: int = 1) -> bytes:
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = orientation
    if orientation in STORED:
        photo = photo.transpose(STORED[orientation])
    file = io.BytesIO()
    photo.save(file, "JPEG", quality=92, exif=exif)
    return file.getvalue()
