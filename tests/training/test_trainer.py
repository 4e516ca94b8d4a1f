"""The trainer: what a step is, and a state that continues as if nothing had happened."""

from __future__ import annotations

import copy
import io
from contextlib import suppress
from dataclasses import replace

import pytest
import torch
from torch import nn

from tests.trainings import (
    CLASSES,
    CPU,
    PLAIN_AUGMENT,
    REMEMBERED_RECIPE,
    equal_bits,
    small_dataset,
    small_network,
    small_trainer,
)
from utils.errors import StageError
from utils.training import targets
from utils.training import trainer as trainer_module
from utils.training.mixing import Mixing
from utils.training.trainer import Progress, Recipe, Trainer, TrainingSet


def do_nothing() -> None:
    pass


def train(trainer: Trainer, epochs: int) -> list[float]:
    """Train to the end of some more epochs. Return their losses."""
    return [trainer.train_epoch(do_nothing, "")[0] for _ in range(epochs)]


def linear_trainer(recipe: Recipe, count: int, weights: torch.Tensor | None = None) -> Trainer:
    torch.manual_seed(0)
    data = small_dataset(count)
    answers = targets.one_hot(data.samples, CLASSES)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    return Trainer(model, TrainingSet(data, answers, weights), recipe, CPU)


class StoppedError(Exception):
    """Raised in the middle of an epoch, as by a signal."""


def stop_after(steps: int, trainer: Trainer) -> tuple[dict, dict]:
    """Train for some steps. Return the weights and the state after them, read from a file."""
    file = io.BytesIO()

    def after_step() -> None:
        nonlocal steps
        steps -= 1
        if not steps:
            torch.save((trainer.best_model.state_dict(), trainer.state()), file)
            raise StoppedError

    with suppress(StoppedError):
        for _ in range(trainer.recipe.epochs):
            trainer.train_epoch(after_step, "")
    assert not steps, "the training has fewer steps"
    file.seek(0)
    return torch.load(file, weights_only=True)


@pytest.mark.parametrize("steps", range(1, 10))
def test_trainer_resumes_from_every_step_bit_for_bit(steps):
    undisturbed, resumed = small_trainer(), small_trainer()
    losses = train(undisturbed, 3)
    assert undisturbed.planner.steps_per_epoch == 3
    weights, state = stop_after(steps, small_trainer())
    torch.manual_seed(12345)  # another process has another random state
    resumed.load_state(weights, state)
    assert resumed.progress.epoch == (steps - 1) // 3 + 1
    remaining = 4 - resumed.progress.epoch
    assert train(resumed, remaining) == losses[-remaining:]
    assert equal_bits(resumed.state(), undisturbed.state())
    for name in ("model", "best_model"):
        ours, theirs = (getattr(t, name).state_dict() for t in (resumed, undisturbed))
        assert equal_bits(dict(ours), dict(theirs))


@pytest.mark.parametrize("optimizer", ["adadelta", "adam", "adamw", "sgd"])
def test_trainer_state_holds_what_each_optimizer_remembers(optimizer):
    recipe = replace(REMEMBERED_RECIPE, optimizer=optimizer, ema=0)
    undisturbed, stopped, resumed = (small_trainer(recipe) for _ in range(3))
    losses = train(undisturbed, 2)
    resumed.load_state(*stop_after(4, stopped))
    assert train(resumed, 1) == losses[1:]
    assert equal_bits(resumed.state(), undisturbed.state())


def test_trainer_resumes_with_the_optimizer_settings_of_its_own_recipe():
    def make(decay: float, momentum: float) -> Trainer:
        return small_trainer(Recipe(2, 4, 0.1, "sgd", decay, momentum))

    before, after = make(5e-4, 0.9), make(0.1, 0.5)
    train(before, 1)
    after.load_state(before.best_model.state_dict(), before.state())
    [group] = after.optimizer.param_groups
    assert (group["weight_decay"], group["momentum"]) == (0.1, 0.5)


def test_train_epoch_returns_loss_and_speed_and_advances():
    trainer = small_trainer()
    calls = []
    loss, rate = trainer.train_epoch(lambda: calls.append(trainer.progress.batch), "")
    assert 0 < loss < 10 and rate > 0
    assert calls == [2, 4, 6] and trainer.progress == Progress(2, 0)


def test_train_epoch_sets_the_rate_of_the_schedule():
    recipe = Recipe(2, 4, 0.4, "sgd", schedule="cosine", warmup=1)
    trainer, rates = linear_trainer(recipe, 13), []
    for _ in range(2):
        trainer.train_epoch(lambda: rates.append(trainer.lr), "")
    assert rates == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.3, 0.1])


def test_train_epoch_refuses_a_loss_that_is_not_finite():
    trainer = linear_trainer(Recipe(1, 4, 0.5, "sgd"), 13)
    trainer.model[1].weight.data.fill_(torch.nan)
    with pytest.raises(StageError, match=r"epoch 1/1: the loss is nan; .*lower --lr than 0\.5"):
        train(trainer, 1)


def test_train_epoch_checks_the_loss_before_the_epoch_ends(monkeypatch):
    monkeypatch.setattr(trainer_module, "CHECK_EVERY", 2)
    trainer, steps = linear_trainer(Recipe(1, 2, 0.1, "sgd"), 40), []

    def break_third_step() -> None:
        steps.append(1)
        if len(steps) == 2:
            trainer.model[1].weight.data.fill_(torch.nan)

    with pytest.raises(StageError):
        trainer.train_epoch(break_third_step, "")
    assert len(steps) == 3


def test_a_state_whose_loss_is_not_finite_cannot_be_saved():
    trainer = linear_trainer(Recipe(1, 4, 0.1, "sgd"), 13)
    trainer._loss_sum.fill_(torch.inf)
    with pytest.raises(StageError, match=r"epoch 1/1: the loss is inf"):
        trainer.state()


def test_epoch_end_resumes_before_the_validation():
    undisturbed, stopped, resumed = (small_trainer() for _ in range(3))
    losses = train(undisturbed, 2)
    train(stopped, 1)
    state = copy.deepcopy(stopped.state() | stopped.epoch_end)
    assert (state["epoch"], state["batch"]) == (1, 6)
    resumed.load_state(stopped.best_model.state_dict(), state)
    assert train(resumed, 2) == losses
    assert equal_bits(resumed.state(), undisturbed.state())


def test_accumulation_does_what_one_large_batch_does():
    """Without anything random in the network, two batches of 8 a step are one of 16."""
    losses, weights = [], []
    for size, accumulate in ((16, 1), (8, 2)):
        recipe = Recipe(1, size, 0.01, "sgd", accumulate=accumulate, augment=PLAIN_AUGMENT)
        trainer = linear_trainer(recipe, 69)
        losses.append(train(trainer, 1)[0])
        weights.append(trainer.model[1].weight.detach())
        assert trainer.planner.steps_per_epoch == 5
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)
    torch.testing.assert_close(*weights)


def test_a_training_is_what_it_is_defined_as():
    """Every setting at once, beside the same in plain lines."""
    weights = torch.tensor([0.5, 1.0, 2.0])
    recipe = Recipe(
        epochs=2, batch_size=4, lr=0.2, optimizer="sgd", weight_decay=0.01, momentum=0.8,
        schedule="cosine", warmup=1, clip=0.3, ema=0.7, label_smoothing=0.1, mixing=Mixing(0.4),
        augment=PLAIN_AUGMENT,
    )  # fmt: skip
    trainer = linear_trainer(recipe, 13, weights)
    plain, average = copy.deepcopy(trainer.model), copy.deepcopy(trainer.model)
    data, planner = trainer.data.images, trainer.planner
    answers = targets.one_hot(data.samples, CLASSES)
    plans = [planner.plan(epoch) for epoch in (1, 2)]
    assert [[plan.step_rows for plan in epoch] for epoch in plans] == [[4, 4, 5], [4, 4, 5]]
    losses = train(trainer, 2)

    sgd = torch.optim.SGD(plain.parameters(), lr=0.2, momentum=0.8, weight_decay=0.01)
    factors = [0.25, 0.5, 0.75, 1, 0.75, 0.25]  # a rise over an epoch, and half a cosine
    for epoch, loss_of_all in zip(plans, losses, strict=True):
        loss_sum = 0.0
        for plan in epoch:
            images, labels = data.images[plan.indices] / 255, answers[plan.indices]
            mixed = [
                plan.mix_weight * values + (1 - plan.mix_weight) * values[plan.mix_rows]
                for values in (images, labels)
            ]
            row_weights = (weights * mixed[1]).sum(1)
            labels = 0.9 * mixed[1] + 0.1 / 3
            loss = -(row_weights * (labels * plain(mixed[0]).log_softmax(1)).sum(1)).sum()
            loss_sum += loss.item()
            sgd.zero_grad()
            (loss / plan.step_rows).backward()
            norm = sum((p.grad**2).sum() for p in plain.parameters()).sqrt()
            assert norm > 0.3, "nothing to clip"
            for p in plain.parameters():
                p.grad *= 0.3 / norm
            sgd.param_groups[0]["lr"] = 0.2 * factors[0]
            sgd.step()
            decay = min(0.7, (8 - len(factors)) / (17 - len(factors)))
            for mean, now in zip(average.parameters(), plain.parameters(), strict=True):
                mean.data = decay * mean.data + (1 - decay) * now.data
            del factors[0]
        assert loss_of_all == pytest.approx(loss_sum / 13, rel=1e-5)
    for ours, theirs in ((trainer.model, plain), (trainer.best_model, average)):
        for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_the_newer_settings_are_what_they_are_defined_as():
    """Nesterov, plateau, mixup or CutMix, and sharpness, beside the same in plain lines."""
    recipe = Recipe(
        epochs=3, batch_size=4, lr=0.2, optimizer="sgd", weight_decay=0.01, momentum=0.8,
        nesterov=True, schedule="plateau", plateau_factor=0.5, plateau_patience=0, sam=0.3,
        mixing=Mixing(0.4, 1.0), label_smoothing=0.1, augment=PLAIN_AUGMENT,
    )  # fmt: skip
    weights = torch.tensor([0.5, 1.0, 2.0])
    trainer = linear_trainer(recipe, 29, weights)
    plain = copy.deepcopy(trainer.model)
    data, accuracies = trainer.data.images.images, [0.5, 0.4, 0.6]
    plans = [trainer.planner.plan(epoch) for epoch in (1, 2, 3)]
    kinds = {bool(plan.mix_box.any()) for epoch in plans for plan in epoch}
    assert kinds == {True, False}, "both ways to mix"
    losses = []
    for accuracy in accuracies:
        losses += train(trainer, 1)
        trainer.accuracies.append(accuracy)

    sgd = torch.optim.SGD(plain.parameters(), 0.2, 0.8, weight_decay=0.01, nesterov=True)
    schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(sgd, "max", 0.5, patience=0)
    rates = []

    def loss_of(images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        rows = (0.9 * labels + 0.1 / 3) * plain(images).log_softmax(1)
        return -((weights * labels).sum(1) * rows.sum(1)).sum()

    for epoch, loss_of_all, accuracy in zip(plans, losses, accuracies, strict=True):
        loss_sum = 0.0
        rates.append(sgd.param_groups[0]["lr"])
        for plan in epoch:
            images, labels = data[plan.indices] / 255, plan.targets
            others = images[plan.mix_rows]
            top, bottom, left, right = map(int, plan.mix_box)
            share = plan.mix_weight
            if bottom > top and right > left:
                images = images.clone()
                images[:, :, top:bottom, left:right] = others[:, :, top:bottom, left:right]
                share = torch.tensor(1 - (bottom - top) * (right - left) / 64)
            elif not plan.mix_box.any():
                images = share * images + (1 - share) * others
            labels = share * labels + (1 - share) * labels[plan.mix_rows]
            loss = loss_of(images, labels)
            loss_sum += loss.item()
            gradients = torch.autograd.grad(loss / len(images), list(plain.parameters()))
            norm = sum((gradient**2).sum() for gradient in gradients).sqrt()
            for p, gradient in zip(plain.parameters(), gradients, strict=True):
                p.data += 0.3 * gradient / norm
            sgd.zero_grad()
            (loss_of(images, labels) / len(images)).backward()
            for p, gradient in zip(plain.parameters(), gradients, strict=True):
                p.data -= 0.3 * gradient / norm
            sgd.step()
        assert loss_of_all == pytest.approx(loss_sum / 29, rel=1e-4)
        schedule.step(accuracy)
    assert rates == [0.2, 0.2, 0.1] and trainer.lr == pytest.approx(0.1)
    for one, other in zip(trainer.model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)


NEWER_RECIPE = replace(
    REMEMBERED_RECIPE, accumulate=1, schedule="plateau", plateau_patience=0, nesterov=True, sam=0.1,
    mixing=Mixing(0.2, 1.0),
    augment=replace(REMEMBERED_RECIPE.augment, shear=9, contrast=0.2, p=0.5),
)  # fmt: skip


@pytest.mark.parametrize("steps", [1, 7, 9])
def test_trainer_with_the_newer_settings_resumes_bit_for_bit(steps):
    undisturbed, stopped, resumed = (small_trainer(NEWER_RECIPE) for _ in range(3))
    for trainer in (undisturbed, stopped, resumed):
        trainer.accuracies = [0.5, 0.5]
    losses = train(undisturbed, 2)
    resumed.load_state(*stop_after(steps, stopped))
    assert undisturbed.lr == resumed.recipe.lr * 0.75
    remaining = 3 - resumed.progress.epoch
    assert train(resumed, remaining) == losses[-remaining:]
    assert equal_bits(resumed.state(), undisturbed.state())


def test_sharpness_leaves_batch_norm_one_step_a_batch():
    """And its statistics are those of the weights that the step begins with."""
    ordinary, sharp = (small_trainer(Recipe(1, 23, 0.1, "sgd", sam=sam)) for sam in (0.0, 5.0))
    for trainer in (ordinary, sharp):
        train(trainer, 1)
    for one, other in zip(ordinary.model.buffers(), sharp.model.buffers(), strict=True):
        assert torch.equal(one, other)
    assert not torch.equal(ordinary.model[5].weight, sharp.model[5].weight)


def test_sharpness_drops_the_same_units_twice():
    """So that a very short look around finds the gradient of the ordinary step."""
    ordinary, sharp = (small_trainer(Recipe(1, 4, 0.1, "sgd", sam=sam)) for sam in (0.0, 1e-9))
    assert train(ordinary, 1) == pytest.approx(train(sharp, 1), rel=1e-5)
    for one, other in zip(ordinary.model.parameters(), sharp.model.parameters(), strict=True):
        torch.testing.assert_close(one, other)


def test_a_run_that_decays_all_parameters_goes_on_so():
    """A state of the optimizer that older versions wrote: one group, in the model's order."""
    recipe = Recipe(2, 23, 0.01, "adamw", weight_decay=0.5, augment=PLAIN_AUGMENT)
    old, resumed = small_trainer(recipe), small_trainer(recipe)
    assert [len(g["params"]) for g in old.optimizer.param_groups] == [2, 4]
    old.optimizer = torch.optim.AdamW(old.model.parameters(), lr=0.01, weight_decay=0.5)
    train(old, 1)
    weights, state = copy.deepcopy((old.best_model.state_dict(), old.state()))
    assert len(state["optimizer"]["param_groups"]) == 1
    losses = train(old, 1)
    resumed.load_state(weights, state)
    assert train(resumed, 1) == losses
    assert equal_bits(resumed.state(), old.state())
    assert equal_bits(dict(resumed.model.state_dict()), dict(old.model.state_dict()))
    [group] = resumed.optimizer.param_groups
    assert group["weight_decay"] == 0.5
    # A new run decays less: norm layers and biases keep their size.
    new = small_trainer(recipe)
    train(new, 2)
    assert not torch.equal(new.model[1].weight, old.model[1].weight)


def test_first_batch_is_that_of_the_first_epoch_and_changes_nothing():
    trainer = small_trainer(replace(REMEMBERED_RECIPE, mixing=Mixing(), augment=PLAIN_AUGMENT))
    before = trainer.state()
    images, answers = trainer.first_batch()
    batch = trainer.planner.plan(1)[0].indices
    torch.testing.assert_close(images, trainer.data.images.images[batch] / 255)
    assert torch.equal(answers, trainer.data.targets[batch])
    assert equal_bits(trainer.state(), before)


def test_first_batch_is_augmented_mixed_and_softened():
    class Teacher:
        def to(self, device: torch.device) -> None:
            pass

        def soften(self, images: torch.Tensor, answers: torch.Tensor) -> torch.Tensor:
            return answers + 10

    data = small_dataset(23)
    answers = targets.one_hot(data.samples, CLASSES)
    trainer = Trainer(
        small_network(), TrainingSet(data, answers), REMEMBERED_RECIPE, CPU, Teacher()
    )
    images, softened = trainer.first_batch()
    plan = trainer.planner.plan(1)[0]
    rows, mix_rows = plan.indices, plan.indices[plan.mix_rows]
    mixed = torch.lerp(answers[mix_rows], answers[rows], plan.mix_weight)
    torch.testing.assert_close(softened, mixed + 10)
    unchanged = torch.lerp(data.images[mix_rows] / 255, data.images[rows] / 255, plan.mix_weight)
    assert (images - unchanged).abs().max() > 0.1


def test_best_model_is_the_average_if_there_is_one():
    averaged, plain = small_trainer(), small_trainer(replace(REMEMBERED_RECIPE, ema=0))
    assert averaged.best_model is averaged.ema.model and plain.best_model is plain.model


def test_trainer_learns_in_fp16_and_bf16():
    for amp in ("bf16", "fp16"):
        for sam in (0.0, 0.05):
            recipe = Recipe(1, 4, 0.01, "adam", amp=amp, sam=sam)
            trainer = small_trainer(recipe)
            first, *_, last = train(trainer, 8)
            assert last < first and {p.dtype for p in trainer.model.parameters()} == {torch.float32}


def test_state_refuses_weights_that_the_last_step_has_broken():
    """The loss is that before the step. The last good state stays on the disk."""
    trainer = linear_trainer(Recipe(1, 4, 0.1, "sgd"), 13)
    trainer.state()
    for broken in (torch.nan, torch.inf):
        trainer.model[1].weight.data[0, 0] = broken
        with pytest.raises(StageError, match=r"epoch 1/1: a weight is not a finite number; try a"):
            trainer.state()


def test_trainer_compiles_for_full_and_last_batches_not_for_any_size(monkeypatch):
    settings = []
    monkeypatch.setattr(torch, "compile", lambda model, **kw: settings.append(kw) or model)
    train(linear_trainer(Recipe(1, 4, 0.1, "sgd", compile=True), 13), 1)
    assert settings == [{"dynamic": False}]


def test_trainer_seeds_dropout_on_its_device_alone(monkeypatch):
    seeds = []
    trainer = linear_trainer(Recipe(1, 4, 0.1, "sgd"), 13)
    plans = trainer.planner.plan(1)
    monkeypatch.setattr(torch.cuda, "manual_seed", lambda seed: seeds.append(("cuda", seed)))
    monkeypatch.setattr(torch, "manual_seed", lambda seed: seeds.append(("cpu", seed)))
    for device in ("cpu", "cuda"):
        trainer.distributed = replace(CPU, device=torch.device(device))
        trainer._begin_batch(plans[1])
    assert seeds == [("cpu", plans[1].dropout_seed), ("cuda", plans[1].dropout_seed)]


@pytest.mark.parametrize(
    ("device", "world_size", "changes", "expected"),
    [("cuda", 1, {}, True), ("cuda", 1, {"amp": "bf16", "ema": 0.9, "clip": 1}, True),
     ("cpu", 1, {}, False), ("cuda", 2, {}, False), ("cuda", 1, {"accumulate": 2}, False),
     ("cuda", 1, {"amp": "fp16"}, False), ("cuda", 1, {"sam": 0.05}, False),
     ("cuda", 1, {"cuda_graph": False}, False)],
)  # fmt: skip
def test_steps_are_recorded_only_where_a_graph_can_hold_them(device, world_size, changes, expected):
    distributed = replace(CPU, device=torch.device(device), world_size=world_size)
    recipe = Recipe(1, 4, 0.1, "sgd", **changes)
    assert trainer_module._can_record(recipe, distributed) == expected
