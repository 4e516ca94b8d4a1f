"""The data of a gallery: images with their true class, their probabilities and their groups."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from utils.filenames import natural_key

DIGITS = 4  # of a probability


@dataclass(frozen=True)
class Card:
    """An image of a gallery."""

    file: str  # its name, with the folders that tell it from others
    truth: int  # position of the class in the gallery's classes
    probs: Sequence[float]  # of each class, in [0, 1]
    image: str  # see `thumbnail_uri`; empty: the file cannot be read any more
    href: str = ""  # address of the file, see `link_to`; empty: no link
    groups: Mapping[str, str] = field(default_factory=dict)  # column → value
    more: Mapping[str, Any] = field(default_factory=dict)  # for the page's own script


def gallery_data(classes: Sequence[str], cards: Iterable[Card]) -> dict[str, Any]:
    """Return what gallery.js reads: classes, groups with their values, and the cards in order."""
    cards = list(cards)
    columns = list(dict.fromkeys(name for card in cards for name in card.groups))
    values = {
        column: sorted(
            {card.groups[column] for card in cards if card.groups.get(column)}, key=natural_key
        )
        for column in columns
    }
    places = {
        column: {value: i for i, value in enumerate(words)} for column, words in values.items()
    }
    return {
        "classes": list(classes),
        "groups": [{"name": column, "values": words} for column, words in values.items()],
        "items": [_item(card, places) for card in cards],
    }


def _item(card: Card, places: Mapping[str, Mapping[str, int]]) -> dict[str, Any]:
    """Return a card as JSON. A group is the position of its value, -1 if the card has none."""
    prediction = max(range(len(card.probs)), key=lambda i: card.probs[i])
    return {
        "file": card.file,
        "truth": card.truth,
        "prediction": prediction,
        "confidence": _rounded(card.probs[prediction]),
        "probs": [_rounded(probability) for probability in card.probs],
        "image": card.image,
        "href": card.href,
        "groups": [known.get(card.groups.get(name, ""), -1) for name, known in places.items()],
        **card.more,
    }


def _rounded(probability: float) -> float:
    """Return a probability as JSON can hold it: 0 for NaN, of a broken model."""
    return round(float(probability), DIGITS) if math.isfinite(probability) else 0.0
