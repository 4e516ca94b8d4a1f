"""A trained model as a function from faces to answers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from utils.inference.checkpoint import Checkpoint
from utils.inference.device import choose_device
from utils.inference.predict import predict_log_probs


class Recognizer:
    """Says which emotion each of some faces shows."""

    def __init__(
        self, model_path: Path, gpu: bool, cuda_idx: int, image_size: int | None = None
    ) -> None:
        """Raises StageError where the file is no model, or there is no such GPU."""
        checkpoint = Checkpoint.load(model_path, image_size)
        self.classes = checkpoint.classes
        self.preprocess = checkpoint.preprocessing()
        self._temperature = checkpoint.temperature or 1.0
        self._model = checkpoint.build().to(choose_device(gpu, cuda_idx))

    def __call__(self, faces: list[np.ndarray]) -> list[dict]:
        """For each face `label` and `probs`: per cent, in class order.

        A face is what `preprocess` makes of a picture: uint8 (C, S, S).
        """
        return [
            {
                "label": self.classes[int(row.argmax())],
                "probs": [round(100 * p, 2) for p in row.tolist()],
            }
            for row in self.probabilities(faces)
        ]

    def probabilities(self, faces: list[np.ndarray]) -> np.ndarray:
        """Float64 (N, classes) for the same faces, in one batch."""
        batch = torch.from_numpy(np.stack(faces))
        log_probs = predict_log_probs(self._model, [batch]).double()
        return (log_probs / self._temperature).softmax(1).numpy()
