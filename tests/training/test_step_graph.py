"""A step as a graph: used only if it does what the eager step does, with a state that is as before.

Without a GPU, a stand-in for the recording runs the step itself; tests/training/test_gpu.py has the
real one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import pytest
import torch
from torch import nn

from utils.training import step_graph
from utils.training.step_graph import StepGraph, map_tensors, tensors_in, try_to_record


class Plan(NamedTuple):
    targets: torch.Tensor
    pair: tuple[torch.Tensor, float]
    rows: int


class Task:
    """A network with batch norm and an optimizer, and a step of them."""

    def __init__(self, name: str = "adam") -> None:
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2))
        kind = {"adam": torch.optim.Adam, "adadelta": torch.optim.Adadelta, "sgd": torch.optim.SGD}
        settings = {"momentum": 0.9} if name == "sgd" else {}
        self.optimizer = kind[name](self.model.parameters(), lr=0.1, **settings)
        self.optimizer.param_groups[0]["lr"] = torch.tensor(0.1)
        generator = torch.Generator().manual_seed(1)
        self.images = torch.randint(0, 256, (16, 4), dtype=torch.uint8, generator=generator)
        self.plan = Plan(torch.rand(16, 2), (torch.tensor(2.0), 5.0), 16)
        self.prepared = 0

    def prepare(self) -> None:
        self.prepared += 1
        torch.manual_seed(7)
        self.optimizer.param_groups[0]["lr"].fill_(0.05)

    def step(self, plan: Plan, images: torch.Tensor) -> torch.Tensor:
        images = images / 255 * (torch.rand(images.shape) > 0.3) * plan.pair[0]
        loss = ((self.model(images) - plan.targets) ** 2).sum() / plan.rows
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        return loss.detach()

    def try_to_record(self, record: Callable) -> StepGraph | None:
        return try_to_record(
            self.step, self.prepare, self.model, self.optimizer, self.plan, self.images, record
        )

    def state(self) -> list[torch.Tensor]:
        memory = [v for values in self.optimizer.state.values() for v in values.values()]
        return [t.detach().clone() for t in [*self.model.state_dict().values(), *memory]]


def run_again(function: Callable[[], torch.Tensor]) -> Callable[[], torch.Tensor]:
    """A recording that is none: every replay runs the function."""
    for _ in range(step_graph.WARM_UP):
        function()
    return function


@pytest.mark.parametrize("optimizer", ["adam", "adadelta", "sgd"])
def test_a_graph_that_does_the_step_is_used_and_the_trial_leaves_no_trace(optimizer, capsys):
    task, eager = Task(optimizer), Task(optimizer)
    graph = task.try_to_record(run_again)
    assert graph and not capsys.readouterr().err and task.prepared == 2
    weights = task.model.state_dict().values()
    assert all(map(torch.equal, weights, eager.model.state_dict().values()))
    assert not any(values.any() for values in task.state()[len(weights) :])
    for _ in range(3):
        losses = []
        for one, step in ((task, graph), (eager, eager.step)):
            one.prepare()
            losses.append(step(one.plan, one.images).item())
        assert losses[0] == losses[1]
    assert all(map(torch.equal, task.state(), eager.state()))


def test_a_trial_in_the_middle_of_a_training_leaves_no_trace():
    task, graphs = Task(), []
    for _ in range(2):
        task.prepare()
        task.step(task.plan, task.images)
        before = task.state()
        graphs.append(task.try_to_record(run_again))
        assert all(map(torch.equal, task.state(), before))
    assert all(graphs)


def keeps_its_rate(task: Task) -> Callable:
    def record(function: Callable) -> Callable:
        rate = task.optimizer.param_groups[0]["lr"].item()

        def replay() -> torch.Tensor:
            task.optimizer.param_groups[0]["lr"].fill_(rate)
            return function()

        return replay

    return record


def keeps_its_inputs(task: Task) -> Callable:
    def record(_: Callable) -> Callable:
        return lambda: task.step(*map_tensors(torch.zeros_like, (task.plan, task.images)))

    return record


def keeps_its_random_state(task: Task) -> Callable:
    def record(function: Callable) -> Callable:
        def replay() -> torch.Tensor:
            torch.manual_seed(1)
            return function()

        return replay

    return record


def forgets_batch_norm(task: Task) -> Callable:
    def record(function: Callable) -> Callable:
        def replay() -> torch.Tensor:
            before = [buffer.clone() for buffer in task.model.buffers()]
            loss = function()
            for buffer, values in zip(task.model.buffers(), before, strict=True):
                buffer.copy_(values)
            return loss

        return replay

    return record


def forgets_to_step(task: Task) -> Callable:
    def record(function: Callable) -> Callable:
        def replay() -> torch.Tensor:
            step, task.optimizer.step = task.optimizer.step, lambda: None
            loss = function()
            task.optimizer.step = step
            return loss

        return replay

    return record


def fails(task: Task) -> Callable:
    def record(function: Callable) -> Callable:
        function()
        raise RuntimeError("operation not permitted when stream is capturing\nmore lines")

    return record


def fails_with_gradients(task: Task) -> Callable:
    def record(function: Callable) -> Callable:
        step, task.optimizer.step = task.optimizer.step, lambda: 1 / torch.zeros(2).view(3)
        try:
            function()
        finally:
            task.optimizer.step = step

    return record


@pytest.mark.parametrize(
    ("recorder", "problem"),
    [(keeps_its_rate, "its weights differ by"), (keeps_its_inputs, "its loss is"),
     (keeps_its_random_state, "its loss is"), (forgets_batch_norm, "its buffers differ by"),
     (forgets_to_step, "its weights differ by"),
     (fails, "(operation not permitted when"), (fails_with_gradients, "(shape '[3]' is invalid")],
)  # fmt: skip
def test_a_graph_that_does_something_else_is_not_used(recorder, problem, capsys):
    task = Task()
    task.prepare()
    task.step(task.plan, task.images)
    before = task.state()
    assert task.try_to_record(recorder(task)) is None
    [line] = capsys.readouterr().err.splitlines()
    assert "no CUDA graph (" in line and problem in line and "more lines" not in line
    assert all(map(torch.equal, task.state(), before))
    assert all(weights.grad is None for weights in task.model.parameters())


class FakeCuda:
    """What `record` asks of torch.cuda, and the order in which it does."""

    def __init__(self, monkeypatch) -> None:
        self.log, self.current = [], "usual"
        fakes = {
            "Stream": lambda: FakeStream(self, "side"), "CUDAGraph": lambda: self,
            "current_stream": lambda: FakeStream(self, self.current), "set_stream": self.set_stream,
            "stream": self.stream, "graph": lambda _: self.stream(FakeStream(self, "recording")),
        }  # fmt: skip
        for name, fake in fakes.items():
            monkeypatch.setattr(torch.cuda, name, fake)

    def set_stream(self, stream: FakeStream) -> None:
        self.current = stream.name

    @contextmanager
    def stream(self, stream: FakeStream) -> Iterator[None]:
        """Like torch's for graphs, it does not go back after an error."""
        before, self.current = self.current, stream.name
        yield
        self.current = before

    def replay(self) -> None:
        self.log.append(f"replay on {self.current}")


class FakeStream(NamedTuple):
    cuda: FakeCuda
    name: str

    def wait_stream(self, other: FakeStream) -> None:
        self.cuda.log.append(f"{self.name} waits for {other.name}")


def test_record_warms_up_on_another_stream_and_records_once(monkeypatch):
    cuda, result = FakeCuda(monkeypatch), torch.ones(())

    def function() -> torch.Tensor:
        cuda.log.append(f"run on {cuda.current}")
        return result

    replay = step_graph.record(function)
    assert replay() is result and cuda.current == "usual"
    assert cuda.log == [
        "side waits for usual", *["run on side"] * step_graph.WARM_UP, "usual waits for side",
        "run on recording", "replay on usual",
    ]  # fmt: skip


def test_record_goes_back_to_the_stream_after_a_failure(monkeypatch):
    cuda = FakeCuda(monkeypatch)

    def function() -> None:
        if cuda.current == "recording":
            raise RuntimeError

    with pytest.raises(RuntimeError):
        step_graph.record(function)
    assert cuda.current == "usual"


def test_map_tensors_keeps_the_shape_of_a_plan():
    plan = Plan(torch.ones(2), (torch.ones(()), 5.0), 16)
    doubled = map_tensors(lambda tensor: 2 * tensor, plan)
    assert isinstance(doubled, Plan) and (doubled.pair[1], doubled.rows) == (5.0, 16)
    assert [tensor.tolist() for tensor in tensors_in((doubled, None))] == [[2, 2], 2]
