"""EfficientNet (Tan and Le 2019, arXiv 1905.11946), as efficientnet-pytorch builds it."""

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
    """17,560,303 parameters for 1 channel, 7 classes.

    Float images (N, image_channel, S, S) in [0, 1], S of 32 or more → logits (N, num_classes).
    """
    return _shared(_build("efficientnet-b4", num_classes, image_channel))


def efficientnet_b5(num_classes: int, image_channel: int) -> nn.Module:
    """28,354,263 parameters for 1 channel, 7 classes; shapes as for b4."""
    return _shared(_build("efficientnet-b5", num_classes, image_channel))


def pretrained(name: str, num_classes: int, image_channel: int) -> nn.Module:
    """The network with the weights that the library's authors trained on ImageNet.

    They are fetched from the internet, once, into torch's cache. For 1 channel the first layer's
    are summed over the colours: it sees grey as it saw a grey picture. The last layer is new.
    Raise WeightsError if they cannot be fetched, or are not those weights.
    """
    # Not the library's own `from_pretrained`: it would run whatever a file says.
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
            f"the weights of {name} cannot be fetched ({error}); it needs the internet once"
        ) from None
    model = _build(name, num_classes, image_channel)
    if image_channel == 1:
        weights["_conv_stem.weight"] = weights["_conv_stem.weight"].sum(1, keepdim=True)
    for key in ("_fc.weight", "_fc.bias"):
        weights[key] = model.state_dict()[key]
    model.load_state_dict(weights)
    return _shared(model)


def _build(name: str, num_classes: int, image_channel: int) -> EfficientNet:
    return EfficientNet.from_name(name, in_channels=image_channel, num_classes=num_classes)


def _shared(model: EfficientNet) -> EfficientNet:
    model._dropout = Dropout(model._dropout.p)
    return model
