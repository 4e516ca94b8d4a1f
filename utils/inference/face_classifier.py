"""A trained model as a function from faces to answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import numpy as np

from utils import interrupt
from utils.inference.model_info import ModelInfo
from utils.inference.model_path import is_onnx


class Model(Protocol):
    """A trained network that torch or onnxruntime runs."""

    info: ModelInfo

    @property
    def parameters(self) -> int | None:
        """The number of trained numbers; None if the file does not tell it."""

    def log_probs(
        self, images: np.ndarray, tta: str = "none", batch_size: int = 64, description: str = ""
    ) -> np.ndarray:
        """Return log-probabilities float64 (N, classes), uncalibrated, for uint8 (N, C, S, S).

        `tta`: the views of each image, see `tta_views`. Show a progress bar if there is a
        `description` for it. Raise StageError if an output is NaN.
        """

    def environment(self) -> dict[str, str | int]:
        """Return what may change a result besides flags and data."""

    def check_calibration(self, path: Path) -> None:
        """Raise StageError if the model's file has no place for views and a temperature."""

    def save_calibration(self, path: Path, info: ModelInfo) -> None:
        """Save what calibration sets in the file, and use it from now on.

        These are temperature, tta, class_priors and balance. Raise OSError if they cannot be saved.
        """


def load_model(
    path: Path,
    gpu: bool | None = False,
    cuda_idx: int = 0,
    image_size: int | None = None,
    image_channel: int | None = None,
    images: int = 0,
) -> Model:
    """Return the model of a file, run by what its format needs. Raise StageError if it has none.

    Raise it also if the model was trained with another `image_size` or `image_channel` than given.
    `gpu`, `cuda_idx`: see `choose_device`; None: use a GPU if it is worth its start for so many
    `images`. An ONNX file runs on the CPU.
    """
    if is_onnx(path):
        from utils.inference.onnx_model import OnnxModel

        return OnnxModel(path, image_size, image_channel)
    with interrupt.importing():  # torch takes seconds to import
        from utils.inference.checkpoint import Checkpoint
        from utils.inference.device import choose_device, is_small_request
        from utils.inference.torch_model import TorchModel

    checkpoint = Checkpoint.load(path, image_size, image_channel)
    if gpu is None:
        gpu = not is_small_request(images, checkpoint.preprocessing().image_size)
    return TorchModel(checkpoint, choose_device(gpu, cuda_idx))


class FaceClassifier:
    """Classify the expressions of faces with a trained model."""

    def __init__(self, model: Model, tta: str | None = None) -> None:
        """`tta`: the views of each face, one of TTA; None: those that the model file names."""
        self.info = model.info
        self.classes = model.info.classes
        self._model = model
        self._tta = tta or model.info.tta

    def __call__(self, faces: list[np.ndarray]) -> list[dict[str, Any]]:
        """Return an answer for each face: `label`, and `probs` in per cent, in class order.

        A face is what the model's Preprocess makes of a picture: uint8 (C, S, S).
        """
        return [
            {
                "label": self.classes[int(row.argmax())],
                "probs": [round(100 * prob, 2) for prob in row.tolist()],
            }
            for row in self.probabilities(faces)
        ]

    def probabilities(self, faces: list[np.ndarray]) -> np.ndarray:
        """Return float64 (N, classes) for faces, uint8 (C, S, S) each."""
        return self.info.probabilities(self._model.log_probs(np.stack(faces), self._tta))
