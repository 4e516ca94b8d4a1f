"""The texts of the pages, in English and in Korean, and which of them a page opens with.

A page holds both languages. Each text stands twice in it, and the style sheet shows one of them.
"""

from __future__ import annotations

import locale
import os
import re
from functools import cache
from pathlib import Path
from typing import TypeVar

from markupsafe import Markup

LANGUAGES = ("en", "ko")
AUTO = "auto"
TEXTS = Path(__file__).resolve().parent / "texts.tsv"
# In the order of POSIX: the first one that is set decides.
VARIABLES = ("LC_ALL", "LC_MESSAGES", "LANG")
FINALS = 28  # of a Hangul syllable: none, or one of 27 consonants
RIEUL = 8  # the number of ㄹ among them
_PARTICLE = re.compile(r"([가-힣])\(으\)로")

Words = TypeVar("Words", bound=str)


class MissingTextError(KeyError):
    """A text that is not in texts.tsv."""


@cache
def all_texts() -> dict[str, dict[str, str]]:
    """Return every text, by key and language."""
    lines = TEXTS.read_text(encoding="utf-8").splitlines()
    rows = [line.split("\t") for line in lines[1:] if line and not line.startswith("#")]
    return {key: dict(zip(LANGUAGES, words, strict=True)) for key, *words in rows}


def find_text(key: str) -> dict[str, str]:
    """Return a text in each language. Raise MissingTextError if texts.tsv lacks it."""
    try:
        return all_texts()[key]
    except KeyError:
        raise MissingTextError(f"{TEXTS.name} has no text {key!r}") from None


def choose_language(choice: str) -> str:
    """Return a language of LANGUAGES: the choice, or for AUTO that of the user's system."""
    if choice != AUTO:
        return choice
    words = filter(None, (os.environ.get(name) for name in VARIABLES))
    # Windows has no such variables, and calls it Korean_Korea.
    name = next(words, None) or locale.getlocale()[0] or ""
    return "ko" if name.lower().startswith("ko") else "en"


def plain(key: str, language: str, **values: object) -> str:
    """Return a text in one language, for a place that cannot hold elements."""
    return choose_particles(find_text(key)[language].format(**values))


def choose_particles(words: Words) -> Words:
    """Return a text with 로 or 으로 for each (으)로, as the syllable before it needs it.

    Only after a final consonant other than ㄹ it is 으로. page.js does the same.
    """
    return type(words)(_PARTICLE.sub(_choose_particle, words))


def _choose_particle(found: re.Match[str]) -> str:
    final = (ord(found[1]) - ord("가")) % FINALS
    return found[1] + ("로" if final in (0, RIEUL) else "으로")


def text(key: str, tag: str = "span", **values: object) -> Markup:
    """Return a text as two elements, one per language. Values are escaped unless they are Markup.

    `tag`: "tspan" within the text of an SVG.
    """
    parts = [
        Markup('<{0} lang="{1}">{2}</{0}>').format(
            tag, language, choose_particles(Markup(words).format(**values))
        )
        for language, words in _escaped(key).items()
    ]
    return Markup("").join(parts)


def both(key: str, **values: object) -> Markup:
    """Return attributes with a text in both languages, from which page.js sets the content.

    They are for elements that hold text only: <option>, <title>.
    """
    words = [(language, plain(key, language, **values)) for language in LANGUAGES]
    return Markup(" ").join(Markup('data-{}="{}"').format(*pair) for pair in words)


def attribute(name: str, key: str, language: str, **values: object) -> Markup:
    """Return an attribute whose value page.js changes with the language: aria-label, placeholder.

    Its value is at first that of `language`.
    """
    pairs = [(name, plain(key, language, **values))]
    pairs += [(f"data-{name}-{other}", plain(key, other, **values)) for other in LANGUAGES]
    return Markup(" ").join(Markup('{}="{}"').format(*pair) for pair in pairs)


def _escaped(key: str) -> dict[str, str]:
    """Return a text in each language with the letters of HTML escaped, but not its {places}."""
    from markupsafe import escape

    return {language: str(escape(words)) for language, words in find_text(key).items()}
