"""The section of report.html about groups: what its template shows, in both languages."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from markupsafe import Markup

from utils.data.image_groups import FILE_NAMES
from utils.evaluation.groups import (
    DRAWS,
    MIN_IMAGES,
    Gap,
    Group,
    GroupedAttribute,
    GroupedEvaluation,
)
from utils.pages.texts import all_texts, text

_DECADE = re.compile(r"(\d+)s")
_AGREEMENT = re.compile(r"(\d+) of (\d+)")
_STEP = 10  # per cent, to which the ends of an axis are rounded


@dataclass(frozen=True)
class Axis:
    """The axis on which an attribute's accuracies are drawn, in per cent."""

    low: int
    high: int

    def at(self, fraction: float) -> str:
        """Return where a fraction lies on the axis, in per cent of its length."""
        return f"{100 * (100 * fraction - self.low) / (self.high - self.low):.2f}"


@dataclass(frozen=True)
class GroupRow:
    """A group in a table."""

    name: str  # Markup or plain text
    group: Group


@dataclass(frozen=True)
class AttributeTable:
    """An attribute with its groups."""

    name: str
    source: str
    lines: list[Markup]  # what the figures say
    axis: Axis
    rows: list[GroupRow]


@dataclass(frozen=True)
class Section:
    """All attributes."""

    hint: Markup
    test: Markup | None  # how gaps were tested, if some were
    has_people: bool
    tables: list[AttributeTable]


def make_section(result: GroupedEvaluation) -> Section:
    """Return what the template groups.html shows."""
    test = None
    if result.compared:
        key = "groups.test.images" if result.people is None else "groups.test.people"
        people = f"{result.people or 0:,}"
        if result.images_without_person:
            people += f" + {result.images_without_person:,}"
        test = text(key, n=result.compared, people=people, draws=f"{DRAWS:,}")
    tables = [_make_table(attribute) for attribute in result.attributes]
    return Section(text("groups.hint", n=MIN_IMAGES), test, result.people is not None, tables)


def _make_table(attribute: GroupedAttribute) -> AttributeTable:
    ends = [group.accuracy_95 for group in attribute.groups]
    low = math.floor(100 * min(low for low, _ in ends) / _STEP) * _STEP
    high = math.ceil(100 * max(high for _, high in ends) / _STEP) * _STEP
    rows = [GroupRow(group_name(group.name), group) for group in attribute.groups]
    key = f"script.group.{attribute.name}"
    name = text(key) if key in all_texts() else attribute.name
    is_in_names = attribute.source == FILE_NAMES
    source = text("groups.names") if is_in_names else text("groups.source", file=attribute.source)
    axis = Axis(low, high if high > low else low + _STEP)
    return AttributeTable(name, source, _make_lines(attribute), axis, rows)


def _make_lines(attribute: GroupedAttribute) -> list[Markup]:
    """Return what the figures of an attribute say: the largest gap, and images in no group."""
    gap, beyond = attribute.largest, attribute.largest_beyond_chance
    lines = [text("groups.gap.none", n=MIN_IMAGES)]
    if gap:
        lines = [_gap_text("groups.gap.beyond" if gap is beyond else "groups.gap.chance", gap)]
    if beyond and beyond is not gap:
        lines.append(_gap_text("groups.gap.other", beyond))
    if attribute.without:
        lines.append(text("groups.without", n=f"{attribute.without:,}"))
    return lines


def _gap_text(key: str, gap: Gap) -> Markup:
    return text(
        key,
        points=f"{100 * gap.difference:.1f}",
        lower=group_name(gap.lower.name),
        low=f"{100 * gap.lower.scores.accuracy:.1f} %",
        higher=group_name(gap.higher.name),
        high=f"{100 * gap.higher.scores.accuracy:.1f} %",
        p=gap.p_text,
    )


def group_name(name: str) -> str:
    """Return a group's name: a decade and the agreement of annotators in both languages."""
    if match := _DECADE.fullmatch(name):
        return text("script.decade", n=match[1])
    if match := _AGREEMENT.fullmatch(name):
        return text("groups.agreeing", k=match[1], n=match[2])
    return name
