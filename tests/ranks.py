"""A function in several processes that train together, as torchrun would start them."""

from __future__ import annotations

import os
import socket
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from tests.helpers import fork_context
from utils.training.distributed import Distributed, init_distributed

TIMEOUT = 120  # seconds


def run_ranks(function: Callable[[Distributed], Any], folder: Path, world_size: int = 2) -> list:
    """Call `function(distributed)` in each process. Return the results by rank: plain tensors,
    lists and numbers. `function` must be a module's own, for the processes to find it.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    variables = {"WORLD_SIZE": world_size, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    processes = [
        fork_context().Process(
            target=_be_rank,
            args=(function, variables | {"RANK": rank, "LOCAL_RANK": rank}, folder / f"{rank}.pt"),
        )
        for rank in range(world_size)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(TIMEOUT)
        process.kill()
    results = []
    for rank in range(world_size):
        result, error = torch.load(folder / f"{rank}.pt", weights_only=True)
        assert not error, error
        results.append(result)
    return results


def _be_rank(function: Callable, variables: dict[str, object], path: Path) -> None:
    os.environ.update({name: str(value) for name, value in variables.items()})
    result, error = None, "no process group"
    try:
        distributed = init_distributed(gpu=False, cuda_idx=0)
        result, error = function(distributed), ""
        distributed.close()
    except BaseException:  # the test shows it
        error = traceback.format_exc()
    torch.save((result, error), path)
