"""Training with several processes: it does what one process would do, and exchanges no more."""

from __future__ import annotations

import copy
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import replace
from datetime import timedelta

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import models
from models.dropout import Dropout
from tests.ranks import run_ranks
from tests.trainings import REMEMBERED_RECIPE, small_dataset, small_network, small_trainer
from utils.errors import LostProcessError, StageError, TransientError
from utils.training import distributed as distributed_module
from utils.training.distributed import (
    Distributed,
    Launch,
    SyncBatchNormCPU,
    explain_lost_process,
    init_distributed,
    keep_gradients_local,
)
from utils.training.mixing import Mixing
from utils.training.validate import validate

CPU = torch.device("cpu")
several_processes = pytest.mark.skipif("os.name == 'nt'", reason="gloo")


@pytest.mark.parametrize(("total", "world_size"), [(7, 2), (8, 3), (2, 4), (0, 2)])
def test_slice_gives_every_row_to_one_rank(total, world_size):
    slices = [Distributed(CPU, rank, world_size).slice(total) for rank in range(world_size)]
    assert [row for first, end in slices for row in range(first, end)] == list(range(total))
    sizes = [end - first for first, end in slices]
    assert max(sizes) - min(sizes) <= 1


def test_is_primary_is_rank_zero():
    assert Distributed(CPU, 0, 3).is_primary and not Distributed(CPU, 1, 3).is_primary


def test_one_process_exchanges_and_wraps_nothing():
    alone, model, values = Distributed(CPU), small_network(), torch.ones(2)
    assert alone.all_reduce(values) is values and alone.broadcast("x") == "x"
    assert alone.ddp(model) is model and alone.sync_batch_norm(model) is model
    assert not any(isinstance(module, SyncBatchNormCPU) for module in model.modules())
    dropouts = [m for m in model.modules() if isinstance(m, Dropout)]
    alone.set_dropout_rows(dropouts, 8)
    assert [layer.rows for layer in dropouts] == [None]
    assert isinstance(keep_gradients_local(model), nullcontext)
    alone.close()


def test_set_dropout_rows_are_the_slice_of_the_rank():
    layers = [Dropout(0.1), Dropout(0.2)]
    Distributed(CPU, 1, 2).set_dropout_rows(layers, 7)
    assert [layer.rows for layer in layers] == [(3, 7), (3, 7)]


def test_init_distributed_without_variables_is_one_process(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert init_distributed(gpu=False, cuda_idx=0) == Distributed(CPU)


@pytest.fixture
def variables(monkeypatch):
    """Set what torchrun sets in rank 1 of 4, of which 2 are on this machine."""
    values = {
        "WORLD_SIZE": "4", "RANK": "1", "LOCAL_WORLD_SIZE": "2", "LOCAL_RANK": "1",
        "MASTER_ADDR": "node1", "MASTER_PORT": "29500",
    }  # fmt: skip
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


def test_launch_reads_the_variables(variables):
    assert Launch.read() == Launch(1, 1, 2, 4, "node1", 29500)
    variables.delenv("LOCAL_WORLD_SIZE")  # which some launchers do not set
    assert Launch.read().local_world_size == 4
    variables.setenv("WORLD_SIZE", "1")
    variables.setenv("RANK", "0")
    assert Launch.read() is None


@pytest.mark.parametrize("missing", ["RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"])
def test_init_distributed_names_a_missing_variable(variables, missing):
    variables.delenv(missing)
    with pytest.raises(StageError, match=f"{missing} is not set: start train.py with torchrun"):
        init_distributed(gpu=False, cuda_idx=0)


@pytest.mark.parametrize("value", ["", "x", "-1", "1.5", " 1", "2e1", "٣", "1" * 30, "99999999"])
@pytest.mark.parametrize(
    "name", ["WORLD_SIZE", "RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_PORT"]
)
def test_init_distributed_names_a_variable_that_is_wrong(variables, name, value):
    variables.setenv(name, value)
    with pytest.raises(StageError, match=rf"^{name} is '{value}', not a whole number (from|of) "):
        init_distributed(gpu=False, cuda_idx=0)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("WORLD_SIZE", "0"), ("RANK", "4"), ("LOCAL_RANK", "2"), ("LOCAL_WORLD_SIZE", "0"),
        ("LOCAL_WORLD_SIZE", "5"), ("MASTER_PORT", "0"), ("MASTER_PORT", "65536"),
    ],
)  # fmt: skip
def test_init_distributed_names_a_number_out_of_range(variables, name, value):
    variables.setenv(name, value)
    with pytest.raises(StageError, match=f"^{name} is '{value}', not a whole number"):
        init_distributed(gpu=False, cuda_idx=0)


def test_init_distributed_refuses_a_rank_beyond_one_process(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    monkeypatch.setenv("RANK", "1")  # such a process would print nothing
    with pytest.raises(StageError, match=r"^RANK is '1', not a whole number from 0 to 0: "):
        init_distributed(gpu=False, cuda_idx=0)


@pytest.fixture
def soon(monkeypatch):
    monkeypatch.setattr(distributed_module, "TIMEOUT", timedelta(seconds=0.5))


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@pytest.mark.parametrize(
    ("rank", "host", "message"),
    [
        (0, "127.0.0.1", "only 1 of 4 processes have started, or answer, within 0.00833333 min"),
        (1, "127.0.0.1", "cannot reach 127.0.0.1:.*Connection refused"),
    ],
)
@several_processes
def test_init_distributed_does_not_wait_for_ever(variables, soon, rank, host, message):
    variables.setenv("RANK", str(rank))
    variables.setenv("MASTER_ADDR", host)
    variables.setenv("MASTER_PORT", str(free_port()))
    with pytest.raises(LostProcessError, match=message):
        init_distributed(gpu=False, cuda_idx=0)


@several_processes
def test_init_distributed_gives_up_at_once_on_a_host_that_does_not_exist(variables):
    variables.setenv("MASTER_ADDR", "no.such.host.invalid")
    started = time.monotonic()
    with pytest.raises(LostProcessError, match=r"cannot reach no\.such\.host\.invalid:29500 "):
        init_distributed(gpu=False, cuda_idx=0)
    assert time.monotonic() - started < distributed_module.TIMEOUT.total_seconds() / 4


@several_processes
def test_init_distributed_names_a_port_that_is_in_use(variables, soon):
    variables.setenv("RANK", "0")
    variables.setenv("MASTER_ADDR", "127.0.0.1")
    with socket.socket() as other:
        other.bind(("", 0))
        other.listen()
        port = other.getsockname()[1]
        variables.setenv("MASTER_PORT", str(port))
        with pytest.raises(TransientError, match=f"cannot use 127.0.0.1:{port} .*in use"):
            init_distributed(gpu=False, cuda_idx=0)


def test_processes_agree_on_a_name_in_a_store_that_dead_ones_have_used():
    """Whatever was left there, and in whatever order they come."""
    store = torch.distributed.HashStore()

    def meet(ranks: list[int], delay: float = 0) -> list[str]:
        def agree(rank: int) -> str:
            time.sleep(delay * ranks.index(rank))
            launch = Launch(rank, rank, 3, 3, "node1", 29500)
            try:
                return distributed_module._agree(store, launch, time.monotonic() + limit)
            except LostProcessError:
                return ""

        with ThreadPoolExecutor(len(ranks)) as pool:
            return list(pool.map(agree, ranks))

    limit = 0.3
    assert meet([0, 2]) == ["", ""]  # one died before it came
    limit = 60
    names = [set(meet(ranks, 0.1)) for ranks in ([0, 1, 2], [2, 1, 0], [1, 0, 2])]
    assert [len(name) for name in names] == [1, 1, 1]  # all agree
    assert len(set.union(*names)) == 3 and "" not in set.union(*names)


def test_recall_is_what_an_earlier_attempt_remembered():
    memory = torch.distributed.HashStore()
    before, after = (Distributed(CPU, memory=memory) for _ in range(2))
    assert before.recall("run") is None
    before.remember("run", "runs/001-얼굴")
    assert after.recall("run") == "runs/001-얼굴"
    Distributed(CPU).remember("run", "x")
    assert Distributed(CPU).recall("run") is None


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            RuntimeError("[/__w/gloo/transport/tcp/pair.cc:545] Read error: reset. GLHF!\nx"),
            r"does not answer \(Read error: reset\); ",
        ),
        (torch.distributed.DistBackendError("NCCL error"), r"does not answer \(NCCL error\); "),
    ],
)
def test_explain_lost_process_is_one_line(error, message):
    with pytest.raises(LostProcessError, match=message), explain_lost_process():
        raise error
    with pytest.raises(RuntimeError, match=r"^shapes$"), explain_lost_process():
        raise RuntimeError("shapes")


def test_init_distributed_refuses_more_processes_than_gpus(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setenv("WORLD_SIZE", "2")
    for name in ("RANK", "LOCAL_RANK", "MASTER_PORT"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    with pytest.raises(StageError, match=r"1 GPU\(s\) for 2 processes: .*--no-gpu"):
        init_distributed(gpu=True, cuda_idx=0)


def exchange(distributed: Distributed) -> list:
    """What the ranks get of each other; see the test below."""
    rank = distributed.rank
    time.sleep(0.5 * rank)
    arrived = time.monotonic()
    distributed.barrier()
    moments = [arrived, time.monotonic()]
    total = distributed.all_reduce(torch.tensor([1.0, rank]))
    rows = distributed.all_gather([rank + 0.1, torch.inf])
    sent = distributed.broadcast({"from": rank})
    return [rank, distributed.world_size, total, sent, moments, rows]


@several_processes
@pytest.mark.slow
def test_processes_sum_and_broadcast(tmp_path):
    results = run_ranks(exchange, tmp_path)
    last = max(result[4][0] for result in results)
    for rank, result in enumerate(results):
        assert result[:2] == [rank, 2] and result[2].tolist() == [2, 1]
        assert result[3] == {"from": 0}
        assert result[4][1] >= last  # nobody goes on before all have arrived
        assert result[5] == [[0.1, torch.inf], [1.1, torch.inf]]


def compare_gradients(distributed: Distributed) -> None:
    """One backward pass of a whole batch beside that of the ranks' rows."""
    torch.manual_seed(0)
    alone = models.create("resnet18", 3, 1, 16).double().train()
    images, labels = torch.rand(7, 1, 16, 16).double(), torch.arange(7) % 3
    shared = distributed.sync_batch_norm(copy.deepcopy(alone))
    wrapped = distributed.ddp(shared)
    distributed.set_dropout_rows([m for m in shared.modules() if isinstance(m, Dropout)], 7)
    first, end = distributed.slice(7)
    torch.manual_seed(1)
    F.cross_entropy(alone(images), labels).backward()
    torch.manual_seed(1)
    outputs = wrapped(images[first:end])
    (F.cross_entropy(outputs, labels[first:end], reduction="sum") * 2 / 7).backward()
    for one, other in zip(alone.parameters(), shared.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad)
    for one, other in zip(alone.buffers(), shared.buffers(), strict=True):
        torch.testing.assert_close(one, other)


@several_processes
@pytest.mark.slow
def test_gradients_and_batch_norm_are_those_of_the_whole_batch(tmp_path):
    run_ranks(compare_gradients, tmp_path)


def train_and_count(distributed: Distributed) -> list:
    """Train an epoch of three steps, two batches each. Return the number of gradient exchanges
    per step, the steps before the exchanges of the loss, the loss, the validation and the weights.
    """
    trainer = small_trainer(count=24, distributed=distributed)
    trainer.poll.seconds = 1000
    exchanges, polls = [0], []
    all_gather = Distributed.all_gather
    Distributed.all_gather = lambda *args: polls.append(len(exchanges)) or all_gather(*args)

    def count(_, bucket):  # DDP takes no other annotations than its own
        exchanges[-1] += 1
        total = bucket.buffer() / distributed.world_size
        reduced = torch.distributed.all_reduce(total, async_op=True).get_future()
        return reduced.then(lambda future: future.value()[0])

    if distributed.world_size > 1:
        trainer._ddp.register_comm_hook(None, count)
    loss, _ = trainer.train_epoch(lambda: exchanges.append(0), "")
    Distributed.all_gather = all_gather
    figures = validate(trainer.best_model, small_dataset(13), 4, distributed)
    weights = {key: value.contiguous() for key, value in trainer.model.state_dict().items()}
    return [exchanges[:-1], polls, loss, list(figures), weights]


@several_processes
@pytest.mark.slow
def test_processes_exchange_gradients_once_a_step_and_losses_at_the_poll(tmp_path):
    """And the weights are those of one process, within rounding."""
    *_, loss, figures, weights = train_and_count(Distributed(CPU))
    for result in run_ranks(train_and_count, tmp_path):
        assert result[0] == [1, 1, 1]
        assert result[1] == [1, 4]  # in step 1, to know how long one takes, and at the end
        assert result[2] == pytest.approx(loss, rel=1e-5)
        assert result[3] == pytest.approx(figures, rel=1e-5)
        for key, value in weights.items():
            torch.testing.assert_close(result[4][key], value, rtol=1e-4, atol=1e-5)


def train_sharply(distributed: Distributed) -> list:
    """Train an epoch with sharpness and CutMix. Return the loss and the state of the model."""
    recipe = replace(REMEMBERED_RECIPE, accumulate=1, sam=0.5, mixing=Mixing(0, 1.0))
    trainer = small_trainer(recipe, count=24, distributed=distributed)
    loss, _ = trainer.train_epoch(lambda: None, "")
    return [loss, {key: value.contiguous() for key, value in trainer.model.state_dict().items()}]


@several_processes
@pytest.mark.slow
def test_sharpness_is_that_of_the_whole_batch(tmp_path):
    """And batch norm's statistics are those of its first pass, over all rows."""
    loss, weights = train_sharply(Distributed(CPU))
    for result in run_ranks(train_sharply, tmp_path):
        assert result[0] == pytest.approx(loss, rel=1e-5)
        for key, value in weights.items():
            torch.testing.assert_close(result[1][key], value, rtol=1e-4, atol=1e-5)


def test_keep_gradients_local_is_no_sync_of_a_wrapped_model(monkeypatch):
    class Wrapped(nn.parallel.DistributedDataParallel):
        def __init__(self) -> None:  # without a process group
            nn.Module.__init__(self)

        def no_sync(self) -> str:
            return "no_sync"

    assert keep_gradients_local(Wrapped()) == "no_sync"
