"""Predictions for folders of labelled images, and the temperature that is fitted to them."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import models
from tests.helpers import make_faces
from utils import metrics
from utils.errors import StageError
from utils.evaluation import evaluator as evaluator_module
from utils.evaluation.evaluator import Evaluator
from utils.imaging.preprocess import Preprocess
from utils.inference.checkpoint import Checkpoint
from utils.inference.torch_model import TorchModel

CLASSES = ["a", "b", "c"]
PREPROCESS = Preprocess(16, 1)
CPU = torch.device("cpu")


@pytest.fixture
def faces(tmp_path):
    return make_faces(tmp_path / "faces", CLASSES, 5)


@pytest.fixture
def checkpoint():
    torch.manual_seed(0)
    weights = models.create("resemotionnet", 3, 1, 16).state_dict()
    weights["fc.weight"] *= 40
    return Checkpoint("resemotionnet", CLASSES, PREPROCESS.to_dict(), 1, 0.5, weights)


def model_of(checkpoint: Checkpoint) -> TorchModel:
    return TorchModel(checkpoint, CPU)


@pytest.mark.parametrize("batch_size", [1, 4, 100])
def test_evaluate_predicts_every_image(faces, checkpoint, batch_size):
    result = Evaluator(batch_size).evaluate(Path("m.pt"), model_of(checkpoint), faces)
    files = sorted(faces.rglob("*.png"))
    assert result.paths == files and result.truth.tolist() == [0] * 5 + [1] * 5 + [2] * 5
    pixels = torch.from_numpy(np.stack([PREPROCESS.read(path) for path in files]))
    with torch.no_grad():
        expected = checkpoint.build()(pixels / 255).double().softmax(1).numpy()
    assert result.probs == pytest.approx(expected, abs=1e-5)
    assert result.predictions.tolist() == expected.argmax(1).tolist()
    assert result.scores.right == (expected.argmax(1) == result.truth).sum()
    assert result.reliability.count.sum() == 15
    assert result.parameters == 1_973_187 and result.images_per_second > 0


def test_evaluate_uses_temperature_and_views(faces, checkpoint):
    evaluator = Evaluator(8)
    plain = evaluator.evaluate(Path("m.pt"), model_of(checkpoint), faces).probs
    warm = evaluator.evaluate(
        Path("m.pt"), model_of(replace(checkpoint, temperature=3.0)), faces
    ).probs
    assert warm == pytest.approx(np.exp(metrics.scale(np.log(plain), 3)), abs=1e-5)
    flipped = evaluator.evaluate(Path("m.pt"), model_of(checkpoint), faces, tta="flip").probs
    assert not np.allclose(flipped, plain)


def test_evaluate_decodes_a_folder_once_for_models_with_the_same_input(
    faces, checkpoint, monkeypatch
):
    decoded = []
    load = evaluator_module.decode_to_memory
    monkeypatch.setattr(
        evaluator_module, "decode_to_memory", lambda *a, **k: decoded.append(a) or load(*a, **k)
    )
    evaluator = Evaluator(8)
    for temperature in (None, 2.0):
        model = model_of(replace(checkpoint, temperature=temperature))
        evaluator.evaluate(Path("m.pt"), model, faces)
    assert len(decoded) == 1
    larger = replace(checkpoint, preprocess=Preprocess(20, 1).to_dict())
    evaluator.evaluate(Path("m.pt"), model_of(larger), faces)
    assert len(decoded) == 2


def test_failures_are_listed_once_for_all_models(faces, checkpoint):
    (faces / "a/broken.png").write_bytes(b"<html>")
    evaluator = Evaluator(8)
    for size in (16, 20):
        changed = replace(checkpoint, preprocess=Preprocess(size, 1).to_dict())
        assert len(evaluator.evaluate(Path("m.pt"), model_of(changed), faces).paths) == 15
    assert evaluator.failures == [(faces / "a/broken.png", "an HTML page, not an image")]


def test_evaluate_labels_by_the_models_classes_and_notes_missing_ones(faces, checkpoint, capsys):
    shutil.rmtree(faces / "a")
    result = Evaluator(8).evaluate(Path("m.pt"), model_of(checkpoint), faces)
    assert result.truth.tolist() == [1] * 5 + [2] * 5
    assert "has no images of a: means over classes leave them out" in capsys.readouterr().err


def test_evaluate_takes_the_models_classes_by_other_names(tmp_path, checkpoint, capsys):
    korean = replace(checkpoint, classes=["분노", "기쁨", "상처"])
    other = make_faces(tmp_path / "other", ["anger", "3_happy", "Hurt"], 2)
    result = Evaluator(8).evaluate(Path("m.pt"), model_of(korean), other)
    assert capsys.readouterr().err == (
        f"note: {other} has the model's classes by other names: "
        "3_happy = 기쁨, Hurt = 상처, anger = 분노\n"
    )
    truth = {
        path.parent.name: int(label) for path, label in zip(result.paths, result.truth, strict=True)
    }
    assert truth == {"anger": 0, "3_happy": 1, "Hurt": 2}
    (other / "angry").mkdir()
    (other / "anger/0000.png").rename(other / "angry/0000.png")
    with pytest.raises(StageError, match=r"anger and angry are the same class \(분노\); put them"):
        Evaluator(8).evaluate(Path("m.pt"), model_of(korean), other)


def test_evaluate_takes_numbered_classes_by_their_names(tmp_path, checkpoint, capsys):
    korean = replace(checkpoint, classes=["분노", "기쁨", "상처"])
    folders = make_faces(tmp_path / "faces", ["0", "1", "2"], 2)
    with pytest.raises(
        StageError, match="상처: name the numbers 0 to 2, in their order: --classes N"
    ):
        Evaluator(8).evaluate(Path("m.pt"), model_of(korean), folders)
    names = ["happy", "hurt", "angry"]
    result = Evaluator(8, names).evaluate(Path("m.pt"), model_of(korean), folders)
    truth = {
        path.parent.name: int(label) for path, label in zip(result.paths, result.truth, strict=True)
    }
    assert truth == {"0": 1, "1": 2, "2": 0}
    assert "classes by other names: 0 = 기쁨, 1 = 상처, 2 = 분노\n" in capsys.readouterr().err
    numbered, named = replace(checkpoint, classes=["0", "1", "2"]), tmp_path / "named"
    make_faces(named, ["0_angry", "happy", "hurt"], 2)
    result = Evaluator(8, names).evaluate(Path("m.pt"), model_of(numbered), named)
    truth = {
        path.parent.name: int(label) for path, label in zip(result.paths, result.truth, strict=True)
    }
    assert truth == {"happy": 0, "hurt": 1, "0_angry": 2}


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ([], "has no class folder with images"),
        (["a", "z"], "classes that the model does not know: z; it knows a b c"),
        (list("1234567"), "the numbers 1 to 7; RAF-DB's are --classes surprise fear"),
    ],
)
def test_evaluate_refuses_folders_that_do_not_fit(tmp_path, checkpoint, classes, message):
    (tmp_path / "faces").mkdir()
    make_faces(tmp_path / "faces", classes, 1)
    with pytest.raises(StageError, match=message):
        Evaluator(8).evaluate(Path("m.pt"), model_of(checkpoint), tmp_path / "faces")


def test_evaluate_refuses_a_folder_without_a_readable_image(faces, checkpoint):
    for path in faces.rglob("*.png"):
        path.write_bytes(b"<html>")
    with pytest.raises(StageError, match="no readable image"):
        Evaluator(8).evaluate(Path("m.pt"), model_of(checkpoint), faces)


def test_calibrate_fits_the_temperature_and_saves_it(faces, checkpoint, tmp_path):
    path = tmp_path / "m.pt"
    evaluator, warm = Evaluator(8), model_of(replace(checkpoint, temperature=9.0))
    accuracies = evaluator.calibrate(path, warm, faces)  # its own temperature does not matter
    plain = evaluator.evaluate(path, model_of(checkpoint), faces, warm.info.tta)
    assert accuracies.keys() == {"none", "flip"}
    assert accuracies[warm.info.tta] == plain.scores.accuracy == max(accuracies.values())
    expected = metrics.fit_temperature(np.log(plain.probs), plain.truth)
    assert warm.info.temperature == pytest.approx(expected, rel=1e-4) and expected != 1
    saved = Checkpoint.load(path)
    assert saved.temperature == warm.info.temperature
    assert torch.equal(saved.weights["fc.weight"], checkpoint.weights["fc.weight"])


class ModelOfTwoMinds(TorchModel):
    """A model whose mirrored answers are the first class for more faces, or for as many."""

    right: dict[str, int]

    def log_probs(self, images, tta="none", batch_size=64, description=""):
        answers = np.arange(len(images)) // 5  # the truth
        answers[self.right[tta] :] = (answers[self.right[tta] :] + 1) % 3
        return np.log(np.eye(3)[answers] * 0.7 + 0.1)


@pytest.mark.parametrize(
    ("right", "chosen"), [({"none": 4, "flip": 5}, "flip"), ({"none": 5, "flip": 5}, "none")]
)
def test_calibrate_chooses_the_better_views_the_cheaper_of_equals(
    faces, checkpoint, tmp_path, right, chosen
):
    path, model = tmp_path / "m.pt", ModelOfTwoMinds(checkpoint, CPU)
    model.right = right
    accuracies = Evaluator(8).calibrate(path, model, faces)
    assert accuracies == {tta: count / 15 for tta, count in right.items()}
    assert model.info.tta == Checkpoint.load(path).tta == chosen
    log_probs = model.log_probs(np.empty(15), chosen)
    expected = metrics.fit_temperature(log_probs, np.arange(15) // 5)
    assert model.info.temperature == pytest.approx(expected, rel=1e-4)


def test_calibrate_with_given_views_keeps_them(faces, checkpoint, tmp_path):
    path, model = tmp_path / "m.pt", model_of(checkpoint)
    accuracies = Evaluator(8).calibrate(path, model, faces, "tencrop")
    assert list(accuracies) == ["tencrop"] and Checkpoint.load(path).tta == "tencrop"
    assert model.info.temperature == Checkpoint.load(path).temperature


def test_evaluate_uses_the_views_of_the_model_unless_told(faces, checkpoint):
    evaluator, flipping = Evaluator(8), replace(checkpoint, tta="flip")
    plain = evaluator.evaluate(Path("m.pt"), model_of(checkpoint), faces)
    flip = evaluator.evaluate(Path("m.pt"), model_of(flipping), faces)
    assert (plain.tta, flip.tta) == ("none", "flip") and not np.allclose(plain.probs, flip.probs)
    told = evaluator.evaluate(Path("m.pt"), model_of(flipping), faces, "none")
    assert told.tta == "none" and np.array_equal(told.probs, plain.probs)


def test_calibrate_refuses_a_reference_checkpoint(faces, checkpoint, tmp_path):
    reference = replace(checkpoint, epoch=None, val_accuracy=None)
    with pytest.raises(StageError, match="holds weights alone, and no place for a temperature"):
        Evaluator(8).calibrate(tmp_path / "m.pt", model_of(reference), faces)
    assert not (tmp_path / "m.pt").exists()
