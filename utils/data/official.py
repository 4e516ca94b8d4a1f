"""AI-Hub's own parts, Training and Validation: which label file is of which, and which crop.

`cropImages.py` lists the part of each crop in a manifest beside the folder of the crops, and
`dataPreparation.py --split official` reads it. The manifest of `crop/` is `crop.parts.tsv`, and
`crop.parts.3-of-16.tsv` if the crops were made by several machines.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from utils.filenames import nfc
from utils.files import atomic_file, file_lock, make_folder

TRAINING, VALIDATION = OFFICIAL_PARTS = ("Training", "Validation")
COLUMNS = ("file", "part")

_ERRORS = "surrogateescape"  # a name that is not UTF-8 is written as it was read

_WORDS = {"train": TRAINING, "valid": VALIDATION, "val": VALIDATION}
_IN_NAME = re.compile(r"(?<![a-z])(train|valid|val)(?:ing|ation)?(?![a-z])")
_FOLDER = re.compile(r"(?:\d+[._ -]*)?(train|valid|val)(?:ing|ation)?")  # 1.Training


def find_part(names: Iterable[str]) -> str | None:
    """Return the part of a file by its name and the names above it, the nearest first, or None.

    The first name says it with a word anywhere in it: `img_emotion_training_data(기쁨).json`,
    `[원천]EMOIMG_기쁨_VALID.zip`. A folder's name has to be that word, as in `2.Validation`.
    """
    for name in names:
        has_suffix = os.path.splitext(name)[1].lower() in (".zip", ".json")  # noqa: PTH122
        pattern = _IN_NAME if has_suffix or "emo" in name.lower() else _FOLDER
        text = name.lower()
        found = pattern.findall(text) if pattern is _IN_NAME else _full_match(text)
        parts = {_WORDS[word] for word in found}
        if len(parts) == 1:
            return parts.pop()
    return None


def _full_match(text: str) -> list[str]:
    match = _FOLDER.fullmatch(text)
    return [match[1]] if match else []


def write_parts(crops: Path, parts: Iterable[tuple[str, str]], shard: str = "") -> None:
    """Add (file name, part) of crops to the manifest beside their folder; a new part wins.

    `shard`: like `3-of-16`, on one of several machines, each of which has a manifest of its own.
    The lines are sorted. Without any, no manifest is made.
    """
    path = manifest_path(crops, shard)
    make_folder(path.parent)
    with file_lock(path.parent, f"another process writes {path}; waiting"):
        merged = {name.encode(errors=_ERRORS): part for name, part in _read_lines(path)}
        merged.update((nfc(name).encode(errors=_ERRORS), part) for name, part in parts)
        if not merged:
            return
        with atomic_file(path) as file:  # as bytes, which take half as much memory as text
            file.write(("\t".join(COLUMNS) + "\n").encode())
            for name in sorted(merged):
                file.write(b"%b\t%b\n" % (name, merged[name].encode()))


class PartsManifest:
    """Collects the parts of crops on disk, and adds them to the manifest when the block ends."""

    def __init__(self, crops: Path, shard: str = "") -> None:
        """See `write_parts`."""
        self._crops, self._shard = crops, shard

    def __enter__(self) -> PartsManifest:
        self._lines = tempfile.TemporaryFile()
        return self

    def add(self, name: str, part: str) -> None:
        """Add the part of a crop, if it is known."""
        if part:
            self._lines.write(f"{name}\t{part}\n".encode(errors=_ERRORS))

    def __exit__(self, *error: object) -> None:
        """Write the manifest, of an interrupted run too."""
        with self._lines:
            self._lines.seek(0)
            write_parts(self._crops, _parse_lines(self._lines), self._shard)


def read_parts(crops: Path) -> dict[str, str]:
    """Return file name (NFC) → Training or Validation, from all manifests beside the folder."""
    parts: dict[str, str] = {}
    for path in _manifests(crops):
        parts.update(_read_lines(path))
    return parts


def manifest_path(crops: Path, shard: str = "") -> Path:
    """Return the path of the manifest of a folder of crops."""
    folder = Path(os.path.abspath(crops))  # noqa: PTH100 - "." has a name, a link keeps its own
    return folder.with_name(".".join(filter(None, (folder.name, "parts", shard, "tsv"))))


def _manifests(crops: Path) -> list[Path]:
    """Return the manifests of one machine and of several. Those of one machine come last."""
    whole = manifest_path(crops)
    start = re.escape(nfc(whole.name.removesuffix("tsv")))
    names = re.compile(rf"{start}(\d+-of-\d+\.)?tsv")
    with os.scandir(whole.parent) as entries:
        found = [entry.name for entry in entries if names.fullmatch(nfc(entry.name))]
    return [whole.parent / name for name in sorted(found)]


def _read_lines(path: Path) -> Iterator[tuple[str, str]]:
    """Yield (file name, part) of a manifest. Skip lines that are not of this form."""
    if not path.exists():
        return
    with path.open("rb") as file:
        yield from _parse_lines(file)


def _parse_lines(lines: Iterable[bytes]) -> Iterator[tuple[str, str]]:
    for line in lines:
        text = line.decode("utf-8", _ERRORS).rstrip("\r\n")
        name, _, found = text.removeprefix("\ufeff").partition("\t")
        for part in OFFICIAL_PARTS:  # not the text itself: one object for all lines
            if found == part:
                yield nfc(name), part
