"""Models in ONNX files: predictions and views, and files that are refused."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from utils.errors import StageError
from utils.inference.face_classifier import load_model
from utils.inference.model_path import BUNDLED_MODEL, BUNDLED_ONNX
from utils.inference.onnx_model import BATCH, METADATA_KEY, OnnxModel, log_softmax


@pytest.fixture(scope="module")
def model():
    return OnnxModel(BUNDLED_ONNX)


def random_images(count: int) -> np.ndarray:
    return np.random.default_rng(count).integers(0, 256, (count, 1, 48, 48), np.uint8)


def test_log_probs_do_not_depend_on_the_batch(model):
    images = random_images(2 * BATCH + 3)
    whole = model.log_probs(images)
    assert np.exp(whole).sum(1) == pytest.approx(1)
    for i in (0, BATCH - 1, BATCH, 2 * BATCH + 2):
        assert model.log_probs(images[i : i + 1])[0] == pytest.approx(whole[i], abs=1e-5)


def test_log_probs_of_flip_are_those_of_torch(model):
    images = random_images(3)
    plain, mirrored = model.log_probs(images), model.log_probs(images[..., ::-1])
    expected = np.log((np.exp(plain) + np.exp(mirrored)) / 2)
    assert model.log_probs(images, "flip") == pytest.approx(expected, abs=1e-5)
    # The file's weights were rounded to float16 with batch normalization in them.
    assert load_model(BUNDLED_MODEL).log_probs(images, "flip") == pytest.approx(expected, abs=5e-3)
    with pytest.raises(StageError, match=r"--tta tencrop needs the model as a \.pt file"):
        model.log_probs(images, "tencrop")


def test_log_probs_refuses_nan(model, monkeypatch):
    monkeypatch.setattr(model, "_run", lambda inputs: np.full((len(inputs), 7), np.nan))
    with pytest.raises(StageError, match="outputs are NaN"):
        model.log_probs(random_images(1))


def test_log_softmax_of_large_outputs():
    assert log_softmax(np.array([[1000.0, 1000.0]])) == pytest.approx(-np.log(2))


def test_model_names_what_ran_it_and_cannot_be_calibrated(model):
    environment = model.environment()
    assert environment.keys() == {"onnxruntime", "toolkit", "device"} and all(environment.values())
    assert model.parameters is None
    for method in (model.check_calibration, lambda path: model.save_calibration(path, model.info)):
        with pytest.raises(StageError, match=r"calibrate the \.pt file, and export it again"):
            method(BUNDLED_ONNX)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "is not an ONNX file that can be run"),
        (b"<html>not found</html>", "is not an ONNX file that can be run"),
        (None, "no such file; python export.py writes one"),
    ],
)
def test_broken_files_are_refused_in_a_line(tmp_path, capfd, content, problem):
    path = tmp_path / "x.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(StageError, match=problem) as error:
        load_model(path)
    assert "\n" not in str(error.value) and capfd.readouterr().err == ""


def test_cut_off_file_is_refused(tmp_path):
    path = tmp_path / "x.onnx"
    path.write_bytes(BUNDLED_ONNX.read_bytes()[:100_000])
    with pytest.raises(StageError, match="is not an ONNX file that can be run"):
        OnnxModel(path)


@pytest.mark.parametrize("text", [None, "", "{}", "[1]"])
def test_file_without_a_description_is_refused(tmp_path, text):
    content = onnx.load_from_string(BUNDLED_ONNX.read_bytes())
    onnx.helper.set_model_props(content, {} if text is None else {METADATA_KEY: text})
    path = tmp_path / "x.onnx"
    path.write_bytes(content.SerializeToString())
    with pytest.raises(StageError, match=r"does not describe its model as export\.py does"):
        OnnxModel(path)


def test_contradicting_sizes_are_refused():
    with pytest.raises(StageError, match=r"--image_size 64 contradicts .* trained with 48"):
        load_model(BUNDLED_ONNX, image_size=64)
    with pytest.raises(StageError, match=r"--image_channel 3 contradicts .* trained with 1"):
        load_model(BUNDLED_ONNX, image_channel=3)
