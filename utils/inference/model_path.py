"""Which model answers: the one that the user names, model.pt, or the bundled one."""

from __future__ import annotations

from pathlib import Path

DEFAULT_MODEL = Path("model.pt")  # what train.py writes
ONNX_SUFFIX = ".onnx"
# The models that come with the project, each in two forms; pretrained/make.py makes them.
_FOLDER = Path(__file__).resolve().parents[2] / "pretrained"
BUNDLED_MODEL = _FOLDER / "resnet29-ferplus.pt"  # answers if there is no other
SMALL_MODEL = _FOLDER / "emotionnet-ferplus.pt"  # answers faster, and is right less often
BUNDLED_ONNX, SMALL_ONNX = (path.with_suffix(ONNX_SUFFIX) for path in (BUNDLED_MODEL, SMALL_MODEL))


def is_onnx(path: Path) -> bool:
    """Return whether a model file is an ONNX file, by its name."""
    return path.suffix.lower() == ONNX_SUFFIX


def default_model_path(fast_start: bool = False) -> Path:
    """Return model.pt if it exists, else the bundled model.

    `fast_start`: take the bundled model in the form that loads faster.
    """
    if DEFAULT_MODEL.exists():
        return DEFAULT_MODEL
    return BUNDLED_ONNX if fast_start and BUNDLED_ONNX.exists() else BUNDLED_MODEL


def display_path(path: Path) -> str:
    """Return a model's path as a message names it."""
    bundled = {BUNDLED_MODEL: "the bundled model", SMALL_MODEL: "the small bundled model"}
    which = bundled.get(path.resolve().with_suffix(BUNDLED_MODEL.suffix))
    return f"{path.parent.name}/{path.name} ({which})" if which else str(path)
