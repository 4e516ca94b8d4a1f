"""Pages are one file that loads nothing, with names of any kind in it."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from urllib.parse import unquote_to_bytes

import jinja2
import pytest

from tests.helpers import ROOT
from utils.pages import page
from utils.pages.page import data_element, link_to, render_page, write_page

HOSTILE = "</script><script>alert(1)</script>\u2028\"'&<!--"


class Elements(HTMLParser):
    """The elements of a page, and the attributes that load something."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))


@pytest.fixture
def template(tmp_path, monkeypatch):
    """A function that makes a template of the frame, with this as its main block."""

    def make(main: str) -> str:
        text = (
            '{% extends "frame.html" %}{% set title_key = "frame.contents" %}'
            '{% import "gallery.html" as parts with context %}'
            "{% block main %}" + main + "{% endblock %}"
        )
        (tmp_path / "child.html").write_text(text, encoding="utf-8")
        page._environment.cache_clear()
        environment = page._environment()
        folders = jinja2.FileSystemLoader([page.FOLDER, tmp_path])
        monkeypatch.setattr(environment, "loader", folders)
        return "child.html"

    yield make
    page._environment.cache_clear()


def test_a_page_holds_both_languages_and_opens_in_one(template):
    html = render_page(template("{{ text('frame.light') }}"), "ko")
    assert '<html lang="ko">' in html and ">목차</title>" in html
    assert '<span lang="en">Light</span><span lang="ko">밝게</span>' in html
    assert '<html lang="en">' in render_page("child.html", "en")


def test_only_the_scripts_of_the_room_may_run_and_nothing_is_loaded(template):
    html = render_page(template("{{ name }}{{ data('x', [name]) }}"), "en", name=HOSTILE)
    policy = next(
        attributes["content"]
        for tag, attributes in Elements(html).tags
        if tag == "meta" and attributes.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    allowed = {*re.findall("'sha256-([^']+)'", policy)}
    scripts = re.findall("<script>(.*?)</script>", html, re.S)
    digests = [hashlib.sha256(code.encode()).digest() for code in scripts]
    assert {base64.b64encode(digest).decode() for digest in digests} == allowed
    assert "alert(1)</script>" not in html
    loading = [attributes.get("src") for tag, attributes in Elements(html).tags if tag != "a"]
    assert not any(loading)
    assert not re.search(r"@import|url\(", html)


@pytest.mark.parametrize("value", [HOSTILE, {HOSTILE: [HOSTILE, 1.5, None]}, "한글 é"])
def test_data_for_scripts_survives_hostile_names(value):
    element = str(data_element("x", value))
    content = re.fullmatch('<script type="application/json" id="x">(.*)</script>', element)[1]
    assert "<" not in content and "\u2028" not in content
    assert json.loads(content) == value


def test_a_value_that_the_template_lacks_is_an_error(template):
    with pytest.raises(jinja2.UndefinedError, match="nowhere"):
        render_page(template("{{ nowhere }}"), "en")


def test_a_name_that_is_not_utf_8_is_written_as_escapes(template, tmp_path):
    name = b"a\xff.jpg".decode("utf-8", "surrogateescape")
    write_page(tmp_path / "page.html", template("{{ data('x', name) }}"), "en", name=name)
    html = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert json.loads(re.search('id="x">(.*?)</script>', html)[1]) == name


@pytest.mark.parametrize(
    "name", ["a b#?%.jpg", "a:b/기쁨/c.jpg", "가\u1100\u1161.png", "'\"<>&.jpg"]
)
def test_links_lead_from_the_page_to_the_file(name, tmp_path):
    link = link_to(tmp_path / "data" / name, tmp_path / "report/test")
    assert re.fullmatch(r"[\w./~%-]+", link, re.A) and link.startswith("../../data/")
    assert unquote_to_bytes(link).decode() == f"../../data/{name}"


def test_links_hold_the_bytes_of_names_that_are_not_utf_8(tmp_path):
    name = b"a\xff.jpg".decode("utf-8", "surrogateescape")
    assert link_to(tmp_path / name, tmp_path) == "a%FF.jpg"


def test_templates_are_found_from_any_folder(tmp_path):
    code = f"""
import sys; sys.path.insert(0, {str(ROOT)!r})
from utils.pages.page import render_page
print(len(render_page("frame.html", "en", title_key="frame.contents")) > 1000)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True
    )
    assert (done.stdout, done.stderr) == ("True\n", "")


def test_figures_are_written_for_readers():
    assert (page.percent(0.8434), page.percent(0.5, 0), page.count(12345)) == (
        "84.3 %", "50 %", "12,345",
    )  # fmt: skip
