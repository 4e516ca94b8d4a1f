"""A trained model as a function from faces to answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from utils.inference.checkpoint import Checkpoint
from utils.inference.device import choose_device, is_small_request
from utils.inference.predict import predict_log_probs


class Recognizer:
    """Classify the expressions of faces with a trained model."""

    def __init__(
        self,
        model_path: Path,
        gpu: bool | None,
        cuda_idx: int,
        image_size: int | None = None,
        tta: str | None = None,
        faces: int = 0,
    ) -> None:
        """Load the model onto the device.

        `gpu`: whether to use one; None: if it is worth its start for so many `faces`.
        `image_size`: for a file of weights alone, which does not hold it. `tta`: the views of each
        face, see `tta_views`; None: those that the model file names. Raise StageError if the file
        is not a model, contradicts `image_size`, or if there is no GPU `cuda_idx`.
        """
        checkpoint = Checkpoint.load(model_path, image_size)
        self.classes = checkpoint.classes
        self.preprocess = checkpoint.preprocessing()
        self._tta = tta or checkpoint.tta
        self._temperature = checkpoint.temperature or 1.0
        if gpu is None:
            gpu = not is_small_request(faces, self.preprocess.image_size)
        self._model = checkpoint.build().to(choose_device(gpu, cuda_idx))

    def __call__(self, faces: list[np.ndarray]) -> list[dict[str, Any]]:
        """Return an answer for each face: `label`, and `probs` in per cent, in class order.

        A face is what `preprocess` makes of a picture: uint8 (C, S, S).
        """
        return [
            {
                "label": self.classes[int(row.argmax())],
                "probs": [round(100 * prob, 2) for prob in row.tolist()],
            }
            for row in self.probabilities(faces)
        ]

    def probabilities(self, faces: list[np.ndarray]) -> np.ndarray:
        """Return float64 (N, classes) for faces, uint8 (C, S, S) each, classified at once."""
        batch = torch.from_numpy(np.stack(faces))
        log_probs = predict_log_probs(self._model, [batch], tta=self._tta).double()
        return (log_probs / self._temperature).softmax(1).numpy()
