"""The plan of every batch: it follows from the seed, the epoch and the batch, and from no more."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import pytest
import torch

from utils.training.augment import Augment
from utils.training.batches import BatchPlan, BatchPlanner, generator_for, seed_for
from utils.training.distributed import Distributed
from utils.training.mixing import Mixing

CPU = torch.device("cpu")
SETTINGS = {"rotation": 9, "crop": 3, "erase": 0.5, "brightness": 0.2, "zoom": 0.1}


def make_planner(images: int) -> BatchPlanner:
    """Batches of 4, two batches a step, everything random in use."""
    targets = torch.rand(images, 3, generator=torch.Generator().manual_seed(0))
    return BatchPlanner(
        targets, CPU, 20, 4, 2, Mixing(0.4), Augment(**SETTINGS), 7, Distributed(CPU)
    )


@pytest.fixture
def planner():
    return make_planner(23)


def order_of(planner: BatchPlanner, epoch: int) -> list[int]:
    return torch.cat([plan.indices for plan in planner.plan(epoch)]).tolist()


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
        "mix_weight": plan.mix_weight.item(),
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


def test_sample_weights_say_how_often_an_epoch_shows_an_image(planner):
    weights = torch.arange(23, dtype=torch.float64)  # the first image is never shown
    weighted = replace(planner, sample_weights=weights)
    expected = 23 * weights / weights.sum()
    orders = [order_of(weighted, epoch) for epoch in range(1, 301)]
    counts = torch.stack([torch.bincount(torch.tensor(order), minlength=23) for order in orders])
    assert (counts.sum(1) == 23).all() and (counts - expected).abs().max() < 1
    assert counts.double().mean(0).tolist() == pytest.approx(expected.tolist(), abs=0.12)
    assert order_of(weighted, 3) == orders[2] != orders[3]
    places = torch.tensor([order.index(22) for order in orders], dtype=torch.float64)
    assert 5 < places.mean() < 11  # at the first of two of 23 places, anywhere


def test_equal_sample_weights_show_every_image_once(planner):
    weighted = replace(planner, sample_weights=torch.full((23,), 0.3, dtype=torch.float64))
    assert sorted(order_of(weighted, 2)) == list(range(23))


def test_batches_hold_every_image_once_in_an_order_by_seed_and_epoch(planner):
    orders = [
        order_of(p, epoch)
        for p, epoch in ((planner, 1), (planner, 2), (replace(planner, seed=8), 1))
    ]
    assert all(sorted(order) == list(range(23)) for order in orders)
    assert orders[0] != orders[1] != orders[2] != orders[0]
    assert order_of(planner, 1) == orders[0]


def test_batches_do_not_depend_on_torchs_random_state(planner):
    torch.manual_seed(1)
    before = [values(plan) for plan in planner.plan(3)]
    torch.manual_seed(2)
    state = torch.get_rng_state()
    assert [values(plan) for plan in planner.plan(3)] == before
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("images", "world_size", "sizes"),
    [(24, 1, [4] * 6), (25, 1, [4] * 5 + [5]), (26, 1, [4] * 6 + [2]), (26, 2, [4] * 5 + [6]),
     (27, 2, [4] * 5 + [7]), (3, 2, [3])],
)  # fmt: skip
def test_batches_leave_each_process_two_images_at_least(images, world_size, sizes):
    planner = replace(make_planner(images), distributed=Distributed(CPU, 0, world_size))
    assert planner.sizes == sizes
    assert [plan.batch_rows for plan in planner.plan(1)] == sizes


def test_plan_draws_the_numbers_of_a_batch_one_kind_after_the_other(planner):
    """Bit for bit what each batch draws alone, in plain lines: an old last.pt resumes from it."""
    size = planner.image_size
    for plan in planner.plan(3):
        name = f"7/3/{plan.number}"
        generator = torch.Generator().manual_seed(random.Random(name).getrandbits(63))
        count = len(plan.indices)
        u = [torch.rand(count, generator=generator) for _ in range(11)]
        partners = torch.randperm(count, generator=generator)

        angle = (u[0] * 2 + -1) * math.radians(9)
        mirror = torch.where(u[1] < 0.5, -1.0, 1.0)
        dx, dy = (((x * 2 + -1) * 3.5).round() for x in u[2:4])
        area = (u[4] * (1 / 3 - 0.02) + 0.02) * size * size
        low, high = math.log(0.3), math.log(1 / 0.3)
        aspect = (u[5] * (high - low) + low).exp()
        height, width = (area * aspect).sqrt().round(), (area / aspect).sqrt().round()
        top = (u[6] * (size - height).clamp(min=0)).round()
        left = (u[7] * (size - width).clamp(min=0)).round()
        height = height * (u[8] < 0.5)
        brightness = (u[9] * 2 + -1) * 0.2 + 1
        scale = (u[10] * 2 + -1) * 0.1 + 1
        cos, sin = angle.cos() / scale, angle.sin() / scale
        rows = [cos * mirror, -sin, dx * 2 / size, sin * mirror, cos, dy * 2 / size]

        affine, box, factor, contrast = plan.params
        assert torch.equal(contrast, torch.ones(count)) and plan.mix_box.tolist() == [0, 0, 0, 0]
        assert torch.equal(affine.flatten(1), torch.stack(rows, 1))
        assert torch.equal(box, torch.stack([top, top + height, left, left + width], 1))
        assert torch.equal(factor, brightness)
        assert torch.equal(plan.mix_rows, partners)
        weight = random.Random(f"{name}/mixup").betavariate(0.4, 0.4)
        assert plan.mix_weight == torch.tensor(weight)
        assert plan.dropout_seed == random.Random(f"{name}/1").getrandbits(63)


def test_plan_draws_all_its_random_numbers_from_seed_epoch_and_batch(planner):
    first = random_parts(planner.plan(1)[0])
    for other in (
        planner.plan(1)[1],
        planner.plan(2)[0],
        replace(planner, seed=8).plan(1)[0],
    ):
        parts = random_parts(other)
        assert all(parts[name] != first[name] for name in first)


@pytest.mark.parametrize(
    "change", [{"shear": 5}, {"contrast": 0.2}, {"p": 0.9}, {"shear": 5, "contrast": 0.1, "p": 0.5}]
)
def test_plan_with_later_kinds_draws_all_else_as_before(planner, change):
    later, changes = replace(planner, augment=replace(planner.augment, **change)), []
    for one, other in zip(planner.plan(2), later.plan(2), strict=True):
        assert torch.equal(one.indices, other.indices)
        assert torch.equal(one.mix_rows, other.mix_rows)
        assert torch.equal(one.params.erase_box, other.params.erase_box)
        assert (one.mix_weight, one.dropout_seed) == (other.mix_weight, other.dropout_seed)
        changes += [not torch.equal(a, b) for a, b in zip(one.params, other.params, strict=True)]
    assert any(changes)


def test_plan_draws_later_kinds_for_each_batch_of_each_epoch(planner):
    planner = replace(planner, augment=Augment(flip=False, rotation=0, contrast=0.5))
    contrasts = [plan.params.contrast.tolist() for epoch in (1, 2) for plan in planner.plan(epoch)]
    assert len({value for part in contrasts for value in part}) == 2 * 23
    others = torch.rand(11, 4, generator=generator_for(planner.seed, 1, 0))
    assert contrasts[0] not in ((2 * others - 1) * 0.5 + 1).tolist(), "numbers of other kinds"
    assert contrasts == [
        plan.params.contrast.tolist() for epoch in (1, 2) for plan in planner.plan(epoch)
    ]


def test_plan_with_cutmix_draws_boxes_and_leaves_all_else(planner):
    cut = replace(planner, mixing=Mixing(0.4, 1.0))
    boxes = []
    for one, other in zip(planner.plan(1), cut.plan(1), strict=True):
        assert torch.equal(one.indices, other.indices)
        assert torch.equal(one.mix_rows, other.mix_rows)
        assert all(map(torch.equal, one.params, other.params))
        boxes.append(other.mix_box.tolist())
        weight, box = cut.mixing.draw(f"7/1/{one.number}", 20)
        assert boxes[-1] == list(box) and other.mix_weight == torch.tensor(weight)
    assert [0, 0, 0, 0] in boxes and len({tuple(box) for box in boxes}) > 1


def test_plan_draws_augmentation_and_dropout_from_different_seeds(planner):
    plan = planner.plan(1)[0]
    assert plan.dropout_seed != seed_for(planner.seed, 1, 0)


def test_plan_mixes_a_batch_with_a_permutation_of_itself(planner):
    plans = planner.plan(1)
    for plan in plans:
        assert sorted(plan.mix_rows.tolist()) == list(range(len(plan.indices)))
        assert len(plan.indices) == plan.batch_rows and 0 <= plan.mix_weight <= 1
    assert len({plan.mix_weight.item() for plan in plans}) == len(plans)
    assert len({tuple(plan.mix_rows.tolist()) for plan in plans}) > 1


def test_plan_without_mixup_draws_the_same_images_and_changes(planner):
    for plan, mixed in zip(replace(planner, mixing=Mixing()).plan(1), planner.plan(1), strict=True):
        assert plan.mix_weight == 1 and plan.mix_rows.tolist() == list(range(plan.batch_rows))
        assert torch.equal(plan.indices, mixed.indices)
        assert all(map(torch.equal, plan.params, mixed.params))


def test_plan_has_the_targets_of_its_images(planner):
    for plan in planner.plan(2):
        assert torch.equal(plan.targets, planner.targets[plan.indices])


def test_plan_is_a_view_of_tables_of_the_epoch(planner):
    """Which are moved to the device once."""
    views = ([*p.params, p.indices, p.targets, p.mix_rows, p.mix_weight] for p in planner.plan(1))
    for table in zip(*views, strict=True):
        assert len({view.untyped_storage().data_ptr() for view in table}) == 1


def test_plan_counts_the_batches_of_a_step(planner):
    plans = planner.plan(1)
    assert [plan.batch_rows for plan in plans] == [4, 4, 4, 4, 4, 3]
    assert [plan.number for plan in plans] == list(range(6))
    assert [plan.step for plan in plans] == [0, 0, 1, 1, 2, 2]
    assert [plan.step_rows for plan in plans] == [8, 8, 8, 8, 7, 7]
    assert [plan.starts_step for plan in plans] == [True, False] * 3
    assert [plan.ends_step for plan in plans] == [False, True] * 3
    assert planner.steps_per_epoch == 3


def test_plan_ends_the_last_step_with_the_epoch(planner):
    plans = replace(planner, accumulate=4).plan(1)
    assert [plan.ends_step for plan in plans] == [False, False, False, True, False, True]
    assert [plan.step_rows for plan in plans] == [16] * 4 + [7] * 2
    assert replace(planner, accumulate=4).steps_per_epoch == 2


@pytest.mark.parametrize("world_size", [2, 3])
@pytest.mark.parametrize("mixing", [Mixing(), Mixing(0.4), Mixing(0.4, 1)])
def test_plans_of_several_processes_are_together_the_plan_of_one(world_size, mixing):
    whole = replace(make_planner(32), batch_size=8, mixing=mixing)
    ranks = [
        replace(whole, distributed=Distributed(CPU, rank, world_size)).plan(1)
        for rank in range(world_size)
    ]

    def rows(plan: BatchPlan) -> list[torch.Tensor]:
        """What a process mixes: first its rows, then the others."""
        tables = [plan.indices, plan.targets, *plan.params]
        own = len(plan.mix_rows)
        return [t[:own] for t in tables] + [t[plan.mix_rows] for t in tables]

    for plan, *parts in zip(whole.plan(1), *ranks, strict=True):
        together = map(torch.cat, zip(*map(rows, parts), strict=True))
        assert all(map(torch.equal, together, rows(plan)))
        for part in parts:
            own = len(part.mix_rows)
            assert len(part.indices) == (2 * own if mixing else own)
            assert (part.mix_weight, part.dropout_seed) == (plan.mix_weight, plan.dropout_seed)
            assert (part.batch_rows, part.step_rows) == (plan.batch_rows, plan.step_rows)
