"""report.html: its figures and mistakes, and what a user does with it in a browser."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.browser import Browser, needs_chromium, open_browser
from tests.helpers import make_faces
from utils.evaluation import report_page
from utils.evaluation.evaluator import Evaluation
from utils.evaluation.report_page import (
    class_rows,
    find_mistakes,
    frequent_confusions,
    make_facts,
    matrix_rows,
    write_report_page,
)
from utils.imaging.preprocess import Preprocess
from utils.inference.model_info import ModelInfo

# The third one is decomposed Hangul, as macOS stores names.
CLASSES = ["기쁨", "</script><b>\"'&", "\u1103\u1161\u11bc\u1112\u116a\u11bc", "중립"]
MANY = 3000  # mistakes in the browser


def make_evaluation(root: Path, paths: list[Path], truth, probs) -> Evaluation:
    model = root.parent / "model.pt"
    model.write_bytes(b"12345")
    info = ModelInfo("emotionnet", CLASSES, Preprocess().to_dict(), 7, 0.75, 1.5)
    environment = {"torch": "9.9", "device": "a CPU"}
    truth, probs = np.array(truth), np.array(probs)
    return Evaluation(
        model, info, root, paths, truth, probs, 100.0, 4321, "flip", environment=environment
    )


@pytest.fixture
def evaluation(tmp_path):
    """Six predictions, four of them wrong; no image of the last class."""
    root = tmp_path / "some data" / "얼굴"
    names = ["0/a b#1.jpg", "0/b.jpg", "1/c.jpg", "1/d.jpg", "2/e.jpg", "2/f'\"<i>.jpg"]
    paths = [root / name for name in names]
    for i, path in enumerate(paths):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (300, 200), (40 * i, 90, 90)).save(path)
    probs = [
        [0.9, 0.1, 0, 0], [0.3, 0.7, 0, 0], [0.6, 0.4, 0, 0], [0.95, 0.05, 0, 0], [0, 0, 1, 0],
        [0, 0.8, 0.2, 0],
    ]  # fmt: skip
    return make_evaluation(root, paths, [0, 0, 1, 1, 2, 2], probs)


def data_of(html: str, identifier: str = "mistakes-data"):
    found = re.search(f'<script type="application/json" id="{identifier}">(.*?)</script>', html)
    return json.loads(found[1])


def test_mistakes_come_with_the_most_confident_first(evaluation, tmp_path):
    assert find_mistakes(evaluation) == [3, 5, 1, 2]
    columns = {"sex": ["F", "M", "", "M", "F", "F"]}
    path = write_report_page(evaluation, tmp_path, "en", columns=columns)
    data = data_of(path.read_text("utf-8"))
    assert data["classes"] == CLASSES
    assert data["groups"] == [{"name": "sex", "values": ["F", "M"]}]
    shown = [
        (item["file"], item["truth"], item["prediction"], item["confidence"], item["groups"])
        for item in data["items"]
    ]
    assert shown == [
        ("1/d.jpg", 1, 0, 0.95, [1]),
        ("2/f'\"<i>.jpg", 2, 1, 0.8, [0]),
        ("0/b.jpg", 0, 1, 0.7, [1]),
        ("1/c.jpg", 1, 0, 0.6, [-1]),
    ]
    assert data["items"][1]["href"] == "some%20data/%EC%96%BC%EA%B5%B4/2/f%27%22%3Ci%3E.jpg"
    assert all(item["image"].startswith("data:image/jpeg;base64,") for item in data["items"])


def test_figures_of_classes_and_cells(evaluation):
    rows = class_rows(evaluation)
    assert [row["support"] for row in rows] == [2, 2, 2, 0]
    assert rows[0]["recall"] == 0.5 and rows[3]["interval"] is None
    low, high = rows[0]["interval"]
    assert low < 0.5 < high
    cells = matrix_rows(evaluation)
    assert cells[1][0] == {"count": 2, "fraction": 1.0, "shade": 1.0}
    assert cells[2][1] == {"count": 1, "fraction": 0.5, "shade": 0.707}
    ranking = [(row["truth"], row["prediction"]) for row in frequent_confusions(evaluation)]
    assert ranking == [(1, 0), (0, 1), (2, 1)]


def test_the_page_says_what_its_figures_depend_on(evaluation, tmp_path):
    facts = make_facts(evaluation)
    assert facts["report.tta"] == "flip" and facts["report.temperature"] == "1.500"
    assert "report.balance" not in facts
    balanced = replace(evaluation, balance=0.5, unbalanced=evaluation.scores)
    html = write_report_page(balanced, tmp_path, "ko", {"--no-gpu": True}).read_text("utf-8")
    assert "tau 0.5" in html and "<code>--no-gpu</code>" in html and ">9.9<" in html
    assert '<html lang="ko">' in html and ">평가 보고서</title>" in html


def test_an_image_that_has_changed_gets_a_placeholder_and_a_note(evaluation, tmp_path, capsys):
    evaluation.paths[3].write_bytes(b"no picture")
    evaluation.paths[1].unlink()
    items = data_of(write_report_page(evaluation, tmp_path, "en").read_text("utf-8"))["items"]
    assert [(bool(item["image"]), bool(item["href"])) for item in items] == [
        (False, True), (True, True), (False, False), (True, True),
    ]  # fmt: skip
    assert "note: " in (line := capsys.readouterr().err)
    assert line.count("\n") == 1 and "report.html: 2 images have changed meanwhile" in line


def test_a_large_page_is_told(evaluation, tmp_path, capsys, monkeypatch):
    write_report_page(evaluation, tmp_path, "en")
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(report_page, "LARGE_PAGE", 10_000)
    write_report_page(evaluation, tmp_path, "en")
    assert re.search(r"report\.html has \d+ MB, because all 4 mistakes", capsys.readouterr().err)


def test_a_page_without_mistakes_has_no_gallery(evaluation, tmp_path):
    right = replace(evaluation, truth=evaluation.predictions)
    html = write_report_page(right, tmp_path, "en").read_text("utf-8")
    assert "all predictions are right" in html and "mistakes-data" not in html
    assert "pages.gallery =" not in html and 'id="groups"' not in html


# In a browser


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> Path:
    """A page of MANY mistakes and some right answers, over a few files."""
    folder = tmp_path_factory.mktemp("page")
    root = make_faces(folder / "data", ["a"], 20)
    faces = sorted(root.rglob("*.png"))
    rng = np.random.default_rng(0)
    paths = []
    for i in range(MANY + 500):
        paths.append(root / "얼굴" / f"{'여' if i % 7 == 0 else 'M'} {i:05}.png")
        paths[-1].parent.mkdir(exist_ok=True)
        paths[-1].hardlink_to(faces[i % len(faces)])
    probs = rng.dirichlet([0.4] * len(CLASSES), len(paths))
    truth = probs.argmax(1)
    truth[:MANY] = (truth[:MANY] + rng.integers(1, len(CLASSES), MANY)) % len(CLASSES)
    evaluation = make_evaluation(root, paths, truth, probs)
    columns = {"age": ["20s" if i % 7 == 0 else "10s" for i in range(len(paths))]}
    (folder / "report").mkdir()
    return write_report_page(evaluation, folder / "report", "ko", columns=columns)


@pytest.fixture(scope="module")
def chromium():
    with open_browser() as browser:
        yield browser


@pytest.fixture
def browser(chromium, page) -> Browser:
    chromium.problems.clear()
    chromium.requests.clear()
    chromium.set_system("light")
    chromium.resize(1280)
    chromium.open(page)
    return chromium


def found(browser: Browser) -> int:
    """How many images the gallery says that it shows."""
    numbers = re.findall(r"[\d,]+", browser.text("output"))  # and how many there are
    return min(int(number.replace(",", "")) for number in numbers)


@cache
def items(page: Path) -> list[dict]:
    return data_of(page.read_text("utf-8"))["items"]


@pytest.mark.slow
@needs_chromium
def test_filters_find_what_they_say(browser, page):
    mistakes = items(page)
    assert found(browser) == len(mistakes) == MANY
    assert (
        browser.evaluate("document.querySelector('output').getAttribute('aria-live')") == "polite"
    )
    assert 0 < browser.count(".card") < 200  # the others are made when they come near
    browser.choose("#mistakes-truth", "2")
    wanted = [item for item in mistakes if item["truth"] == 2]
    assert found(browser) == len(wanted) > 0
    browser.choose("#mistakes-prediction", "1")
    wanted = [item for item in wanted if item["prediction"] == 1]
    assert found(browser) == len(wanted) > 0
    assert browser.evaluate("document.querySelectorAll('.matrix [aria-pressed=true]').length") == 1
    browser.focus("#mistakes-lowest")
    browser.evaluate("document.activeElement.select()")
    browser.type("90")
    wanted = [item for item in wanted if item["confidence"] >= 0.9]
    assert found(browser) == len(wanted) == browser.count(".card") > 0
    browser.click(".reset")
    browser.choose("#mistakes-group-0", "1")  # the values are sorted
    assert found(browser) == sum(item["groups"] == [1] for item in mistakes) < MANY / 4
    browser.click(".reset")
    assert (
        found(browser) == MANY
        and browser.evaluate("document.getElementById('mistakes-lowest').value") == "0"
    )
    browser.focus("#mistakes-name")
    browser.type("\u110b\u1167 00")  # decomposed, as typed on macOS
    wanted = [item for item in mistakes if "여 00" in item["file"]]
    assert found(browser) == len(wanted) > 0
    assert "여 00" in browser.text(".card .place")
    browser.choose("#mistakes-order", "lowest")
    # Not innerText: cards far from the window are not drawn.
    numbers = browser.evaluate(
        "[...document.querySelectorAll('.card .confidence')].map(e => parseFloat(e.textContent))"
    )
    assert numbers == sorted(numbers) and len(set(numbers)) > 5
    assert browser.problems == [] and browser.loaded == [] and len(browser.requests) == 1


@pytest.mark.slow
@needs_chromium
def test_a_cell_of_the_matrix_shows_its_images(browser, page):
    cell = ".matrix [data-truth='0'][data-prediction='3']"
    wanted = sum(item["truth"] == 0 and item["prediction"] == 3 for item in items(page))
    assert browser.text(cell).split()[0] == f"{wanted}"
    browser.click(cell)
    assert found(browser) == wanted
    assert browser.texts(".card .verdict .truth")[0].endswith("기쁨")
    browser.wait_for("document.getElementById('mistakes-section').getBoundingClientRect().top < 60")
    browser.click(cell)  # again: everything
    assert found(browser) == MANY
    browser.click(".ranking button")
    assert found(browser) == max(
        sum(item["truth"] == i and item["prediction"] == j for item in items(page))
        for i in range(4)
        for j in range(4)
    )


@pytest.mark.slow
@needs_chromium
def test_the_page_speaks_both_languages_and_is_used_by_keyboard(browser):
    assert browser.evaluate("document.title") == "평가 보고서" == browser.text("h1")
    assert browser.text("#mistakes-order option") == "확신도 높은 순"
    assert browser.texts("[for=mistakes-group-0]") == ["나이"]
    assert browser.texts("#mistakes-group-0 option")[2].startswith("20대 (")
    browser.press("Tab", "Tab", "Enter")  # past the link to the content, to the language
    assert browser.evaluate("document.activeElement.id") == "language"
    assert browser.evaluate("document.title") == "Test report" == browser.text("h1")
    assert browser.text("#mistakes-order option") == "Most confident first"
    assert browser.texts("[for=mistakes-group-0]") == ["Age"]
    assert browser.texts("#mistakes-group-0 option")[2].startswith("20s (")
    assert browser.text("output") == f"{MANY:,} of {MANY:,} images"
    assert not re.search(
        "[가-힣]", browser.text("h2") + browser.text(".figures") + browser.text(".hint")
    )
    label = "document.querySelector('.filters').getAttribute('aria-label')"
    assert browser.evaluate(label) == "Filters"
    # Every control can be reached, in the order of the page, and shows where it is.
    reached = []
    while len(reached) < 80 and "mistakes-order" not in reached:
        browser.press("Tab")
        reached.append(browser.evaluate("document.activeElement.id"))
        outline = browser.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline != "none", reached[-1]
    names = ["truth", "prediction", "lowest", "highest", "group-0", "name", "order"]
    assert [name for name in reached if name.startswith("mistakes-")] == [
        f"mistakes-{name}" for name in names
    ]
    browser.focus("#mistakes-truth")
    browser.press("ArrowDown")
    assert 0 < found(browser) < MANY
    browser.focus("#mistakes-lowest")
    browser.press("ArrowUp")
    assert browser.evaluate("document.activeElement.value") == "1"
    assert browser.problems == []


@pytest.mark.slow
@needs_chromium
def test_cards_come_as_the_window_moves(browser):
    browser.evaluate("document.documentElement.style.scrollBehavior = 'auto'")
    before = browser.count(".card")
    for _ in range(4):
        browser.evaluate("window.scrollTo(0, document.body.scrollHeight)")
        browser.wait_for(f"document.querySelectorAll('.card').length > {before}")
        before = browser.count(".card")
    assert before > 150
    shown = browser.evaluate("document.querySelector('.card img').naturalWidth")
    assert shown > 0


@pytest.mark.slow
@needs_chromium
def test_the_page_fits_narrow_windows_dark_systems_and_paper(browser):
    def background():
        return browser.evaluate("getComputedStyle(document.body).backgroundColor")

    light = background()
    assert browser.overflow() <= 0
    browser.set_system("dark")
    dark = background()
    assert dark != light
    browser.click("#theme")
    assert background() == light
    for width in (360, 320):
        browser.resize(width, 700)
        assert browser.overflow() <= 0
    browser.set_system("dark", "print")
    assert background() == "rgb(255, 255, 255)"
    assert (
        browser.count("nav") == 1
        and browser.evaluate("getComputedStyle(document.querySelector('nav')).display") == "none"
    )
    assert browser.problems == []


@pytest.mark.slow
@needs_chromium
def test_names_never_become_elements(browser):
    browser.choose("#mistakes-truth", "1")
    assert browser.texts(".card .verdict .truth")[0].endswith(CLASSES[1])
    assert browser.count(".verdict b, .matrix b, option b") == 0
