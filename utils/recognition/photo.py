"""A photo on its way through recognition: read, faces cut out, classified, drawn."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from utils.errors import describe_os_error, is_fatal_os_error
from utils.imaging.drawing import draw_face
from utils.imaging.geometry import Box, add_margin
from utils.imaging.image_io import (
    ImageError,
    open_header,
    open_image,
    save_image,
    to_channels,
    upright_size,
)
from utils.imaging.preprocess import Preprocess
from utils.parallel import cores, ordered_map
from utils.recognition.face_detection import detect_faces
from utils.recognition.inputs import ImageSource

MAX_ENLARGED_SIDE = 8000  # pixels of the longer side of a small photo that is enlarged
MIN_DRAWN_SIDE = 160  # pixels of the shorter side of a photo with labels; enlarge smaller ones

Answer = dict[str, Any]  # `label`, `probs` and, with face detection, `rect`
Classifier = Callable[[list[np.ndarray]], list[Answer]]  # faces, uint8 (C, S, S) each


@dataclass(frozen=True)
class DetectionOptions:
    """How faces are found in a photo."""

    min_face: float  # side of the smallest face, as a fraction of the photo's shorter side
    margin: float  # fraction of a face's size that is added on each side


@dataclass
class RecognizedPhoto:
    """A photo with its faces and their answers, or the reason why it has none."""

    source: ImageSource
    error: str = ""  # why the photo cannot be read; "": it can
    boxes: list[Box] | None = None  # of the faces, in pixels of the whole photo; None: no detection
    faces: list[np.ndarray] = field(default_factory=list)  # as the network takes them
    answers: list[Answer] = field(default_factory=list)  # one for each face
    picture: Image.Image | None = None  # the whole photo, if it is to be saved

    def set_answers(self, answers: list[Answer]) -> None:
        """Keep the answers for `faces`, in their order, and drop the pixels of the faces."""
        if self.boxes is not None:
            pairs = zip(self.boxes, answers, strict=True)
            answers = [{"rect": str(box.xywh), **answer} for box, answer in pairs]
        self.answers, self.faces = answers, []

    def save(self, folder: Path) -> None:
        """Write the photo with its faces marked into the folder, under its own name.

        Raise ImageError if the photo cannot be written in its format.
        """
        assert self.picture, "read_photo was not told to keep the picture"
        picture = to_channels(self.picture, 3)
        boxes = self.boxes or [Box(0, 0, *picture.size)]
        factor = min(
            -(-MIN_DRAWN_SIDE // min(picture.size)), MAX_ENLARGED_SIDE // max(picture.size)
        )
        if factor > 1:  # a label would not fit
            picture = picture.resize((picture.width * factor, picture.height * factor))
            boxes = [box.scaled(factor) for box in boxes]
        pixels = np.array(picture)
        for box, answer in zip(boxes, self.answers, strict=True):
            draw_face(pixels, box, answer["label"], max(answer["probs"]))
        path = folder / self.source.output_name
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            save_image(Image.fromarray(pixels), path, quality=92)
        except OSError as error:
            if is_fatal_os_error(error):
                raise
            raise ImageError(f"{path} cannot be written: {describe_os_error(error)}") from None


def read_photos(
    sources: list[ImageSource],
    preprocess: Preprocess,
    detection: DetectionOptions | None,
    keep_pictures: bool,
) -> Iterator[RecognizedPhoto]:
    """Read the photos in order, several at a time, and cut out their faces."""
    jobs = ((source, preprocess, detection, keep_pictures) for source in sources)
    if len(sources) == 1:
        return (read_photo(*job) for job in jobs)
    # Threads are enough: decoding and detection release Python's lock.
    return ordered_map(ThreadPoolExecutor(cores()), read_photo, jobs, 4 * cores())


def classify_photos(
    photos: Iterable[RecognizedPhoto], classify: Classifier, batch_size: int
) -> Iterator[RecognizedPhoto]:
    """Yield the photos in order with the answers for their faces, found in batches of faces."""
    photos = iter(photos)
    while batch := list(islice(photos, 1)):
        faces = list(batch[0].faces)
        while len(faces) < batch_size and (following := next(photos, None)):
            batch.append(following)
            faces += following.faces
        answers = iter(classify(faces) if faces else [])
        for photo in batch:
            photo.set_answers(list(islice(answers, len(photo.faces))))
            yield photo


def read_photo(
    source: ImageSource,
    preprocess: Preprocess,
    detection: DetectionOptions | None,
    keep_picture: bool,
) -> RecognizedPhoto:
    """Read a photo and cut out its faces. A photo that cannot be read gets an `error`.

    Without `detection` the whole photo is the face. With it, large JPEGs are decoded at reduced
    size, so that the smallest face is still twice as large as the network's input.
    """
    try:
        file = source.open()
        if detection is None:
            face = preprocess(preprocess.open(file))
            picture = open_image(file) if keep_picture else None
            return RecognizedPhoto(source, faces=[face], picture=picture)
        with open_header(file) as header:
            width, height = upright_size(header)
        min_face = detection.min_face
        picture = open_image(file, int(preprocess.image_size / min_face) if min_face else None)
        factor = width / picture.width
        found = detect_faces(np.asarray(to_channels(picture, 1)), min_face)
        regions = [add_margin(box, detection.margin, *picture.size) for box in found]
        boxes = [box.scaled(factor) for box in regions]
        if not found:
            regions, boxes = [Box(0, 0, *picture.size)], [Box(0, 0, width, height)]
        faces = [preprocess(picture.crop(box)) for box in regions]
        if keep_picture and factor != 1:
            picture = open_image(file)
        return RecognizedPhoto(source, "", boxes, faces, picture=picture if keep_picture else None)
    except ImageError as error:
        return RecognizedPhoto(source, str(error))
    except OSError as error:
        return RecognizedPhoto(source, describe_os_error(error))
