"""Files of torch.save: nothing in them is run, and one line says why one cannot be read."""

from __future__ import annotations

import argparse
import gzip
import json
import os
import pickle
import tarfile
import zipfile
from collections import defaultdict
from contextlib import suppress
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
import torch
from torch import nn

from tests.helpers import Evil
from utils.errors import StageError
from utils.inference.model_file import read_model_file


class Network(nn.Module):
    """A network of somebody's own code."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3)
        self.head = nn.Sequential(nn.ReLU(), nn.Linear(2, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.conv(x).mean((2, 3)))


STATE = Network().state_dict()


def message_of(path: Path) -> str:
    """Return what a file is refused with: one line that begins with the file."""
    with pytest.raises(StageError) as raised:
        read_model_file(path)
    message = str(raised.value)
    assert message.startswith(f"{path} ") and "\n" not in message
    return message.removeprefix(f"{path} ")


@pytest.mark.parametrize("zipped", [True, False])
def test_read_returns_the_content(tmp_path, zipped):
    path = tmp_path / "m.pt"
    torch.save({"model": STATE, "epoch": 3}, path, _use_new_zipfile_serialization=zipped)
    file = read_model_file(path)
    assert file.unloaded == [] and file.module is None and file.content["epoch"] == 3
    assert torch.equal(file.content["model"]["conv.bias"], STATE["conv.bias"])


@pytest.mark.parametrize("zipped", [True, False])
def test_read_loads_no_class_of_what_lies_beside_the_weights(tmp_path, zipped):
    content = {
        "best_accuracy": np.float64(0.7), "args": argparse.Namespace(lr=0.1, evil=None),
        "folder": PurePosixPath("a/b"), "state_dict": STATE,
    }  # fmt: skip
    path = tmp_path / "m.pt"
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    file = read_model_file(path)
    names = {name.rpartition(".")[2] for name in file.unloaded}
    assert {"Namespace", "PurePosixPath", "scalar"} <= names and not file.module
    assert torch.equal(file.content["state_dict"]["conv.bias"], STATE["conv.bias"])
    assert not isinstance(file.content["args"], argparse.Namespace)
    assert not vars(file.content["args"])


class Settings(dict):
    """A dictionary of somebody's own code, as Lightning has one."""


class Names(list):
    """A list of somebody's own code."""


@pytest.mark.parametrize("zipped", [True, False])
def test_read_leaves_out_containers_of_other_classes(tmp_path, zipped):
    settings = Settings(lr=0.1, nested=Settings(a=[1]))
    settings.attribute = 5
    content = {
        "hyper_parameters": settings, "names": Names("ab"), "counts": defaultdict(list, a=[1]),
        "state_dict": Settings(STATE), "epoch": 3,
    }  # fmt: skip
    path = tmp_path / "m.pt"
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    file = read_model_file(path)
    names = {name.rpartition(".")[2] for name in file.unloaded}
    assert names == {"Settings", "Names", "defaultdict", "list"} and file.content["epoch"] == 3
    assert torch.equal(file.content["state_dict"]["conv.bias"], STATE["conv.bias"])


@pytest.mark.parametrize("zipped", [True, False])
def test_read_says_what_cannot_be_left_out(tmp_path, zipped):
    path, content = tmp_path / "m.pt", {"state_dict": STATE, "x": Stateful(a=1)}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    message = message_of(path)
    assert message.startswith("holds objects (") and "Stateful) that cannot be left out" in message
    assert message.endswith(
        'save its state_dict() alone, torch.save(model.state_dict(), "model.pt")'
    )


class Stateful(dict):
    """A dictionary whose state is no dictionary."""

    def __reduce__(self):
        return Stateful, (), (1, 2, 3), None, iter(self.items())

    def __setstate__(self, state: object) -> None: ...


@pytest.mark.parametrize("wrap", [lambda network: network, nn.DataParallel])
def test_read_names_the_class_of_a_whole_network(tmp_path, wrap):
    network = wrap(Network())
    path = tmp_path / "m.pt"
    for content in (network, {"model": network, "epoch": 1}):
        torch.save(content, path)
        file = read_model_file(path)
        assert file.module.endswith(type(network).__name__)
        assert file.whole_network().startswith(f"holds a whole pickled network ({file.module}), ")
        torch.save(content, path, _use_new_zipfile_serialization=False)
        assert message_of(path) == (
            "holds a whole pickled network, which can run code: save its state_dict() alone, "
            'torch.save(model.state_dict(), "model.pt")'
        )


def test_read_runs_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for content in (Evil(), {"state_dict": STATE, "args": Evil()}):
        torch.save(content, tmp_path / "m.pt")
        message = message_of(tmp_path / "m.pt")
        assert message.startswith(f"was refused: it would run {os.name}.system;")
    assert [path.name for path in tmp_path.iterdir()] == ["m.pt"]


class Calls:
    """An object whose pickle calls a function when it is read."""

    def __init__(self, function: object, *args: object) -> None:
        self.call = function, args

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize(
    ("function", "args"),
    [(exec, ("open('pwned', 'w')",)), (open, ("pwned", "w")), (Path.touch, (Path("pwned"),))],
)
def test_read_calls_no_function(tmp_path, monkeypatch, function, args):
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": STATE, "x": Calls(function, *args)}, tmp_path / "m.pt")
    with suppress(StageError):
        assert read_model_file(tmp_path / "m.pt").unloaded
    assert [path.name for path in tmp_path.iterdir()] == ["m.pt"]


@pytest.mark.parametrize("name", [b"a\0b", b"\xed\xa0\x80", b"", b"."])
def test_read_refuses_a_class_that_has_no_name(tmp_path, name):
    """As a hostile or a damaged file may have it."""
    torch.save(argparse.Namespace(), tmp_path / "m.pt", _use_new_zipfile_serialization=False)
    content = (tmp_path / "m.pt").read_bytes()
    (tmp_path / "m.pt").write_bytes(content.replace(b"\nNamespace\n", b"\n" + name + b"\n"))
    with suppress(StageError):
        assert read_model_file(tmp_path / "m.pt").unloaded == ["argparse." + name.decode()]


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("fraction", [0.02, 0.3, 0.7, 0.99])
def test_read_says_that_a_file_is_truncated(tmp_path, zipped, fraction):
    path = tmp_path / "m.pt"
    torch.save({"a": torch.ones(20_000)}, path, _use_new_zipfile_serialization=zipped)
    content = path.read_bytes()
    path.write_bytes(content[: int(fraction * len(content))])
    assert message_of(path) == (
        f"is truncated or damaged ({path.stat().st_size:,} bytes): download or copy it again"
    )


def test_read_says_that_a_file_is_damaged(tmp_path):
    path = tmp_path / "m.pt"
    torch.save({"a": torch.ones(20_000)}, path)
    content = path.read_bytes()
    path.write_bytes(content.replace(b"torch._utils", b"\xff" * 12))
    assert message_of(path).startswith("is truncated or damaged (")


SAFETENSORS = json.dumps({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
SAFETENSORS = len(SAFETENSORS).to_bytes(8, "little") + SAFETENSORS + b"\0\0\0\0"
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 80000000\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty: download"),
        (bytes(5000), "begins with zeros alone: download"),
        (LFS, "is a pointer of Git LFS, not the model: run git lfs pull"),
        (b"\n<!DOCTYPE html><html>sign in", "is an HTML page, not a model"),
        (b"<html><body>404", "is an HTML page, not a model"),
        (SAFETENSORS, r"is a safetensors file, which is not read; convert it with torch\.save\("),
        (b"\x89HDF\r\n\x1a\n" + bytes(90), "is an HDF5 file"),
        (gzip.compress(b"weights", mtime=0), "is a gzip archive: unpack it"),
        (pickle.dumps({"a": [1, 2]}), "is a pickle that torch.save did not write"),
        (pickle.dumps(STATE), "is a pickle that torch.save did not write"),
        (b"hello\n", "is not a model file"),
        (b"\xff\xd8\xff\xe0 a photo", "is not a model file"),
    ],
)
def test_read_says_what_a_file_is_instead(tmp_path, content, message):
    (tmp_path / "m.pt").write_bytes(content)
    with pytest.raises(StageError, match=rf"m\.pt {message}"):
        read_model_file(tmp_path / "m.pt")


def test_read_knows_safetensors_and_onnx_by_name(tmp_path):
    for name, word in (("m.safetensors", "is a safetensors file"), ("m.onnx", "is an ONNX file")):
        (tmp_path / name).write_bytes(b"cut")
        assert message_of(tmp_path / name).startswith(word)


def test_read_says_to_unpack_a_zip_archive(tmp_path):
    torch.save(STATE, tmp_path / "m.pt")
    with zipfile.ZipFile(tmp_path / "m.zip", "w") as file:
        file.write(tmp_path / "m.pt", "m.pt")
    assert message_of(tmp_path / "m.zip") == "is a zip archive, not a model: unpack it"


def test_read_refuses_a_tar_archive(tmp_path):
    torch.save(STATE, tmp_path / "m.pt")
    with tarfile.open(tmp_path / "m.tar", "w") as file:
        file.add(tmp_path / "m.pt", "m.pt")
    assert message_of(tmp_path / "m.tar") == "is a tar archive: unpack it"


@pytest.mark.filterwarnings("ignore:.torch.jit:FutureWarning")
@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
def test_read_says_how_to_convert_torchscript(tmp_path):
    torch.jit.trace(Network(), torch.ones(1, 1, 5, 5)).save(tmp_path / "m.pt")
    assert message_of(tmp_path / "m.pt") == (
        "is a TorchScript archive, which is not read; save its weights with "
        'torch.save(torch.jit.load("m.pt").state_dict(), "model.pt")'
    )


def test_read_names_a_missing_file_and_a_folder(tmp_path):
    with pytest.raises(StageError, match=r"none\.pt: no such file; .*python train\.py"):
        read_model_file(tmp_path / "none.pt")
    with pytest.raises(StageError) as raised:
        read_model_file(tmp_path)
    assert str(raised.value).startswith(f"{tmp_path}: ")
