"""Training with several processes: who processes which rows, and what they exchange."""

from __future__ import annotations

import inspect
import os
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import nn

from models.dropout import Dropout
from utils.errors import StageError
from utils.inference.device import choose_device

Value = TypeVar("Value")

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
        dist.broadcast_object_list(values)
        return values[0]

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
        self.all_gather([])

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


def init_distributed(gpu: bool, cuda_idx: int) -> Distributed:
    """Join the process group that torchrun's variables (RANK, WORLD_SIZE, …) describe.

    Without them this process is the only one. Raise StageError if a variable is missing, if the
    machine has fewer GPUs than processes, or if it has no GPU `cuda_idx`.
    """
    world_size = int(os.environ.get("WORLD_SIZE", 1))
    if world_size == 1:
        return Distributed(choose_device(gpu, cuda_idx))
    for name in ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        if name not in os.environ:
            raise StageError(
                f"WORLD_SIZE is {world_size}, but {name} is not set: start train.py with torchrun"
            )
    local_rank = int(os.environ["LOCAL_RANK"])
    device = torch.device("cpu")
    if gpu and torch.cuda.is_available():
        if local_rank >= torch.cuda.device_count():
            local_world_size = os.environ.get("LOCAL_WORLD_SIZE", world_size)
            raise StageError(
                f"{torch.cuda.device_count()} GPU(s) for {local_world_size} processes: lower "
                f"--nproc_per_node, or train on the CPU with --no-gpu"
            )
        device = torch.device("cuda", local_rank)
        torch.cuda.set_device(device)
    # After a restart the store may still hold the addresses of dead processes: every attempt gets
    # its own keys.
    store, rank, world_size = next(dist.rendezvous("env://"))
    store = dist.PrefixStore(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"), store)
    backend = "nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, store=store, rank=rank, world_size=world_size)
    return Distributed(device, rank, world_size)
