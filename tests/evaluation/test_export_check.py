"""The images on which an exported model is compared: labelled ones, or views of a portrait."""

from __future__ import annotations

import numpy as np
import pytest

from tests.helpers import make_faces
from utils.errors import StageError
from utils.evaluation import export_check as module
from utils.evaluation.export_check import CheckImages, load_check_images
from utils.imaging.preprocess import Preprocess

PREPROCESS = Preprocess(16, 1)


def test_images_of_validation_or_of_class_folders(tmp_path, capsys):
    make_faces(tmp_path / "data/validation", ["분노", "sad", "other"], 3)
    found = load_check_images(tmp_path / "data", ["분노", "슬픔"], PREPROCESS, True)
    assert found.images.shape == (6, 1, 16, 16) and sorted(found.labels) == [0] * 3 + [1] * 3
    assert found.source == f"6 images of {tmp_path / 'data/validation'}"
    assert "does not know this class" in capsys.readouterr().err
    folder = tmp_path / "data/validation"
    assert len(load_check_images(folder, ["분노", "슬픔"], PREPROCESS, True).images) == 6


def test_images_are_taken_evenly_from_all_classes(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "MAX_IMAGES", 6)
    make_faces(tmp_path, ["a", "b"], 9)
    found = load_check_images(tmp_path, ["a", "b"], PREPROCESS, False)
    assert found.labels.tolist() == [0] * 3 + [1] * 3


def test_unreadable_images_are_left_out(tmp_path, capsys):
    make_faces(tmp_path, ["a", "b"], 2)
    (tmp_path / "a/x.png").write_bytes(b"<html>")
    assert len(load_check_images(tmp_path, ["a", "b"], PREPROCESS, False).images) == 4
    assert "an HTML page, not an image" in capsys.readouterr().err
    with pytest.raises(StageError, match="has no image of the model's classes"):
        load_check_images(tmp_path, ["c", "d"], PREPROCESS, False)


@pytest.mark.parametrize("channels", [1, 3])
def test_portrait_where_there_is_no_folder(tmp_path, channels):
    found = load_check_images(tmp_path / "data", ["a", "b"], Preprocess(48, channels), False)
    assert found.images.shape == (64, channels, 48, 48) and found.labels is None
    assert np.array_equal(found.images[1], found.images[0][:, :, ::-1])
    assert len(np.unique(found.images.reshape(64, -1), axis=0)) == 64
    with pytest.raises(StageError, match="no such folder; it has the images to compare on"):
        load_check_images(tmp_path / "data", ["a", "b"], PREPROCESS, True)


def test_accuracy():
    images = CheckImages(np.empty(0), np.array([0, 1, 1]), "")
    assert images.accuracy(np.array([[0.9, 0.1], [0.9, 0.1], [0.1, 0.9]])) == pytest.approx(2 / 3)
