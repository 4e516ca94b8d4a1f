"""Validation: the loss and accuracy of a model, by plain lines."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from tests.trainings import CPU, small_dataset, small_network
from utils.inference.predict import CPU_BATCH
from utils.training.validate import StopRequestedError, validate


@pytest.mark.parametrize("batch_size", [1, 5, 100])
def test_validate_is_the_mean_over_the_images_in_evaluation_mode(batch_size):
    data, model = small_dataset(13), small_network()
    loss, accuracy = validate(model, data, batch_size, CPU)
    with torch.no_grad():
        outputs = model.eval()(data.images / 255)
    assert loss == pytest.approx(F.cross_entropy(outputs, data.labels).item(), rel=1e-5)
    assert accuracy == (outputs.argmax(1) == data.labels).double().mean().item()


@pytest.mark.parametrize(("amp", "dtype"), [("bf16", torch.bfloat16), ("off", torch.float32)])
def test_validate_is_in_the_precision_of_the_training(amp, dtype):
    data, model = small_dataset(13), small_network()
    dtypes = []
    model[0].register_forward_hook(lambda _model, _inputs, output: dtypes.append(output.dtype))
    loss, accuracy = validate(model, data, 4, CPU, amp=amp)
    assert dtypes == [dtype]
    assert (loss, accuracy) == pytest.approx(validate(model, data, 4, CPU), rel=0.1)


def test_validate_gives_each_process_its_rows():
    """The sums over the rows of all processes are those of one."""
    data, model = small_dataset(13), small_network()

    class Process:
        device, all_sums = torch.device("cpu"), []

        def __init__(self, rank: int) -> None:
            self.slice = replace(CPU, rank=rank, world_size=3).slice

        def all_reduce(self, sums: torch.Tensor) -> torch.Tensor:
            self.all_sums.append(sums.clone())
            return sums

    for rank in range(3):
        validate(model, data, 4, Process(rank))
    loss, accuracy = (sum(Process.all_sums) / 13).tolist()
    assert (loss, accuracy) == pytest.approx(validate(model, data, 4, CPU))


def test_validate_of_fewer_images_than_processes_takes_no_rows():
    data, model = small_dataset(1), small_network()

    class Process:
        device = torch.device("cpu")
        slice = replace(CPU, rank=0, world_size=2).slice

        def all_reduce(self, sums: torch.Tensor) -> torch.Tensor:
            return sums

    assert validate(model, data, 4, Process()) == (0, 0)


@pytest.mark.parametrize("stops", [[True], [False, True], [False] * 3 + [True]])
def test_validate_stops_before_the_next_batch(stops):
    data, model = small_dataset(4 * CPU_BATCH), small_network()
    predicted = []
    model.register_forward_hook(lambda *_: predicted.append(1))
    with pytest.raises(StopRequestedError):
        validate(model, data, CPU_BATCH, CPU, iter(stops).__next__)
    assert len(predicted) == len(stops) - 1


def test_validate_stops_in_all_processes_if_one_is_asked_to():
    data, model = small_dataset(16), small_network()

    class Process:
        device = torch.device("cpu")
        slice = replace(CPU, rank=0, world_size=2).slice

        def all_reduce(self, sums: torch.Tensor) -> torch.Tensor:
            return sums + torch.tensor([0, torch.nan])

    with pytest.raises(StopRequestedError):
        validate(model, data, 4, Process())
