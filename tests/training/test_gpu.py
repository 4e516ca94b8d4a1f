"""Training on a GPU, as far as it can be tested without one.

These tests need none: torch's fake tensors have a device, a type and a layout, but no values. They
refuse operations between devices. tests/gpu has the tests that need one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

import models
from tests.trainings import CPU, REMEMBERED_RECIPE, equal_bits, small_dataset, small_network
from utils.data.dataset import Dataset
from utils.data.enlarged import enlarge
from utils.data.image_folder import Sample
from utils.imaging.preprocess import Preprocess
from utils.inference.checkpoint import Checkpoint
from utils.inference.predict import predict_log_probs
from utils.training import ema as ema_module
from utils.training import step_graph
from utils.training import trainer as trainer_module
from utils.training.augment import Augment
from utils.training.batches import BatchPlan
from utils.training.distillation import Teacher
from utils.training.distributed import Distributed
from utils.training.loss import cross_entropy_sum
from utils.training.mixing import Mixing
from utils.training.step_graph import tensors_in
from utils.training.targets import one_hot
from utils.training.trainer import Recipe, Trainer, TrainingSet

GPU = torch.device("cuda", 0)
CLASSES = ["a", "b", "c"]
SIZE = 48
OPTIMIZERS = ["adadelta", "adam", "adamw", "sgd"]
ALL_CHANGES = Augment(
    rotation=9, crop=2, erase=0.5, brightness=0.2, zoom=0.1, shear=5, contrast=0.2
)
# Everything that a step can do without a look at its results.
FULL_RECIPE = Recipe(
    epochs=2, batch_size=8, lr=0.01, schedule="cosine", warmup=1, clip=1, ema=0.9,
    label_smoothing=0.1, mixing=Mixing(0.2, 0.2), amp="bf16", augment=ALL_CHANGES,
)  # fmt: skip


class Crossings(TorchDispatchMode):
    """Notes the operations by which values move between devices, or to Python."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        values = [*args, *(kwargs or {}).values(), result]
        flat = (*values, *(item for v in values if isinstance(v, list) for item in v))
        # A number that Python passes to an operation is an argument of its kernel.
        tensors = [t for t in tensors_in(flat) if t.dim() or t.device.type != "cpu"]
        if len({t.device for t in tensors}) > 1 or "_local_scalar" in str(func):
            self.names.append(str(func))
        return result


def make_data(images: torch.Tensor) -> TrainingSet:
    samples = [Sample(Path(f"{i}.png"), i % 3) for i in range(len(images))]
    data = Dataset(samples, [], Preprocess(SIZE, images.shape[1]), images, "")
    return TrainingSet(data, one_hot(samples, CLASSES), torch.tensor([0.5, 1, 1.5]))


@contextmanager
def fake_gpu(monkeypatch) -> Iterator[None]:
    """A GPU without values. Networks are made outside, and move to it."""
    monkeypatch.setattr(torch.cuda.amp.common, "amp_definitely_not_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *_: True)
    with FakeTensorMode(allow_non_fake_inputs=True):
        yield


@contextmanager
def fake_trainer(
    name: str, recipe: Recipe, monkeypatch, teacher: Teacher | None = None
) -> Iterator[Trainer]:
    """A trainer on a fake GPU, which has no backward pass: gradients are zeros."""
    model, average = (models.create(name, 3, 3, SIZE) for _ in range(2))

    def deepcopy(_: nn.Module) -> nn.Module:  # fake tensors have none
        return average.to(GPU, memory_format=torch.channels_last)

    def backward(loss: torch.Tensor) -> None:
        assert loss.device == GPU and loss.dtype == torch.float32 and loss.requires_grad
        for weights in trainer.model.parameters():
            weights.grad = torch.zeros_like(weights)

    def fused(*args: object, lr: object, **kwargs: object) -> None:  # nor have these
        lists = tuple(tuple(arg) if isinstance(arg, list) else arg for arg in args)
        assert {tensor.device for tensor in tensors_in((lists, lr))} == {GPU}
        assert isinstance(lr, torch.Tensor) == recipe.cuda_graph

    for kind in ("_fused_sgd_", "_fused_adam_", "_fused_adamw_"):
        monkeypatch.setattr(torch, kind, fused)
    monkeypatch.setattr(ema_module.copy, "deepcopy", deepcopy)
    monkeypatch.setattr(torch.Tensor, "backward", backward)
    with fake_gpu(monkeypatch):
        images = torch.zeros(20, 3, SIZE, SIZE, dtype=torch.uint8, device=GPU)
        trainer = Trainer(model, make_data(images), recipe, Distributed(GPU), teacher)
        trainer._uses_graph = False  # there is nothing to record
        yield trainer


def train_batches(trainer: Trainer, plans: list[BatchPlan]) -> None:
    for plan, images in trainer._load_batches(plans):
        loss = trainer._train_batch(plan, images)
        assert loss.device == GPU and loss.dtype == torch.float64
        trainer._loss_sum += loss


def test_no_value_moves_between_devices_in_a_step_with_sharpness(monkeypatch):
    recipe = replace(FULL_RECIPE, optimizer="sgd", sam=0.05, cuda_graph=False)
    with fake_trainer("emotionnet", recipe, monkeypatch) as trainer:
        plans = trainer.planner.plan(1)
        with Crossings() as crossings:
            train_batches(trainer, plans)
    assert crossings.names == []


def test_no_value_moves_between_devices_in_a_step_with_teachers(monkeypatch, tmp_path):
    paths = [tmp_path / "in_order.pt", tmp_path / "reversed.pt"]
    preprocess, weights = Preprocess(SIZE, 3), models.create("emotionnet", 3, 3, SIZE).state_dict()
    for path, classes in zip(paths, (CLASSES, CLASSES[::-1]), strict=True):
        Checkpoint("emotionnet", classes, preprocess.to_dict(), 1, 0.5, weights).save(path)
    teacher = Teacher(paths, CLASSES, preprocess, 0.5)
    with fake_trainer("emotionnet", FULL_RECIPE, monkeypatch, teacher) as trainer:
        plans = trainer.planner.plan(1)
        with Crossings() as crossings:
            train_batches(trainer, plans)
    assert crossings.names == []


def test_small_images_are_enlarged_where_they_are(monkeypatch):
    with fake_gpu(monkeypatch), Crossings() as crossings:
        large = enlarge(torch.zeros(5, 3, 8, 8, dtype=torch.uint8, device=GPU), 20)
    assert (large.device, large.dtype, large.shape) == (GPU, torch.uint8, (5, 3, 20, 20))
    assert crossings.names == []


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("cuda_graph", [True, False])
def test_no_value_moves_between_devices_in_a_step(optimizer, cuda_graph, monkeypatch):
    recipe = replace(FULL_RECIPE, optimizer=optimizer, cuda_graph=cuda_graph)
    with fake_trainer("emotionnet", recipe, monkeypatch) as trainer:
        [group, *_] = trainer.optimizer.param_groups
        assert isinstance(group["lr"], torch.Tensor) == cuda_graph
        assert group.get("fused", False) == (optimizer != "adadelta")
        plans = trainer.planner.plan(1)
        with Crossings() as crossings:
            train_batches(trainer, plans)
    assert [plan.batch_rows for plan in plans] == [8, 8, 4] and crossings.names == []
    memory = [v for values in trainer.optimizer.state.values() for v in values.values()]
    on_gpu = [*memory, *trainer.model.state_dict().values()]
    if optimizer == "adadelta" and not cuda_graph:  # it counts its steps on the host
        on_gpu = [value for value in on_gpu if value.dim()]
    assert {tensor.device for tensor in on_gpu} == {GPU}


@pytest.mark.parametrize(
    "name",
    ["emotionnet", "resnet18", "vgg19", pytest.param("efficientnet-b4", marks=pytest.mark.slow)],
)
def test_a_network_runs_in_16_bits_with_its_channels_last(name, monkeypatch):
    layers = []

    def loss(outputs: torch.Tensor, *args: object) -> torch.Tensor:
        assert outputs.dtype == torch.float32
        return cross_entropy_sum(outputs, *args)

    monkeypatch.setattr(trainer_module, "cross_entropy_sum", loss)
    with fake_trainer(name, replace(FULL_RECIPE, ema=0), monkeypatch) as trainer:

        def look(layer: nn.Module, inputs: tuple[torch.Tensor], output: torch.Tensor) -> None:
            layers.append((layer, inputs[0], output))

        trainer.model.register_forward_hook(look)
        for layer in trainer.model.modules():
            if isinstance(layer, nn.Conv2d):
                layer.register_forward_hook(look)
        train_batches(trainer, trainer.planner.plan(1)[:1])
        *convolutions, (_, images, outputs) = layers
        assert (images.dtype, outputs.shape) == (torch.float32, (8, 3))
        assert images.is_contiguous(memory_format=torch.channels_last)
        for layer, _, result in convolutions:
            assert result.device == GPU and result.dtype == torch.bfloat16
            assert layer.weight.is_contiguous(memory_format=torch.channels_last)
            assert layer.weight.dtype == torch.float32
    assert len(convolutions) > 4


def test_a_copy_that_waits_is_noticed(monkeypatch):
    """What the tests above rely on."""
    with fake_gpu(monkeypatch), Crossings() as crossings:
        on_gpu = torch.zeros(4, device=GPU)
        on_gpu * 2 + torch.tensor(1.0)  # numbers in a kernel's arguments
        assert crossings.names == []
        torch.zeros(4).to(GPU)
        on_gpu.copy_(torch.zeros(4))
        assert len(crossings.names) == 2
        with pytest.raises(DataDependentOutputException):
            on_gpu.sum().item()


def test_predictions_are_fetched_once(monkeypatch):
    model = models.create("emotionnet", 3, 1, SIZE)
    with fake_gpu(monkeypatch):
        model = model.to(GPU, memory_format=torch.channels_last)
        images = torch.zeros(20, 1, SIZE, SIZE, dtype=torch.uint8, device=GPU)
        batches = make_data(images).images.in_order(0, 20, 8, GPU)
        with Crossings() as crossings, pytest.raises(DataDependentOutputException):
            predict_log_probs(model, batches)  # up to its look for NaN
    assert len(crossings.names) == 1


def test_a_step_with_its_backward_pass_fetches_nothing():
    """On the CPU, where fake tensors have no part: the backward pass is a real one."""
    recipe = replace(REMEMBERED_RECIPE, accumulate=1)
    data = small_dataset(23)
    answers = one_hot(data.samples, CLASSES)
    trainer = Trainer(small_network(), TrainingSet(data, answers), recipe, CPU)
    trainer.model.train()
    plans = trainer.planner.plan(1)
    with Crossings() as crossings:
        for plan, images in trainer._load_batches(plans):
            trainer._loss_sum += trainer._train_batch(plan, images)
    assert crossings.names == []


def replays_on_the_host(monkeypatch) -> list[int]:
    """A stand-in for CUDA graphs: a replay runs the step. Return the sizes of its batches."""
    sizes = []

    def record(function):
        def replay() -> torch.Tensor:
            sizes.append(1)
            return function()

        return replay

    monkeypatch.setattr(trainer_module, "_can_record", lambda *_: True)
    monkeypatch.setattr(step_graph, "record", record)
    return sizes


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_training_in_graphs_is_the_eager_one(optimizer, monkeypatch):
    """Short batches are eager. Without a GPU, the same bits."""
    recipe = replace(
        FULL_RECIPE, optimizer=optimizer, batch_size=4, amp="off", lr=2**-6, schedule="none",
        warmup=0,
    )  # fmt: skip
    data = small_dataset(23)
    data = TrainingSet(data, one_hot(data.samples, CLASSES))
    replays = replays_on_the_host(monkeypatch)
    eager, graphed = (Trainer(small_network(), data, recipe, CPU) for _ in range(2))
    eager._uses_graph = False
    for trainer in (eager, graphed):
        for group in trainer.optimizer.param_groups:
            group["capturable"] = False  # which torch refuses on a CPU
    losses = [t.train_epoch(lambda: None, "")[0] for _ in range(2) for t in (eager, graphed)]
    assert losses[0] == losses[1] and losses[2] == losses[3]
    assert len(replays) == 1 + 2 * 5 and eager.planner.sizes == [4] * 5 + [3]
    for name in ("model", "best_model"):
        one, other = (dict(getattr(t, name).state_dict()) for t in (eager, graphed))
        assert equal_bits(one, other)
    assert eager.lr == graphed.lr and graphed.is_recorded and not eager.is_recorded
    graphed.load_state(eager.best_model.state_dict(), eager.state())
    assert not graphed.is_recorded  # a graph belongs to the tensors of its optimizer
