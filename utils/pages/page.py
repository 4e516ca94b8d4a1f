"""Write a page: a template, the texts in two languages, styles and scripts, as one HTML file.

Nothing is loaded when the page is opened. A Content-Security-Policy has the browser itself see to
it, and lets only the scripts of this folder run, by their hashes: no file name or class name can
become one.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
from collections.abc import Mapping
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from markupsafe import Markup

from utils import __version__
from utils.files import atomic_file
from utils.pages import charts, texts

if TYPE_CHECKING:
    from jinja2 import Environment

FOLDER = Path(__file__).resolve().parent / "templates"
_SCRIPT = re.compile(r"<script>(.*?)</script>", re.S)
# What would end a script element, or be a line break for JavaScript, as JSON can write it.
_ESCAPES = {ord(letter): f"\\u{ord(letter):04x}" for letter in "<>&\u2028\u2029"}


def write_page(path: Path, template: str, language: str, **values: object) -> None:
    """Write a page of a template, which appears whole or not at all. Raise OSError if it fails.

    `language`: that in which it opens, or "auto". `values`: what the template names.
    """
    html = render_page(template, language, **values)
    with atomic_file(path) as file:
        # A file name may not be UTF-8: its other bytes become escapes.
        file.write(html.encode(errors="backslashreplace"))


def render_page(template: str, language: str, **values: object) -> str:
    """Return a page of a template as HTML. See `write_page`."""
    language = texts.choose_language(language)

    def plain(key: str, **words: object) -> str:
        return texts.plain(key, language, **words)

    def attribute(name: str, key: str, **words: object) -> Markup:
        return texts.attribute(name, key, language, **words)

    made = datetime.now().astimezone()
    return (
        _environment()
        .get_template(template)
        .render(
            language=language, plain=plain, attribute=attribute, made=made, version=__version__,
            **values,
        )
    )  # fmt: skip


@cache
def _environment() -> Environment:
    """Return jinja2's environment: what every template may use."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(
        text=texts.text,
        both=texts.both,
        data=data_element,
        texts_of=texts_of,
        script=script,
        style=style,
        policy=policy,
        line_chart=charts.line_chart,
        interval_chart=charts.interval_chart,
        reliability_chart=charts.reliability_chart,
    )
    environment.filters.update(percent=percent, count=count)
    return environment


def data_element(identifier: str, value: object) -> Markup:
    """Return a value as JSON in an element that scripts read: `pages.data(identifier)`."""
    content = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    element = Markup('<script type="application/json" id="{}">{}</script>')
    return element.format(identifier, Markup(content.translate(_ESCAPES)))


def texts_of(*prefixes: str) -> dict[str, Mapping[str, str]]:
    """Return the texts whose keys begin with one of the prefixes, for scripts."""
    return {key: words for key, words in texts.all_texts().items() if key.startswith(prefixes)}


def script(name: str) -> Markup:
    """Return a script of the templates' folder as an element."""
    return Markup(f"<script>\n{_read(name)}</script>")


def style(name: str) -> Markup:
    """Return a style sheet of the templates' folder as an element."""
    return Markup(f"<style>\n{_read(name)}</style>")


def policy(scripts: str) -> str:
    """Return the Content-Security-Policy of a page with these script elements."""
    hashes = [hashlib.sha256(code.encode()).digest() for code in _SCRIPT.findall(scripts)]
    allowed = " ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in hashes)
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data:; "
        f"form-action 'none'; base-uri 'none'"
    )


def link_to(file: Path, folder: Path) -> str:
    """Return the address of a file, relative to the folder of the page that links to it."""
    try:
        relative = os.path.relpath(file, folder)
    except ValueError:  # on another drive of Windows
        return Path(file).absolute().as_uri()
    return quote(os.fsencode(relative.replace(os.sep, "/")))


def percent(fraction: float, digits: int = 1) -> str:
    """Return a fraction as per cent: 84.3 %. A filter of templates."""
    return f"{100 * fraction:.{digits}f} %"


def count(number: int) -> str:
    """Return a whole number with separators of thousands. A filter of templates."""
    return f"{number:,}"


@cache
def _read(name: str) -> str:
    return (FOLDER / name).read_text(encoding="utf-8")
