"""The plan of every batch: it follows from the seed, the epoch and the batch, and from no more."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from utils.training.augment import Augment
from utils.training.batches import BatchPlan, BatchPlanner, generator_for, seed_for
from utils.training.distributed import Distributed

CPU = torch.device("cpu")


@pytest.fixture
def planner():
    """23 images in batches of 4, two batches a step, everything random in use."""
    augment = Augment(True, 9, 3, 0.5, 0.2, 0.1)
    return BatchPlanner(23, 20, 4, 2, 0.4, augment, 7, Distributed(CPU))


def plans_of(planner: BatchPlanner, epoch: int) -> list[BatchPlan]:
    batches = planner.batches(epoch)
    return [planner.plan(epoch, batches, number) for number in range(len(batches))]


def values(plan: BatchPlan) -> list:
    """Everything in a plan, as lists and numbers that can be compared."""
    parts = [*plan._replace(params=None), *plan.params]
    return [part.tolist() if isinstance(part, torch.Tensor) else part for part in parts]


def random_parts(plan: BatchPlan) -> dict[str, object]:
    """What is drawn at random for a batch, beside its images."""
    return {
        "affine": plan.params.affine.tolist(),
        "erase_box": plan.params.erase_box.tolist(),
        "brightness": plan.params.brightness.tolist(),
        "mix_weight": plan.mix_weight,
        "dropout_seed": plan.dropout_seed,
    }


def test_seed_for_tells_positions_apart():
    positions = [(0, 1), (1, 0), (1,), (0, 1, 0), (0, 1, 0, 1), (1, 23), (12, 3)]
    assert len({seed_for(*position) for position in positions}) == len(positions)
    assert seed_for(5, 2) == seed_for(5, 2) and 0 <= seed_for(5, 2) < 2**63


def test_generator_for_gives_equal_numbers_for_equal_positions():
    one, other, third = (
        torch.rand(4, generator=generator_for(*p)) for p in ((3, 1), (3, 1), (3, 2))
    )
    assert torch.equal(one, other) and not torch.equal(one, third)


def test_batches_hold_every_image_once_in_an_order_by_seed_and_epoch(planner):
    orders = [
        torch.cat(p.batches(epoch)).tolist()
        for p, epoch in ((planner, 1), (planner, 2), (replace(planner, seed=8), 1))
    ]
    assert all(sorted(order) == list(range(23)) for order in orders)
    assert orders[0] != orders[1] != orders[2] != orders[0]
    assert torch.cat(planner.batches(1)).tolist() == orders[0]


def test_batches_do_not_depend_on_torchs_random_state(planner):
    torch.manual_seed(1)
    before = [values(plan) for plan in plans_of(planner, 3)]
    torch.manual_seed(2)
    state = torch.get_rng_state()
    assert [values(plan) for plan in plans_of(planner, 3)] == before
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("images", "world_size", "sizes"),
    [(24, 1, [4] * 6), (25, 1, [4] * 5 + [5]), (26, 1, [4] * 6 + [2]), (26, 2, [4] * 5 + [6]),
     (27, 2, [4] * 5 + [7]), (3, 2, [3])],
)  # fmt: skip
def test_batches_leave_each_process_two_images_at_least(planner, images, world_size, sizes):
    planner = replace(planner, images=images, distributed=Distributed(CPU, 0, world_size))
    assert list(map(len, planner.batches(1))) == sizes


def test_plan_does_not_depend_on_where_the_epoch_was_resumed(planner):
    whole = [values(plan) for plan in plans_of(planner, 2)]
    for first in range(len(whole)):
        fresh = replace(planner)  # as another process would make it
        batches = fresh.batches(2)
        rest = [values(fresh.plan(2, batches, number)) for number in range(first, len(batches))]
        assert rest == whole[first:]


def test_plan_draws_all_its_random_numbers_from_seed_epoch_and_batch(planner):
    first = random_parts(plans_of(planner, 1)[0])
    for other in (
        plans_of(planner, 1)[1],
        plans_of(planner, 2)[0],
        plans_of(replace(planner, seed=8), 1)[0],
    ):
        parts = random_parts(other)
        assert all(parts[name] != first[name] for name in first)


def test_plan_draws_augmentation_and_dropout_from_different_seeds(planner):
    plan = plans_of(planner, 1)[0]
    assert plan.dropout_seed != seed_for(planner.seed, 1, 0)


def test_plan_mixes_a_batch_with_a_permutation_of_itself(planner):
    for plan, batch in zip(plans_of(planner, 1), planner.batches(1), strict=True):
        assert torch.equal(plan.indices[plan.rows], batch)
        assert sorted(plan.indices[plan.mix_rows].tolist()) == sorted(batch.tolist())
        assert 0 <= plan.mix_weight <= 1
    weights = {plan.mix_weight for plan in plans_of(planner, 1)}
    assert len(weights) == len(planner.batches(1))


def test_plan_without_mixup_needs_only_its_own_rows(planner):
    for plan in plans_of(replace(planner, mixup=0), 1):
        assert plan.mix_weight == 1 and torch.equal(plan.rows, plan.mix_rows)
        assert len(plan.indices) == plan.batch_rows


def test_plan_counts_the_batches_of_a_step(planner):
    plans = plans_of(planner, 1)
    assert [plan.batch_rows for plan in plans] == [4, 4, 4, 4, 4, 3]
    assert [plan.number for plan in plans] == list(range(6))
    assert [plan.step for plan in plans] == [0, 0, 1, 1, 2, 2]
    assert [plan.step_rows for plan in plans] == [8, 8, 8, 8, 7, 7]
    assert [plan.starts_step for plan in plans] == [True, False] * 3
    assert [plan.ends_step for plan in plans] == [False, True] * 3
    assert planner.steps_per_epoch == 3


def test_plan_ends_the_last_step_with_the_epoch(planner):
    plans = plans_of(replace(planner, accumulate=4), 1)
    assert [plan.ends_step for plan in plans] == [False, False, False, True, False, True]
    assert [plan.step_rows for plan in plans] == [16] * 4 + [7] * 2
    assert replace(planner, accumulate=4).steps_per_epoch == 2


@pytest.mark.parametrize("world_size", [2, 3])
def test_plans_of_several_processes_are_together_the_plan_of_one(planner, world_size):
    planner = replace(planner, images=32, batch_size=8)
    ranks = [
        plans_of(replace(planner, distributed=Distributed(CPU, rank, world_size)), 1)
        for rank in range(world_size)
    ]
    whole = plans_of(replace(planner, distributed=Distributed(CPU, 0, 1)), 1)
    for plan, *parts in zip(whole, *ranks, strict=True):
        for name in ("rows", "mix_rows"):
            own = torch.cat([part.indices[getattr(part, name)] for part in parts])
            assert torch.equal(own, plan.indices[getattr(plan, name)])
            for i in range(3):  # of AugmentParams
                drawn = torch.cat([part.params[i][getattr(part, name)] for part in parts])
                assert torch.equal(drawn, plan.params[i][getattr(plan, name)])
        for part in parts:
            assert (part.mix_weight, part.dropout_seed) == (plan.mix_weight, plan.dropout_seed)
            assert (part.batch_rows, part.step_rows) == (plan.batch_rows, plan.step_rows)
