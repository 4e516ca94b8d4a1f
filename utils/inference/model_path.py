"""Which model answers: the one that the user names, model.pt, or the bundled one."""

from __future__ import annotations

from pathlib import Path

DEFAULT_MODEL = Path("model.pt")  # what train.py writes
# The model that comes with the project, in two forms; pretrained/make.py makes it.
BUNDLED_MODEL = Path(__file__).resolve().parents[2] / "pretrained/emotionnet-ferplus.pt"
BUNDLED_ONNX = BUNDLED_MODEL.with_suffix(".onnx")
ONNX_SUFFIX = ".onnx"


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
    if path in (BUNDLED_MODEL, BUNDLED_ONNX):
        return f"{path.parent.name}/{path.name} (the bundled model)"
    return str(path)
