"""Scores of groups, intervals, and whether groups differ beyond chance."""

from __future__ import annotations

from itertools import combinations
from math import comb
from pathlib import Path

import numpy as np
import pytest

from utils.data.image_groups import Attribute, ImageGroups
from utils.evaluation import groups as module
from utils.evaluation.groups import (
    Predictions,
    evaluate_groups,
    macro_f1_interval,
    permutation_test,
    sign_flip_test,
)
from utils.metrics import Scores, wilson


def predictions(truth: list[int], answers: list[int], classes: int = 2) -> Predictions:
    paths = [Path(f"{i}.jpg") for i in range(len(truth))]
    return Predictions(paths, np.array(truth), np.array(answers), classes)


def grouped(names: list[str | None], people: list[str] | None = None, **more: list) -> ImageGroups:
    """Images 0.jpg, 1.jpg, … in the groups of the attribute `sex`, and of others."""
    attributes = [
        Attribute(key, "t.csv", {Path(f"{i}.jpg"): n for i, n in enumerate(values) if n})
        for key, values in {"sex": names, **more}.items()
    ]
    persons = {Path(f"{i}.jpg"): name for i, name in enumerate(people or [])}
    return ImageGroups(attributes, persons)


def of_accuracies(*parts: tuple[int, int]) -> tuple[list[int], list[str]]:
    """Answers to images of class 0, and their groups a, b, … with (right, wrong) answers each."""
    answers, names = [], []
    for name, (right, wrong) in zip("abcdefg", parts, strict=False):
        answers += [0] * right + [1] * wrong
        names += [name] * (right + wrong)
    return answers, names


# --- scores


def test_each_group_has_the_scores_of_its_images():
    truth, answers = [0, 0, 1, 1, 0, 1], [0, 1, 1, 1, 0, 0]
    names = ["남", "남", "여", "여", "여", None]
    result = evaluate_groups(predictions(truth, answers), grouped(names))
    [attribute] = result.attributes
    assert (attribute.name, attribute.source, attribute.without) == ("sex", "t.csv", 1)
    assert [group.name for group in attribute.groups] == ["남", "여"] and result.people is None
    for group, rows in zip(attribute.groups, ([0, 1], [2, 3, 4]), strict=True):
        expected = Scores.of(np.array(truth)[rows], np.array(answers)[rows], 2)
        assert group.scores.confusion.tolist() == expected.confusion.tolist()
        assert group.accuracy_95 == wilson(expected.right, len(rows))
        assert group.people is None and not group.is_compared
    assert attribute.groups[1].predicted.tolist() == [1, 2]
    assert attribute.largest is attribute.largest_beyond_chance is None and not result.compared


def test_people_are_counted_and_unknown_ones_are_others():
    names, people = ["a", "a", "b", "b"], ["ann", "ann", "ann"]
    result = evaluate_groups(predictions([0] * 4, [0] * 4), grouped(names, people))
    assert [group.people for group in result.attributes[0].groups] == [1, 1]
    assert (result.people, result.images_without_person) == (1, 1)
    alone = evaluate_groups(predictions([0] * 4, [0] * 4), grouped(names, ["x", "y", "z"]))
    assert alone.people is None  # nobody has two images


# --- the interval of macro F1


@pytest.mark.parametrize("by_person", [False, True])
def test_the_interval_of_macro_f1_is_the_percentiles_of_resamples(by_person):
    """Compared with a bootstrap that draws images, or people with all of theirs, one by one."""
    rng = np.random.default_rng(5)
    truth = rng.integers(0, 3, 120)
    answers = np.where(rng.random(120) < 0.7, truth, rng.integers(0, 3, 120))
    people = rng.integers(0, 25, 120) if by_person else np.arange(120)
    values = []
    for _ in range(2000):
        drawn = rng.choice(np.unique(people), len(np.unique(people)))
        rows = np.concatenate([np.flatnonzero(people == person) for person in drawn])
        values.append(Scores.of(truth[rows], answers[rows], 3).macro_f1)
    expected = np.quantile(values, (0.025, 0.975))
    found = macro_f1_interval(truth, answers, 3, people if by_person else None)
    of_images = macro_f1_interval(truth, answers, 3)
    expected = [min(expected[0], of_images[0]), max(expected[1], of_images[1])]
    assert found == pytest.approx(expected, abs=0.015)
    assert found == macro_f1_interval(truth, answers, 3, people if by_person else None)


def test_the_interval_of_macro_f1_holds_it_as_often_as_it_says():
    rng = np.random.default_rng(1)
    shares = np.full((5, 5), 0.2 / 4)
    np.fill_diagonal(shares, 0.8)
    inside = 0
    for _ in range(200):
        cells = rng.choice(25, 80, p=(shares / 5).ravel())
        low, high = macro_f1_interval(cells // 5, cells % 5, 5)
        inside += low <= 0.8 <= high
    assert 0.89 < inside / 200 <= 0.985


def test_images_of_one_person_make_the_interval_wider_and_two_people_not_narrower():
    rng = np.random.default_rng(6)
    truth = rng.integers(0, 3, 300)
    people = np.arange(300) // 10
    is_easy = people % 3 > 0  # ten of thirty people are never recognized
    answers = np.where(is_easy, truth, (truth + 1) % 3)
    low, high = macro_f1_interval(truth, answers, 3)
    wide = macro_f1_interval(truth, answers, 3, people)
    assert wide[0] < low - 0.05 and wide[1] > high + 0.05
    answers = np.where(np.arange(300) % 3 > 0, truth, (truth + 1) % 3)
    two = macro_f1_interval(truth, answers, 3, np.arange(300) // 150)
    low, high = macro_f1_interval(truth, answers, 3)
    assert two[0] <= low and two[1] >= high


def test_a_group_without_a_mistake_is_not_known_to_be_perfect():
    zeros = np.zeros(40, np.int64)
    assert macro_f1_interval(zeros, zeros, 3) == (wilson(40, 40)[0], 1.0)
    assert macro_f1_interval(zeros, zeros + 1, 3) == (0.0, wilson(0, 40)[1])


# --- tests of the differences


def test_the_permutation_test_of_two_groups_is_fishers():
    """The exact probability is that of the hypergeometric distribution, in both directions."""
    members = np.repeat([0, 1], [30, 40])
    right = np.array([True] * 18 + [False] * 12 + [True] * 33 + [False] * 7)
    [p] = permutation_test(members, right, 2)

    def gap(first: int) -> float:
        return abs(first / 30 - (51 - first) / 40)

    exact = sum(
        comb(30, k) * comb(40, 51 - k) for k in range(11, 31) if gap(k) >= gap(18) - 1e-9
    ) / comb(70, 51)  # fmt: skip
    assert p == pytest.approx(exact, abs=0.005) and 0.01 < exact < 0.1


def test_the_permutation_test_of_many_groups_is_that_of_the_largest_difference():
    rng = np.random.default_rng(2)
    members = rng.permutation(np.repeat(range(4), [30, 60, 40, 200]))
    right = rng.random(330) < np.array([0.8, 0.7, 0.85, 0.75])[members]
    found = permutation_test(members, right, 4)

    def statistics(right: np.ndarray) -> np.ndarray:
        n, fraction = np.bincount(members), right.mean()
        accuracy = np.bincount(members, right) / n
        return np.array([
            abs(accuracy[i] - accuracy[j])
            / np.sqrt(fraction * (1 - fraction) * (1 / n[i] + 1 / n[j]))
            for i, j in combinations(range(4), 2)
        ])  # fmt: skip

    largest = np.array([statistics(rng.permutation(right)).max() for _ in range(2000)])
    expected = [(largest >= value - 1e-9).mean() for value in statistics(right)]
    assert found == pytest.approx(expected, abs=0.04)


def test_the_sign_flip_test_is_that_of_all_signs():
    """Ten people have 1,024 patterns of signs, of which all are tried here."""
    rng = np.random.default_rng(3)
    people = np.repeat(range(10), 12)
    members = rng.integers(0, 3, 120)
    right = rng.random(120) < rng.random(10)[people]
    found = sign_flip_test(members, right, people, 3)
    n = np.bincount(members)
    residuals = right - right.mean()
    parts = np.array(
        [
            [residuals[(people == c) & (members == g)].sum() / n[g] for g in range(3)]
            for c in range(10)
        ]
    )
    pairs = list(combinations(range(3), 2))
    apart = np.array([[part[i] - part[j] for i, j in pairs] for part in parts])
    scale = np.sqrt((apart**2).sum(0))
    signs = 1 - 2 * ((np.arange(1024)[:, None] >> np.arange(10)) & 1)
    largest = (abs(signs @ apart) / scale).max(1)
    expected = [(largest >= value - 1e-9).mean() for value in abs(apart.sum(0)) / scale]
    assert found == pytest.approx(expected, abs=0.02)


@pytest.fixture
def few_draws(monkeypatch):
    monkeypatch.setattr(module, "DRAWS", 299)


def alarms(make, count: int) -> float:
    """How often the smallest p of a data set is 0.05 or less."""
    return sum(make() <= 0.05 for _ in range(count)) / count


def test_without_a_difference_the_alarms_are_false_in_five_of_a_hundred(few_draws):
    rng = np.random.default_rng(11)

    def independent() -> float:
        members = rng.integers(0, 8, 600)
        return permutation_test(members, rng.random(600) < 0.85, 8).min()

    def of_people(per_person: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Images of people, of whom some are hard to recognize."""
        people = np.repeat(np.arange(60), rng.integers(1, 20, 60))
        members = rng.integers(0, 4, 60)[people] if per_person else rng.integers(0, 4, len(people))
        return members, rng.random(len(people)) < rng.beta(2.4, 0.6, 60)[people], people

    def flipped(per_person: bool) -> float:
        members, right, people = of_people(per_person)
        return sign_flip_test(members, right, people, 4).min()

    def dealt() -> float:
        members, right, _ = of_people(per_person=True)
        return permutation_test(members, right, 4).min()

    assert 0.025 <= alarms(independent, 400) <= 0.08
    assert 0.015 <= alarms(lambda: flipped(per_person=True), 400) <= 0.08
    assert 0.015 <= alarms(lambda: flipped(per_person=False), 400) <= 0.08
    # Why people are not taken for independent images:
    assert alarms(dealt, 200) > 0.25


def test_a_real_difference_is_found(few_draws):
    rng = np.random.default_rng(12)

    def independent() -> float:
        members = rng.integers(0, 8, 2400)
        return permutation_test(members, rng.random(2400) < 0.85 - 0.12 * (members == 0), 8).min()

    def of_people() -> float:
        people = np.repeat(np.arange(200), 10)
        members = (people % 2).astype(np.int64)
        easy = rng.beta(2.4, 0.6, 200)[people] - 0.15 * members
        return sign_flip_test(members, rng.random(2000) < easy, people, 2).min()

    assert alarms(independent, 100) > 0.8 and alarms(of_people, 100) > 0.8


@pytest.mark.parametrize("people", [None, ["x"] * 200])
def test_where_nothing_can_differ_nothing_does(people):
    names = ["a"] * 100 + ["b"] * 100
    for answer in (0, 1):
        found = grouped(names, people)
        result = evaluate_groups(predictions([0] * 200, [answer] * 200), found)
        gap = result.attributes[0].largest
        assert gap and gap.difference == 0 and gap.p_corrected == 1 and not gap.is_beyond_chance


# --- gaps


def test_small_groups_are_shown_but_not_compared():
    answers, names = of_accuracies((30, 0), (0, 29), (25, 5))
    [attribute] = evaluate_groups(predictions([0] * 89, answers), grouped(names)).attributes
    assert [group.is_compared for group in attribute.groups] == [True, False, True]
    [gap] = attribute.gaps
    assert (gap.lower.name, gap.higher.name) == ("c", "a")
    assert gap.difference == pytest.approx(5 / 30)


def test_a_gap_between_large_groups_is_found_beside_a_larger_one_by_chance():
    answers, names = of_accuracies((1600, 400), (1400, 600), (21, 11))
    [attribute] = evaluate_groups(predictions([0] * 4032, answers), grouped(names)).attributes
    largest, beyond = attribute.largest, attribute.largest_beyond_chance
    assert largest and (largest.lower.name, largest.higher.name) == ("c", "a")
    assert largest.difference > 0.14 and not largest.is_beyond_chance
    assert beyond and (beyond.lower.name, beyond.higher.name) == ("b", "a")


def test_p_is_multiplied_by_the_number_of_attributes_that_are_compared():
    answers, names = of_accuracies((85, 15), (70, 30))
    truth = [0] * 200
    [alone] = evaluate_groups(predictions(truth, answers), grouped(names)).attributes
    other, small = ["x", "y"] * 100, ["x"] * 5 + [None] * 195
    result = evaluate_groups(predictions(truth, answers), grouped(names, age=other, at=small))
    assert result.compared == 2
    first, second = alone.largest, result.attributes[0].largest
    assert first and second and first.p == second.p == first.p_corrected
    assert second.p_corrected == 2 * second.p
    assert all(gap.p_corrected <= 1 for a in result.attributes for gap in a.gaps)


def test_images_of_one_person_weigh_less_than_images_of_many():
    """Ten people, of whom four are never recognized: so large a difference may be chance."""
    answers, names = of_accuracies((100, 0), (60, 40))
    independent = evaluate_groups(predictions([0] * 200, answers), grouped(names))
    people = [str(i // 20) for i in range(200)]
    of_ten = evaluate_groups(predictions([0] * 200, answers), grouped(names, people))
    [sure], [unsure] = (result.attributes[0].gaps for result in (independent, of_ten))
    assert sure.is_beyond_chance and not unsure.is_beyond_chance
    assert sure.difference == unsure.difference


def test_no_attribute_is_left_of_images_without_groups():
    result = evaluate_groups(predictions([0], [0]), grouped([None]))
    assert result.attributes == [] and result.compared == 0
