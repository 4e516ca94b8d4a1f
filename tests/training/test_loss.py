"""The loss of a batch: label smoothing and class weights together."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from utils.training import targets
from utils.training.loss import class_priors, cross_entropy_sum

WEIGHTS = torch.tensor([0.5, 1.0, 9.0])


@pytest.fixture
def outputs():
    return torch.randn(6, 3, generator=torch.Generator().manual_seed(0), requires_grad=True)


def test_a_row_counts_as_much_as_its_target(outputs):
    targets = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [0.5, 0, 0.5], [0.2, 0.3, 0.5]])
    total = cross_entropy_sum(outputs[:5], targets, WEIGHTS, 0.1)
    log_probs = outputs[:5].log_softmax(1)
    expected = 0.0
    for row, target in zip(log_probs, targets, strict=True):
        weight = sum(float(p) * float(w) for p, w in zip(target, WEIGHTS, strict=True))
        smoothed = 0.9 * target + 0.1 / 3
        expected -= weight * (smoothed * row).sum().item()
    assert total.item() == pytest.approx(expected, rel=1e-6)


def test_the_best_outputs_are_the_smoothed_target():
    """With FER2013's counts, torch's own weights taught a certain image as 18 % of a rare class."""
    counts = torch.tensor([3995, 436, 4097, 7215, 4830, 3171, 4965.0])
    weights = counts.sum() / (len(counts) * counts)
    target, outputs = torch.eye(7)[3:4], torch.zeros(1, 7, requires_grad=True)
    optimizer = torch.optim.LBFGS([outputs], max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = cross_entropy_sum(outputs, target, weights, 0.1)
        loss.backward()
        return loss

    optimizer.step(closure)
    torch.testing.assert_close(
        outputs.detach().softmax(1), 0.9 * target + 0.1 / 7, atol=1e-3, rtol=0
    )


@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_hard_labels_without_smoothing_have_the_gradients_of_torch(outputs, weights):
    targets = torch.eye(3)[[0, 2, 1, 1, 0, 2]]
    ours = cross_entropy_sum(outputs, targets, weights, 0.0)
    theirs = F.cross_entropy(outputs, targets, weights, reduction="sum")
    torch.testing.assert_close(ours, theirs)
    gradients = [torch.autograd.grad(loss, outputs)[0] for loss in (ours, theirs)]
    assert torch.equal(*gradients)


def test_without_class_weights_smoothing_is_that_of_torch(outputs):
    targets = torch.eye(3)[[0, 2, 1, 1, 0, 2]]
    ours = cross_entropy_sum(outputs, targets, None, 0.2)
    labels = targets.argmax(1)
    assert torch.equal(
        ours, F.cross_entropy(outputs, targets, label_smoothing=0.2, reduction="sum")
    )
    torch.testing.assert_close(
        ours, F.cross_entropy(outputs, labels, label_smoothing=0.2, reduction="sum")
    )


@pytest.mark.parametrize("scheme", ["none", "inverse", "effective"])
def test_class_priors_are_the_frequencies_in_the_loss(scheme):
    answers = torch.eye(3)[[0] * 30 + [1] * 10]
    answers[0] = torch.tensor([0.25, 0.25, 0.5])
    weights = targets.class_weights(answers, scheme)
    sums = [0.0, 0.0, 0.0]
    for answer in answers.tolist():
        row = 1.0
        if weights is not None:
            row = sum(p * w for p, w in zip(answer, weights.tolist(), strict=True))
        for i, p in enumerate(answer):
            sums[i] += row * p
    priors = class_priors(answers, weights)
    assert priors == pytest.approx([value / sum(sums) for value in sums], rel=1e-5)
    assert sum(priors) == pytest.approx(1)
    if scheme == "inverse":
        assert priors[0] == pytest.approx(priors[1], abs=0.02)


def test_class_priors_count_an_image_as_often_as_it_is_shown():
    answers = torch.eye(3)[[0] * 6 + [1] * 2]
    shown = targets.sample_weights(answers, "balanced")
    assert class_priors(answers, None, shown) == pytest.approx([0.5, 0.5, 0])
    weights = torch.tensor([1.0, 3.0, 1.0])
    assert class_priors(answers, weights, shown) == pytest.approx([0.25, 0.75, 0])
