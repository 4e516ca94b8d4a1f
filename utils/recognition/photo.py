"""A photo on its way through recognition: read it, cut out its faces, classify them, save it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image

from utils.errors import describe_os_error, is_fatal_os_error
from utils.imaging.drawing import draw_face
from utils.imaging.geometry import Box, FaceGeometry, add_margin, clip
from utils.imaging.image_io import (
    ImageError,
    load_decoders,
    open_image,
    open_upright,
    save_image,
    to_channels,
)
from utils.imaging.preprocess import Preprocess
from utils.inference.model_info import ModelInfo
from utils.parallel import cores, ordered_map
from utils.recognition.face_detection import FaceFinder
from utils.recognition.faces import DetectedFace, cut_out
from utils.recognition.inputs import ImageSource, is_address

MIN_DRAWN_SIDE = 160  # pixels of the shorter side; a smaller photo is enlarged to fit its labels
MAX_ENLARGED_SIDE = 8000  # pixels of the longer side of an enlarged photo

# `label`, `probs` in per cent and, with face detection, `rect` and more: see RecognizedPhoto
Answer = dict[str, Any]
Classifier = Callable[[list[np.ndarray]], list[Answer]]  # faces are uint8 (C, S, S) each


@dataclass(frozen=True)
class InputMaker:
    """How a picture becomes the inputs of a network: the faces in it, as the network sees them."""

    preprocess: Preprocess
    geometry: FaceGeometry
    finder: FaceFinder | None  # None: the whole picture is the face
    margin: float = 0.0  # that the user adds on each side of a face, as a fraction of its size

    @classmethod
    def of(
        cls, info: ModelInfo, finder: FaceFinder | None, margin: float | None = None
    ) -> InputMaker:
        """Return the one of a model. `margin`: the user's, in place of the model's own."""
        geometry = info.geometry()
        if margin is not None:
            geometry = replace(geometry, margin=0.0)
        return cls(info.preprocessing(), geometry, finder, margin or 0.0)

    def find(self, picture: Image.Image) -> list[DetectedFace] | None:
        """Return the faces in a picture with the user's margin, or None if none are looked for."""
        if not self.finder:
            return None
        return [self._widen(face, *picture.size) for face in self.finder(picture)]

    def cut(self, picture: Image.Image, faces: list[DetectedFace]) -> list[np.ndarray]:
        """Return the inputs for faces in a picture, uint8 (C, S, S) each."""
        return [self.preprocess(cut_out(picture, face, self.geometry)) for face in faces]

    def cut_bgr(self, pixels: np.ndarray, face: DetectedFace) -> np.ndarray:
        """Return the input for a face without a margin in a frame, uint8 BGR (height, width, 3)."""
        picture = Image.fromarray(pixels)
        part = cut_out(picture, self._widen(face, *picture.size), self.geometry)
        return self.preprocess(Image.merge("RGB", part.split()[::-1]))

    def _widen(self, face: DetectedFace, width: int, height: int) -> DetectedFace:
        if not self.margin:
            return face
        return face._replace(box=add_margin(face.box, self.margin, width, height))


@dataclass
class RecognizedPhoto:
    """A photo with its faces and their answers, or the reason why it cannot be read."""

    source: ImageSource | None = None  # None: the picture is no file
    error: str = ""  # why the photo cannot be read; empty if it can
    found: list[DetectedFace] | None = None  # in pixels of the photo; None: no detection
    size: tuple[int, int] = (0, 0)  # width and height of the photo as displayed
    faces: list[np.ndarray] = field(default_factory=list)  # uint8 (C, S, S), until classified
    answers: list[Answer] = field(default_factory=list)  # one for each face, once classified
    picture: Image.Image | None = None  # the whole photo, if it is to be saved

    @property
    def name(self) -> str:
        """The photo as the user named it."""
        return self.source.name if self.source else ""

    @property
    def is_detected(self) -> bool:
        """Whether a face was found, or none was looked for; if not, the whole photo is the face."""
        return self.found != []

    @property
    def boxes(self) -> list[Box]:
        """The rectangle of each face."""
        return [face.box for face in self.found or ()] or [Box(0, 0, *self.size)]

    def set_answers(self, answers: list[Answer]) -> None:
        """Store the answers for `faces`, in their order, and drop the faces' pixels.

        With face detection, each answer begins with the face's `rect`, as a text, and if no face
        was found it ends with `"detected": false`.
        """
        if self.found is not None:
            pairs = zip(self.boxes, answers, strict=True)
            answers = [{"rect": str(box.xywh), **answer} for box, answer in pairs]
        if not self.is_detected:
            answers = [{**answer, "detected": False} for answer in answers]
        self.answers, self.faces = answers, []

    def full_answers(self) -> list[Answer]:
        """Return the answers with all that is known: also `box`, `score` and `detected`."""
        if self.found is None:
            return self.answers
        scores = [face.score for face in self.found] or [None]
        return [
            {
                **answer,
                "box": list(box.xywh),
                "score": None if score is None else round(score, 4),
                "detected": self.is_detected,
            }
            for answer, box, score in zip(self.answers, self.boxes, scores, strict=True)
        ]

    def save(self, folder: Path) -> None:
        """Write the photo with its faces marked to its `output_name` in the folder.

        Raise ImageError if this photo cannot be written, OSError if no file can (disk full).
        """
        assert self.source
        assert self.picture, "save() needs keep_pictures"
        picture = to_channels(self.picture, 3)
        boxes = self.boxes
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
    sources: list[ImageSource], inputs: InputMaker, keep_pictures: bool
) -> Iterator[RecognizedPhoto]:
    """Read photos in order, several at a time, and cut out their faces.

    `keep_pictures`: keep the photos for `save`.
    """
    jobs = ((source, inputs, keep_pictures) for source in sources)
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


def read_photo(source: ImageSource, inputs: InputMaker, keep_picture: bool) -> RecognizedPhoto:
    """Read a photo and cut out its faces. Return it with an `error` if it cannot be read."""
    try:
        file = source.open()
        if inputs.finder:
            return _detect(source, file, inputs, inputs.finder, keep_picture)
        face = inputs.preprocess(inputs.preprocess.open(file))
        picture = open_image(file) if keep_picture else None
        size = picture.size if picture else (0, 0)
        return RecognizedPhoto(source, size=size, faces=[face], picture=picture)
    except ImageError as error:
        return RecognizedPhoto(source, str(error))
    except OSError as error:
        return RecognizedPhoto(source, describe_os_error(error))


def _detect(
    source: ImageSource,
    file: Path | BinaryIO,
    inputs: InputMaker,
    finder: FaceFinder,
    keep_picture: bool,
) -> RecognizedPhoto:
    """Find and cut out the faces of a photo; without any, take the whole photo as the face.

    A large JPEG is decoded at reduced size. The smallest face is then still at least twice as
    large as the network's input.
    """
    side = int(inputs.preprocess.image_size / finder.min_face) if finder.min_face else None
    picture, size = open_upright(file, side)
    photo = recognize_picture(picture, inputs)
    photo.source, photo.size = source, size
    if size != picture.size:
        x_factor, y_factor = size[0] / picture.width, size[1] / picture.height
        faces = [face.scaled(x_factor, y_factor) for face in photo.found or ()]
        photo.found = [face._replace(box=clip(face.box, *size)) for face in faces]
        if keep_picture:
            picture = open_image(file)
    photo.picture = picture if keep_picture else None
    return photo


def recognize_picture(picture: Image.Image, inputs: InputMaker) -> RecognizedPhoto:
    """Find the faces in a picture, if they are to be found, and cut them out."""
    found = inputs.find(picture)
    faces = inputs.cut(picture, found or []) or [inputs.preprocess(picture)]
    return RecognizedPhoto(found=found, size=picture.size, faces=faces)
