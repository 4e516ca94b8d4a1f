"""A model as a function from faces to answers; the same answers as the reference implementation."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

import models
from tests.photos import ASTRONAUT
from tests.reference_networks import REFERENCE_NETWORKS
from utils.emotions import EMOTIONS
from utils.errors import StageError
from utils.imaging.preprocess import Preprocess
from utils.inference import device as device_module
from utils.inference.checkpoint import Checkpoint
from utils.inference.face_classifier import FaceClassifier, load_model


@pytest.fixture
def checkpoint(tmp_path):
    torch.manual_seed(0)
    model = models.create("resemotionnet", 3, 1, 16)
    model.fc.weight.data *= 30
    preprocess = Preprocess(16, 1).to_dict()
    checkpoint = Checkpoint(
        "resemotionnet", ["a", "b", "c"], preprocess, 1, 0.5, model.state_dict()
    )
    checkpoint.save(tmp_path / "m.pt")
    return checkpoint


@pytest.fixture
def faces():
    generator = np.random.default_rng(0)
    return [generator.integers(0, 256, (1, 16, 16), dtype=np.uint8) for _ in range(3)]


def test_classifier_answers_with_label_and_percentages(checkpoint, faces, tmp_path):
    classifier = FaceClassifier(load_model(tmp_path / "m.pt"))
    assert classifier.classes == ["a", "b", "c"] and classifier.info.preprocessing() == Preprocess(
        16, 1
    )
    probabilities = classifier.probabilities(faces)
    with torch.no_grad():
        outputs = checkpoint.build()(torch.from_numpy(np.stack(faces)) / 255)
    assert probabilities == pytest.approx(outputs.double().softmax(1).numpy(), abs=1e-5)
    answers = classifier(faces)
    assert [list(answer) for answer in answers] == [["label", "probs"]] * 3
    for answer, row in zip(answers, probabilities, strict=True):
        assert answer["label"] == "abc"[int(row.argmax())]
        assert answer["probs"] == [round(100 * p, 2) for p in row.tolist()]


def test_classifier_uses_the_temperature_of_the_model(checkpoint, faces, tmp_path):
    cold = FaceClassifier(load_model(tmp_path / "m.pt")).probabilities(faces)
    replace(checkpoint, temperature=4.0).save(tmp_path / "m.pt")
    warm = FaceClassifier(load_model(tmp_path / "m.pt")).probabilities(faces)
    logits = np.log(cold) / 4
    expected = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    assert warm == pytest.approx(expected, abs=1e-5) and warm.max() < cold.max()


def test_classifier_uses_the_views_of_the_model_or_of_its_caller(checkpoint, faces, tmp_path):
    def probabilities(**options: str) -> np.ndarray:
        return FaceClassifier(load_model(tmp_path / "m.pt"), **options).probabilities(faces)

    mirrored = [np.ascontiguousarray(face[:, :, ::-1]) for face in faces]
    plain = probabilities()
    expected = (plain + FaceClassifier(load_model(tmp_path / "m.pt")).probabilities(mirrored)) / 2
    assert not np.allclose(expected, plain, atol=1e-3)
    assert probabilities(tta="flip") == pytest.approx(expected, abs=1e-5)
    replace(checkpoint, tta="flip").save(tmp_path / "m.pt")
    assert probabilities() == pytest.approx(expected, abs=1e-5)
    assert probabilities(tta="none") == pytest.approx(plain, abs=1e-5)


def test_classifier_refuses_an_image_size_that_contradicts_the_model(checkpoint, tmp_path):
    with pytest.raises(StageError, match="--image_size 48 contradicts"):
        load_model(tmp_path / "m.pt", image_size=48)


@pytest.mark.slow
@pytest.mark.parametrize("name", REFERENCE_NETWORKS)
def test_classifier_of_a_reference_checkpoint_answers_as_the_reference(tmp_path, name):
    build, size, channels = REFERENCE_NETWORKS[name]
    torch.manual_seed(0)
    reference = build().eval()
    picture = Image.fromarray(ASTRONAUT[60:190, 170:280])
    small = picture.convert("L" if channels == 1 else "RGB").resize((size, size), 2)
    pixels = torch.from_numpy(np.array(small)).float().div(255).view(1, size, size, channels)
    with torch.no_grad():
        while True:  # until it is as sure of its answers as a trained network
            expected = reference(pixels.permute(0, 3, 1, 2))[:, :7].softmax(1)[0] * 100
            if expected.max() > 40:
                break
            list(reference.parameters())[-2].mul_(2)
    weights = {"model": reference.state_dict(), "optimizer": {"state": {}, "param_groups": []}}
    torch.save(weights, tmp_path / "model.pt")
    classifier = FaceClassifier(load_model(tmp_path / "model.pt"))
    [answer] = classifier([classifier.info.preprocessing()(picture)])
    assert answer["probs"] == pytest.approx(expected.tolist(), abs=0.01)
    assert answer["label"] == EMOTIONS[int(expected.argmax())]
    (tmp_path / "model.pt").unlink()  # up to 200 MB


@pytest.mark.parametrize(
    ("gpu", "count", "wants_gpu"),
    [(None, 1, False), (None, 10**6, True), (True, 1, True), (False, 10**6, False)],
)
def test_load_model_takes_a_gpu_where_it_is_worth_its_start(
    checkpoint, tmp_path, monkeypatch, gpu, count, wants_gpu
):
    choices = []
    choose = lambda *wish: choices.append(wish) or torch.device("cpu")  # noqa: E731
    monkeypatch.setattr(device_module, "choose_device", choose)
    load_model(tmp_path / "m.pt", gpu, 1, images=count)
    assert choices == [(wants_gpu, 1)]
