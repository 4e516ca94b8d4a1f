"""A model in a file of torch, run by torch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from utils.errors import StageError
from utils.inference.checkpoint import Checkpoint
from utils.inference.environment import describe_environment
from utils.inference.model_info import ModelInfo
from utils.inference.predict import predict_log_probs


class TorchModel:
    """A trained network on a device. Its methods are described in `face_classifier.Model`."""

    def __init__(self, checkpoint: Checkpoint, device: torch.device) -> None:
        """Build the network. Raise StageError if the weights are not those of the network."""
        self._checkpoint, self._device = checkpoint, device
        self.info = checkpoint.info()
        self._network = checkpoint.build().to(device)

    @property
    def parameters(self) -> int:
        """The number of trained numbers."""
        return sum(parameter.numel() for parameter in self._network.parameters())

    def log_probs(
        self, images: np.ndarray, tta: str = "none", batch_size: int = 64, description: str = ""
    ) -> np.ndarray:
        """Return log-probabilities float64 (N, classes), uncalibrated, for uint8 (N, C, S, S)."""
        batches = torch.from_numpy(images).split(batch_size)
        log_probs = predict_log_probs(self._network, batches, len(images), description, tta)
        return log_probs.double().numpy()

    def environment(self) -> dict[str, str | int]:
        """Return what may change a result besides flags and data."""
        return describe_environment(self._device, "off")

    def check_calibration(self, path: Path) -> None:
        """Raise StageError for a file of weights alone."""
        if self._checkpoint.is_reference:
            raise StageError(
                f"--calibrate: {path} holds weights alone, and no place for a temperature; "
                f"leave --calibrate out"
            )

    def save_calibration(self, path: Path, info: ModelInfo) -> None:
        """See `face_classifier.Model`."""
        calibrated = replace(
            self._checkpoint,
            temperature=info.temperature,
            tta=info.tta,
            class_priors=info.class_priors,
            balance=info.balance,
        )
        calibrated.save(path)
        self._checkpoint, self.info = calibrated, calibrated.info()
