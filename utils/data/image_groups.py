"""Groups of images by what is known about them: sex, age, place, agreement of the annotators.

They come from AI-Hub's file names, if most images have such, and from tables. No group is guessed
from a picture.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from utils.data.group_tables import PLACE, GroupRows, NoRowsError, open_groups
from utils.data.photo_names import decade, parse_photo_name
from utils.data.split import SplitItem, group_by_subject, name_people
from utils.emotions import fold_name
from utils.filenames import nfc

SEX, AGE = "sex", "age"
FILE_NAMES = "file names"  # the source of attributes that are in the names of the images
MAX_GROUPS = 50  # of an attribute; a column with more values is rather a name or a measurement

# Folded names of columns that tell who is on an image; the first one that a table has counts.
_PEOPLE = (
    "subject", "subjectid", "person", "personid", "people", "participant", "participantid",
    "identity", "identityid", "uploader", "피험자", "인물", "사람",
)  # fmt: skip
# Folded names of columns that hold an attribute of AI-Hub's names.
_SYNONYMS = {
    "gender": SEX, "성별": SEX, "ages": AGE, "나이": AGE, "연령": AGE, "location": PLACE,
    "장소": PLACE, "배경": PLACE,
}  # fmt: skip
_YEARS = re.compile(r"([0-9]{1,3})(\.[0-9]*)?")


class Attribute(NamedTuple):
    """Something by which images differ."""

    name: str
    source: str  # FILE_NAMES, or the name of a table
    groups: dict[Path, str]  # of the images of which it is known


@dataclass
class ImageGroups:
    """The attributes of a set of images, and who is on them."""

    attributes: list[Attribute] = field(default_factory=list)
    people: dict[Path, str] = field(default_factory=dict)  # image → person, if it is known
    lines: list[str] = field(default_factory=list)  # to print: what is not used, and why

    def columns(self, images: Sequence[Path]) -> dict[str, list[str]]:
        """Return attribute → the group of each image, empty where it is not known."""
        return {
            attribute.name: [attribute.groups.get(image, "") for image in images]
            for attribute in self.attributes
        }


def find_groups(images: Sequence[Path], tables: Sequence[Path] = ()) -> ImageGroups:
    """Return the groups of images by their names, and by tables or folders of label files.

    An attribute in a table replaces one of that name in the file names. Raise StageError for a
    table that cannot be read, or has no row for any of the images.
    """
    named, lines = _read_names(images)
    found, table_lines = _read_tables(images, tables, PLACE in named)
    lines += table_lines
    people = _people_in(images)
    columns = [found.pop(key) for key in _PEOPLE if key in found]
    if columns:
        people |= columns[0].groups
        lines += [
            f"{other.source}: {other.name} is not used: {columns[0].name} tells who is on an image"
            for other in columns[1:]
        ]
    for name in filter(found.get, named):
        lines.append(f"{name}: as in {found[name].source}, not as in the file names")
    attributes = [_by_decade(attribute, lines) for attribute in (named | found).values()]
    used, unused = _select(attributes)
    return ImageGroups(used, people, lines + unused)


def _read_names(images: Sequence[Path]) -> tuple[dict[str, Attribute], list[str]]:
    """Return name → attribute in AI-Hub's file names, and a line about images with other names.

    Unless most images have such names, there are no attributes.
    """
    parsed = {path: name for path in images if (name := parse_photo_name(path.name))}
    others = len(images) - len(parsed)
    if others >= len(parsed):
        return {}, []
    groups = {
        SEX: {path: name.sex for path, name in parsed.items()},
        AGE: {path: name.age for path, name in parsed.items()},
        PLACE: {path: name.place for path, name in parsed.items()},
    }
    attributes = {name: Attribute(name, FILE_NAMES, of) for name, of in groups.items()}
    if not others:
        return attributes, []
    first = next(path for path in images if path not in parsed)
    return attributes, [
        f"{others} of {len(images)} images have other names than AI-Hub's, such as {first.name}: "
        f"they are in no group by {', '.join(groups)}"
    ]


def _read_tables(
    images: Sequence[Path], tables: Sequence[Path], has_place: bool
) -> tuple[dict[str, Attribute], list[str]]:
    """Return key → attribute in the tables, see `_key`, and lines about them.

    The first table that knows an image's group counts. `has_place`: whether the names of photos
    hold a place, which then counts, and not what the annotators saw. A table may be about other
    images, as long as one of the tables is not.
    """
    found: dict[str, Attribute] = {}
    lines: list[str] = []
    others: list[NoRowsError] = []
    for path in tables if images else ():
        table = open_groups(path)
        try:
            rows = GroupRows(table, images)
        except NoRowsError as error:
            others.append(error)
            lines.append(str(error))
            continue
        lines += rows.lines() + table.problems()
        conflicts: dict[str, int] = {}
        for image, values in rows.groups.items():
            for name, group in values.items():
                if not group or (table.is_of_photos and has_place and name == PLACE):
                    continue
                key = _key(name)
                attribute = found.setdefault(key, Attribute(name, path.name, {}))
                if attribute.groups.setdefault(image, group) != group:
                    conflicts[attribute.name] = conflicts.get(attribute.name, 0) + 1
        for name, count in conflicts.items():
            lines.append(
                f"{path}: {count} images have another {name} there than in an earlier table, "
                f"which counts"
            )
    if others and len(others) == len(tables):
        raise others[0]
    return found, lines


def _key(column: str) -> str:
    """Return what columns of one meaning have in common: `sex` for Sex, gender and 성별."""
    folded = fold_name(column)
    return _SYNONYMS.get(folded, folded)


def _people_in(images: Sequence[Path]) -> dict[Path, str]:
    """Return image → person, if the names begin with people, by the rule of the split."""
    items = []
    for path in images:
        name = nfc(path.name)
        if parsed := parse_photo_name(name):  # without the folders before a nested photo's name
            name = name[name.index(parsed.subject) :]
        items.append(SplitItem("", name, path))
    subjects = group_by_subject(items)
    if not name_people(subjects, items):
        return {}
    return {images[i]: subject for subject, members in subjects.items() for i in members}


def _by_decade(attribute: Attribute, lines: list[str]) -> Attribute:
    """Return ages in years as decades, with a line; any other attribute as it is.

    If nine of ten values are years, the others are taken for unknown.
    """
    if _key(attribute.name) != AGE:
        return attribute
    found = {image: _YEARS.fullmatch(group) for image, group in attribute.groups.items()}
    ages = {image: int(match[1]) for image, match in found.items() if match}
    others = [attribute.groups[image] for image, match in found.items() if not match]
    if 10 * len(others) > len(found) or (
        not others and all(age % 10 == 0 for age in ages.values())
    ):
        return attribute
    line = f"{attribute.source}: {attribute.name} is counted by decades"
    if others:
        line += f", without {len(others)} images whose value is no age, such as {others[0]}"
    lines.append(line)
    return attribute._replace(groups={image: decade(age) for image, age in ages.items()})


def _select(attributes: Sequence[Attribute]) -> tuple[list[Attribute], list[str]]:
    """Return the attributes of 2 to MAX_GROUPS groups, and a line for each source of others."""
    used: list[Attribute] = []
    unused: dict[str, list[str]] = {}
    for attribute in attributes:
        groups = set(attribute.groups.values())
        if 2 <= len(groups) <= MAX_GROUPS:
            used.append(attribute)
        else:
            reason = f"only {groups.pop()}" if len(groups) == 1 else f"{len(groups):,} values"
            unused.setdefault(attribute.source, []).append(f"{attribute.name} ({reason})")
    return used, [f"{source}: no groups by {', '.join(names)}" for source, names in unused.items()]
