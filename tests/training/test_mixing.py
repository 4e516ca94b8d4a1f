"""Mixup and CutMix: what is drawn for a batch, and what becomes of its images."""

from __future__ import annotations

import random
from collections import Counter

import pytest
import torch

from utils.training.mixing import Mix, Mixing, cut_box, mix_images

PLACES = [f"7/1/{number}" for number in range(400)]


def as_tensors(mix: Mix) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.tensor(mix.weight), torch.tensor(mix.box, dtype=torch.float32)


def test_without_mixing_a_row_stays_what_it_is():
    assert not Mixing() and Mixing(0.2) and Mixing(0, 1)
    assert Mixing().draw("7/1/0", 20) == Mix(1.0, (0, 0, 0, 0))


def test_mixup_draws_a_weight_and_no_box():
    for place in PLACES[:20]:
        weight = random.Random(f"{place}/mixup").betavariate(0.4, 0.4)
        assert Mixing(0.4).draw(place, 20) == Mix(weight, (0, 0, 0, 0))


def test_cutmix_cuts_a_box_within_the_image_whose_area_is_the_partners_share():
    mixes = [Mixing(0, 1.0).draw(place, 20) for place in PLACES]
    for weight, (top, bottom, left, right) in mixes:
        assert 0 <= top <= bottom <= 20 and 0 <= left <= right <= 20
        assert weight == pytest.approx(1 - (bottom - top) * (right - left) / 400)
    weights = [mix.weight for mix in mixes]
    assert min(weights) < 0.2 and max(weights) > 0.9 and len(set(weights)) > 50


def test_cut_box_is_that_of_the_authors():
    """Against the lines of their published code (rand_bbox), with its two random numbers."""
    for weight in (0.0, 0.3, 0.9, 1.0):
        for seed in range(20):
            mix = cut_box(random.Random(seed), weight, 20)
            rng = random.Random(seed)
            cut = int(20 * (1 - weight) ** 0.5)
            cy, cx = rng.randrange(20), rng.randrange(20)
            expected = []
            for centre in (cy, cx):
                expected += [max(centre - cut // 2, 0), min(centre + cut // 2, 20)]
            assert list(mix.box) == expected


def test_with_both_ways_each_batch_gets_one_of_them():
    both, kinds = Mixing(0.4, 1.0), Counter()
    for place in PLACES:
        mix = both.draw(place, 20)
        is_mixup = mix == Mixing(0.4).draw(place, 20)
        kinds[is_mixup] += 1
        assert is_mixup or any(mix.box) or mix.weight == 1
    assert 150 < kinds[True] < 250


def test_mix_images_pastes_the_box_or_blends_all():
    images, partners = torch.rand(3, 2, 8, 8), torch.rand(3, 2, 8, 8)
    pasted = mix_images(partners, images, *as_tensors(Mix(0.8125, (1, 4, 2, 6))))
    expected = images.clone()
    expected[:, :, 1:4, 2:6] = partners[:, :, 1:4, 2:6]
    assert torch.equal(pasted, expected)
    blended = mix_images(partners, images, *as_tensors(Mix(0.3, (0, 0, 0, 0))))
    assert torch.equal(blended, torch.lerp(partners, images, torch.tensor(0.3)))
    nothing = mix_images(partners, images, *as_tensors(Mix(1.0, (4, 4, 2, 6))))
    assert torch.equal(nothing, images)
    everything = mix_images(partners, images, *as_tensors(Mix(0.0, (0, 8, 0, 8))))
    assert torch.equal(everything, partners)
