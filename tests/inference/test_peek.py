"""The classes that --help shows: read from model files that are neither run nor loaded."""

from __future__ import annotations

import os
import pickle
import zipfile
from dataclasses import replace
from pathlib import Path

import onnx
import pytest
import torch

from utils.inference.checkpoint import Checkpoint
from utils.inference.model_path import BUNDLED_MODEL, BUNDLED_ONNX
from utils.inference.onnx_model import METADATA_KEY
from utils.inference.peek import describe_order, peek_classes

BUNDLED = "분노 경멸 혐오 공포 기쁨 중립 슬픔 놀람"
# Names that are also keys or values of the file, which pickle stores once.
NAMES = ["기쁨", "network", "emotionnet", "classes", "a b"]


@pytest.fixture(scope="module")
def bundled():
    return Checkpoint.load(BUNDLED_MODEL)


@pytest.mark.parametrize("path", [BUNDLED_MODEL, BUNDLED_ONNX], ids=lambda path: path.suffix)
def test_peek_classes_of_the_bundled_model(path):
    assert peek_classes(path) == BUNDLED.split()


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_peek_classes_of_any_names(bundled, tmp_path, monkeypatch, protocol):
    path = tmp_path / "모델.pt"
    save = torch.save
    monkeypatch.setattr(torch, "save", lambda *words: save(*words, pickle_protocol=protocol))
    for classes in (NAMES, NAMES[::-1], NAMES[:2]):
        replace(bundled, classes=classes, weights={}).save(path)
        assert peek_classes(path) == classes


def test_peek_classes_of_onnx_skips_the_network(tmp_path):
    model = onnx.load(BUNDLED_ONNX)
    info = model.metadata_props[0].value.replace("분노", "x" * 300)
    path = tmp_path / "a.ONNX"
    # Other properties, and the fields in another order.
    del model.metadata_props[:]
    described = onnx.ModelProto(
        metadata_props=[
            onnx.StringStringEntryProto(key="other", value="분노"),
            onnx.StringStringEntryProto(key=METADATA_KEY, value=info),
        ]
    )
    path.write_bytes(described.SerializeToString() + model.SerializeToString())
    assert peek_classes(path) == ["x" * 300, *BUNDLED.split()[1:]]


class Bomb:
    """Unpickling it makes a file."""

    def __reduce__(self) -> tuple[object, tuple[str, int]]:
        return os.open, ("bombed", os.O_CREAT)


def test_peek_classes_runs_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    content = {"network": Bomb(), "classes": ["a", "b"], "x": Bomb()}
    with zipfile.ZipFile("model.pt", "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(content))
    assert peek_classes(Path("model.pt")) == [] and not Path("bombed").exists()


@pytest.mark.parametrize(
    "content",
    [
        {"classes": ["a", "b"], "network": "x"},  # another program's
        {"network": "x", "classes": ["a", "a"]},
        {"network": "x", "classes": ["a", 1, "b"]},
        {"network": "x", "classes": ["a", "\x1b[31m"]},
        {"network": "x", "classes": "ab"},
        {"network": "x", "classes": [f"class {i}" for i in range(1500)]},
        {"network": "x", "classes": ["a", "b", 1]},
        b"network",
    ],
)
def test_peek_classes_of_other_dictionaries(tmp_path, content):
    torch.save(content, path := tmp_path / "model.pt")
    assert peek_classes(path) == []


def test_peek_classes_of_what_is_no_model(tmp_path):
    for suffix in (".pt", ".onnx"):
        path = tmp_path / f"model{suffix}"
        assert peek_classes(path) == []
        source = (BUNDLED_MODEL if suffix == ".pt" else BUNDLED_ONNX).read_bytes()
        for content in (b"", b"\xff" * 99, b"PK\x03\x04", source[: 1 << 16], source[1:]):
            path.write_bytes(content)
            assert peek_classes(path) == []
        if hasattr(os, "mkfifo"):
            path.unlink()
            os.mkfifo(path)  # which would be waited for
            assert peek_classes(path) == []


def test_describe_order_of_the_model_that_a_command_line_uses(bundled, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert describe_order(["--help"]) == (
        f"the classes of pretrained/{BUNDLED_ONNX.name} (the bundled model), in order: {BUNDLED}"
    )
    for name, classes in (("model.pt", ["가", "나"]), ("b.pt", ["다", "라"])):
        replace(bundled, classes=classes, weights={}).save(Path(name))
    assert describe_order(["-h"]) == "the classes of model.pt, in order: 가 나"
    for words in (["--model_path", "b.pt"], ["--help", "--model-path=b.pt", "photo.jpg"]):
        assert describe_order(words) == "the classes of b.pt, in order: 다 라"
    for words in (["--model_path"], ["--img", "--model_path", "--help"]):
        assert describe_order(words) == "the classes of model.pt, in order: 가 나"
    assert describe_order(["--model_path", "none.pt"]) == ""
    torch.save({"weight": torch.zeros(1)}, "old.pt")
    text = "the classes of old.pt stand on stderr before the first answer"
    assert describe_order(["--model_path", "old.pt"]) == text
