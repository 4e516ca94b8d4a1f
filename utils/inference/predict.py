"""Predictions of a network, the same way in validation, testing and recognition."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import torch
import torch.nn.functional as F
from torch import nn

from utils.console import ProgressBar
from utils.errors import StageError
from utils.imaging.preprocess import Preprocess

# Images that a CPU predicts at a time. On one core of an AMD EPYC, EmotionNet in float32 does 721
# images/s in batches of 8, 848 in 32, and 490 in 128: their activations are so large that the
# system maps and clears them again for each batch (see utils/memory.py, with which 128 does 900).
CPU_BATCH = 32
# Pixels that fill a GPU: 1,024 images of 48 × 48, and fewer of larger ones.
GPU_PIXELS = 1024 * 48 * 48
MIN_FORWARD = 32  # images: fewer are shown in all their views at once
TENCROP_FRACTION = 7 / 8  # side of a crop of tencrop, as a fraction of the image's side


@torch.inference_mode()
def predict_log_probs(
    model: nn.Module,
    batches: Iterable[torch.Tensor],
    total: int = 0,
    description: str = "",
    tta: str = "none",
) -> torch.Tensor:
    """Return log-probabilities float32 (N, classes), on the CPU, for batches uint8 (n, C, S, S).

    The model predicts on its device, in evaluation mode. With `tta`, average the probabilities over
    several views of each image (see `tta_views`). Show a progress bar up to `total` images if there
    is a `description` for it.

    A GPU gets the batches as they are. A CPU gets the same images in batches of CPU_BATCH, so that
    its answers do not depend on the size of the given ones: in the last bits, they do depend on how
    many images are predicted at a time.

    Raise StageError if an output is NaN.
    """
    device = next(model.parameters()).device
    if device.type == "cpu":
        batches = _rebatch(batches, CPU_BATCH)
    model.eval()
    log_probs = []
    with ProgressBar(total, description, "image", leave=False) as bar:
        for batch in batches:
            images = Preprocess.to_float(batch.to(device))
            views = torch.cat(tta_views(images, tta)).split(max(len(images), MIN_FORWARD))
            by_view = torch.cat([_log_probs(model, view) for view in views])
            by_view = by_view.unflatten(0, (-1, len(images)))  # (views, n, classes)
            log_probs.append(by_view.logsumexp(0) - math.log(len(by_view)))
            bar.update(len(batch))
    result = torch.cat(log_probs).cpu()  # a GPU's results are fetched once: it never waits
    if result.isnan().any():
        raise StageError("the model's outputs are NaN: its training has diverged; try a lower --lr")
    return result


def prediction_batch(batch_size: int, image_size: int, device: torch.device) -> int:
    """Return how many images to predict at a time on a device, where `batch_size` are trained."""
    if device.type == "cpu":
        return batch_size
    return max(batch_size, GPU_PIXELS // image_size**2)


def tta_views(images: torch.Tensor, tta: str) -> list[torch.Tensor]:
    """Return the views of test-time augmentation, each of the images' shape, float (n, C, S, S).

    `none`: the images. `flip`: the images and their mirror images. `tencrop`: the four corners and
    the centre, TENCROP_FRACTION of the side, resized to S, and their mirror images.
    """
    if tta == "none":
        return [images]
    if tta == "tencrop":
        side = images.shape[-1]
        crop_side = math.ceil(TENCROP_FRACTION * side)
        end, middle = side - crop_side, (side - crop_side) // 2
        corners = [(0, 0), (0, end), (end, 0), (end, end), (middle, middle)]
        crops = [images[:, :, y : y + crop_side, x : x + crop_side] for y, x in corners]
        views = [F.interpolate(crop, side, mode="bilinear") for crop in crops]
    else:
        views = [images]
    return [flipped for view in views for flipped in (view, view.flip(3))]


def _rebatch(batches: Iterable[torch.Tensor], size: int) -> Iterator[torch.Tensor]:
    """Yield the rows of the batches in batches of `size`; the last one may be smaller."""
    rest: torch.Tensor | None = None
    for batch in batches:
        rows = batch if rest is None else torch.cat([rest, batch])
        end = len(rows) - len(rows) % size
        if end:
            yield from rows[:end].split(size)
        rest = rows[end:] if end < len(rows) else None
    if rest is not None:
        yield rest


def _log_probs(model: nn.Module, images: torch.Tensor) -> torch.Tensor:
    outputs = model(images.contiguous(memory_format=torch.channels_last))
    return F.log_softmax(outputs.float(), dim=1)
