"""Classes that are the same by another name: angry = anger = 분노 = 0_angry, Too_Tired = tootired.

A name that both sides write alike is always the same class. Only names that one side lacks are
looked at further, by the emotion that they mean or, for other classes, without case and marks.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from utils.emotions import emotion_called, fold_name
from utils.errors import StageError
from utils.filenames import nfc

_PLAIN = re.compile(r"^\s*([0-9]{1,9})\s*$")  # as in `3`
_NUMBERED = re.compile(r"^\s*([0-9]{1,9})[\W_]+[^\W\d_]")  # as in `3_happy`


def match_classes(names: Iterable[str], known: Sequence[str], where: object) -> dict[str, str]:
    """Return name → the known class that it means, for each of `names` that means one.

    A plain number means the known class of that name, or the one that begins with it (`3` and
    `3_happy`). `where` holds the names, for messages. Raise StageError if two of the names mean one
    class, or one of them two.
    """
    exact = {nfc(name): name for name in known}
    by_key: dict[str, list[str]] = {}
    for name in known:
        for key in {_key(name), *_number(name, _NUMBERED, "as in {}_")}:
            by_key.setdefault(key, []).append(name)
    matched: dict[str, str] = {}
    for name in names:
        if nfc(name) in exact:
            matched[name] = exact[nfc(name)]
            continue
        keys = [_key(name), *_number(name, _PLAIN, "as in {}_"), *_number(name, _NUMBERED, "{}")]
        found = list(dict.fromkeys(each for key in keys for each in by_key.get(key, ())))
        if len(found) > 1:
            raise StageError(
                f"{where}: {name} may be the class {' or '.join(found)}; rename it to one of them"
            )
        if found:
            matched[name] = found[0]
    _check_one_to_one(matched, where)
    return matched


def find_synonyms(names: Iterable[str]) -> list[list[str]]:
    """Return the groups of names that mean one emotion."""
    groups: dict[str, list[str]] = {}
    for name in names:
        if emotion := emotion_called(name):
            groups.setdefault(emotion, []).append(name)
    return [group for group in groups.values() if len(group) > 1]


def name_numbers(names: Sequence[str], meanings: Sequence[str], where: object) -> list[str]:
    """Return the names, with what a plain number means in its place: 0 the first of `meanings`.

    If there is no 0, but the number of the last is there, the numbers begin at 1, as in RAF-DB.
    Raise StageError if a number is larger, or two names are equal then.
    """
    numbers = {name: int(found[1]) for name in names if (found := _PLAIN.match(name))}
    first = int(0 not in numbers.values() and len(meanings) in numbers.values())
    for name, number in numbers.items():
        if not first <= number < first + len(meanings):
            raise StageError(
                f"{where}: --classes names {len(meanings)} classes, from {first} to "
                f"{first + len(meanings) - 1}, but there is {name}"
            )
    named = [meanings[numbers[name] - first] if name in numbers else name for name in names]
    if len(set(named)) < len(named):
        twice = next(name for name in named if named.count(name) > 1)
        raise StageError(f"{where}: with --classes, two are called {twice}")
    return named


def describe_other_names(matched: Mapping[str, str]) -> str:
    """Return the pairs whose names differ, as `angry = 분노, happy = 기쁨`, or nothing."""
    return ", ".join(f"{name} = {known}" for name, known in matched.items() if nfc(name) != known)


def _key(name: str) -> str:
    """Return what a name has in common with other names of its class."""
    number = _number(name, _PLAIN, "{}")
    return number[0] if number else emotion_called(name) or fold_name(name)


def _number(name: str, pattern: re.Pattern[str], form: str) -> list[str]:
    """Return the number in a name of this pattern in the given form, or nothing."""
    found = pattern.match(name)
    return [form.format(int(found[1]))] if found else []


def _check_one_to_one(matched: Mapping[str, str], where: object) -> None:
    meaning: dict[str, str] = {}
    for name, known in matched.items():
        other = meaning.setdefault(known, name)
        if other != name:
            raise StageError(
                f"{where}: {other} and {name} are the same class"
                f"{'' if known in (other, name) else f' ({known})'}; put them into one"
            )
