"""Models in files of torch: predictions, and calibration in their file."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from utils.errors import StageError
from utils.inference.checkpoint import Checkpoint
from utils.inference.environment import describe_environment
from utils.inference.model_path import BUNDLED_MODEL
from utils.inference.torch_model import TorchModel

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def checkpoint():
    return Checkpoint.load(BUNDLED_MODEL)


@pytest.mark.parametrize("batch_size", [1, 2, 50])
def test_log_probs_are_those_of_the_network(checkpoint, batch_size):
    images = np.random.default_rng(0).integers(0, 256, (5, 1, 48, 48), np.uint8)
    with torch.no_grad():
        outputs = checkpoint.build()(torch.from_numpy(images) / 255)
    expected = outputs.double().log_softmax(1).numpy()
    model = TorchModel(checkpoint, CPU)
    assert model.log_probs(images, batch_size=batch_size) == pytest.approx(expected, abs=1e-4)
    assert model.parameters == sum(w.numel() for w in checkpoint.build().parameters())
    assert model.environment() == describe_environment(CPU, "off")


def test_save_calibration_changes_file_and_model(checkpoint, tmp_path):
    model = TorchModel(checkpoint, CPU)
    model.check_calibration(tmp_path / "m.pt")
    priors = [1.0, *[0.0] * (len(model.info.classes) - 1)]
    calibrated = replace(model.info, temperature=1.5, tta="none", balance=0.5, class_priors=priors)
    model.save_calibration(tmp_path / "m.pt", calibrated)
    saved = Checkpoint.load(tmp_path / "m.pt")
    assert (saved.temperature, saved.tta, saved.balance) == (1.5, "none", 0.5)
    assert saved.info() == model.info


def test_weights_alone_cannot_be_calibrated(checkpoint, tmp_path):
    model = TorchModel(replace(checkpoint, epoch=None, val_accuracy=None), CPU)
    with pytest.raises(StageError, match="holds weights alone, and no place for a temperature"):
        model.check_calibration(tmp_path / "m.pt")
