"""The teacher: its predictions by class name, at its temperature, beside the labels."""

from __future__ import annotations

import pytest
import torch

import models
from tests.trainings import CLASSES
from utils.errors import StageError
from utils.imaging.preprocess import Preprocess
from utils.inference.checkpoint import Checkpoint
from utils.training.distillation import Teacher

PREPROCESS = Preprocess(16, 1)


@pytest.fixture
def checkpoint(tmp_path):
    """A model of the classes in another order, calibrated, in teacher.pt."""
    torch.manual_seed(1)
    model = models.create("resemotionnet", 3, 1, 16)
    model.fc.weight.data *= 900
    checkpoint = Checkpoint(
        "resemotionnet", CLASSES[::-1], PREPROCESS.to_dict(), 1, 0.5, model.state_dict(), 2.0
    )
    checkpoint.save(tmp_path / "teacher.pt")
    return checkpoint


def test_teacher_softens_the_labels_by_class_name(checkpoint, tmp_path):
    teacher = Teacher([tmp_path / "teacher.pt"], CLASSES, PREPROCESS, 0.25)
    images, labels = torch.rand(5, 1, 16, 16), torch.eye(3)[[0, 1, 2, 0, 1]]
    with torch.no_grad():
        predictions = (checkpoint.build()(images) / 2).softmax(1)[:, [2, 1, 0]]
    assert predictions.std(0).min() > 0.001, "the images must differ for the teacher"
    softened = teacher.soften(images, labels)
    torch.testing.assert_close(softened, 0.75 * labels + 0.25 * predictions)
    assert not softened.requires_grad


def test_teacher_of_weight_zero_or_one_keeps_labels_or_predictions(checkpoint, tmp_path):
    images, labels = torch.rand(2, 1, 16, 16), torch.eye(3)[[0, 1]]
    for weight, expected in ((0, labels), (1, None)):
        softened = Teacher([tmp_path / "teacher.pt"], CLASSES, PREPROCESS, weight).soften(
            images, labels
        )
        if expected is not None:
            torch.testing.assert_close(softened, expected)
        assert softened.sum(1).tolist() == pytest.approx([1, 1])
    assert (softened - labels).abs().max() > 0.1


def test_several_teachers_teach_the_mean_of_their_probabilities(checkpoint, tmp_path):
    torch.manual_seed(2)
    other = models.create("resemotionnet", 3, 1, 16)
    other.fc.weight.data *= 900
    weights = other.state_dict()
    Checkpoint(
        "resemotionnet", CLASSES, PREPROCESS.to_dict(), 1, 0.5, weights, temperature=5.0
    ).save(tmp_path / "other.pt")
    paths = [tmp_path / "teacher.pt", tmp_path / "other.pt"]
    teacher = Teacher(paths, CLASSES, PREPROCESS, 0.5)
    images, labels = torch.rand(4, 1, 16, 16), torch.eye(3)[[0, 1, 2, 0]]
    with torch.no_grad():
        one = (checkpoint.build()(images) / 2).softmax(1)[:, [2, 1, 0]]
        two = (other.eval()(images) / 5).softmax(1)
    assert (one - two).abs().max() > 0.1
    expected = 0.5 * labels + 0.25 * one + 0.25 * two
    torch.testing.assert_close(teacher.soften(images, labels), expected)
    assert len(list(teacher.model.parameters())) == 2 * len(list(other.parameters()))


def test_teacher_knows_the_classes_by_other_names(checkpoint, tmp_path, capsys):
    path, names = tmp_path / "teacher.pt", ["happy", "angry", "neutral"]
    images, labels = torch.rand(4, 1, 16, 16), torch.eye(3)[[0, 1, 2, 0]]
    expected = Teacher([path], CLASSES, PREPROCESS, 0.5).soften(images, labels)
    capsys.readouterr()
    teacher = Teacher([path], names, PREPROCESS, 0.5)
    assert torch.equal(teacher.soften(images, labels), expected)
    assert "teacher.pt knows the classes by other names: happy = 기쁨, angry = 분노, " in (
        capsys.readouterr().err
    )


def test_teacher_refuses_other_classes_and_another_input(checkpoint, tmp_path):
    path = tmp_path / "teacher.pt"
    with pytest.raises(StageError, match="has the classes 중립 분노 기쁨"):
        Teacher([path], CLASSES[:2], PREPROCESS, 0.5)
    with pytest.raises(StageError, match=r"--image_channel 3 contradicts .*--image_channel 1"):
        Teacher([path], CLASSES, Preprocess(16, 3), 0.5)
    with pytest.raises(StageError, match="--image_size 48 contradicts"):
        Teacher([path], CLASSES, Preprocess(48, 1), 0.5)
