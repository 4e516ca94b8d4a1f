"""The page of cropImages.py: what it says, and how it behaves in a browser."""

from __future__ import annotations

import html
import re
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from tests.browser import needs_chromium, open_browser
from utils.data.annotators import estimate
from utils.data.crop_page import CropResult, FailedRows, write_crop_page
from utils.data.crop_survey import CropSurvey, Face
from utils.emotions import EMOTIONS, NO_VOTE, UNKNOWN
from utils.imaging.geometry import Box

HOSTILE = "<script>alert(1)<_script> & 'x' \"y\" #%.jpg"
DELETED = "gone.jpg"


def make_page(folder: Path, method: str = "majority", language: str = "en", **changes) -> Path:
    """The page of a few faces: of 기쁨 with a hostile name, one deleted, and two of UNKNOWN."""
    crops = folder / "crop"
    survey = CropSurvey()
    faces = (
        ("기쁨", HOSTILE, ("기쁨", "기쁨", "슬픔")),
        ("기쁨", DELETED, ("기쁨", "기쁨", "기쁨")),
        (UNKNOWN, "a.jpg", ("기쁨", "슬픔", NO_VOTE)),
        (UNKNOWN, "b.jpg", ("분노", "슬픔", "중립")),
    )
    for label, name, answers in faces:
        path = crops / label / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (80, 100), "orange").save(path)
        survey.add_row(answers, [[Box(0, 0, 80, 100)], [Box(0, 0, 80, 50)], [Box(0, 0, 80, 100)]])
        survey.add_face(label, Face(path, answers), Box(0, 0, 80, 100))
    (crops / "기쁨" / DELETED).unlink()
    counts = Counter(label for label, _, _ in faces)
    failures = [
        FailedRows(Path("parse.error.log"), Counter()),
        FailedRows(Path("logs/crop.error.log"), Counter({"<b>an HTML page": 7, "cut": 1})),
    ]
    result = CropResult(
        crops, Path("tables/t.tsv"), counts, method, estimate(survey.patterns), failures, 0,
        Path("archive.error.log"), [Path("original")], "",
    )  # fmt: skip
    for key, value in changes.items():
        object.__setattr__(result, key, value)
    page = crops / "index.html"
    write_crop_page(page, language, result, survey)
    return page


def words_of(page: Path) -> str:
    """The text of a page, without its elements."""
    content = page.read_text(encoding="utf-8")
    content = re.sub(r"<(script|style).*?</\1>", "", content, flags=re.DOTALL)
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]*>", " ", content)))


def test_the_page_says_what_was_cropped_and_what_failed(tmp_path):
    page = make_page(tmp_path)
    words = words_of(page)
    for text in (
        "기쁨 (happiness)", "50.0 %", "crop.error.log", "8 rows", "<b>an HTML page", "TaskA:",
        "4 rows are few", "1 of 2", "2 of 2", "no answer", "at least two of its three annotators",
    ):  # fmt: skip
        assert text in words, text
    assert "parse.error.log" not in words
    content = page.read_text(encoding="utf-8")
    assert "<script>alert" not in content and "<b>an" not in content
    assert content.count("data:image/jpeg") == 3 and DELETED not in content
    assert "http://" not in content and "https://" not in content


@pytest.mark.parametrize(
    ("changes", "commands"),
    [
        ({}, ["python dataPreparation.py --input", "python cropImages.py --input logs/crop.error"]),
        ({"method": "dawid_skene"}, ["python dataPreparation.py"]),
        ({"download": "downloadImage.py"}, ["python downloadImage.py"]),
        ({"photos": [Path("AI Hub")]}, ["crop.error.log --original 'AI Hub' --output"]),
    ],
)
def test_the_page_names_the_next_commands(tmp_path, changes, commands):
    words = words_of(make_page(tmp_path, **changes))
    for command in commands:
        assert command in words
    assert ("--labels dawid_skene" in words) == ("method" not in changes)
    assert ("downloadImage.py" in words) == ("download" in changes)


def test_the_page_of_nothing(tmp_path):
    page = tmp_path / "index.html"
    survey = CropSurvey()
    result = CropResult(
        tmp_path, Path("t.tsv"), Counter(), "majority", estimate(Counter()), [], 3,
        Path("archive.error.log"), [Path("original")], "",
    )  # fmt: skip
    write_crop_page(page, "ko", result, survey)
    words = words_of(page)
    assert "3 files or entries were not read" in words and "None: no row failed" not in words
    assert "nan" not in words.lower()


def test_the_pages_rules_name_the_threshold(tmp_path):
    assert "no class is more probable than 70 %" in words_of(make_page(tmp_path, "dawid_skene"))


@pytest.mark.slow
@needs_chromium
def test_the_page_in_a_browser(tmp_path):
    page = make_page(tmp_path, language="ko")
    with open_browser() as browser:
        browser.resize(1200)
        browser.open(page)
        assert browser.text("h1") == "크롭 결과"
        assert browser.texts("#samples .votes")[0].split() == [
            "A",
            "기쁨",
            "B",
            "기쁨",
            "C",
            "슬픔",
        ]
        assert browser.texts("#samples .other") == ["C 슬픔"]
        assert browser.evaluate(
            "[...document.images].every(image => image.complete && image.naturalWidth > 0)"
        )
        address = browser.evaluate("decodeURI(document.querySelector('.samples a').href)")
        assert address.startswith("file://") and "alert(1)" in address
        browser.click("#language")
        assert browser.text("h1") == "Cropped faces"
        assert browser.texts("#samples .other")[0].split() == ["C", "sadness"]
        assert browser.count("table.matrix") == 3
        assert browser.count("table.matrix td:not(.axis-name)") == 3 * len(EMOTIONS) ** 2
        for width in (1200, 360):
            browser.resize(width)
            assert browser.overflow() <= 0
        assert browser.problems == [] and browser.loaded == []
