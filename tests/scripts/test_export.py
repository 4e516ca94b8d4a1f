"""export.py: files that emotion.py and test.py run without torch, checked before they are named."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import pytest
import torch
from PIL import Image

from tests.helpers import ROOT, one_line_error, run
from tests.photos import ASTRONAUT
from utils.inference.checkpoint import Checkpoint

pytestmark = pytest.mark.slow


@pytest.fixture
def here(trained, tmp_path):
    """A folder with a copy of the model, its data and a photo."""
    shutil.copy(trained / "model.pt", tmp_path)
    shutil.copytree(trained / "data", tmp_path / "data")
    Image.fromarray(ASTRONAUT).save(tmp_path / "photo.png")
    return tmp_path


def test_export_makes_what_emotion_and_test_use_without_torch(here):
    done = run("export.py", cwd=here)
    assert done.returncode == 0, done.stderr
    checked, written = done.stdout.splitlines()
    assert checked.startswith("checked on ") and "the probabilities differ by" in checked
    assert "data/validation" in checked and written.startswith("model.pt, emotionnet, epoch 1, ")
    assert " -> model.onnx, " in written

    # A module that raises stands in the way of torch.
    (here / "without/torch").mkdir(parents=True)
    (here / "without/torch/__init__.py").write_text('raise AssertionError("torch is imported")')
    env = {"PYTHONPATH": str(here / "without")}
    words = ("--img", "photo.png", "data/test", "--detect_face", "--model_path")
    lines = run("emotion.py", *words, "model.pt", cwd=here).stdout.splitlines()
    without = run("emotion.py", *words, "model.onnx", cwd=here, env=env)
    assert without.returncode == 0, without.stderr
    assert len(lines) == len(without.stdout.splitlines()) > 10
    for line, other in zip(lines, without.stdout.splitlines(), strict=True):
        for face, same in zip(json.loads(line)["faces"], json.loads(other)["faces"], strict=True):
            assert same.pop("probs") == pytest.approx(face.pop("probs"), abs=0.02)
            assert same == face

    figures = json.loads(run("test.py", "--json", cwd=here).stdout)
    done = run("test.py", "--json", "--model_path", "model.onnx", cwd=here, env=env)
    assert done.returncode == 0, done.stderr
    same = json.loads(done.stdout)
    for name in ("right", "confusion", "classes", "epoch", "network", "temperature"):
        assert same[name] == figures[name]
    assert same["environment"].keys() == {"onnxruntime", "toolkit", "device"}
    done = run("test.py", "--model_path", "model.pt", "model.onnx", cwd=here)
    assert done.returncode == 0 and "| model.onnx |" in done.stdout and "kept" not in done.stderr
    one_line_error(
        run("test.py", "--calibrate", "--model_path", "model.onnx", cwd=here),
        "calibrate the .pt file, and export it again",
    )


@pytest.mark.parametrize("words", [["--half"], ["--format", "torchscript"]], ids=str)
def test_export_in_other_forms(here, words):
    done = run("export.py", *words, "--output", "다른/얼굴" + (
        ".torchscript" if "torchscript" in words else ".onnx"
    ), cwd=here)  # fmt: skip
    assert done.returncode == 0, done.stderr
    [path] = (here / "다른").iterdir()
    assert path.stat().st_size > 1 << 20
    assert ("accuracy on " in done.stdout) == ("--half" in words)


def test_export_without_data_compares_on_a_portrait(here):
    shutil.rmtree(here / "data")
    done = run("export.py", cwd=here)
    assert done.returncode == 0 and "checked on 64 views of a portrait" in done.stdout
    one_line_error(run("export.py", "--half", cwd=here), "--data_path data: no such folder")


def test_export_of_the_bundled_model(tmp_path):
    done = run("export.py", "--output", "얼굴.onnx", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "pretrained/resnet29-ferplus.pt (the bundled model), resnet29" in done.stdout


def test_export_writes_nothing_that_answers_otherwise(here):
    """A network whose weights are no numbers differs from itself."""
    model = Checkpoint.load(here / "model.pt")
    next(iter(model.weights.values())).fill_(torch.nan)
    model.save(here / "model.pt")
    done = run("export.py", cwd=here)
    assert done.returncode == 2 and done.stdout == ""
    assert not [path for path in here.iterdir() if "onnx" in path.name]


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["--model_path", "x.onnx"], "is an exported model: name the .pt file"),
        (["--half", "--int8"], "two ways to a smaller file"),
        (["--int8", "--format", "torchscript"], "--half and --int8 are for --format onnx"),
        (["--output", "x.pt"], "its name must end in .onnx"),
        (["--model_path", "none.pt"], "none.pt: no such file"),
    ],
)
def test_export_refuses_what_it_cannot_do(tmp_path, words, problem):
    one_line_error(run("export.py", *words, cwd=tmp_path), problem)


def test_the_documented_lines_of_python(here):
    """The ten lines of docs/recognition.md."""
    page = (ROOT / "docs/recognition.md").read_text(encoding="utf-8")
    code = page.split("```python\n")[1].split("```")[0]
    assert "from utils.recognition import Recognizer" in code and code.count("\n") <= 10
    Image.fromarray(ASTRONAUT).save(here / "photo.jpg")
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=here, capture_output=True, text=True,
        env={"PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8"}, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") >= 2
