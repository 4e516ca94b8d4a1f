"""YuNet by OpenCV: its rows become faces, and a wrong file is named."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from PIL import Image

from utils.errors import StageError
from utils.imaging.geometry import Box
from utils.recognition.yunet import YuNet


class FakeNetwork:
    """What OpenCV makes of a good file: it answers with one face, at the red pixel."""

    def setInputSize(self, size):  # noqa: N802 - OpenCV's name
        self.size = size

    def setScoreThreshold(self, score):  # noqa: N802
        self.score = score

    def detect(self, pixels):
        assert pixels.shape == (*self.size[::-1], 3)
        if self.score > 0.9:
            return 0, None
        y, x = np.argwhere(pixels[:, :, 2] == 255)[0]  # of BGR
        points = [x + 2, y + 3, x + 6, y + 3, x + 4, y + 5, x + 3, y + 8, x + 5, y + 8]
        return 1, np.array([[x, y, 8, 10, *points, 0.9]], np.float32)


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "얼굴.onnx"
    path.write_bytes(b"weights")
    return path


def test_yunet_answers_with_boxes_scores_and_landmarks(model, monkeypatch):
    made = []

    def create(kind, weights, *_options):
        assert kind == "onnx" and bytes(weights) == b"weights"
        made.append(FakeNetwork())
        return made[-1]

    monkeypatch.setattr(cv2.FaceDetectorYN, "create", create)
    picture = Image.new("RGB", (40, 30))
    picture.putpixel((10, 5), (255, 0, 0))
    detector = YuNet(model)
    [face] = detector(picture, 0, 0.5)
    assert face.box == Box(10, 5, 18, 15) and face.score == pytest.approx(0.9)
    assert face.landmarks == ((12, 8), (16, 8), (14, 10), (13, 13), (15, 13))
    assert detector(picture, 0, 0.95) == [] and len(made) == 1


def test_yunet_needs_a_file(tmp_path):
    with pytest.raises(StageError, match=r"--detector yunet needs --detector_model .*\.onnx; from"):
        YuNet(None)
    with pytest.raises(StageError, match=r"x\.onnx: no such file; it is from https"):
        YuNet(tmp_path / "x.onnx")


def test_yunet_refuses_a_file_that_is_no_network(model):
    with pytest.raises(StageError, match="is not the network YuNet"):
        YuNet(model)
