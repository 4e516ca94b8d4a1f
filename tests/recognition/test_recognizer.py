"""Recognition from Python: paths, arrays, pictures and lists, the same answers as emotion.py's."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from tests.photos import ASTRONAUT, two_faces
from tests.turned import write_turned
from utils.errors import StageError
from utils.inference.model_path import BUNDLED_MODEL, BUNDLED_ONNX
from utils.recognition import Recognizer
from utils.recognition.face_detection import DetectionOptions


@pytest.fixture(scope="module")
def recognizer():
    return Recognizer(BUNDLED_ONNX)


def test_recognizer_takes_a_path_an_array_and_a_picture(recognizer, tmp_path):
    path = tmp_path / "웃음.png"
    Image.fromarray(ASTRONAUT).save(path)
    [face] = recognizer(ASTRONAUT)
    assert face["label"] == "기쁨" and face["detected"] is True and face["score"] > 0.9
    assert len(face["probs"]) == len(recognizer.classes) == 8
    assert face["rect"] == str(tuple(face["box"]))
    for picture in (path, str(path), Image.fromarray(ASTRONAUT)):
        assert recognizer(picture) == [face]


def test_recognizer_takes_a_list_and_answers_for_each(recognizer):
    answers = recognizer([ASTRONAUT, two_faces(), np.zeros((50, 60), np.uint8)])
    assert [len(faces) for faces in answers] == [1, 2, 1]
    [nobody] = answers[2]
    assert nobody["box"] == [0, 0, 60, 50] and nobody["detected"] is False
    assert recognizer([]) == []


def test_recognizer_turns_a_photo_upright(recognizer, tmp_path):
    photo = Image.fromarray(ASTRONAUT).crop((60, 20, 400, 300))
    [upright] = recognizer(photo)
    [turned] = recognizer(write_turned(tmp_path / "x", photo, "PNG", 6))
    assert turned == upright


def test_recognizer_of_cropped_faces_looks_for_none():
    face = ASTRONAUT[60:190, 170:280]
    [answer] = Recognizer(BUNDLED_ONNX, detect_face=False)(face)
    assert list(answer) == ["label", "probs"]


def test_recognizer_takes_the_options_of_the_scripts():
    [haar] = Recognizer(BUNDLED_ONNX, detection=DetectionOptions("haar"))(ASTRONAUT)
    assert haar["score"] is None and haar["detected"] is True
    unsure = ASTRONAUT.copy()
    unsure[132:152, 195:255] = unsure[120, 225]  # without a mouth
    [plain], [flipped] = (Recognizer(BUNDLED_ONNX, tta=tta)(unsure) for tta in ("none", "flip"))
    assert plain["probs"] != flipped["probs"]
    [wide] = Recognizer(BUNDLED_ONNX, margin=0.3)(unsure)
    assert wide["box"][2] > 1.5 * flipped["box"][2] and wide["probs"] != flipped["probs"]


def test_recognizer_in_torch_gives_the_same_answers(recognizer):
    [face], [other] = recognizer(ASTRONAUT), Recognizer(BUNDLED_MODEL)(ASTRONAUT)
    assert other["probs"] == pytest.approx(face["probs"], abs=0.02)
    assert {**other, "probs": None} == {**face, "probs": None}


@pytest.mark.parametrize(
    ("picture", "problem"),
    [
        ("no.jpg", "no.jpg: No such file"),
        (np.zeros((4, 4), complex), "an array of complex128 (4, 4) is not a picture"),
        (np.zeros((4, 4, 9), np.uint8), "is not a picture: uint8"),
    ],
    ids=["missing", "complex", "nine channels"],
)
def test_recognizer_names_what_it_cannot_read(recognizer, picture, problem):
    with pytest.raises(StageError) as error:
        recognizer(picture)
    assert problem in str(error.value)
