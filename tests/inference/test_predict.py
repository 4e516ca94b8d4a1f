"""Predictions and the views of test-time augmentation."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from models.dropout import Dropout
from utils.errors import StageError
from utils.inference.predict import predict_log_probs, prediction_batch, tta_views


@pytest.fixture
def model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), Dropout(0.5), nn.Linear(64, 3))


@pytest.fixture
def images():
    return torch.randint(0, 256, (5, 1, 8, 8), dtype=torch.uint8)


def test_predict_log_probs_is_the_log_softmax_in_evaluation_mode(model, images):
    result = predict_log_probs(model.train(), images.split(2))
    assert not model.training and result.dtype == torch.float32
    with torch.no_grad():
        expected = model(images / 255).log_softmax(1)
    torch.testing.assert_close(result, expected)


def test_predict_log_probs_does_not_depend_on_the_batches(model, images):
    whole = predict_log_probs(model, [images])
    torch.testing.assert_close(predict_log_probs(model, images.split(1)), whole)


@pytest.mark.parametrize("size", [1, 3, 31, 32, 33, 64, 100])
def test_a_cpu_predicts_in_batches_of_its_own(model, size):
    """To the last bit, the answers do not depend on the batches that are given."""
    shown = []
    model.register_forward_hook(lambda _model, inputs, _outputs: shown.append(len(inputs[0])))
    images = torch.randint(0, 256, (75, 1, 8, 8), dtype=torch.uint8)
    whole, expected = predict_log_probs(model, [images]), shown.copy()
    assert expected == [32, 32, 11]
    shown.clear()
    assert torch.equal(predict_log_probs(model, images.split(size)), whole)
    assert shown == expected


def test_predict_log_probs_refuses_outputs_that_are_nan(model, images):
    model[2].weight.data.fill_(torch.nan)
    with pytest.raises(StageError, match=r"outputs are NaN: .*lower --lr"):
        predict_log_probs(model, [images])


def test_tta_views_are_mirrored_and_cropped_images():
    images = torch.arange(2 * 64.0).view(2, 1, 8, 8)
    assert len(tta_views(images, "none")) == 1
    plain, mirrored = tta_views(images, "flip")
    assert torch.equal(plain, images) and torch.equal(mirrored, images.flip(3))
    ten = tta_views(images, "tencrop")
    assert len(ten) == 10 and all(view.shape == images.shape for view in ten)
    assert ten[0].mean() < ten[2].mean() < ten[6].mean() and torch.equal(ten[1], ten[0].flip(3))


@pytest.mark.parametrize(("count", "calls"), [(1, [2]), (5, [10]), (40, [32, 32, 16])])
def test_tta_of_few_images_is_one_forward(model, count, calls):
    seen = []
    model.register_forward_hook(lambda module, inputs, output: seen.append(len(output)))
    images = torch.randint(0, 256, (count, 1, 8, 8), dtype=torch.uint8)
    predict_log_probs(model, [images], tta="flip")
    assert seen == calls


def test_tta_is_the_mean_probability_over_the_views(model, images):
    both = [predict_log_probs(model, [x]).exp() for x in (images, images.flip(3))]
    torch.testing.assert_close(predict_log_probs(model, [images], tta="flip").exp(), sum(both) / 2)
    with torch.no_grad():
        ten = [model(view).softmax(1) for view in tta_views(images / 255, "tencrop")]
    torch.testing.assert_close(
        predict_log_probs(model, [images], tta="tencrop").exp(), sum(ten) / 10
    )


def test_prediction_batch_fills_a_gpu_with_pixels():
    cpu, gpu = torch.device("cpu"), torch.device("cuda", 0)
    assert prediction_batch(128, 48, cpu) == 128
    assert [prediction_batch(128, size, gpu) for size in (48, 96, 224)] == [1024, 256, 128]
    assert prediction_batch(2000, 48, gpu) == 2000
