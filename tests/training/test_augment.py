"""Random changes of images: their kinds, their sizes, and where their randomness comes from."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from utils.training.augment import DRAWS, LATER_DRAWS, Augment

PLAIN = Augment(flip=False, rotation=0)


def draws(count: int) -> torch.Tensor:
    return torch.rand(DRAWS, count, generator=torch.Generator().manual_seed(0))


def change(augment: Augment, images: torch.Tensor) -> torch.Tensor:
    return augment(images, augment.sample(draws(len(images)), images.shape[-1]))


@pytest.fixture
def grey():
    return torch.full((64, 3, 20, 20), 0.5)


def test_augment_rotates_and_mirrors_within_bounds():
    images = torch.zeros(200, 1, 48, 48)
    images[:, :, 20:28, 4:8] = 1  # a mark at the left edge, halfway down
    varied = change(Augment(), images)
    assert varied.shape == images.shape and varied.min() >= 0 and varied.max() <= 1.0001
    rows, columns = torch.arange(48.0).view(48, 1), torch.arange(48.0)
    mass = varied.sum((1, 2, 3))
    x = (varied[:, 0] * columns).sum((1, 2)) / mass - 23.5
    y = (varied[:, 0] * rows).sum((1, 2)) / mass - 23.5
    assert 0.4 < (x > 0).float().mean() < 0.6
    angle = torch.rad2deg(torch.atan2(y, x.abs())).abs()
    assert 5 < angle.max() < 6.3 and angle.std() > 1
    assert torch.equal(varied, change(Augment(), images))


def test_augment_without_a_change_returns_the_images(grey):
    assert torch.equal(change(PLAIN, grey), grey)


def test_augment_crop_shifts_by_whole_pixels_to_each_side():
    spots = torch.zeros(64, 1, 20, 20)
    spots[:, :, 10, 10] = 1
    moved = change(replace(PLAIN, crop=4), spots).flatten(1).argmax(1)
    rows, columns = moved // 20 - 10, moved % 20 - 10
    assert set(rows.tolist()) | set(columns.tolist()) == set(range(-4, 5))


def test_augment_erase_blackens_a_box_in_a_fraction_of_the_images(grey):
    holes = (change(replace(PLAIN, erase=0.5), grey) == 0).float().mean((1, 2, 3))
    assert 0.3 < (holes > 0).float().mean() < 0.7
    assert holes.max() < 0.4 and holes[holes > 0].min() > 0.01


def test_augment_brightness_is_a_factor_within_bounds(grey):
    levels = change(replace(PLAIN, brightness=0.2), grey).mean((1, 2, 3))
    assert 0.4 <= levels.min() < 0.42 and 0.58 < levels.max() <= 0.6


def test_augment_zoom_is_a_factor_of_the_size_within_bounds():
    square = torch.zeros(64, 1, 20, 20)
    square[:, :, 5:15, 5:15] = 1
    sides = change(replace(PLAIN, zoom=0.2), square).sum((1, 2, 3)).sqrt()
    assert 7.9 < sides.min() < 8.6 and 11.4 < sides.max() < 12.1


def test_augment_crop_below_one_is_a_fraction_of_the_side():
    numbers = draws(200)
    for size, pixels in ((48, 4), (224, 18), (96, 8)):
        one, other = (replace(PLAIN, crop=crop).sample(numbers, size) for crop in (0.08, pixels))
        assert torch.equal(one.affine, other.affine)
    assert replace(PLAIN, crop=1).sample(numbers, 48).affine[:, :, 2].abs().max() == 2 / 48


def test_augment_shear_leans_vertical_lines_within_bounds():
    lines = torch.zeros(200, 1, 41, 41)
    lines[:, :, :, 20] = 1
    leaning = change(replace(PLAIN, shear=30), lines)[:, 0]
    columns = torch.arange(41.0)
    centres = (leaning * columns).sum(2) / leaning.sum(2)
    lean = torch.atan((centres[:, 30] - centres[:, 10]) / 20).rad2deg()
    assert -30.1 < lean.min() < -27 and 27 < lean.max() < 30.1
    torch.testing.assert_close(centres[:, 20], torch.full((200,), 20.0))  # about the middle
    # The rows stay where they are.
    assert leaning[:, 10].sum(1).min() > 0.99


def test_augment_shear_comes_after_mirror_rotation_and_zoom():
    """By the matrices: from a pixel to its source."""
    augment, numbers = Augment(True, 20, 3, zoom=0.3, shear=25), draws(50)
    [affine, *_] = augment.sample(numbers, 20)
    [without, *_] = replace(augment, shear=0).sample(numbers, 20)
    lean = ((2 * numbers[-LATER_DRAWS] - 1) * math.radians(25)).tan()
    shear = torch.eye(2).repeat(50, 1, 1)
    shear[:, 0, 1] = lean
    torch.testing.assert_close(affine[:, :, :2], without[:, :, :2] @ shear)
    assert torch.equal(affine[:, :, 2], without[:, :, 2])


def test_augment_contrast_is_a_factor_of_the_distance_from_the_mean():
    images = torch.rand(64, 3, 8, 8) * 0.2 + 0.4
    changed = change(replace(PLAIN, contrast=0.3), images)
    mean = images.mean((1, 2, 3))
    torch.testing.assert_close(changed.mean((1, 2, 3)), mean)
    factors = (changed - mean.view(-1, 1, 1, 1))[:, 0, 0, 0] / (images[:, 0, 0, 0] - mean)
    assert 0.7 <= factors.min() < 0.75 and 1.25 < factors.max() <= 1.3001
    extreme = torch.rand(64, 1, 8, 8).round()
    assert change(replace(PLAIN, contrast=1), extreme).aminmax() == (0, 1)


KINDS = {"rotation": 9, "crop": 3, "zoom": 0.3, "shear": 9, "brightness": 0.2, "contrast": 0.2}


def test_augment_p_is_the_probability_of_each_kind_alone():
    numbers = draws(2000)
    unchanged = PLAIN.sample(numbers, 20)
    applied = {}
    for kind, value in KINDS.items():
        always, half, never = (
            replace(PLAIN, **{kind: value}, p=p).sample(numbers, 20) for p in (1, 0.5, 0)
        )
        assert all(map(torch.equal, never, unchanged))
        is_applied = torch.zeros(2000, dtype=torch.bool)
        for one, other, nothing in zip(always, half, unchanged, strict=True):
            differs = (other != nothing).flatten(1).any(1) if other.ndim > 1 else other != nothing
            assert torch.equal(other[differs], one[differs])
            is_applied |= differs
        applied[kind] = is_applied
    for kind, is_applied in applied.items():
        # A shift may be one of no pixel.
        fraction = 0.5 * (1 - (kind == "crop") / 49)
        assert abs(is_applied.float().mean() - fraction) < 0.04, kind
    one, other = applied["rotation"], applied["brightness"]
    assert abs((one & other).float().mean() - 0.25) < 0.05, "they are drawn apart"


def test_augment_with_p_one_needs_no_later_numbers():
    augment, numbers = Augment(True, 9, 3, 0.5, 0.2, 0.1), draws(20)
    expected = augment.sample(numbers, 20)
    numbers[-LATER_DRAWS:] = 0
    assert not augment.draws_later and all(map(torch.equal, augment.sample(numbers, 20), expected))
    for change_ in ({"shear": 1}, {"contrast": 0.1}, {"p": 0.9}):
        assert replace(augment, **change_).draws_later


def test_augment_sample_of_one_kind_does_not_depend_on_the_others():
    one = replace(PLAIN, brightness=0.2).sample(draws(8), 20)
    other = Augment(True, 9, 3, 0.5, 0.2, 0.1).sample(draws(8), 20)
    assert torch.equal(one.brightness, other.brightness)
    assert not torch.equal(one.affine, other.affine)


def test_augment_params_select_are_those_of_the_images():
    augment = Augment(True, 9, 3, 0.5, 0.2, 0.1)
    images, rows = torch.rand(6, 1, 20, 20), torch.tensor([4, 0, 4])
    params = augment.sample(draws(6), 20)
    some = augment(images[rows], params.select(rows))
    torch.testing.assert_close(some, augment(images, params)[rows])


def test_augment_params_split_are_those_of_one_batch_after_the_other():
    augment = Augment(True, 9, 3, 0.5, 0.2, 0.1)
    params = augment.sample(draws(6), 20)
    for part, rows in zip(params.split([4, 2]), ([0, 1, 2, 3], [4, 5]), strict=True):
        assert all(map(torch.equal, part, params.select(torch.tensor(rows))))


def test_augment_sample_of_an_image_depends_on_its_numbers_alone():
    """However many are computed at once: an epoch, or a batch."""
    augment, numbers = Augment(True, 9, 3, 0.5, 0.2, 0.1), draws(5000)
    whole = augment.sample(numbers, 48)
    for first, end in ((0, 1), (1, 4), (4, 131), (131, 5000)):
        part = augment.sample(numbers[:, first:end].contiguous(), 48)
        assert all(torch.equal(one, all_[first:end]) for one, all_ in zip(part, whole, strict=True))
