"""Real images on which an exported model is compared with the original."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from utils.console import note
from utils.data.decode import decode_to_memory
from utils.data.image_folder import make_samples, scan_class_folders
from utils.data.sets import find_set
from utils.errors import StageError
from utils.imaging.image_io import open_image
from utils.imaging.preprocess import Preprocess

MAX_IMAGES = 2000  # evenly from all classes
SAMPLE = "grace_hopper.jpg"  # a portrait that comes with matplotlib
PORTRAIT_VIEWS = 64


@dataclass(frozen=True)
class CheckImages:
    """Images as a network takes them."""

    images: np.ndarray  # uint8 (N, C, S, S)
    labels: np.ndarray | None  # int64 (N,), positions in the classes; None: not known
    source: str  # where they are from, in words

    def accuracy(self, probs: np.ndarray) -> float:
        """Return the fraction of the images whose most probable class is right."""
        assert self.labels is not None
        return float((probs.argmax(1) == self.labels).mean())


def load_check_images(
    data_path: Path, classes: list[str], preprocess: Preprocess, needs_labels: bool
) -> CheckImages:
    """Return images of the validation folder in `data_path`, or of its class folders.

    Where there is no such folder, and `needs_labels` is off, return views of a portrait. Raise
    StageError if there are no images.
    """
    if data_path.is_dir():
        return _labelled(find_set(data_path, "validation") or data_path, classes, preprocess)
    if needs_labels:
        raise StageError(
            f"--data_path {data_path}: no such folder; it has the images to compare on"
        )
    return _portrait(preprocess)


def _labelled(root: Path, classes: list[str], preprocess: Preprocess) -> CheckImages:
    folders = scan_class_folders(root)
    folders.rename_to(classes, "the model")
    for name in [name for name in folders if name not in classes]:
        note(f"{root / name} is left out: the model does not know this class")
        del folders[name]
    samples = make_samples(folders, classes)
    samples = samples[:: max(1, -(-len(samples) // MAX_IMAGES))]
    images, failures = decode_to_memory(samples, preprocess, "read images")
    if not len(images):
        raise StageError(f"{root} has no image of the model's classes{folders.seen()}")
    labels = [sample.label for i, sample in enumerate(samples) if i not in failures]
    return CheckImages(images, np.array(labels), f"{len(images)} images of {root}")


def _portrait(preprocess: Preprocess) -> CheckImages:
    """Return different parts of one portrait, and their mirror images."""
    from matplotlib import get_data_path

    picture = open_image(Path(get_data_path(), "sample_data", SAMPLE))
    side = min(picture.size) // 2
    rng = np.random.default_rng(0)
    parts = []
    for left, top in rng.integers(0, np.array(picture.size) - side, (PORTRAIT_VIEWS // 2, 2)):
        part = preprocess(picture.crop((left, top, left + side, top + side)))
        parts += [part, part[:, :, ::-1]]
    return CheckImages(np.stack(parts), None, f"{PORTRAIT_VIEWS} views of a portrait")
