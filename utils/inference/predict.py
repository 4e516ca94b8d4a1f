"""Running a network over images: the one way to predict."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import nn

from utils.console import ProgressBar
from utils.errors import StageError
from utils.imaging.preprocess import Preprocess

TENCROP_FRACTION = 7 / 8  # of an image's side are the crops of tencrop


@torch.inference_mode()
def predict_log_probs(
    model: nn.Module,
    batches: Iterable[torch.Tensor],
    total: int = 0,
    description: str = "",
    tta: str = "none",
) -> torch.Tensor:
    """Log-probabilities float32 (N, classes), on the CPU, for batches of uint8 images (n, C, S, S).

    The model is used as in prediction, without dropout, on the device that it is on. With `tta` the
    probabilities are the mean over several views of each image. A bar up to `total` images is shown
    where there is a description for it.

    Raises StageError where the model answers with what is no number.
    """
    device = next(model.parameters()).device
    model.eval()
    log_probs = []
    with ProgressBar(total, description, "image", leave=False) as bar:
        for batch in batches:
            images = Preprocess.to_float(batch.to(device))
            seen = torch.stack([_log_probs(model, view) for view in tta_views(images, tta)])
            log_probs.append((seen.logsumexp(0) - math.log(len(seen))).cpu())
            bar.update(len(batch))
    found = torch.cat(log_probs)
    if found.isnan().any():
        raise StageError(
            "the model's answers are no numbers: its training has gone wrong; try a lower --lr"
        )
    return found


def tta_views(images: torch.Tensor, tta: str) -> list[torch.Tensor]:
    """What is shown to the network of images (n, C, S, S): a list of the same shape.

    none: the images. flip: they and their mirror images. tencrop: the four corners and the middle,
    7/8 of the side each, brought back to size, and their mirror images.
    """
    if tta == "none":
        return [images]
    if tta == "tencrop":
        side, part = images.shape[-1], math.ceil(TENCROP_FRACTION * images.shape[-1])
        end, middle = side - part, (side - part) // 2
        corners = [(0, 0), (0, end), (end, 0), (end, end), (middle, middle)]
        crops = [images[:, :, y : y + part, x : x + part] for y, x in corners]
        chosen = [F.interpolate(crop, side, mode="bilinear") for crop in crops]
    else:
        chosen = [images]
    return [view for crop in chosen for view in (crop, crop.flip(3))]


def _log_probs(model: nn.Module, images: torch.Tensor) -> torch.Tensor:
    outputs = model(images.contiguous(memory_format=torch.channels_last))
    return F.log_softmax(outputs.float(), dim=1)
