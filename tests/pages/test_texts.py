"""Texts of the pages: both languages are complete, and every text is used."""

from __future__ import annotations

import re
import string

import pytest
from markupsafe import Markup

from utils.pages import texts
from utils.pages.page import FOLDER

ROOM = FOLDER.parent
HANGUL = re.compile("[가-힣]")
SUFFIXES = ("html", "js", "css", "json", "csv", "tsv", "png")  # of file names, which look like keys
MAX_LATIN = 2  # words of a text without Hangul, in both languages the same: F1, macro F1, IoU


def places(words: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(words) if name}


@pytest.mark.parametrize("key", texts.all_texts())
def test_every_text_is_there_in_both_languages_with_the_same_places(key):
    english, korean = texts.find_text(key).values()
    assert english.strip() == english != "" and korean.strip() == korean != ""
    assert not HANGUL.search(english)
    is_name = korean.lower() == english.lower() and len(english.split()) <= MAX_LATIN
    assert HANGUL.search(korean) or is_name
    assert places(english) == places(korean)


def test_no_key_is_there_twice():
    lines = texts.TEXTS.read_text(encoding="utf-8").splitlines()
    keys = [line.split("\t")[0] for line in lines if line and not line.startswith("#")]
    assert len(keys) == len({*keys})


def test_every_text_that_is_named_exists_and_is_used():
    """Of templates, scripts and modules: any quoted word that looks like a key of the texts."""
    files = [*FOLDER.glob("*.*"), *ROOM.parent.rglob("*.py")]
    content = "\n".join(file.read_text(encoding="utf-8") for file in files)
    known = texts.all_texts()
    rooms = "|".join(sorted({re.escape(key.split(".")[0]) for key in known}))
    named = {*re.findall(rf"[\"'`]((?:{rooms})(?:\.[a-z0-9_]+)+)[\"'`]", content)}
    files = {name for name in named if name.rsplit(".")[-1] in SUFFIXES}
    assert named - files <= {*known}
    # The end of a key may be put in by the program: `script.gallery.by.${order}`, "split." ~ name.
    made = [*re.findall(rf"[\"'`]((?:{rooms})[a-z0-9_.]*\.)(?:\$\{{|\{{|[\"'])", content)]
    unused = [key for key in known if key not in named and not key.startswith(tuple(made))]
    assert not unused


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("슬픔(으)로 이동", "슬픔으로 이동"), ("분노(으)로", "분노로"), ("얼굴(으)로", "얼굴로"),
        ("happy(으)로", "happy(으)로"), ("중립(으)로, 공포(으)로", "중립으로, 공포로"),
    ],
)  # fmt: skip
def test_particles_follow_the_syllable_before(words, expected):
    assert texts.choose_particles(words) == expected
    assert isinstance(texts.choose_particles(Markup("<b>")), Markup)


def test_texts_have_their_particles():
    assert "슬픔으로 이동" in texts.plain("script.suspect.move", "ko", name="슬픔")
    page = texts.text("crop.mistaken", label="분노", other="<b>")
    assert "분노로 추정한" in page and "&lt;b&gt;" in page and isinstance(page, Markup)


def test_a_text_that_is_missing_is_named():
    with pytest.raises(texts.MissingTextError, match=r"frame\.nothing"):
        texts.text("frame.nothing")


@pytest.mark.parametrize(
    ("choice", "variables", "language"),
    [
        ("ko", {"LANG": "en_US.UTF-8"}, "ko"),
        ("en", {"LANG": "ko_KR.UTF-8"}, "en"),
        ("auto", {"LANG": "ko_KR.UTF-8"}, "ko"),
        ("auto", {"LANG": "ko_KR.UTF-8", "LC_ALL": "C"}, "en"),
        ("auto", {"LANG": "en_US.UTF-8", "LC_ALL": "", "LC_MESSAGES": "ko_KR"}, "ko"),
        ("auto", {"LANG": "de_DE.UTF-8"}, "en"),
    ],
)
def test_a_page_opens_in_the_language_of_the_system(choice, variables, language, monkeypatch):
    for name in texts.VARIABLES:
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert texts.choose_language(choice) == language


@pytest.mark.parametrize(("name", "language"), [("Korean_Korea", "ko"), (None, "en")])
def test_without_variables_the_locale_decides(name, language, monkeypatch):
    for variable in texts.VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(texts.locale, "getlocale", lambda: (name, "949"))
    assert texts.choose_language("auto") == language


def test_values_are_escaped_unless_they_are_markup():
    shown = texts.text("script.gallery.all", n="<b>", tag="tspan")
    assert shown == (
        '<tspan lang="en">All (&lt;b&gt;)</tspan><tspan lang="ko">전체 (&lt;b&gt;)</tspan>'
    )
    assert "<b>5</b>" in texts.text("script.gallery.all", n=Markup("<b>5</b>"))
    assert 'data-en="All (&#34;)"' in texts.both("script.gallery.all", n='"')
    shown = texts.attribute("title", "frame.dark", "ko")
    assert shown == 'title="어둡게" data-title-en="Dark" data-title-ko="어둡게"'
