"""Recognition from Python: from pictures to the same answers that emotion.py prints."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from utils.errors import StageError
from utils.imaging.image_io import ImageError, open_image
from utils.inference.face_classifier import FaceClassifier, load_model
from utils.inference.model_path import default_model_path
from utils.parallel import cores
from utils.recognition.face_detection import DetectionOptions, FaceFinder
from utils.recognition.photo import InputMaker, recognize_picture

Picture = str | Path | np.ndarray | Image.Image


class Recognizer:
    """Find faces in pictures and recognize their expressions."""

    def __init__(
        self,
        model_path: str | Path | None = None,
        detect_face: bool = True,
        *,
        detection: DetectionOptions | None = None,
        margin: float | None = None,
        tta: str | None = None,
        gpu: bool = False,
        cuda_idx: int = 0,
        image_size: int | None = None,
    ) -> None:
        """Load a model and a face detector; without `model_path`, as a bare emotion.py does.

        `detect_face`: False if the pictures are cropped faces. `margin` and `tta`: None for those
        that the model file names. `gpu`, `cuda_idx`, `image_size`: see `TorchModel`. Raise
        StageError if something cannot be loaded.
        """
        path = Path(model_path) if model_path else default_model_path(fast_start=True)
        model = load_model(path, gpu, cuda_idx, image_size)
        self.classify = FaceClassifier(model, tta)
        self.classes = model.info.classes
        finder = FaceFinder(detection or DetectionOptions(), cores()) if detect_face else None
        self.inputs = InputMaker.of(model.info, finder, margin)

    def __call__(self, pictures: Picture | Sequence[Picture]) -> list[Any]:
        """Return the answers for the faces of a picture, the largest first; for several, of each.

        A picture is a path, an array uint8 (height, width) or RGB (height, width, 3), or a
        Pillow image. An answer is a dictionary with `label`, `probs` in per cent in the order of
        `classes` and, with face detection, `rect`, `box`, `score` and `detected`.

        Raise StageError if a picture cannot be read.
        """
        if isinstance(pictures, Picture):
            return self._recognize(pictures)
        return [self._recognize(picture) for picture in pictures]

    def _recognize(self, picture: Picture) -> list[dict[str, Any]]:
        photo = recognize_picture(_open(picture), self.inputs)
        photo.set_answers(self.classify(photo.faces))
        return photo.full_answers()


def _open(picture: Picture) -> Image.Image:
    """Return a picture as Pillow has it, upright. Raise StageError if it cannot be read."""
    if isinstance(picture, Image.Image):
        return picture
    if isinstance(picture, np.ndarray):
        try:
            return Image.fromarray(picture)
        except (TypeError, ValueError):
            raise StageError(
                f"an array of {picture.dtype} {picture.shape} is not a picture: uint8 "
                f"(height, width) or RGB (height, width, 3)"
            ) from None
    try:
        return open_image(Path(picture))
    except (ImageError, OSError) as error:
        raise StageError(f"{picture}: {error}") from None
