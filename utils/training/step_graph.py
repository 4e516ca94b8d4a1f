"""A training step as one CUDA graph: recorded once, then replayed without work for the host.

A small network's step is some 200 kernels that the GPU runs faster than the host can launch them.
The eager step stays the definition: a graph is used only if it has computed the same in a trial.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import torch
from torch import nn

from utils.console import note

WARM_UP = 3  # eager steps before the recording, in which cuDNN and torch choose kernels and buffers
# Largest difference between graph and eager step in the trial, relative to the loss, and to the
# length of the step. Kernels that add up in any order differ by less, a stale input by more.
LOSS_TOLERANCE, STEP_TOLERANCE = 1e-2, 0.25

Step = Callable[[Any, torch.Tensor], torch.Tensor]  # plan of the batch, images uint8 → loss
Recorder = Callable[[Callable[[], torch.Tensor]], Callable[[], torch.Tensor]]


def record(function: Callable[[], torch.Tensor]) -> Callable[[], torch.Tensor]:
    """Record a function's work on the GPU. Return a function that does this work again.

    It is called a few times first, on another stream, as torch asks for.
    """
    usual, stream = torch.cuda.current_stream(), torch.cuda.Stream()
    stream.wait_stream(usual)
    with torch.cuda.stream(stream):
        for _ in range(WARM_UP):
            function()
    usual.wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph):
            result = function()
    finally:
        torch.cuda.set_stream(usual)  # a recording that fails leaves its own

    def replay() -> torch.Tensor:
        graph.replay()
        return result

    return replay


class StepGraph:
    """A step on batches of one size, replayed with the values of each batch.

    The step must use nothing of the plan but its tensors and what all these batches have in common,
    must not wait for the GPU, and must change its state in place.
    """

    def __init__(self, step: Step, plan: Any, images: torch.Tensor, record: Recorder) -> None:
        """Record the step on zeros of the shapes of a batch; it changes the state."""
        self._buffers = map_tensors(torch.zeros_like, (plan, images))
        self._replay = record(lambda: step(*self._buffers))

    def __call__(self, plan: Any, images: torch.Tensor) -> torch.Tensor:
        """Run the step. Return its loss, which the next step overwrites."""
        batch = tensors_in((plan, images))
        for buffer, values in zip(tensors_in(self._buffers), batch, strict=True):
            buffer.copy_(values)
        return self._replay()


def try_to_record(
    step: Step,
    prepare: Callable[[], None],
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    plan: Any,
    images: torch.Tensor,
    record: Recorder,
) -> StepGraph | None:
    """Return the step as a graph if it does in a trial what the eager step does, else None.

    `prepare` sets the random state and the learning rate of this batch, a tensor. Model and
    optimizer are in the end as they were. Print a note if the graph is not used.
    """
    before = Snapshot(model, optimizer)
    try:
        for group in optimizer.param_groups:
            group["lr"].zero_()  # so that a graph that keeps the rate of its recording is noticed
        graph = StepGraph(step, plan, images, record)
        losses, states = [], []
        for run in (step, graph):
            before.restore(model, optimizer)
            prepare()
            losses.append(run(plan, images).item())
            states.append(Snapshot(model, optimizer))
        problem = _difference(losses, before, *states)
    except RuntimeError as error:
        problem = str(error).strip().partition("\n")[0]
        optimizer.zero_grad(set_to_none=True)  # the step may have got as far as its gradients
        with suppress(RuntimeError):
            _renew_generator(images.device)
    before.restore(model, optimizer)
    if not problem:
        return graph
    note(f"no CUDA graph ({problem}): steps run one kernel at a time, which gives the same result")
    return None


class Snapshot:
    """The values of all tensors that a step changes, by kind."""

    def __init__(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Copy the values."""
        self.values = {
            kind: {tensor: tensor.detach().clone() for tensor in tensors}
            for kind, tensors in _state(model, optimizer).items()
        }

    @torch.no_grad()
    def restore(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Set the tensors to their values. What an optimizer has added since starts at 0 again."""
        for kind, tensors in _state(model, optimizer).items():
            for tensor in tensors:
                values = self.values[kind].get(tensor)
                tensor.zero_() if values is None else tensor.copy_(values)


def map_tensors(function: Callable[[torch.Tensor], torch.Tensor], value: Any) -> Any:
    """Return a value with `function` applied to the tensors in it, also in (named) tuples."""
    if isinstance(value, torch.Tensor):
        return function(value)
    if isinstance(value, tuple):
        values = [map_tensors(function, item) for item in value]
        return type(value)(*values) if hasattr(value, "_fields") else tuple(values)
    return value


def tensors_in(value: Any) -> Iterator[torch.Tensor]:
    """Yield the tensors in a value, also those in tuples."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, tuple):
        for item in value:
            yield from tensors_in(item)


def _state(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, list[torch.Tensor]]:
    """Return the tensors that a step changes."""
    memory = [value for values in optimizer.state.values() for value in values.values()]
    return {
        "weights": list(model.parameters()),
        "buffers": list(model.buffers()),
        "optimizer state": [value for value in memory if isinstance(value, torch.Tensor)],
    }


def _difference(losses: list[float], before: Snapshot, eager: Snapshot, other: Snapshot) -> str:
    """Return in words how another step differs from the eager one, or "" if it does not."""
    expected, loss = losses
    if not abs(loss - expected) <= LOSS_TOLERANCE * abs(expected):
        return f"its loss is {loss:.6g} instead of {expected:.6g}"
    for kind in eager.values:
        step, difference = _distance(kind, before, eager), _distance(kind, eager, other)
        if not difference <= STEP_TOLERANCE * step:
            return f"its {kind} differ by {difference:.3g} after a step of {step:.3g}"
    return ""


def _distance(kind: str, one: Snapshot, other: Snapshot) -> float:
    """Return the Euclidean distance between two snapshots; what one of them lacks is 0 in it."""
    squares = [
        (values.double() - one.values[kind].get(tensor, 0)).square().sum()
        for tensor, values in other.values[kind].items()
    ]
    return torch.stack(squares).sum().sqrt().item() if squares else 0.0


def _renew_generator(device: torch.device) -> None:
    """Replace the state of the GPU's random generator: a failed recording may have left it in use.

    The caller seeds it.
    """
    if device.type == "cuda":
        generator = torch.cuda.default_generators[torch.cuda.current_device()]
        generator.graphsafe_set_state(torch.Generator(device).graphsafe_get_state())
