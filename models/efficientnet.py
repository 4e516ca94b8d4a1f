"""EfficientNet (Tan and Le 2019, arXiv 1905.11946), built by efficientnet-pytorch."""

from __future__ import annotations

import sys
from pickle import UnpicklingError

import torch
from efficientnet_pytorch import EfficientNet
from efficientnet_pytorch.utils import url_map
from torch import nn

from models import WeightsError
from models.dropout import Dropout


def efficientnet_b4(num_classes: int, image_channel: int) -> nn.Module:
    """Build EfficientNet-B4: 17,560,303 parameters for 1 channel, 7 classes.

    Float images (N, image_channel, S, S) in [0, 1], S of 32 or more → logits (N, num_classes).
    """
    return _with_shared_dropout(_build("efficientnet-b4", num_classes, image_channel))


def efficientnet_b5(num_classes: int, image_channel: int) -> nn.Module:
    """Build EfficientNet-B5: 28,354,263 parameters for 1 channel, 7 classes; shapes as for B4."""
    return _with_shared_dropout(_build("efficientnet-b5", num_classes, image_channel))


def pretrained(name: str, num_classes: int, image_channel: int) -> nn.Module:
    """Build a network with the weights that the library's authors trained on ImageNet.

    They are downloaded once, into torch's cache. For 1 channel the weights of the first layer are
    summed over the colours, which gives what a grey picture in colours gave. The last layer has
    random weights. Raise WeightsError if the download fails, or if its checksum is wrong.
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
    model = _build(name, num_classes, image_channel)
    if image_channel == 1:
        weights["_conv_stem.weight"] = weights["_conv_stem.weight"].sum(1, keepdim=True)
    for key in ("_fc.weight", "_fc.bias"):
        weights[key] = model.state_dict()[key]
    model.load_state_dict(weights)
    return _with_shared_dropout(model)


def _build(name: str, num_classes: int, image_channel: int) -> EfficientNet:
    return EfficientNet.from_name(name, in_channels=image_channel, num_classes=num_classes)


def _with_shared_dropout(model: EfficientNet) -> EfficientNet:
    """Replace the library's dropout by one that several processes can share."""
    model._dropout = Dropout(model._dropout.p)
    return model
