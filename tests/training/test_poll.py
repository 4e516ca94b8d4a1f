"""The poll: when the processes exchange losses and requests to stop, and what they get."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tests.trainings import CPU, small_trainer
from utils.training import poll as poll_module
from utils.training.distributed import Distributed
from utils.training.poll import Poll


class Team(Distributed):
    """Rank 0 of three processes, of which the others report what is given."""

    others = ([10.0, 0.0, 1.0], [100.0, 0.0, 1.0])

    def all_gather(self, values: list[float]) -> list[list[float]]:
        return [values, *self.others]


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still until it is set."""
    clock = {"now": 0.0}
    monkeypatch.setattr(poll_module.time, "perf_counter", lambda: clock["now"])
    return clock


def steps_until_due(poll: Poll) -> int:
    steps = 1
    while not poll.is_due():
        steps += 1
    return steps


def test_one_process_polls_after_as_many_steps_as_it_may():
    poll = Poll(CPU, 50)
    assert steps_until_due(poll) == 50
    assert poll.ask(torch.tensor(0.5)) == [0.5]
    assert steps_until_due(poll) == 50


def test_one_process_knows_at_once_that_it_is_to_stop():
    poll = Poll(CPU, 50)
    assert not poll.is_due() and poll.is_current and not poll.is_stopping
    poll.stop_requested = True
    assert poll.is_stopping


@pytest.mark.parametrize(
    ("seconds", "steps"),
    [(0.1, 2), (0.5, 2), (1.0, 2), (4.0, 1), (28.0, 1)],
)
def test_several_processes_poll_by_the_mean_duration_of_a_step(clock, seconds, steps):
    """The others take a second a step, this one `seconds`, and a poll is due after 2 seconds."""
    poll = Poll(Team(torch.device("cpu"), 0, 3), 50)
    assert steps_until_due(poll) == 1
    clock["now"] = seconds
    assert poll.ask(torch.tensor(1.0)) == [1.0, 10.0, 100.0]
    assert steps_until_due(poll) == steps


def test_several_processes_poll_after_a_limited_number_of_fast_steps(clock, monkeypatch):
    monkeypatch.setattr(Team, "others", [[0.0, 0.0, 0.001]] * 2)
    poll = Poll(Team(torch.device("cpu"), 0, 3), 50)
    poll.is_due()
    clock["now"] = 0.001
    poll.ask(torch.tensor(1.0))
    assert steps_until_due(poll) == 50
    clock["now"] = 0.051
    poll.ask(torch.tensor(1.0))
    assert steps_until_due(poll) == 50


def test_several_processes_without_a_pause_between_saves_poll_after_each_step(clock, monkeypatch):
    monkeypatch.setattr(Team, "others", [[0.0, 0.0, 0.001]] * 2)
    poll = Poll(Team(torch.device("cpu"), 0, 3), 50)
    poll.seconds = 0
    poll.is_due()
    poll.ask(torch.tensor(1.0))
    assert steps_until_due(poll) == 1


def test_several_processes_know_of_a_stop_only_from_the_poll(monkeypatch):
    poll = Poll(Team(torch.device("cpu"), 0, 3), 50)
    poll.stop_requested = True
    assert not poll.is_stopping
    poll.is_due()
    assert not poll.is_current
    poll.ask(torch.tensor(1.0))
    assert poll.is_stopping and poll.is_current
    poll.stop_requested = False
    monkeypatch.setattr(Team, "others", [[0.0, 0.0, 1.0], [0.0, 1.0, 1.0]])
    poll.ask(torch.tensor(1.0))
    assert poll.is_stopping


def test_a_state_holds_the_losses_by_rank_and_loads_in_another_number_of_processes():
    trainer = small_trainer()
    trainer._load_loss([0.1, 0.2, 0.4])
    assert trainer.state()["loss"] == 0.1 + 0.2 + 0.4
    for rank, expected in enumerate((0.1, 0.2, 0.4)):
        trainer.distributed = replace(CPU, rank=rank, world_size=3)
        trainer._load_loss([0.1, 0.2, 0.4])
        assert trainer._loss_sum.item() == expected
        assert trainer.state()["loss"] == [0.1, 0.2, 0.4]
        trainer._load_loss(0.7)
        assert trainer._loss_sum.item() == (0 if rank else 0.7)
