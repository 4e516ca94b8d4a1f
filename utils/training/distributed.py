"""The processes that train one model together: one alone, or as many as torchrun starts."""

from __future__ import annotations

import os
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import nn

from models.dropout import Dropout
from utils.cli import StageError
from utils.inference.device import choose_device


@dataclass(frozen=True)
class Team:
    """This process's place among them. Rank 0 leads: it alone writes and draws bars."""

    device: torch.device
    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        return self.rank == 0

    def share(self, total: int) -> tuple[int, int]:
        """Of `total` rows of a batch, the first that are ours and the first that are no more."""
        return total * self.rank // self.size, total * (self.rank + 1) // self.size

    def sum(self, values: torch.Tensor) -> torch.Tensor:
        """The sum over all processes, in place."""
        if self.size > 1:
            dist.all_reduce(values)
        return values

    def agree(self, value: object) -> object:
        """The leader's value, in every process."""
        if self.size == 1:
            return value
        values = [value]
        dist.broadcast_object_list(values)
        return values[0]

    def wrap(self, model: nn.Module) -> nn.Module:
        """The model as it is to be trained: with the gradients of all processes."""
        if self.size == 1:
            return model
        ids = [self.device.index] if self.device.type == "cuda" else None
        return nn.parallel.DistributedDataParallel(model, device_ids=ids)

    def share_batch_norm(self, model: nn.Module) -> nn.Module:
        """Batch norm over the whole batch, not over this process's rows of it."""
        if self.size == 1:
            return model
        if self.device.type == "cuda":
            return nn.SyncBatchNorm.convert_sync_batchnorm(model)
        for module in model.modules():
            if type(module) is nn.BatchNorm2d:
                module.__class__ = SharedBatchNorm
        return model

    def tell_rows(self, model: nn.Module, total: int) -> None:
        """Tell the dropout layers which rows of a batch of `total` this process has."""
        if self.size > 1:
            for module in model.modules():
                if isinstance(module, Dropout):
                    module.rows = self.share(total)[0], total

    def leave(self) -> None:
        if self.size > 1:
            dist.destroy_process_group()


class SumOfAll(torch.autograd.Function):
    """The sum of a tensor over all processes, through which gradients flow back to all."""

    @staticmethod
    def forward(ctx: object, values: torch.Tensor) -> torch.Tensor:
        values = values.clone()
        dist.all_reduce(values)
        return values

    @staticmethod
    def backward(ctx: object, gradient: torch.Tensor) -> torch.Tensor:
        gradient = gradient.clone()
        dist.all_reduce(gradient)
        return gradient


class SharedBatchNorm(nn.BatchNorm2d):
    """Batch norm over the rows of all processes, on the CPU, where torch has none."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training:
            return super().forward(x)
        x = x.to(torch.promote_types(x.dtype, self.weight.dtype))
        count = x.new_tensor([x.numel() // x.shape[1]])
        total = SumOfAll.apply(torch.cat([x.sum((0, 2, 3)), count]))
        mean = (total[:-1] / total[-1]).view(1, -1, 1, 1)
        count = total[-1].detach()
        variance = SumOfAll.apply(((x - mean) ** 2).sum((0, 2, 3))) / count
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean.flatten(), self.momentum)
            self.running_var.lerp_(variance * count / (count - 1), self.momentum)
        scale = self.weight * torch.rsqrt(variance + self.eps)
        return (x - mean) * scale.view(1, -1, 1, 1) + self.bias.view(1, -1, 1, 1)


def join(gpu: bool, cuda_idx: int) -> Team:
    """The team that torchrun's variables (RANK, WORLD_SIZE, LOCAL_RANK, …) describe, or one alone.

    Raises StageError where one of them is missing, or a machine has fewer GPUs than processes.
    """
    size = int(os.environ.get("WORLD_SIZE", 1))
    if size == 1:
        return Team(choose_device(gpu, cuda_idx))
    for name in ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        if name not in os.environ:
            raise StageError(f"WORLD_SIZE is {size}, but {name} is not set: start it with torchrun")
    local = int(os.environ["LOCAL_RANK"])
    device = torch.device("cpu")
    if gpu and torch.cuda.is_available():
        if local >= torch.cuda.device_count():
            raise StageError(
                f"{torch.cuda.device_count()} GPU(s) for {os.environ['LOCAL_WORLD_SIZE']} "
                f"processes: lower --nproc_per_node, or train on the CPU with --no-gpu"
            )
        device = torch.device("cuda", local)
        torch.cuda.set_device(device)
    # After a restart the store may still hold the addresses of processes that are dead: each
    # attempt has keys of its own.
    store, rank, size = next(dist.rendezvous("env://"))
    store = dist.PrefixStore(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"), store)
    backend = "nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, store=store, rank=rank, world_size=size)
    return Team(device, rank, size)
