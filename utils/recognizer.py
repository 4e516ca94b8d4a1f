"""A trained model as a function from faces to answers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from utils.checkpoint import Checkpoint
from utils.device import choose_device
from utils.engine import predict


class Recognizer:
    """Says which emotion each of some faces shows."""

    def __init__(
        self, model_path: Path, gpu: bool, cuda_idx: int, image_size: int | None = None
    ) -> None:
        """Raises StageError where the file is no model, or there is no such GPU."""
        checkpoint = Checkpoint.load(model_path, image_size)
        self.classes = checkpoint.classes
        self.preprocess = checkpoint.preprocessing()
        self._model = checkpoint.build().to(choose_device(gpu, cuda_idx))

    def __call__(self, faces: list[Image.Image]) -> list[dict]:
        """For each face, cut out and of any size, `label` and `probs`: per cent, in class order."""
        batch = torch.from_numpy(np.stack([self.preprocess(face) for face in faces]))
        probs = predict(self._model, [batch]).double().exp()
        return [
            {
                "label": self.classes[int(row.argmax())],
                "probs": [round(100 * p, 2) for p in row.tolist()],
            }
            for row in probs
        ]
