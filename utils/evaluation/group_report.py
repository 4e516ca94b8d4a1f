"""The figures of groups as lines of text, as JSON and as a table."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from utils.console import markdown_row
from utils.data.image_groups import FILE_NAMES
from utils.evaluation.groups import (
    MIN_IMAGES,
    Gap,
    Group,
    GroupedAttribute,
    GroupedEvaluation,
)

GROUPS = "groups.csv"  # in the report folder
MAX_ROWS = 12  # of an attribute in a printed table
SMALL = "*"  # marks a group that is too small


def describe_test(result: GroupedEvaluation) -> str:
    """Return what p is the probability of, and how it is found."""
    draws = "answers dealt out at random"
    if result.people is not None:
        draws = f"signs drawn for each of {result.people:,} people"
        if result.images_without_person:
            draws += f" and of {result.images_without_person:,} images of unknown people"
    several = f" and {result.compared} attributes" if result.compared > 1 else ""
    return f"p: how likely so large a gap is by chance, over all pairs of groups{several} ({draws})"


def describe_gap(attribute: GroupedAttribute) -> str:
    """Return the largest gap of an attribute, and whether it is larger than chance."""
    gap, beyond = attribute.largest, attribute.largest_beyond_chance
    if not gap:
        return f"{attribute.name}: no two groups of {MIN_IMAGES} images or more to compare"
    line = f"{attribute.name}: the largest gap is {_describe(gap)}"
    if beyond and beyond is not gap:
        line += f"; the largest beyond chance is {_describe(beyond)}"
    return line


def _describe(gap: Gap) -> str:
    lower, higher = (
        f"{group.name}: {group.scores.accuracy:.1%}" for group in (gap.lower, gap.higher)
    )
    verdict = "larger than chance" if gap.is_beyond_chance else "which may be chance"
    points = f"{100 * gap.difference:.1f} points"
    return f"{points} ({lower}, {higher}), {verdict} ({gap.p_text})"


def make_lines(result: GroupedEvaluation) -> list[str]:
    """Return what to print about the groups of a model's images: a table and the gaps."""
    if _is_silent(result):
        return [_silent_line(result)]
    classes = range(len(result.attributes[0].groups[0].predicted))
    people = result.people is not None
    header = ["group", "images", *(["people"] if people else []), "accuracy", "95 %"]
    header += ["macro F1", "95 %", *map(str, classes)]
    rows = [header, ["---"] * len(header)]
    for attribute in result.attributes:
        for group in _shown(attribute):
            cells = [_name(attribute, group), f"{group.images}"]
            cells += [f"{group.people}"] if people else []
            cells += [f"{group.scores.accuracy:.1%}", _percents(group.accuracy_95)]
            cells += [f"{group.scores.macro_f1:.3f}", "{:.3f}–{:.3f}".format(*group.macro_f1_95)]
            cells += [f"{share:.1%}" for share, _ in group.shares]
            rows.append(cells)
    lines = [markdown_row(cells) for cells in rows]
    shares = (
        f"0 to {classes[-1]}: share of the images that were given this class, with intervals in"
    )
    return [
        *lines,
        "",
        *map(describe_gap, result.attributes),
        f"{shares} {GROUPS}",
        *_remarks([result]),
    ]


def make_comparison(results: Sequence[GroupedEvaluation], names: Sequence[str]) -> list[str]:
    """Return what to print about the groups of the same images for several models."""
    first = results[0]
    if all(map(_is_silent, results)):
        return [_silent_line(first)]
    header = ["group", "images", *(cell for name in names for cell in (name, "95 %"))]
    rows = [header, ["---"] * len(header)]
    found = [
        {(a.name, g.name): g for a in result.attributes for g in a.groups} for result in results
    ]
    for attribute in first.attributes:
        for group in _shown(attribute):
            cells = [_name(attribute, group), f"{group.images}"]
            for groups in found:
                other = groups.get((attribute.name, group.name))
                cells += [f"{other.scores.accuracy:.1%}"] if other else [""]
                cells += [_percents(other.accuracy_95)] if other else [""]
            rows.append(cells)
    gaps = [
        f"{name}: {describe_gap(attribute)}"
        for name, result in zip(names, results, strict=True)
        for attribute in result.attributes
    ]
    lines = [markdown_row(cells) for cells in rows]
    return [*lines, "", *gaps, *_remarks(results)]


def _is_silent(result: GroupedEvaluation) -> bool:
    """Return whether nobody asked for the groups, and none can be compared."""
    return not result.compared and all(a.source == FILE_NAMES for a in result.attributes)


def _silent_line(result: GroupedEvaluation) -> str:
    names = ", ".join(attribute.name for attribute in result.attributes)
    return f"by {names}: no two groups of {MIN_IMAGES} images or more to compare (see {GROUPS})"


def _remarks(results: Sequence[GroupedEvaluation]) -> list[str]:
    """Return the lines that explain the marks and figures of a table."""
    result = results[0]
    lines = []
    if any(not group.is_compared for a in result.attributes for group in a.groups):
        lines.append(f"{SMALL} fewer than {MIN_IMAGES} images: too small, not compared")
    for attribute in result.attributes:
        hidden = len(attribute.groups) - len(_shown(attribute))
        if hidden:
            lines.append(f"{attribute.name}: {hidden} smaller groups are in {GROUPS}")
    if result.compared:
        each = " for each model" * (len(results) > 1)
        lines.append(describe_test(result) + each)
    return lines


def _shown(attribute: GroupedAttribute) -> list[Group]:
    """Return the groups to print: the largest, in the order of their names."""
    largest = sorted(attribute.groups, key=lambda group: -group.images)[:MAX_ROWS]
    return [group for group in attribute.groups if group in largest]


def _name(attribute: GroupedAttribute, group: Group) -> str:
    """Return the first cell of a group's row."""
    name = f"{attribute.name}: {group.name}"
    return name if group.is_compared else f"{name} {SMALL}"


def _percents(interval: tuple[float, float]) -> str:
    return "{:.1f}–{:.1f}".format(*(100 * end for end in interval))


def make_json(result: GroupedEvaluation, classes: Sequence[str]) -> dict[str, Any]:
    """Return the figures of the groups as JSON can hold them. Fractions are in [0, 1]."""
    return {
        "minimum_images": MIN_IMAGES,
        "people": result.people,
        "images_of_unknown_people": result.images_without_person,
        "p_corrected_for_attributes": result.compared,
        "attributes": {
            attribute.name: {
                "source": attribute.source,
                "images_without_group": attribute.without,
                "groups": {group.name: _group_json(group, classes) for group in attribute.groups},
                "largest_gap": _gap_json(attribute.largest),
                "largest_gap_beyond_chance": _gap_json(attribute.largest_beyond_chance),
            }
            for attribute in result.attributes
        },
    }


def _group_json(group: Group, classes: Sequence[str]) -> dict[str, Any]:
    return {
        "images": group.images,
        "people": group.people,
        "too_small": not group.is_compared,
        "right": group.scores.right,
        "accuracy": group.scores.accuracy,
        "accuracy_95": list(group.accuracy_95),
        "macro_f1": group.scores.macro_f1,
        "macro_f1_95": list(group.macro_f1_95),
        "predicted": {
            name: {"images": count, "share": share, "share_95": list(interval)}
            for name, count, (share, interval) in zip(
                classes, group.predicted.tolist(), group.shares, strict=True
            )
        },
    }


def _gap_json(gap: Gap | None) -> dict[str, Any] | None:
    if not gap:
        return None
    return {
        "lower": gap.lower.name,
        "higher": gap.higher.name,
        "difference": gap.difference,
        "p": gap.p,
        "p_corrected": gap.p_corrected,
        "beyond_chance": gap.is_beyond_chance,
    }


def make_rows(result: GroupedEvaluation, classes: Sequence[str]) -> Iterable[list[object]]:
    """Yield the header and the rows of groups.csv."""
    shares = [
        cell for name in classes for cell in (f"predicted {name}", f"{name} low", f"{name} high")
    ]
    yield [
        "attribute", "group", "images", "people", "too_small", "right", "accuracy", "accuracy_low",
        "accuracy_high", "macro_f1", "macro_f1_low", "macro_f1_high", *shares,
    ]  # fmt: skip
    for attribute in result.attributes:
        for group in attribute.groups:
            figures = [group.scores.accuracy, *group.accuracy_95]
            figures += [group.scores.macro_f1, *group.macro_f1_95]
            for share, interval in group.shares:
                figures += [share, *interval]
            people = "" if group.people is None else group.people
            yield [
                attribute.name, group.name, group.images, people, int(not group.is_compared),
                group.scores.right, *(f"{figure:.6f}" for figure in figures),
            ]  # fmt: skip
