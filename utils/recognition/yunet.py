"""The face detector YuNet (Wu et al. 2023, doi 10.1007/s11633-023-1423-y), run by OpenCV."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from utils.errors import StageError
from utils.imaging.geometry import Box
from utils.recognition.faces import DetectedFace
from utils.recognition.opencv import import_cv2

MAX_OVERLAP = 0.3  # intersection over union of two faces; of more, only the surer one is kept
TOP_K = 5000  # candidates that compete to be a face
NAME = "face_detection_yunet_2023mar.onnx"
SOURCE = "https://github.com/opencv/opencv_zoo, folder models/face_detection_yunet"


class YuNet:
    """Find faces, with the eyes, the nose and the corners of the mouth."""

    face_side = 24  # pixels of the smallest face that it should find
    picture_side = 128  # pixels of the shorter side: a smaller picture is enlarged

    def __init__(self, model: Path | None) -> None:
        """Load the weights from a file. Raise StageError if there is none, or a broken one."""
        if model is None:
            raise StageError(f"--detector yunet needs --detector_model {NAME}; from {SOURCE}")
        if not model.is_file():
            raise StageError(f"--detector_model {model}: no such file; it is from {SOURCE}")
        # From memory: on Windows, OpenCV cannot open a path with Hangul in it.
        self._path, self._weights = model, np.frombuffer(model.read_bytes(), np.uint8)
        self._thread = threading.local()
        self._network()

    def __call__(
        self,
        picture: Image.Image,
        min_side: float,  # noqa: ARG002 - the search in a reduced copy finds none below it
        min_score: float,
    ) -> list[DetectedFace]:
        """Return the faces in an RGB picture that score at least `min_score`, in its pixels."""
        network = self._network()
        network.setInputSize(picture.size)
        network.setScoreThreshold(min_score)
        _, rows = network.detect(np.ascontiguousarray(np.asarray(picture)[..., ::-1]))
        return [
            DetectedFace(
                Box.from_xywh(*row[:4]),
                float(row[14]),
                tuple(map(tuple, row[4:14].reshape(5, 2).tolist())),
            )
            for row in (() if rows is None else rows.astype(float))
        ]

    def _network(self) -> Any:
        """Return this thread's network: it keeps the size of its picture."""
        if not hasattr(self._thread, "network"):
            cv2 = import_cv2()
            try:
                empty = np.zeros(0, np.uint8)
                self._thread.network = cv2.FaceDetectorYN.create(
                    "onnx", self._weights, empty, (320, 320), 0.5, MAX_OVERLAP, TOP_K
                )
            except Exception:  # OpenCV documents none for broken files
                raise StageError(
                    f"--detector_model {self._path} is not the network YuNet; it is from {SOURCE}"
                ) from None
        return self._thread.network
