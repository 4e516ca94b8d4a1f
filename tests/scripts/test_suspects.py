"""Wrong labels, from the folds of a training to the decisions about them, as a user does it."""

from __future__ import annotations

import csv
import json
import shutil

import pytest

from tests.browser import needs_chromium, open_browser
from tests.evaluation.test_suspect_report import save_list
from tests.helpers import make_faces, one_line_error, run, tree
from tests.trainings import CLASSES, LEARNING_FLAGS

pytestmark = pytest.mark.slow
SPLIT = ("--ratio", 7, 2, 1)  # it has both of them in train
WRONG = ("분노/from-기쁨.png", "중립/from-분노.png")  # labels of faces of another class


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    """A folder with crops, some with a wrong label, and the sets made of them."""
    folder = tmp_path_factory.mktemp("suspects")
    make_faces(folder / "crop", CLASSES, 20)
    make_faces(folder / "more", CLASSES, 2, seed=9)
    for name in WRONG:
        label = name.split("-")[1].removesuffix(".png")
        shutil.move(folder / "more" / label / "0000.png", folder / "crop" / name)
    assert run("dataPreparation.py", *SPLIT, cwd=folder).returncode == 0
    assert {*WRONG} <= {*tree(folder / "data/train")}
    return folder


@needs_chromium
def test_folds_suspects_decisions_and_relabel(here):
    (here / "model.pt").write_bytes(b"mine")
    first = run("train.py", *LEARNING_FLAGS, "--fold", "2/3", cwd=here)
    assert first.returncode == 0, first.stderr
    assert first.stdout.endswith(
        "next: --folds 3 instead of --fold does what is left, and joins all folds\n"
    )
    assert (here / "runs/001-emotionnet-fold2of3/held_out.csv").exists()
    assert not (here / "model-folds").exists()
    done = run("train.py", *LEARNING_FLAGS, "--folds", 3, cwd=here)
    assert done.returncode == 0, done.stderr
    images = len(tree(here / "data/train"))
    cost = (
        f"--folds 3: 3 trainings of 2 epochs, each on 2/3 of {images} images; together 2 times as"
    )
    assert done.stderr.startswith(cost) and "an epoch takes" in done.stderr
    assert "fold 2/3 is done: runs/001-emotionnet-fold2of3\n" in done.stdout
    assert sorted(path.name for path in (here / "runs").iterdir()) == [
        "001-emotionnet-fold2of3", "002-emotionnet-fold1of3", "003-emotionnet-fold3of3",
    ]  # fmt: skip
    assert (here / "model.pt").read_bytes() == b"mine"
    with (here / "model-folds/predictions.csv").open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["file"] for row in rows} == {*tree(here / "data/train")}
    assert {row["fold"] for row in rows} == {"1", "2", "3"}
    wrong = [row["file"] for row in rows if row["truth"] != row["prediction"]]
    assert {*WRONG} <= {*wrong}

    # A second start does nothing again; other flags are another training.
    before = tree(here / "runs")
    again = run("train.py", *LEARNING_FLAGS, "--folds", 3, cwd=here)
    assert again.stdout.count("is done") == 3 and tree(here / "runs") == before

    done = run("test.py", "--split", "train", "--suspects", 6, cwd=here)
    assert done.returncode == 0 and done.stderr == ""
    assert "predicted by 3 models that have not seen them" in done.stdout
    assert "to decide about each: model-folds/suspects.html" in done.stdout
    with (here / "model-folds/suspects.csv").open(encoding="utf-8-sig", newline="") as file:
        suspects = [row["file"] for row in csv.DictReader(file)]
    assert {*suspects[:2]} == {*WRONG}
    report = json.loads(run("test.py", "--split=train", "--suspects=6", "--json", cwd=here).stdout)
    assert [each["file"] for each in report["suspects"]] == suspects

    with open_browser() as browser:
        browser.open(here / "model-folds/suspects.html")
        browser.press("m", "m", "d", "k")
        save_list(browser, here)
        assert browser.problems == [] and browser.loaded == []
    done = run("dataPreparation.py", *SPLIT, "--relabel", "relabel.tsv", cwd=here)
    assert done.returncode == 0, done.stderr
    assert "2 photos are moved to another class, 1 are left out, 1 keep theirs" in done.stderr
    train = tree(here / "data/train")
    assert {"기쁨/from-기쁨.png", "분노/from-분노.png"} <= {*train} and suspects[2] not in train

    # The images have changed: their predictions are outdated, and the folds are trained again.
    done = run("test.py", "--split", "train", "--suspects", 6, cwd=here)
    assert "3 of its" in done.stderr and "no longer in data/train by that name" in done.stderr
    done = run("train.py", *LEARNING_FLAGS, "--fold", "1/3", cwd=here)
    assert done.returncode == 0, done.stderr
    assert (here / "runs/004-emotionnet-fold1of3/held_out.csv").exists()


def test_suspects_of_a_set_that_the_model_has_not_learnt(trained, tmp_path):
    shutil.copy(trained / "model.pt", tmp_path)
    data = trained / "data"
    done = run("test.py", "--data_path", data, "--suspects", 5, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"{data}/test: 18 images, predicted by model.pt" in done.stdout
    folder = tmp_path / "model-report/test"
    assert {"report.html", "suspects.html", "suspects.csv"} <= {p.name for p in folder.iterdir()}
    done = run("test.py", "--data_path", data, "--suspects", 5, "--json", cwd=tmp_path)
    assert len(json.loads(done.stdout)["suspects"]["suspects"]) == 5


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["--split", "train"], "--split train: the model has learnt these images"),
        (["--split", "train", "--suspects", 3], "model-folds/predictions.csv: no such file; make"),
        (["--split", "train", "--suspects", 3, "--tta", "flip"], "--split train takes no --tta"),
        (["--suspects", 3, "--model_path", "a.pt", "b.pt"], "--suspects takes one model"),
        (["--split", "train", "--suspects", 3, "--data_path", "none"], "none: no such folder"),
    ],
)
def test_what_suspects_refuses(few_faces, tmp_path, words, problem):
    where = () if "--data_path" in words else ("--data_path", few_faces)
    one_line_error(run("test.py", *words, *where, cwd=tmp_path), problem)
