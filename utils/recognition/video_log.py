"""The log of a video: a line for each face of each frame, as CSV or JSON lines."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from utils.files import CSV_ENCODING
from utils.recognition.tracking import TrackedFace
from utils.recognition.video_io import Frame

LOG_SUFFIXES = (".csv", ".jsonl")

LogWriter = Callable[[Frame, list[TrackedFace]], None]


@contextmanager
def open_log(path: Path, classes: list[str]) -> Iterator[LogWriter]:
    """Yield a function that writes the lines of a frame and its faces, in the suffix's format.

    A frame without a face has a line too. An existing log is replaced.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    is_csv = path.suffix.lower() == ".csv"
    # Under its own name from the start and flushed by frame: it can be read while a camera runs.
    with path.open("w", encoding=CSV_ENCODING if is_csv else "utf-8", newline="") as file:
        write = (_csv_writer if is_csv else _json_writer)(file, classes)

        def write_and_flush(frame: Frame, faces: list[TrackedFace]) -> None:
            write(frame, faces)
            file.flush()

        yield write_and_flush


def _csv_writer(file: TextIO, classes: list[str]) -> LogWriter:
    """Write the header. Return a function that writes a frame's lines."""
    writer = csv.writer(file)
    writer.writerow(["frame", "timestamp", "track", "x", "y", "w", "h", "label", *classes])
    no_face = [""] * (6 + len(classes))

    def write(frame: Frame, faces: list[TrackedFace]) -> None:
        for cells in [_cells(face, classes) for face in faces] or [no_face]:
            writer.writerow([frame.number, f"{frame.seconds:.3f}", *cells])

    return write


def _cells(face: TrackedFace, classes: list[str]) -> list[Any]:
    probs = [f"{100 * prob:.2f}" for prob in face.probs]
    return [face.track, *face.box.xywh, classes[int(face.probs.argmax())], *probs]


def _json_writer(file: TextIO, classes: list[str]) -> LogWriter:
    """Return a function that writes a frame's lines."""

    def write(frame: Frame, faces: list[TrackedFace]) -> None:
        for entries in [_entries(face, classes) for face in faces] or [{"track": None}]:
            line = {"frame": frame.number, "timestamp": round(frame.seconds, 3), **entries}
            file.write(json.dumps(line, ensure_ascii=False) + "\n")

    return write


def _entries(face: TrackedFace, classes: list[str]) -> dict[str, Any]:
    return {
        "track": face.track,
        "rect": str(face.box.xywh),
        "box": list(face.box.xywh),
        "score": None if face.score is None else round(face.score, 4),
        "label": classes[int(face.probs.argmax())],
        "probs": [round(100 * float(prob), 2) for prob in face.probs],
        "classes": classes,
    }
