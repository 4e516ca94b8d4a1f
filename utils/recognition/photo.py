"""A photo on its way through recognition: read, its faces cut out, answered, marked."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from utils.cli import describe
from utils.files import stops_the_stage
from utils.imaging.image_io import (
    ImageError,
    open_header,
    open_image,
    save_image,
    to_channels,
    upright_size,
)
from utils.imaging.preprocess import Preprocess
from utils.recognition.face_detection import Rect, find_faces, widen
from utils.recognition.inputs import Source

LARGEST = 8000  # pixels of the longer side that enlarging may lead to
READABLE = 160  # pixels of the shorter side of a photo that is marked; smaller ones are enlarged


@dataclass
class Photo:
    """A photo and what is known of it. With an `error` there is nothing else."""

    source: Source
    error: str = ""
    rects: list[Rect] | None = None  # of the faces, in pixels of the whole photo; None: not asked
    faces: list[np.ndarray] = field(default_factory=list)  # as the network takes them
    answers: list[dict] = field(default_factory=list)
    picture: Image.Image | None = None  # kept where it is to be saved

    def answer(self, answers: list[dict]) -> None:
        """Take the recognizer's answers for `faces`, in their order."""
        if self.rects is not None:
            pairs = zip(self.rects, answers, strict=True)
            answers = [{"rect": str(rect), **answer} for rect, answer in pairs]
        self.answers, self.faces = answers, []

    def save(self, folder: Path) -> None:
        """Write the photo with its faces marked, under its own name, into the folder.

        Raises ImageError for a photo that cannot be written in its format.
        """
        from utils.imaging.drawing import mark_face

        rects, picture = self.rects or [(0, 0, *self.picture.size)], to_channels(self.picture, 3)
        factor = min(-(-READABLE // min(picture.size)), LARGEST // max(picture.size))
        if factor > 1:  # or no label would fit
            picture = picture.resize((picture.width * factor, picture.height * factor))
            rects = [tuple(value * factor for value in rect) for rect in rects]
        marked = np.array(picture)
        for rect, answer in zip(rects, self.answers, strict=True):
            mark_face(marked, rect, answer["label"], max(answer["probs"]))
        path = folder / self.source.relative
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            save_image(Image.fromarray(marked), path, quality=92)
        except OSError as error:
            if stops_the_stage(error):
                raise
            raise ImageError(f"{path} cannot be written: {describe(error)}") from None


def read_photo(
    source: Source, how: Preprocess, detect: bool, min_face: float, margin: float, keep: bool
) -> Photo:
    """Read a photo and cut out its faces; what goes wrong becomes its `error`.

    Large JPEGs are decoded at reduced size: so that the smallest face that is looked for, of
    `min_face` of the shorter side, is still at least twice as large as the network's input.
    """
    try:
        file = source.open()
        if not detect:
            face = how(how.open(file))
            return Photo(source, faces=[face], picture=open_image(file) if keep else None)
        with open_header(file) as header:
            width, height = upright_size(header)
        picture = open_image(file, int(how.image_size / min_face) if min_face else None)
        whole = (0, 0, *picture.size)
        found = find_faces(np.asarray(to_channels(picture, 1)), min_face) or [whole]
        boxes = [widen(rect, margin, *picture.size) if rect != whole else rect for rect in found]
        faces = [how(picture.crop((x, y, x + w, y + h))) for x, y, w, h in boxes]
        factor = width / picture.width
        rects = [
            (0, 0, width, height) if rect == whole else tuple(round(v * factor) for v in rect)
            for rect in boxes
        ]
        if keep and factor != 1:
            picture = open_image(file)
        return Photo(source, rects=rects, faces=faces, picture=picture if keep else None)
    except ImageError as error:
        return Photo(source, error=str(error))
    except OSError as error:
        return Photo(source, error=describe(error))
