"""index.html of a run: its figures, options and commands, of runs of any version."""

from __future__ import annotations

import argparse
import json
import shlex
from pathlib import Path

import pytest
from PIL import Image

import train
from tests.browser import needs_chromium, open_browser
from utils.cli import Parser
from utils.training import run_page as module
from utils.training.options import run_options
from utils.training.run_folder import Run
from utils.training.run_page import (
    FINISHED,
    INTERRUPTED,
    STOPPED_EARLY,
    TRAINING,
    Option,
    RunPage,
    find_best,
    list_options,
    make_command,
    read_results,
    training_time,
)

DEFAULTS = {"epochs": 50, "lr": None, "flip": True, "model": "emotionnet", "teacher": None}


def make_run(folder: Path, epochs: int = 3, **options: object) -> Run:
    """A run with so many epochs, of which the second is the best."""
    folder.mkdir(parents=True)
    run = Run(folder)
    environment = {"torch": "9.9", "training_images": 7200, "validation_images": 800}
    run.write_options(DEFAULTS | options, environment)
    rows = [
        {
            "epoch": i, "lr": 0.001, "train_loss": 1 / i, "val_loss": 1.2 / i,
            "val_accuracy": 0.8 - 0.01 * abs(i - 2), "images_per_second": 100.0,
        }
        for i in range(1, epochs + 1)
    ]  # fmt: skip
    if rows:
        run.write_results(rows)
    return run


def written(run: Run, state: str = TRAINING) -> str:
    page = RunPage(run.folder, "en", DEFAULTS)
    page.write(state)
    return page.path.read_text("utf-8")


def test_the_page_shows_figures_curves_and_options(tmp_path):
    run = make_run(tmp_path / "runs/001-emotionnet", lr=0.01, flip=False)
    Image.new("RGB", (900, 700), "red").save(run.folder / "first_batch.png")
    html = written(run)
    assert "<title" in html and "Training 001-emotionnet" in html
    assert "7,200 training images, 800 validation images" in html
    assert "80.00 %" in html and "epoch 2</span>" in html and "79.00 %" in html
    assert "3 of 50 epochs" in html and "0:03:36 for the training steps" in html
    assert html.count("<svg") == 3 and 'src="data:image/jpeg;base64,' in html
    changed, _, others = html.partition("options with their defaults")
    assert "<code>--lr</code>" in changed and "<code>--epochs</code>" in others
    assert "python train.py --lr 0.01 --no-flip" in html
    assert f"python train.py --resume {run.folder}" in html
    assert "<dt>torch</dt><dd>9.9</dd>" in html


@pytest.mark.parametrize(
    ("state", "words"),
    [(TRAINING, "reload it"), (FINISHED, "Finished"), (STOPPED_EARLY, "Stopped early"),
     (INTERRUPTED, "to resume:")],
)  # fmt: skip
def test_the_page_names_the_state(tmp_path, state, words):
    html = written(make_run(tmp_path / "001-a"), state)
    assert words in html and ("reload it" in html) == (state == TRAINING)


def test_a_run_before_its_first_epoch_has_no_curves(tmp_path):
    html = written(make_run(tmp_path / "001-a", epochs=0))
    assert "0 of 50 epochs" in html and "<svg" not in html and 'id="batch"' not in html


def test_runs_of_earlier_versions_and_broken_files_have_a_page(tmp_path):
    folder = tmp_path / "001-a"
    folder.mkdir()
    assert "0 of 50 epochs" in written(Run(folder))
    (folder / "options.json").write_text('{"epochs": 9, "old_flag": "<b>", "lr": 0.1}', "utf-8")
    (folder / "results.csv").write_text(
        "epoch,train_loss,val_accuracy\n1,nan,0.5\n2,x\n,,\n3,0.2,0.7\n", "utf-8"
    )
    html = written(Run(folder))
    assert "3 of 9 epochs" in html and "70.00 %" in html and "<code>--old_flag</code>" in html
    assert "<b>" not in html and "&lt;b&gt;" in html and "for the training steps" not in html
    rows = read_results(folder)
    assert [row["val_accuracy"] for row in rows] == [0.5, None, 0.7]
    assert rows[0]["train_loss"] is rows[0]["lr"] is None
    for content in ("[1]", "{", "\0"):
        (folder / "options.json").write_text(content, "utf-8")
        (folder / "results.csv").write_text(content, "utf-8")
        assert "0 of 50 epochs" in written(Run(folder))


def test_the_page_is_not_written_again_before_it_is_worth_it(tmp_path):
    now = [0.0]

    def clock() -> float:
        now[0] += 0.5  # each look at the clock takes half a second
        return now[0]

    run = make_run(tmp_path / "001-a", epochs=1)
    page = RunPage(run.folder, "en", DEFAULTS, clock)
    page.update()
    page.update()  # the first page takes longer, which does not count
    assert "1 of 50" in page.path.read_text("utf-8")
    run.write_results(read_results(run.folder) * 2)
    page.update()  # the page took half a second: fifty have to pass
    assert "1 of 50" in page.path.read_text("utf-8")
    now[0] += 50
    page.update()
    assert "2 of 50" in page.path.read_text("utf-8")
    page.write(FINISHED)
    assert "Finished" in page.path.read_text("utf-8")


def test_the_picture_is_read_again_only_if_it_has_changed(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(module, "thumbnail_uri", lambda path, side: calls.append(path) or "data:,")
    run = make_run(tmp_path / "001-a")
    (run.folder / "first_batch.png").write_bytes(b"x")
    page = RunPage(run.folder, "en", DEFAULTS)
    page.write(TRAINING)
    page.write(TRAINING)
    assert len(calls) == 1


def test_options_that_differ_come_first():
    options = {"lr": 0.1, "epochs": 50, "unknown": 1}
    assert list_options(options, {"epochs": 50, "lr": None, "new": 2.0}) == [
        Option("--lr", "0.1", "", True),
        Option("--unknown", "1", "", True),
        Option("--epochs", "50", "50", False),
        Option("--new", "2", "2", False),
    ]


def test_the_command_starts_the_same_training():
    parser = train.make_parser()
    words = [
        "--optimizer", "adamw", "--lr", "0.00123456789", "--no-flip", "--face_level",
        "--teacher", "a b.pt", "c.pt", "--model_path", "내 모델.pt", "--crop", "0.08",
        "--patience", "3",
    ]  # fmt: skip
    defaults = run_options(parser.parse_args([]))
    options = run_options(parser.parse_args(words))
    command = make_command(json.loads(json.dumps(options)), defaults)
    assert command.startswith("python train.py --") and "'a b.pt' c.pt" in command
    again = train.make_parser().parse_args(shlex.split(command)[2:])
    assert run_options(again) == options
    assert make_command(defaults, defaults) == "python train.py"


def test_the_best_epoch_is_the_first_of_equals():
    history = [{"epoch": float(i), "val_accuracy": value} for i, value in
               enumerate((0.5, None, 0.7, 0.7, 0.6), 1)]  # fmt: skip
    best = find_best(history)
    assert best and best["epoch"] == 3
    assert find_best([]) is find_best(history[1:2]) is None


def test_the_time_is_that_of_all_epochs():
    history = [{"images_per_second": 100.0}, {"images_per_second": 50.0}]
    assert training_time(history, 360_000) == "3:00:00"
    assert training_time(history, None) is training_time([], 5) is None
    assert training_time([*history, {"images_per_second": None}], 5) is None
    assert training_time([{"images_per_second": 1e-300}], 5) is None


@pytest.mark.parametrize("speed", [0.0, 3.0])
def test_the_time_of_an_epoch_resumed_near_its_end_is_the_usual_one(speed):
    history = [{"images_per_second": each} for each in (100.0, speed, 100.0)]
    assert training_time(history, 360_000) == "3:00:00"


def test_the_language_of_the_page_is_none_of_the_runs_options():
    parser = Parser(None)
    parser.lang_flag()
    assert run_options(parser.parse_args(["--lang", "ko"])) == {}
    assert run_options(argparse.Namespace(lang="en", lr=1)) == {"lr": 1}
    assert "lang" not in run_options(train.make_parser().parse_args([]))


@needs_chromium
@pytest.mark.slow
def test_the_page_works_in_a_browser(tmp_path):
    folder = tmp_path / "runs/001 <b>'\"&"
    run = make_run(folder, epochs=40, lr=0.01, teacher=["</script><script>alert(1)//"])
    Image.new("RGB", (900, 700), "red").save(run.folder / "first_batch.png")
    written(run, FINISHED)
    with open_browser() as browser:
        browser.open(folder / "index.html")
        assert browser.text("h1").endswith("001 <b>'\"&") and browser.count("h1 b") == 0
        assert browser.texts(".figures dd:not(.more)")[:2] == ["Finished", "80.00 %"]
        assert browser.evaluate("document.querySelector('.batch').naturalWidth") == 900
        assert browser.count("#epochs tbody tr") == 40
        browser.click("#language")
        assert browser.text(".figures dd") == "학습 완료"
        browser.resize(360)
        assert browser.overflow() <= 0
        assert browser.problems == [] and browser.loaded == []
