"""Bring pictures of more than 8 bits to 8 bits, by the scale of the values that they hold."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from PIL import Image

# Within functions numpy is imported only when it is needed: without it a worker that decodes photos
# starts in half the time. Who decodes in threads calls `image_io.load_decoders` first.
if TYPE_CHECKING:
    import numpy as np

DEPTHS = (8, 10, 12, 14, 16)  # bits of cameras and scanners
DARKEST = 16  # a brightest value below this one is not a photo of 8 or more bits
COLOUR_BITS = 12  # or fewer of 16 bits leave a picture in colours black
_BITS_PER_SAMPLE, _PLANAR_CONFIGURATION = 258, 284  # tags of a TIFF


class DepthError(ValueError):
    """Values that follow no known scale; the reason."""


def to_8_bits(image: Image.Image) -> Image.Image:
    """Return a picture of whole or floating-point numbers (modes I and F) in grey of 8 bits.

    The brightest value decides the scale. Whole numbers: the smallest of DEPTHS that holds it, so
    that 12 bits in words of 16 are not black. Floating-point numbers: 0 to 1, or as whole numbers.
    Other pictures are returned as they are. Raise DepthError if there is no such scale.
    """
    if not image.mode.startswith(("I", "F")):
        return image
    import numpy as np

    values = np.asarray(image)
    top = _top(values)
    # 32 bits, because 16 times the values of a large photo would take much memory.
    scaled = values.astype(np.float32) * np.float32(255 / top)
    return Image.fromarray(np.clip(scaled, 0, 255).astype(np.uint8))


def is_deep_colour(header: Image.Image) -> bool:
    """Return whether a picture in colours, not decoded yet, has 16 bits for each of them.

    Pillow keeps the upper 8 bits. Raise DepthError for a TIFF that keeps its colours apart, of
    which Pillow would make noise.
    """
    if header.mode.startswith(("I", "F")):
        return False
    tags = getattr(header, "tag_v2", {})
    bits, planes = tags.get(_BITS_PER_SAMPLE, (8,)), tags.get(_PLANAR_CONFIGURATION, 1)
    if planes == 2 and max(bits) > 8:
        raise DepthError(f"{max(bits)} bits, in planes: convert it to 8 bits")
    return any(";16" in str(tile[3]) for tile in getattr(header, "tile", ()))


def check_deep_colour(image: Image.Image) -> None:
    """Raise DepthError if the upper 8 of 16 bits, which are decoded, are all but empty."""
    colours = [image.getchannel(band) for band in image.getbands() if band != "A"]
    if max(colour.getextrema()[1] for colour in colours) < 2 ** (COLOUR_BITS - 8):
        reason = f"its colours fill {COLOUR_BITS} of 16 bits or fewer: convert it to 8 bits"
        raise DepthError(reason)


def _top(values: np.ndarray) -> float:
    """Return the value that is white."""
    low, high = float(values.min()), float(values.max())
    is_float = values.dtype.kind == "f"
    if not (math.isfinite(low) and math.isfinite(high)):
        raise DepthError("its pixels hold NaN or infinity: convert it to 8 bits")
    if is_float and low >= 0 and high <= 1:
        return 1.0
    if low < 0 or high > 2 ** DEPTHS[-1] - 1 or 0 < high < DARKEST:
        raise DepthError(f"its pixels go from {low:g} to {high:g}: convert it to 8 bits")
    return next(2**bits - 1 for bits in DEPTHS if high <= 2**bits - 1)
