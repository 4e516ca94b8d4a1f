"""Small pictures as text, to stand in a page."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from PIL import Image

from utils.console import ProgressBar
from utils.imaging.image_io import ImageError, load_decoders, open_image, to_srgb
from utils.parallel import cores, ordered_map

SIDE = 112  # pixels of the longer side
QUALITY = 82  # of the JPEG, as of a photo on the web


def thumbnail_uri(source: Path | Image.Image, side: int = SIDE) -> str:
    """Return a picture as the address `data:image/jpeg;base64,…`.

    Its longer side has at most `side` pixels; a smaller picture is not enlarged. Transparent pixels
    become white. Raise ImageError if the file cannot be read.
    """
    picture = open_image(source, side) if isinstance(source, Path) else source
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    if picture.mode != "L":
        picture = to_srgb(picture)
    if max(picture.size) > side:
        scale = side / max(picture.size)
        size = [max(1, round(length * scale)) for length in picture.size]
        picture = picture.resize((size[0], size[1]), Image.Resampling.LANCZOS)
    content = io.BytesIO()
    picture.save(content, "JPEG", quality=QUALITY, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(content.getvalue()).decode()


def thumbnail_uris(paths: Sequence[Path], description: str, side: int = SIDE) -> Iterator[str]:
    """Yield `thumbnail_uri` of each file, in order; an empty text for one that cannot be read.

    Each file is decoded once, a few at a time, a JPEG no larger than needed: Pillow decodes without
    Python's lock, so threads use all cores. `description` is that of the progress bar.
    """
    load_decoders()
    executor = ThreadPoolExecutor(cores())
    jobs = ((path, side) for path in paths)
    with ProgressBar(len(paths), description, "image") as bar:
        for address in ordered_map(executor, _try_thumbnail, jobs, 4 * cores()):
            bar.update()
            yield address


def _try_thumbnail(path: Path, side: int) -> str:
    try:
        return thumbnail_uri(path, side)
    except ImageError:
        return ""
