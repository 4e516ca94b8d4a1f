"""Training on a real GPU: `make test-gpu`. Elsewhere these tests are skipped.

The CPU and the eager step are the definition. A GPU adds up in another order, so that losses are
compared within a tolerance.
"""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

import models
from models.dropout import set_dropout
from tests.helpers import ROOT, command
from tests.trainings import CPU, run_results
from utils.data.dataset import Dataset
from utils.data.image_folder import Sample
from utils.imaging.preprocess import Preprocess
from utils.training.augment import Augment
from utils.training.distributed import Distributed
from utils.training.mixing import Mixing
from utils.training.targets import one_hot
from utils.training.trainer import Recipe, Trainer, TrainingSet
from utils.training.validate import validate

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.slow,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU"),
]
GPU = Distributed(torch.device("cuda", 0))
CLASSES = ["a", "b", "c"]
OPTIMIZERS = {"adadelta": 0.1, "adam": 0.001, "adamw": 0.001, "sgd": 0.01}
# Everything that a recorded step may do.
FULL_RECIPE = Recipe(
    epochs=2, batch_size=16, lr=0.01, schedule="cosine", warmup=1, clip=1, ema=0.9,
    label_smoothing=0.1, mixing=Mixing(0.2, 0.2), amp="bf16",
    augment=Augment(rotation=9, crop=2, erase=0.5, brightness=0.2, zoom=0.1, shear=5, contrast=0.2),
)  # fmt: skip
SMALL_SETS = ("--amp", "bf16", "--batch_size", 8, "--optimizer", "adam", "--lr", 0.0003)


def needs_bf16(amp: str) -> None:
    if amp == "bf16" and torch.cuda.get_device_capability() < (8, 0):
        pytest.skip("this GPU has no bf16")


@pytest.fixture(autouse=True)
def deterministic_where_possible(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)  # as in train.py
    yield
    torch.cuda.set_sync_debug_mode("default")


def make_set(count: int, size: int, device: torch.device = GPU.device) -> TrainingSet:
    """Noise with a bright patch, at a place that tells the class."""
    generator = torch.Generator().manual_seed(0)
    samples = [Sample(Path(f"{i}.png"), i % 3) for i in range(count)]
    images = torch.randint(0, 100, (count, 1, size, size), dtype=torch.uint8, generator=generator)
    for i in range(count):
        images[i, :, : size // 2, size // 4 * (i % 3) : size // 4 * (i % 3 + 1)] += 150
    data = Dataset(samples, [], Preprocess(size, 1), images.to(device), "")
    return TrainingSet(data, one_hot(samples, CLASSES), torch.tensor([0.5, 1, 1.5]))


def make_network(name: str, size: int, dropout: float | None = None) -> nn.Module:
    torch.manual_seed(0)
    model = models.create(name, 3, 1, size)
    if dropout is not None:
        set_dropout(model, dropout)
    return model


def make_trainer(recipe: Recipe, device: Distributed = GPU, name: str = "emotionnet") -> Trainer:
    data = make_set(16 * 6 + 5, 48, device.device)
    return Trainer(make_network(name, 48), data, recipe, device)


def train(trainer: Trainer, epochs: int) -> list[float]:
    return [trainer.train_epoch(lambda: None, "")[0] for _ in range(epochs)]


def weights_of(trainer: Trainer) -> torch.Tensor:
    return torch.cat([p.detach().cpu().flatten() for p in trainer.best_model.parameters()])


def is_close(one: list[float], other: list[float], tolerance: float = 0.02) -> bool:
    return one == pytest.approx(other, rel=tolerance)


# --- what a step computes


@pytest.mark.parametrize("amp", ["bf16", "fp16", "off"])
@pytest.mark.parametrize("name", models.NETWORKS)
def test_every_network_has_the_losses_of_the_cpu(name, amp):
    """Two steps, without dropout, whose random numbers are the device's."""
    needs_bf16(amp)
    size = {"vgg24": 64}.get(name, 48)
    recipe = Recipe(1, 8, 1e-4, "sgd", augment=FULL_RECIPE.augment)
    losses = []
    for distributed, precision in ((CPU, "off"), (GPU, amp)):
        model = make_network(name, size, dropout=0)
        for module in model.modules():  # EfficientNet's stochastic depth
            if hasattr(module, "_global_params"):
                module._global_params = module._global_params._replace(drop_connect_rate=0)
        data = make_set(16, size, distributed.device)
        trainer = Trainer(model, data, replace(recipe, amp=precision), distributed)
        losses.append(train(trainer, 1)[0])
    assert losses[1] == pytest.approx(losses[0], rel=0.01 if amp == "off" else 0.05)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_graph_trains_as_the_eager_steps_do(optimizer, capsys):
    """With EMA, mixes, dropout, clipping, a schedule, and a short last batch."""
    needs_bf16("bf16")
    recipe = replace(FULL_RECIPE, optimizer=optimizer, lr=OPTIMIZERS[optimizer])
    graphed, eager, again = (
        make_trainer(replace(recipe, cuda_graph=graph)) for graph in (True, False, False)
    )
    losses = [train(trainer, 2) for trainer in (graphed, eager, again)]
    assert graphed.is_recorded and not eager.is_recorded and not capsys.readouterr().err
    assert is_close(losses[0], losses[1])
    start = torch.cat([p.detach().flatten() for p in make_network("emotionnet", 48).parameters()])
    ends = [weights_of(trainer) for trainer in (graphed, eager, again)]
    moved, apart, noise = (
        (one - other).norm().item()
        for one, other in ((ends[1], start), (ends[0], ends[1]), (ends[2], ends[1]))
    )
    assert apart <= 0.05 * moved + 3 * noise


@pytest.mark.parametrize("cuda_graph", [True, False])
def test_no_step_waits_for_the_gpu(cuda_graph):
    needs_bf16("bf16")
    trainer = make_trainer(replace(FULL_RECIPE, cuda_graph=cuda_graph))
    train(trainer, 1)  # kernels are chosen, the step is recorded
    plans = trainer.planner.plan(2)
    trainer.model.train()
    batches = trainer._load_batches(plans)
    torch.cuda.set_sync_debug_mode("error")
    for plan, images in batches:
        trainer._loss_sum += trainer._train_batch(plan, images)
    torch.cuda.set_sync_debug_mode("default")
    assert trainer._loss_sum.isfinite()


def test_validation_waits_for_the_gpu_once():
    model, data = make_network("emotionnet", 48).to(GPU.device), make_set(2500, 48).images
    on_cpu = replace(data, images=data.images.cpu())
    figures = [validate(model, part, 16, GPU) for part in (data, on_cpu)]
    expected = validate(model.cpu(), on_cpu, 16, CPU)
    assert figures[0] == pytest.approx(figures[1]) and is_close([*figures[0]], [*expected])


def test_a_set_in_the_hosts_memory_gives_the_same_training():
    needs_bf16("bf16")
    losses = []
    for on_gpu in (True, False):
        data = make_set(101, 48, GPU.device if on_gpu else CPU.device)
        trainer = Trainer(make_network("emotionnet", 48), data, FULL_RECIPE, GPU)
        losses.append(train(trainer, 2))
    assert is_close(*losses)


def test_a_compiled_network_is_recorded_too():
    needs_bf16("bf16")
    compiled, plain = make_trainer(replace(FULL_RECIPE, compile=True)), make_trainer(FULL_RECIPE)
    # Compiled code draws dropout's numbers in its own way.
    for trainer in (compiled, plain):
        set_dropout(trainer.model, 0)
    losses = [train(trainer, 2) for trainer in (compiled, plain)]
    assert compiled.is_recorded and is_close(*losses)


@pytest.mark.parametrize("changes", [{"amp": "fp16"}, {"accumulate": 2}, {"sam": 0.05}])
def test_other_steps_run_eagerly_and_learn(changes):
    needs_bf16("bf16")
    plain = {"mixing": Mixing(), "label_smoothing": 0.0, "optimizer": "adam", "lr": 0.001}
    trainer = make_trainer(replace(FULL_RECIPE, epochs=6, **plain, **changes))
    first, *_, last = train(trainer, 6)
    assert last < first and not trainer.is_recorded


# --- a recording that fails


def test_a_step_that_cannot_be_recorded_is_trained_eagerly(monkeypatch, capsys):
    needs_bf16("bf16")
    recipe = replace(FULL_RECIPE, optimizer="adamw", lr=0.001)
    expected = train(make_trainer(replace(recipe, cuda_graph=False)), 2)
    trainer = make_trainer(recipe)
    prepare = trainer._prepare_batch

    def wait(*args: object) -> tuple[torch.Tensor, torch.Tensor]:
        images, targets = prepare(*args)
        images.sum().item()  # which a recording does not allow
        return images, targets

    monkeypatch.setattr(trainer, "_prepare_batch", wait)
    losses = train(trainer, 2)
    [line] = capsys.readouterr().err.splitlines()
    assert "no CUDA graph (" in line and not trainer.is_recorded
    assert is_close(losses, expected)


# --- states


class StoppedError(Exception):
    """Raised in the middle of an epoch, as by a signal."""


def stop_after(steps: int, trainer: Trainer) -> tuple[dict, dict]:
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
    file.seek(0)
    return torch.load(file, weights_only=True, map_location="cpu")


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize(("before", "after"), [(True, True), (True, False), (False, True)])
def test_a_training_resumes_from_graph_and_eager_alike(optimizer, before, after):
    needs_bf16("bf16")
    recipe = replace(FULL_RECIPE, optimizer=optimizer, lr=OPTIMIZERS[optimizer])
    expected = train(make_trainer(replace(recipe, cuda_graph=False)), 2)
    state = stop_after(9, make_trainer(replace(recipe, cuda_graph=before)))
    resumed = make_trainer(replace(recipe, cuda_graph=after))
    resumed.load_state(*state)
    assert is_close(train(resumed, 1), expected[1:])


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_training_moves_from_the_gpu_to_the_cpu_and_back(optimizer):
    needs_bf16("bf16")
    recipe = replace(FULL_RECIPE, optimizer=optimizer, lr=OPTIMIZERS[optimizer], amp="off")
    state = stop_after(3, make_trainer(recipe))
    on_cpu = make_trainer(recipe, CPU)
    on_cpu.load_state(*state)
    again = make_trainer(recipe)
    again.load_state(*stop_after(3, on_cpu))
    assert again.progress.batch == 6
    assert is_close(train(again, 1), train(make_trainer(recipe), 1), 0.05)  # other dropout


# --- train.py


def start(*words: object, cwd: Path) -> subprocess.Popen:
    return subprocess.Popen(
        command("train.py", *words), cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip


def wait_until(condition: Callable[[], bool], process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 300
    while not condition():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_train_is_killed_and_resumes(trained, tmp_path):
    words = ("--data_path", trained / "data", *SMALL_SETS, "--epochs", 12)
    straight = start(*words, "--runs_path", "straight", cwd=tmp_path)
    _, errors = straight.communicate(timeout=600)
    assert straight.returncode == 0 and "CUDA graph" not in errors
    killed = start(*words, cwd=tmp_path)
    results = tmp_path / "runs/001-emotionnet/results.csv"
    wait_until(lambda: results.exists() and len(results.read_text().splitlines()) > 3, killed)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    resumed = start("--resume", cwd=tmp_path)
    output, errors = resumed.communicate(timeout=600)
    assert resumed.returncode == 0 and "resumes in epoch" in output and "CUDA graph" not in errors
    rows = run_results(tmp_path)
    (tmp_path / "runs").rename(tmp_path / "resumed")
    (tmp_path / "straight").rename(tmp_path / "runs")
    expected = run_results(tmp_path)
    assert len(rows) == len(expected) == 12
    for row, other in zip(rows, expected, strict=True):
        assert float(row["train_loss"]) == pytest.approx(float(other["train_loss"]), rel=0.1)


@pytest.mark.skipif("torch.cuda.device_count() < 2", reason="fewer than two GPUs")
def test_two_gpus_train_as_one_does(trained, tmp_path):
    words = (ROOT / "train.py", "--data_path", trained / "data", *SMALL_SETS, "--epochs", 2)
    for processes in (1, 2):
        folder = tmp_path / str(processes)
        folder.mkdir()
        launcher = (sys.executable, "-m", "torch.distributed.run", "--standalone")
        line = [*launcher, f"--nproc_per_node={processes}", *map(str, words), "--dropout", "0"]
        done = subprocess.run(line, cwd=folder, capture_output=True, text=True, env=os.environ)
        assert done.returncode == 0, done.stderr
    one, two = (run_results(tmp_path / str(processes)) for processes in (1, 2))
    for row, other in zip(one, two, strict=True):
        assert float(row["train_loss"]) == pytest.approx(float(other["train_loss"]), rel=0.05)
