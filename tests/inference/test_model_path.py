"""Which model answers: model.pt, or the bundled one in either form."""

from __future__ import annotations

from pathlib import Path

from utils.inference.model_path import (
    BUNDLED_MODEL,
    BUNDLED_ONNX,
    DEFAULT_MODEL,
    SMALL_ONNX,
    default_model_path,
    display_path,
    is_onnx,
)


def test_default_model_path_is_model_pt_or_else_the_bundled_model(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert default_model_path() == BUNDLED_MODEL and BUNDLED_MODEL.exists()
    assert default_model_path(fast_start=True) == BUNDLED_ONNX and BUNDLED_ONNX.exists()
    DEFAULT_MODEL.write_bytes(b"")
    for fast_start in (False, True):
        assert default_model_path(fast_start) == Path("model.pt")


def test_display_path_says_that_a_model_is_bundled(monkeypatch):
    assert display_path(BUNDLED_ONNX) == f"pretrained/{BUNDLED_ONNX.name} (the bundled model)"
    small = f"pretrained/{SMALL_ONNX.name} (the small bundled model)"
    assert display_path(SMALL_ONNX) == small and SMALL_ONNX.exists()
    monkeypatch.chdir(SMALL_ONNX.parent.parent)
    assert display_path(Path("pretrained") / SMALL_ONNX.name) == small
    for path in ("runs/1/best.pt", BUNDLED_ONNX.name):
        assert display_path(Path(path)) == path


def test_is_onnx_goes_by_the_name():
    assert is_onnx(Path("a.ONNX")) and not is_onnx(Path("a.onnx.pt"))
