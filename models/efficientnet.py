"""EfficientNet (Tan and Le 2019, arXiv 1905.11946), built by efficientnet-pytorch.

Its convolutions pad as TensorFlow's "SAME" does: the padding follows from the image size. By itself
the library pads for 380 (B4) and 456 pixels (B5) at any size, which for 48 pixels shifts two layers
of B4 by a pixel and ends in a feature map of 1×1 instead of 2×2.
"""

from __future__ import annotations

import sys
from pickle import UnpicklingError

import torch
from efficientnet_pytorch import EfficientNet
from efficientnet_pytorch.utils import url_map
from torch import nn

from models import WeightsError
from models.dropout import Dropout

# Of the colours of ImageNet's pictures in [0, 1]; the library's README normalizes with them.
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def efficientnet_b4(
    num_classes: int, image_channel: int, padding_size: int | None = None
) -> nn.Module:
    """Build EfficientNet-B4: 17,560,303 parameters for 1 channel, 7 classes.

    Float images (N, image_channel, S, S) in [0, 1], S of 32 or more → logits (N, num_classes).
    `padding_size`: the S for which it pads; None: the library's size.
    """
    return _build("efficientnet-b4", num_classes, image_channel, padding_size)


def efficientnet_b5(
    num_classes: int, image_channel: int, padding_size: int | None = None
) -> nn.Module:
    """Build EfficientNet-B5: 28,354,263 parameters for 1 channel, 7 classes; the rest as for B4."""
    return _build("efficientnet-b5", num_classes, image_channel, padding_size)


def pretrained(name: str, num_classes: int, image_channel: int, image_size: int) -> nn.Module:
    """Build a network with the weights that the library's authors trained on ImageNet.

    They are downloaded once, into torch's cache. They expect normalized colours: mean and deviation
    are folded into the first layer and its batch norm, so that the network takes images in [0, 1]
    as all others do. That gives the same numbers, except where the first layer looks over the edge
    of the image: there it sees black instead of the mean colour. For 1 channel the weights of the
    first layer are summed over the colours, which gives what a grey picture in colours gave. The
    padding is that for `image_size`. The last layer has random weights.

    Raise WeightsError if the download fails, or if its checksum is wrong.
    """
    # The library's own `from_pretrained` would run code from the file.
    try:
        weights = torch.hub.load_state_dict_from_url(
            url_map[name],
            map_location="cpu",
            progress=sys.stderr.isatty(),
            check_hash=True,
            weights_only=True,
        )
    except (OSError, RuntimeError, UnpicklingError) as error:
        raise WeightsError(
            f"the weights of {name} cannot be fetched ({error}): connect to the internet once"
        ) from None
    model = _build(name, num_classes, image_channel, image_size)
    _fold_normalization(weights)
    if image_channel == 1:
        weights["_conv_stem.weight"] = weights["_conv_stem.weight"].sum(1, keepdim=True)
    for key in ("_fc.weight", "_fc.bias"):
        weights[key] = model.state_dict()[key]
    model.load_state_dict(weights)
    return model


def _fold_normalization(weights: dict[str, torch.Tensor]) -> None:
    """Change the first layer and its batch norm from normalized colours to colours in [0, 1].

    w · (x - mean) / deviation = (w / deviation) · x - the sum of (w / deviation) · mean. The batch
    norm subtracts its running mean from it, which therefore grows by that sum.
    """
    mean, deviation = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, DEVIATION))
    kernels = weights["_conv_stem.weight"] / deviation  # (out, 3, 3, 3)
    weights["_conv_stem.weight"] = kernels
    weights["_bn0.running_mean"] = weights["_bn0.running_mean"] + (kernels * mean).sum((1, 2, 3))


def _build(
    name: str, num_classes: int, image_channel: int, padding_size: int | None
) -> EfficientNet:
    size = {} if padding_size is None else {"image_size": padding_size}
    model = EfficientNet.from_name(name, in_channels=image_channel, num_classes=num_classes, **size)
    model.same_padding = padding_size is not None  # see Checkpoint.same_padding
    model._dropout = Dropout(model._dropout.p)  # which several processes can share
    _use_fast_layers(model)
    return model


def _use_fast_layers(model: EfficientNet) -> None:
    """Let torch do in one pass what the library does in several; the numbers and keys are the same.

    torch's SiLU replaces a Swish that is written in Python, and where a convolution pads all sides
    alike, it does so itself. A training step on a CPU takes 0.7 of the time.
    """
    model.set_swish(memory_efficient=False)  # torch's keeps no more memory than the other one
    for layer in model.modules():
        padding = getattr(layer, "static_padding", None)
        if isinstance(padding, nn.ZeroPad2d) and len(set(padding.padding)) == 1:
            layer.padding = padding.padding[:2]
            layer.static_padding = nn.Identity()
