"""Training with several processes: who processes which rows, and what they exchange."""

from __future__ import annotations

import hashlib
import inspect
import os
import re
import secrets
import socket
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import nn

from models.dropout import Dropout
from utils.errors import LostProcessError, StageError, TransientError, describe_os_error
from utils.inference.device import choose_device

Value = TypeVar("Value")

# A process that waits so long for another one gives up. The longest wait is that for rank 0, while
# it writes a save; torch would wait 10 minutes on GPUs and 30 on CPUs.
TIMEOUT = timedelta(minutes=10)
MAX_WORLD = 1_000_000  # processes

# The argument that sends buffers before each step: its name in newer and older releases of torch.
_ARGUMENTS = inspect.signature(nn.parallel.DistributedDataParallel).parameters
_NAMES = ("forward_sync_buffers", "broadcast_buffers")
_SYNC_BUFFERS = next(name for name in _NAMES if name in _ARGUMENTS)


@dataclass(frozen=True)
class Distributed:
    """This process's device, and its rank among all processes that train the model."""

    device: torch.device
    rank: int = 0
    world_size: int = 1
    # What torchrun keeps for all its attempts; None without torchrun.
    memory: dist.Store | None = field(default=None, compare=False, repr=False)

    @property
    def is_primary(self) -> bool:
        """Whether this process is rank 0, which alone writes files and prints."""
        return self.rank == 0

    def slice(self, total: int) -> tuple[int, int]:
        """Return the half-open range of the `total` rows that this process has."""
        return total * self.rank // self.world_size, total * (self.rank + 1) // self.world_size

    def all_reduce(self, values: torch.Tensor) -> torch.Tensor:
        """Replace the values by their sum over all processes, in place, and return them."""
        if self.world_size > 1:
            with explain_lost_process():
                dist.all_reduce(values)
        return values

    def all_gather(self, values: list[float]) -> list[list[float]]:
        """Return the values of all processes, by rank."""
        rows = torch.zeros(self.world_size, len(values), dtype=torch.float64)
        rows[self.rank] = torch.tensor(values, dtype=torch.float64)
        return self.all_reduce(rows.to(self.device)).tolist()  # adding zeros changes no value

    def broadcast(self, value: Value) -> Value:
        """Return rank 0's value, in every process."""
        if self.world_size == 1:
            return value
        values = [value]
        with explain_lost_process():
            dist.broadcast_object_list(values)
        return values[0]

    def remember(self, key: str, value: str) -> None:
        """Keep a text for the processes that torchrun starts if these end."""
        if self.memory and self.is_primary:
            self.memory.set(key, value)

    def recall(self, key: str) -> str | None:
        """Return, in every process, what an earlier attempt kept; None if there is nothing."""
        value = None
        if self.memory and self.is_primary and self.memory.check([key]):
            value = self.memory.get(key).decode()
        return self.broadcast(value)

    def ddp(self, model: nn.Module) -> nn.Module:
        """Wrap the model so that gradients are averaged over all processes."""
        if self.world_size == 1:
            return model
        ids = [self.device.index] if self.device.type == "cuda" else None
        # Batch norm over all processes keeps its buffers equal: none has to be sent before a step.
        buffers = {_SYNC_BUFFERS: False}
        return nn.parallel.DistributedDataParallel(
            model, device_ids=ids, gradient_as_bucket_view=True, **buffers
        )

    def sync_batch_norm(self, model: nn.Module) -> nn.Module:
        """Return the model with batch norm over the whole batch, not only this process's rows."""
        if self.world_size == 1:
            return model
        if self.device.type == "cuda":
            return nn.SyncBatchNorm.convert_sync_batchnorm(model)
        for module in model.modules():
            if type(module) is nn.BatchNorm2d:
                module.__class__ = SyncBatchNormCPU
        return model

    def set_dropout_rows(self, layers: list[Dropout], total: int) -> None:
        """Set in dropout layers which rows of a batch of `total` this process has."""
        if self.world_size > 1:
            for layer in layers:
                layer.rows = self.slice(total)[0], total

    def barrier(self) -> None:
        """Wait until every process is here."""
        self.all_gather([0.0])  # nobody would wait for the sum of an empty tensor

    def close(self) -> None:
        """Leave the process group."""
        if self.world_size > 1:
            dist.destroy_process_group()


def keep_gradients_local(model: nn.Module) -> AbstractContextManager[None]:
    """Return a context in which a model from `Distributed.ddp` does not exchange gradients."""
    if isinstance(model, nn.parallel.DistributedDataParallel):
        return model.no_sync()
    return nullcontext()


class AllReduceSum(torch.autograd.Function):
    """The sum of a tensor over all processes, with gradients flowing back to all of them."""

    @staticmethod
    def forward(_ctx: Any, values: torch.Tensor) -> torch.Tensor:
        """Return the sum over all processes, the same shape."""
        values = values.clone()
        dist.all_reduce(values)
        return values

    @staticmethod
    def backward(_ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        """Return the sum of the gradients of all processes, the same shape."""
        gradient = gradient.clone()
        dist.all_reduce(gradient)
        return gradient


class SyncBatchNormCPU(nn.BatchNorm2d):
    """Batch norm over the rows of all processes on the CPU, where torch has none."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalize float (n, C, H, W) by mean and variance over the rows of all processes."""
        if not self.training:
            return super().forward(x)
        x = x.to(torch.promote_types(x.dtype, self.weight.dtype))
        count = x.new_tensor([x.numel() // x.shape[1]])
        total = AllReduceSum.apply(torch.cat([x.sum((0, 2, 3)), count]))
        mean = (total[:-1] / total[-1]).view(1, -1, 1, 1)
        count = total[-1].detach()
        variance = AllReduceSum.apply(((x - mean) ** 2).sum((0, 2, 3))) / count
        if self.track_running_stats:
            with torch.no_grad():
                self.num_batches_tracked += 1
                self.running_mean.lerp_(mean.flatten(), self.momentum)
                self.running_var.lerp_(variance * count / (count - 1), self.momentum)
        scale = self.weight * torch.rsqrt(variance + self.eps)
        return (x - mean) * scale.view(1, -1, 1, 1) + self.bias.view(1, -1, 1, 1)


@dataclass(frozen=True)
class Launch:
    """What the launcher's variables say: torchrun sets them, other launchers can."""

    rank: int
    local_rank: int
    local_world_size: int
    world_size: int
    host: str  # where rank 0, or torchrun, has the store through which the processes meet
    port: int

    @classmethod
    def read(cls) -> Launch | None:
        """Read the variables. Return None for a single process.

        Raise StageError if a variable is missing or has a value that cannot be.
        """
        world_size = _read_number("WORLD_SIZE", 1, default=1)
        rank = _read_number("RANK", 0, world_size - 1, None if world_size > 1 else 0)
        if world_size == 1:
            return None
        local_world_size = _read_number("LOCAL_WORLD_SIZE", 1, world_size, world_size)
        return cls(
            rank,
            _read_number("LOCAL_RANK", 0, local_world_size - 1),
            local_world_size,
            world_size,
            _read_variable("MASTER_ADDR"),
            _read_number("MASTER_PORT", 1, 65535),
        )


def init_distributed(gpu: bool, cuda_idx: int) -> Distributed:
    """Join the process group that torchrun's variables (RANK, WORLD_SIZE, …) describe.

    Without them this process is the only one. Raise StageError if a variable is missing or wrong,
    if the machine has fewer GPUs than processes, or if it has no GPU `cuda_idx`; LostProcessError
    if the other processes do not come.
    """
    launch = Launch.read()
    if not launch:
        return Distributed(choose_device(gpu, cuda_idx), memory=_agent_store())
    device = _choose_device(gpu, launch)
    with explain_lost_process():
        store = _meet(launch)
    is_gpu = device.type == "cuda"
    try:
        dist.init_process_group(
            "nccl" if is_gpu else "gloo",
            store=store,
            rank=launch.rank,
            world_size=launch.world_size,
            timeout=TIMEOUT,
            device_id=device if is_gpu else None,  # connects now, not in the first step
        )
    except RuntimeError as error:
        raise LostProcessError(f"the processes cannot connect: {_reason(error)}") from None
    return Distributed(device, launch.rank, launch.world_size, _agent_store())


def is_lost_process(error: BaseException) -> bool:
    """Return whether an error says that another process has ended or does not answer."""
    return isinstance(error, dist.DistError) or "gloo" in str(error)


@contextmanager
def explain_lost_process() -> Iterator[None]:
    """Turn an error of the exchange with other processes into LostProcessError."""
    try:
        yield
    except RuntimeError as error:
        if not is_lost_process(error):
            raise
        raise LostProcessError(
            f"another process has ended or does not answer ({_reason(error)}); once its "
            f"problem is solved, train.py --resume continues the last save"
        ) from None


def _choose_device(gpu: bool, launch: Launch) -> torch.device:
    """Return the GPU of this process, or the CPU. Raise StageError if there are too few GPUs."""
    if not (gpu and torch.cuda.is_available()):
        return torch.device("cpu")
    if launch.local_rank >= torch.cuda.device_count():
        raise StageError(
            f"{torch.cuda.device_count()} GPU(s) for {launch.local_world_size} processes: lower "
            f"--nproc_per_node, or train on the CPU with --no-gpu"
        )
    device = torch.device("cuda", launch.local_rank)
    torch.cuda.set_device(device)
    return device


def _meet(launch: Launch) -> dist.Store:
    """Return the store of this attempt, when all processes have opened it.

    torch could wait, too, but Ctrl-C would not end it.
    """
    deadline = time.monotonic() + TIMEOUT.total_seconds()
    is_server = launch.rank == 0 and not _has_agent_store()
    if not is_server:
        _wait_for_server(launch, deadline)
    try:
        store = _open_store(launch.host, launch.port, is_server)
    except RuntimeError as error:
        raise TransientError(
            f"cannot use {launch.host}:{launch.port} (MASTER_ADDR, MASTER_PORT): {_reason(error)}"
        ) from None
    return dist.PrefixStore(_agree(dist.PrefixStore("meeting", store), launch, deadline), store)


def _agree(store: dist.Store, launch: Launch, deadline: float) -> str:
    """Return a name for this attempt, when all its processes have agreed on it.

    After a restart torchrun's store still holds what dead processes wrote, and two machines may
    count restarts differently. So each process leaves a token of its own, rank 0 lists the tokens
    that it finds, and the list is right when each process has found its own in it.
    """
    token, confirmed = secrets.token_hex(8), ""
    store.set(f"token/{launch.rank}", token)
    while True:
        if launch.rank == 0:
            tokens = [_read(store, f"token/{rank}") for rank in range(launch.world_size)]
            store.set("tokens", ",".join(tokens))
        tokens = _read(store, "tokens").split(",")
        name = hashlib.sha256(",".join(tokens).encode()).hexdigest()[:16]
        if token in tokens:
            present = store.add(f"confirmed/{name}", 1 if name != confirmed else 0)
            confirmed = name
            if present == launch.world_size:
                return name
        if time.monotonic() > deadline:
            present = sum(store.check([f"token/{rank}"]) for rank in range(launch.world_size))
            raise LostProcessError(
                f"only {present} of {launch.world_size} processes have started, or answer, within "
                f"{TIMEOUT.total_seconds() / 60:g} minutes"
            )
        time.sleep(0.05)


def _read(store: dist.Store, key: str) -> str:
    """Return a value of a store, or an empty text if there is none."""
    return store.get(key).decode() if store.check([key]) else ""


def _wait_for_server(launch: Launch, deadline: float) -> None:
    """Wait until somebody listens at MASTER_ADDR and MASTER_PORT."""
    while True:
        try:
            with socket.create_connection((launch.host, launch.port), timeout=5):
                return
        except OSError as error:
            if isinstance(error, socket.gaierror) or time.monotonic() > deadline:
                raise LostProcessError(
                    f"cannot reach {launch.host}:{launch.port} (MASTER_ADDR, MASTER_PORT): "
                    f"{describe_os_error(error)}"
                ) from None
        time.sleep(0.2)


def _open_store(host: str, port: int, is_server: bool) -> dist.TCPStore:
    return dist.TCPStore(
        host, port, is_master=is_server, timeout=TIMEOUT, wait_for_workers=False, multi_tenant=True
    )


def _has_agent_store() -> bool:
    return os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"


def _agent_store() -> dist.Store | None:
    """Return torchrun's own store, which outlives the processes that it starts; or None."""
    if not _has_agent_store():
        return None
    port = _read_number("MASTER_PORT", 1, 65535)
    with suppress(RuntimeError):  # a single process trains without it
        return _open_store(_read_variable("MASTER_ADDR"), port, is_server=False)
    return None


def _read_variable(name: str) -> str:
    """Return a variable's value. Raise StageError if it is not set."""
    if name not in os.environ:
        raise StageError(
            f"WORLD_SIZE is {os.environ.get('WORLD_SIZE')}, but {name} is not set: start train.py "
            f"with torchrun"
        )
    return os.environ[name]


def _read_number(name: str, low: int, high: int = MAX_WORLD, default: int | None = None) -> int:
    """Return the number of a variable. Raise StageError if it is none, or out of range."""
    if default is not None and name not in os.environ:
        return default
    value = _read_variable(name)
    if not (value.isascii() and value.isdecimal() and low <= int(value) <= high):
        limits = f"from {low} to {high}" if high < MAX_WORLD else f"of {low} or more"
        raise StageError(
            f"{name} is {value!r}, not a whole number {limits}: start train.py with torchrun, or "
            f"without this variable"
        )
    return int(value)


def _reason(error: BaseException) -> str:
    """Return the system's message in an error of torch, or else its first sentence."""
    line = str(error).strip().partition("\n")[0]
    if "message: " in line:
        return line.rpartition("message: ")[2]
    return re.sub(r"^\[\S+:\d+\] ", "", line).partition(". ")[0]  # without the place in its source
