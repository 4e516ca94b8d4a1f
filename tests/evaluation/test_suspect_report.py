"""Labels worth a second look: their sources, their table, and the page to decide about them."""

from __future__ import annotations

import csv
import json
import time
import unicodedata
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.browser import Browser, needs_chromium, open_browser
from tests.helpers import decompose, make_faces
from utils.data.relabel import read_decisions
from utils.errors import StageError
from utils.evaluation.evaluator import Evaluation
from utils.evaluation.suspect_report import (
    Suspects,
    make_lines,
    of_evaluation,
    of_folds,
    to_json,
    write_suspects,
)
from utils.evaluation.suspects import ConfidentLearning
from utils.imaging.preprocess import Preprocess
from utils.inference.model_info import ModelInfo

CLASSES = ["기쁨", "분노", "중립"]
MODEL = Path("model.pt")
HEADER = ",".join(["file", "truth", "prediction", "fold", *CLASSES])


@pytest.fixture(autouse=True)
def _working_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def root():
    """A train folder of three classes, four images each."""
    return make_faces(Path("data/train"), CLASSES, 4, size=12)


def write_predictions(*rows: str) -> None:
    Path("model-folds").mkdir(exist_ok=True)
    text = "\n".join([HEADER, *rows, ""])
    Path("model-folds/predictions.csv").write_text(text, "utf-8-sig")


def predictions_of(root: Path, wrong: dict[str, int]) -> list[str]:
    """A row for each image; those in `wrong` look like another class."""
    rows = []
    for label, name in enumerate(CLASSES):
        for number in range(4):
            file = f"{name}/{number:04d}.png"
            looks = wrong.get(file, label)
            probs = [0.1 + 0.01 * number] * 3
            probs[looks] = 1 - 2 * probs[0]
            rows.append(
                f"{file},{name},{CLASSES[looks]},{1 + number % 2},{','.join(map(str, probs))}"
            )
    return rows


def make_suspects(root: Path) -> Suspects:
    """Suspects of which 기쁨/0002.png is the first, and 중립/0000.png the second."""
    write_predictions(*predictions_of(root, {"기쁨/0002.png": 1, "중립/0000.png": 0}))
    return of_folds(MODEL, root)


def test_of_folds_reads_the_predictions(root, capsys):
    suspects = make_suspects(root)
    assert suspects.classes == CLASSES and len(suspects.files) == 12
    assert suspects.learning.labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert suspects.source == "predicted by 2 models that have not seen them"
    assert [suspects.files[i] for i in suspects.chosen(3)][1] == "기쁨/0002.png"
    assert {suspects.files[i] for i in suspects.chosen(2)} == {"기쁨/0002.png", "중립/0000.png"}
    assert suspects.paths[0] == root / "기쁨/0000.png" and capsys.readouterr().err == ""


def test_of_folds_says_which_images_have_changed(root, capsys):
    rows = predictions_of(root, {})
    write_predictions(*rows)
    (root / "분노/0001.png").rename(root / "중립/moved.png")
    suspects = of_folds(MODEL, root)
    assert len(suspects.files) == 11 and "분노/0001.png" not in suspects.files
    err = capsys.readouterr().err
    assert "1 of its 12 images are no longer in data/train by that name" in err
    assert "1 of 12 images of data/train have no prediction, and are left out" in err


def test_of_folds_finds_names_that_a_mac_has_decomposed(root):
    suspects = make_suspects(root)
    decompose(root)
    again = of_folds(MODEL, root)
    assert again.files == suspects.files and all(path.exists() for path in again.paths)
    # The training may have seen decomposed names, too; the classes in the header are composed.
    rows = [unicodedata.normalize("NFD", row) for row in predictions_of(root, {})]
    write_predictions(*rows)
    assert of_folds(MODEL, root).files == suspects.files


def test_of_folds_names_the_command_that_makes_predictions(root):
    with pytest.raises(StageError) as error:
        of_folds(Path("my models/a.pt"), root)
    assert str(error.value) == (
        "my models/a-folds/predictions.csv: no such file; make the predictions with python "
        'train.py --folds 5 --model_path "my models/a.pt" --data_path data and the other flags of '
        "the training, which takes four times as long as that training"
    )
    write_predictions("기쁨/x.png,기쁨,기쁨,1,0.9,0.05,0.05")
    with pytest.raises(StageError, match="is about other images than those of data/train; make"):
        of_folds(MODEL, root)


@pytest.mark.parametrize(
    "row",
    [
        "기쁨/0000.png,기쁨,기쁨,1,0.9,0.1",
        "기쁨/0000.png,기쁨,기쁨,1,0.9,a,0",
        "기쁨/0000.png,기쁨,기쁨,1,nan,0,0",
        "x/0.png,x,x,1,1,0,0",
        "\n".join(["기쁨/0000.png,기쁨,기쁨,1,0.9,0.1,0"] * 2),  # the same image twice
    ],
)
def test_of_folds_refuses_damaged_predictions(root, row):
    write_predictions(row)
    with pytest.raises(StageError, match=r"predictions\.csv is damaged: python train\.py --folds"):
        of_folds(MODEL, root)
    Path("model-folds/predictions.csv").write_bytes(b"")
    with pytest.raises(StageError, match="damaged"):
        of_folds(MODEL, root)


def test_of_evaluation_has_the_names_of_the_folders(tmp_path):
    info = ModelInfo("emotionnet", CLASSES, Preprocess().to_dict(), 7, 0.75, 1.5)
    root = tmp_path / "test"
    paths = [root / "happy/a.png", root / "happy/b.png", root / "분노/c.png"]
    probs = np.array([[0.9, 0.1, 0], [0.2, 0.8, 0], [0.1, 0.9, 0]])
    evaluation = Evaluation(
        MODEL, info, root, paths, np.array([0, 0, 1]), probs, 1.0, None, environment={}
    )
    suspects = of_evaluation(evaluation)
    assert suspects.classes == ["happy", "분노", "중립"]  # no image of the last one
    assert suspects.files == ["happy/a.png", "happy/b.png", "분노/c.png"]
    assert suspects.source == "predicted by model.pt"
    assert suspects.chosen(1) == [1]


def test_the_report_as_lines_json_and_table(root):
    suspects = make_suspects(root)
    named = [bool(suspects.learning.is_error[i]) for i in suspects.chosen(5)]
    assert sum(named) == suspects.learning.is_error.sum() in (1, 2)
    lines = make_lines(suspects, 200)
    assert lines[0] == "data/train: 12 images, predicted by 2 models that have not seen them"
    assert lines[1] == (
        f"confident learning: about {suspects.learning.errors} labels are wrong "
        f"({suspects.learning.errors / 12:.1%}), of which it names {sum(named)}"
    )
    assert "| 중립 | 기쁨 | 1 |" in lines
    assert "| 기쁨/0002.png | 12.0% | 분노 | 76.0% |" in lines
    assert len(lines) == len(make_lines(suspects, 3)) + 9

    report = to_json(suspects, 2)
    assert json.loads(json.dumps(report)) == report
    assert (report["images"], report["named"], len(report["suspects"])) == (12, sum(named), 2)
    assert report["pairs"][0].keys() == {"label", "true_class", "labels"}
    first = report["suspects"][1]
    assert (first["file"], first["label"], first["suggestion"]) == ("기쁨/0002.png", "기쁨", "분노")
    assert first["named"] is named[1] and first["score"] < 0

    write_suspects(suspects, Path(), 5)
    with Path("suspects.csv").open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["named"] == "1" for row in rows] == named
    assert rows[1]["file"] == "기쁨/0002.png" and rows[1]["suggestion"] == "분노"
    assert float(rows[1]["label probability"]) == pytest.approx(0.12)
    assert float(rows[1]["suggestion probability"]) == pytest.approx(0.76)
    assert float(rows[1]["score"]) == pytest.approx(np.log(0.12 / 0.76), abs=1e-5)


def test_an_image_that_is_gone_has_no_picture(root, capsys):
    suspects = make_suspects(root)
    (root / "기쁨/0002.png").unlink()
    write_suspects(suspects, Path(), 2)
    assert "note: suspects.html: 1 images cannot be read any more" in capsys.readouterr().err


# --- in a browser

HOSTILE = '"a"b\'<img src=x onerror=alert(1)> & #1?.png'


@pytest.fixture(scope="module")
def browser():
    with open_browser() as browser:
        yield browser


def make_page(root: Path, count: int = 12) -> Suspects:
    """Write the page, with a hostile name that comes first."""
    (root / "기쁨/0002.png").rename(root / "기쁨" / HOSTILE)
    rows = predictions_of(root, {"기쁨/0002.png": 1, "중립/0000.png": 0})
    write_predictions(*(row.replace("기쁨/0002.png", _cell(f"기쁨/{HOSTILE}")) for row in rows))
    suspects = of_folds(MODEL, root)
    # The first of them, for sure.
    position = suspects.files.index(f"기쁨/{HOSTILE}")
    suspects.learning.probs[position] = [0.01, 0.98, 0.01]
    suspects = replace(
        suspects, learning=ConfidentLearning(suspects.learning.probs, suspects.learning.labels)
    )
    write_suspects(suspects, Path(), count, "en")
    return suspects


def _cell(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


def save_list(browser: Browser, folder: Path) -> Path:
    """Press the button, and return the file that the browser saves."""
    folder = folder.absolute()
    browser.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(folder))
    path = folder / "relabel.tsv"
    path.unlink(missing_ok=True)
    browser.click("#save")
    end = time.monotonic() + 60
    while not path.exists() or not path.stat().st_size:
        assert time.monotonic() < end, "nothing was saved"
        time.sleep(0.05)
    return path


def focused(browser: Browser) -> str:
    return browser.evaluate("document.activeElement.item?.file ?? ''")


@pytest.mark.slow
@needs_chromium
def test_decisions_by_keyboard_and_mouse(root, tmp_path, browser):
    suspects = make_page(root)
    order = [suspects.files[i] for i in suspects.chosen(12)]
    browser.resize(1280, 900)
    browser.open(tmp_path / "suspects.html")
    assert browser.text("#progress-text") == "0 of 12 decided: 0 kept, 0 moved, 0 dropped"
    assert browser.evaluate("document.getElementById('save').disabled")
    assert "K keep the label" in browser.text("dl.keys").replace("\n", " ")
    assert browser.texts("#suspects .filters .label")[:2] == ["Label", "Suggestion"]
    assert browser.texts(".key-class") == ["1 기쁨", "2 분노", "3 중립"]

    # By keyboard: without a focus, a letter is about the first image that is not decided.
    browser.press("m")
    assert focused(browser) == order[1] and order[0] == f"기쁨/{HOSTILE}"
    browser.press("3", "d", "ArrowLeft", "ArrowLeft", "k", "u")  # the third is open again
    assert focused(browser) == order[2]
    assert browser.text("#progress-text") == "2 of 12 decided: 1 kept, 1 moved, 0 dropped"
    browser.press("d", "Enter", "Delete", "ArrowRight", "1")
    decided = browser.evaluate(
        "[...document.querySelectorAll('.card')].map(c => c.dataset.decision ?? '')"
    )
    assert decided[2:5] == ["drop", "move", "drop"] and decided[5] == ""
    before = focused(browser)
    browser.press("ArrowDown", "ArrowUp")
    assert focused(browser) == before
    # A filter takes its letters for itself.
    browser.focus("#suspects-name")
    browser.press("k", "d")
    assert browser.evaluate("document.querySelector('#suspects-name').value") == "kd"
    browser.click(".reset")

    # By mouse: press what is pressed to take it back, press again, another class.
    pressed = "#suspects .card:nth-child(2) .keep[aria-pressed=true]"
    for count in (0, 1):
        browser.click("#suspects .card:nth-child(2) .keep")
        assert browser.count(pressed) == count
        assert browser.count("#suspects .card:nth-child(2)[data-decision]") == count
    label = order[1].split("/")[0]
    other = next(i for i, name in enumerate(CLASSES) if name not in (label, "기쁨"))
    browser.choose("#suspects .card:nth-child(2) .other", str(other))
    assert browser.count("#suspects .card:nth-child(2)[data-decision=move]") == 1

    # They survive a reload, and are in the file.
    shown = browser.text("#progress-text")
    browser.open(tmp_path / "suspects.html")
    assert browser.text("#progress-text") == shown
    path = save_list(browser, tmp_path)
    [rows] = read_decisions([path])
    found = {f"{row.label}/{row.file}": (row.set, row.decision, row.new_label) for row in rows}
    assert found[order[0]] == ("train", "move", "분노")
    assert found[order[1]] == ("train", "move", CLASSES[other])
    assert found[order[2]] == ("train", "drop", "")
    assert len(found) == len(rows) == int(shown.split()[0])

    # A filter shows what is left; another language, a small window.
    browser.choose("#suspects-decision", "open")
    assert browser.count("#suspects .card") == 12 - len(rows)
    browser.click("#language")
    assert browser.text("#progress-text").startswith("전체 12장 중")
    browser.resize(360, 800)
    assert browser.overflow() <= 0
    assert browser.problems == [] and browser.loaded == []


LOAD = """
(() => {
    const transfer = new DataTransfer();
    transfer.items.add(new File([new Uint8Array(%s)], "relabel.tsv"));
    const input = document.getElementById("file");
    input.files = transfer.files;
    input.dispatchEvent(new Event("change"));
})()
"""


@pytest.mark.slow
@needs_chromium
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp949"])
def test_a_saved_list_is_loaded_again(root, tmp_path, browser, encoding):
    make_page(root, 3)
    browser.open(tmp_path / "suspects.html")
    browser.evaluate("localStorage.clear()")
    browser.open(tmp_path / "suspects.html")
    files = browser.evaluate("[...document.querySelectorAll('.card')].map(c => c.item.file)")
    name = files[1].split("/", 1)[1]
    rows = [
        ["set", "class", "file", "decision", "new class"],
        ["train", "기쁨", HOSTILE, "drop", ""],
        ["", files[1].split("/")[0], name, "Move", "분노"],
        ["train", "기쁨", "elsewhere.png", "keep", ""],
        ["train", "중립", name, "guess", ""],
    ]
    delimiter = "," if encoding == "cp949" else "\t"
    text = "\r\n".join(delimiter.join(_cell(c) if '"' in c else c for c in row) for row in rows)
    browser.evaluate(LOAD % list(text.encode(encoding)))
    browser.wait_for("!document.getElementById('message').hidden")
    assert browser.text("#message").startswith("2 decisions are loaded. 2 rows are about other")
    assert browser.text("#progress-text") == "2 of 3 decided: 0 kept, 1 moved, 1 dropped"
    browser.evaluate(LOAD % list(b"nothing\tof it\n1\t2\n"))
    browser.wait_for("document.getElementById('message').innerText.includes('no list')")
    assert browser.problems == []


@pytest.mark.slow
@needs_chromium
def test_a_browser_that_keeps_nothing_says_so(root, tmp_path, browser):
    make_page(root, 3)
    browser.open(tmp_path / "suspects.html")
    none = "Object.defineProperty(window, 'localStorage', { get() { throw Error() } })"
    browser.evaluate(f"({none}, null)")
    browser.focus("#suspects .card")
    browser.press("k")
    assert browser.text("#progress-text").startswith("1 of 3 decided: 1 kept")
    assert browser.text("#message").startswith("This browser keeps nothing")
