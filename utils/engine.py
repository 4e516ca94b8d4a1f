"""Running a network over images: the one way to predict, and the figures made of it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from utils.cli import Bar
from utils.dataset import Dataset
from utils.preprocess import Preprocess


@torch.inference_mode()
def predict(
    model: nn.Module, images: torch.Tensor, batch_size: int, description: str = ""
) -> torch.Tensor:
    """Log-probabilities float32 (N, classes), on the CPU, for uint8 images (N, C, S, S).

    The model is used as in prediction, without dropout, on the device that it is on. A bar is shown
    where there is a description for it.
    """
    device = next(model.parameters()).device
    model.eval()
    log_probs = []
    with Bar(len(images), description, "image", leave=False) as bar:
        for batch in images.split(batch_size):
            outputs = model(Preprocess.scale(batch.to(device)))
            log_probs.append(F.log_softmax(outputs.float(), dim=1).cpu())
            bar.update(len(batch))
    return torch.cat(log_probs)


def evaluate(
    model: nn.Module, data: Dataset, batch_size: int, description: str
) -> tuple[float, float]:
    """Mean cross-entropy (nats) and accuracy (share in [0, 1]) over a whole set."""
    log_probs = predict(model, data.images, batch_size, description)
    loss = F.nll_loss(log_probs, data.labels).item()
    return loss, (log_probs.argmax(1) == data.labels).double().mean().item()
