"""A photo on its way through recognition: read it, cut out its faces, classify them, save it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image

from utils.errors import describe_os_error, is_fatal_os_error
from utils.imaging.drawing import draw_face
from utils.imaging.geometry import Box, add_margin
from utils.imaging.image_io import (
    ImageError,
    load_decoders,
    open_image,
    open_upright,
    save_image,
    to_channels,
)
from utils.imaging.preprocess import Preprocess
from utils.parallel import cores, ordered_map
from utils.recognition.face_detection import detect_faces
from utils.recognition.inputs import ImageSource, is_address
from utils.recognition.opencv import import_cv2

MIN_DRAWN_SIDE = 160  # pixels of the shorter side; a smaller photo is enlarged to fit its labels
MAX_ENLARGED_SIDE = 8000  # pixels of the longer side of an enlarged photo

# `label`, `probs` in per cent and, with face detection, `rect`, and `detected` if no face was found
Answer = dict[str, Any]
Classifier = Callable[[list[np.ndarray]], list[Answer]]  # faces are uint8 (C, S, S) each


@dataclass(frozen=True)
class DetectionOptions:
    """How faces are found in a photo."""

    min_face: float  # side of the smallest face, as a fraction of the photo's shorter side
    margin: float  # fraction of a face's size that is added on each side


@dataclass
class RecognizedPhoto:
    """A photo with its faces and their answers, or the reason why it cannot be read."""

    source: ImageSource
    error: str = ""  # why the photo cannot be read; empty if it can
    boxes: list[Box] | None = None  # of the faces, in pixels of the photo; None: no detection
    faces: list[np.ndarray] = field(default_factory=list)  # uint8 (C, S, S), until classified
    answers: list[Answer] = field(default_factory=list)  # one for each face, once classified
    picture: Image.Image | None = None  # the whole photo, if it is to be saved
    is_detected: bool = True  # False: no face was found, and the whole photo is taken for one

    def set_answers(self, answers: list[Answer]) -> None:
        """Store the answers for `faces`, in their order, and drop the faces' pixels."""
        if self.boxes is not None:
            pairs = zip(self.boxes, answers, strict=True)
            answers = [{"rect": str(box.xywh), **answer} for box, answer in pairs]
        if not self.is_detected:
            answers = [{**answer, "detected": False} for answer in answers]
        self.answers, self.faces = answers, []

    def save(self, folder: Path) -> None:
        """Write the photo with its faces marked to its `output_name` in the folder.

        Raise ImageError if this photo cannot be written, OSError if no file can (disk full).
        """
        assert self.picture, "save() needs keep_pictures"
        picture = to_channels(self.picture, 3)
        boxes = self.boxes or [Box(0, 0, *picture.size)]
        factor = min(
            -(-MIN_DRAWN_SIDE // min(picture.size)), MAX_ENLARGED_SIDE // max(picture.size)
        )
        if factor > 1:
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
    """Read photos in order, several at a time, and cut out their faces.

    Without `detection` the whole photo is the face. `keep_pictures`: keep the photos for `save`.
    Raise StageError if faces are to be detected and OpenCV cannot be loaded.
    """
    if detection:
        import_cv2()  # before any photo is read, and in this thread
    jobs = ((source, preprocess, detection, keep_pictures) for source in sources)
    if len(sources) == 1:
        return (read_photo(*job) for job in jobs)
    # Threads that import the same module at the same time may get half of it.
    load_decoders()
    if any(is_address(source.name) for source in sources):
        import utils.download  # noqa: F401
    # Threads are enough: decoding and detection release Python's global lock.
    return ordered_map(ThreadPoolExecutor(cores()), read_photo, jobs, 4 * cores())


def classify_photos(
    photos: Iterable[RecognizedPhoto], classify: Classifier, batch_size: int
) -> Iterator[RecognizedPhoto]:
    """Yield the photos in order with answers; classify the faces of several photos in a batch.

    A batch ends with the photo that brings it to `batch_size` faces.
    """
    photos = iter(photos)
    while batch := list(islice(photos, 1)):
        faces = list(batch[0].faces)
        while len(faces) < batch_size and (photo := next(photos, None)):
            batch.append(photo)
            faces += photo.faces
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
    """Read a photo and cut out its faces. Return it with an `error` if it cannot be read."""
    try:
        file = source.open()
        if detection:
            return _detect(source, file, preprocess, detection, keep_picture)
        face = preprocess(preprocess.open(file))
        picture = open_image(file) if keep_picture else None
        return RecognizedPhoto(source, faces=[face], picture=picture)
    except ImageError as error:
        return RecognizedPhoto(source, str(error))
    except OSError as error:
        return RecognizedPhoto(source, describe_os_error(error))


def _detect(
    source: ImageSource,
    file: Path | BinaryIO,
    preprocess: Preprocess,
    detection: DetectionOptions,
    keep_picture: bool,
) -> RecognizedPhoto:
    """Find and cut out the faces of a photo; without any, take the whole photo as the face.

    A large JPEG is decoded at reduced size. The smallest face is then still at least twice as
    large as the network's input.
    """
    min_face = detection.min_face
    side = int(preprocess.image_size / min_face) if min_face else None
    picture, (width, height) = open_upright(file, side)
    factor = width / picture.width
    faces = detect_faces(np.asarray(to_channels(picture, 1)), min_face)
    regions = [add_margin(box, detection.margin, *picture.size) for box in faces]
    boxes = [box.scaled(factor) for box in regions]
    if not faces:
        regions, boxes = [Box(0, 0, *picture.size)], [Box(0, 0, width, height)]
    pixels = [preprocess(picture.crop(region)) for region in regions]
    if keep_picture and factor != 1:
        picture = open_image(file)
    kept = picture if keep_picture else None
    return RecognizedPhoto(source, "", boxes, pixels, picture=kept, is_detected=bool(faces))
