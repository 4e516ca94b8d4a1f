"""test.py, run as a user runs it: figures, tables, reports, calibration."""

from __future__ import annotations

import csv
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
import torch
from PIL import Image

import test
from tests.browser import CHROMIUM, open_browser
from tests.helpers import make_faces, one_line_error, run, write_no_model
from tests.trainings import CLASSES
from utils import metrics
from utils.errors import StageError
from utils.inference.checkpoint import Checkpoint

pytestmark = pytest.mark.slow


@pytest.fixture
def here(trained, tmp_path):
    """A folder with a copy of the model, to work in."""
    shutil.copy(trained / "model.pt", tmp_path)
    return tmp_path


def test_test_prints_accuracy_and_confusion_of_the_same_predictions(trained, tmp_path):
    args = ("--model_path", trained / "model.pt", "--output", tmp_path / "report", "--data_path")
    done = run("test.py", *args, trained / "data", cwd=tmp_path)
    assert done.returncode == 0 and done.stderr == ""
    table = re.findall(r"^\|(\d)\|([\d|]+)\|$", done.stdout, re.M)
    counts = np.array([list(map(int, cells.split("|"))) for _, cells in table])
    right = int(np.trace(counts))
    assert counts.shape == (3, 3) and counts.sum() == 18 and list(counts.sum(1)) == [6, 6, 6]
    assert f"accuracy {right / 18:.3%} ({right} of 18 images)" in done.stdout
    assert "| Truth\\Prediction  |0|1|2|" in done.stdout
    assert "0 기쁨  1 분노  2 중립" in done.stdout
    assert right > 12  # three bands of light are easily told apart
    # The set's own folder, in other batches.
    direct = run("test.py", *args, trained / "data/test", "--batch_size", 5, cwd=tmp_path)
    texts = [re.sub(r"\d+ images/s", "", r.stdout).splitlines()[1:] for r in (direct, done)]
    assert texts[0] == texts[1]
    assert {path.name for path in tmp_path.iterdir()} == {"report"}


def test_test_writes_into_files_what_it_prints(trained, here):
    done = run("test.py", "--data_path", trained / "data", cwd=here)
    assert done.returncode == 0 and done.stdout.endswith("pictures: model-report/test\n")
    folder = here / "model-report/test"
    report = json.loads((folder / "report.json").read_text("utf-8"))
    assert f"accuracy {report['accuracy']:.3%} ({report['right']} of 18 images)" in done.stdout
    low, high = report["accuracy_95"]
    assert low < report["accuracy"] <= high and f"{low:.1%} to {high:.1%}" in done.stdout
    with (folder / "predictions.csv").open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["file", "truth", "prediction", *CLASSES] and len(rows) == 18
    assert sum(r["truth"] == r["prediction"] for r in rows) == report["right"]
    for r in rows:
        assert r["file"].startswith(r["truth"]) and (trained / "data/test" / r["file"]).exists()
        probs = [float(r[name]) for name in CLASSES]
        assert CLASSES[int(np.argmax(probs))] == r["prediction"] and abs(sum(probs) - 1) < 1e-5
    with (folder / "confusion.csv").open(encoding="utf-8-sig", newline="") as file:
        table = list(csv.reader(file))
    assert [list(map(int, line[1:])) for line in table[1:]] == report["confusion"]
    for name in ("confusion", "reliability", "mistakes"):
        with Image.open(folder / f"{name}.png") as picture:
            assert min(picture.size) > 100
    assert {p.name for p in here.iterdir()} == {"model.pt", "model-report"}
    wrong = [r["file"] for r in rows if r["truth"] != r["prediction"]]
    check_page(folder / "report.html", wrong)


def check_page(page: Path, wrong: list[str]) -> None:
    """Check that a report's page has these mistakes and leads to their files, in a browser too."""
    html = page.read_text("utf-8")
    data = re.search(r'id="mistakes-data">(.*?)</script>', html)
    mistakes = json.loads(data[1])["items"] if data else []
    assert sorted(item["file"] for item in mistakes) == sorted(wrong)
    assert all((page.parent / unquote(item["href"])).is_file() for item in mistakes)
    assert "--data_path" in html and str(torch.__version__) in html
    if CHROMIUM:
        with open_browser() as browser:
            browser.open(page)
            assert browser.count(".card") == len(wrong)
            assert browser.problems == [] and browser.loaded == []


def test_test_prints_json_alone_of_another_split_into_another_folder(trained, here):
    names = [f"{name}/{i:04d}.png" for name in CLASSES for i in range(8)]
    lines = [f"{name},{'mf'[i % 2]},mine" for i, name in enumerate([*names, "x.png"])]
    (here / "groups.csv").write_text("\n".join(["file,sex,from", *lines]), encoding="utf-8")
    args = ("--data_path", trained / "data", "--json", "--split", "validation", "--tta", "tencrop")
    done = run("test.py", *args, "--output", "a/b", "--groups", "groups.csv", cwd=here)
    report = json.loads(done.stdout)
    groups = report["groups"]["attributes"]["sex"]["groups"]
    assert [groups[name]["images"] for name in "mf"] == [12, 12] and groups["m"]["too_small"]
    assert sum(group["right"] for group in groups.values()) == report["right"]
    assert done.stderr.splitlines() == [
        "groups.csv: 1 of 25 rows are about no image here, such as x.png",
        "groups.csv: no groups by from (only mine)",
    ]
    assert 'id="groups"' in (here / "a/b/report.html").read_text("utf-8")
    assert (here / "a/b/groups.csv").exists()
    assert report["images"] == 24 and report["data"].endswith("validation")
    assert report["classes"]["분노"]["support"] == 8 and (here / "a/b/report.json").exists()


def test_test_compares_several_models(trained, here):
    shutil.copy(here / "model.pt", here / "other.pt")
    args = ("--data_path", trained / "data", "--model_path", "model.pt", "other.pt")
    done = run("test.py", *args, cwd=here)
    lines = done.stdout.splitlines()
    (here / "g.csv").write_text("file,light\n기쁨/0000.png,on\n분노/0001.png,off\n", "utf-8")
    grouped = run("test.py", *args, "--groups", "g.csv", cwd=here).stdout.splitlines()
    assert [row.count("|") for row in grouped[:4]] == [10] * 4
    assert grouped[5] == "| group | images | model.pt | 95 % | other.pt | 95 % |"
    assert grouped[7].startswith("| light: off * | 1 | ") and grouped[8].startswith(
        "| light: on * |"
    )
    assert "model.pt: light: no two groups of 30 images or more to compare" in grouped
    assert done.returncode == 0 and lines[0].startswith("| Network | Validation (%) | test (%) |")
    assert len(lines) == 4 and lines[2].count("|") == 10
    assert lines[2].split("|")[1:6] == lines[3].split("|")[1:6] and "4,738,121" in lines[2]
    assert (here / "other-report/test/report.json").exists()
    done = run("test.py", *args, "--json", cwd=here)
    assert [report["model"] for report in json.loads(done.stdout)] == ["model.pt", "other.pt"]
    done = run("test.py", *args[:3], "model.pt", "./model.pt", cwd=here)
    one_line_error(done, "have the same name")


def test_test_keeps_its_calibration_in_the_model_and_emotion_uses_it(trained, here):
    face, data = trained / "data/test/분노/0000.png", ("--data_path", trained / "data")
    [before] = json.loads(run("emotion.py", "--img", face, cwd=here).stdout)
    done = run("test.py", "--calibrate", *data, cwd=here)
    assert done.returncode == 0 and "temperature" in done.stderr
    temperature = Checkpoint.load(here / "model.pt").temperature
    assert temperature != 1 and f"{temperature:.3f}" in done.stderr
    [after] = json.loads(run("emotion.py", "--img", face, cwd=here).stdout)
    expected = metrics.scale(np.log(np.maximum([before["probs"]], 1e-4) / 100), temperature)
    assert after["probs"] == pytest.approx(100 * np.exp(expected[0]), abs=0.2)
    # With --tta it keeps those views, and test.py and emotion.py use them from then on.
    done = run("test.py", "--calibrate", "--tta", "flip", *data, cwd=here)
    assert Checkpoint.load(here / "model.pt").tta == "flip"
    assert re.search(r"temperature [\d.]+, --tta flip \(accuracy: flip [\d.]+%\)", done.stderr)
    again = run("test.py", *data, cwd=here)
    assert "\ntest-time augmentation: flip (kept in the model file)\n" in again.stdout
    unsure = replace(Checkpoint.load(here / "model.pt"), temperature=20.0)
    unsure.save(here / "model.pt")
    mirrored = here / "mirrored.png"
    with Image.open(face) as picture:
        picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(mirrored)
    answers = run("emotion.py", "--img", face, mirrored, cwd=here).stdout.splitlines()
    one, other = (json.loads(line)["faces"][0]["probs"] for line in answers)
    assert one == pytest.approx(other, abs=0.011)
    plain = json.loads(run("emotion.py", "--img", face, "--tta", "none", cwd=here).stdout)
    assert plain[0]["probs"] != one


def test_test_balances_by_the_frequencies_of_the_training(trained, here):
    """24 images of each class: nothing changes until the model says otherwise."""
    data = ("--data_path", trained / "data", "--json", "--balance")
    plain = json.loads(run("test.py", *data, cwd=here).stdout)
    assert plain["balance"] == {
        "tau": 1.0,
        "accuracy_without": plain["accuracy"],
        "balanced_accuracy_without": plain["balanced_accuracy"],
    }
    model = replace(Checkpoint.load(here / "model.pt"), class_priors=[1.0, 1e-9, 1e-9])
    model.save(here / "model.pt")
    done = run("test.py", *data[:2], "--balance", 3, cwd=here)
    assert re.search(r"\nbalanced with tau 3; without: accuracy [\d.]+%, balanced", done.stdout)
    report = json.loads((here / "model-report/test/report.json").read_text("utf-8"))
    assert report["balance"]["tau"] == 3 and report["accuracy"] < plain["accuracy"]
    assert report["balance"]["accuracy_without"] == plain["accuracy"]
    assert report["classes"]["기쁨"]["recall"] == 0
    # Kept in the model file, it is used by default, and by recognition.
    face = str(trained / "data/validation/기쁨/0000.png")
    before = json.loads(run("emotion.py", "--img", face, cwd=here).stdout)[0]["label"]
    kept = run("test.py", *data[:2], "--calibrate", "--balance", 3, cwd=here)
    assert ", --balance 3\n" in kept.stderr
    assert "\nbalanced with tau 3 (kept in the model file); without: " in kept.stdout
    assert json.loads(run("test.py", *data[:3], cwd=here).stdout)["balance"]["tau"] == 3
    after = json.loads(run("emotion.py", "--img", face, cwd=here).stdout)[0]["label"]
    assert before == "기쁨" != after
    off = json.loads(run("test.py", *data, 0, cwd=here).stdout)
    assert "balance" not in off


def test_test_reports_what_contradicts_the_model(trained, tmp_path):
    model = ("--model_path", trained / "model.pt", "--output", tmp_path / "report")
    done = run("test.py", *model, "--image_size", 96, cwd=tmp_path)
    one_line_error(done, "--image_size 96 contradicts", "trained with 48")
    done = run("test.py", *model, "--image_channel", 3, cwd=tmp_path)
    one_line_error(done, "--image_channel 3 contradicts", "trained with 1")
    make_faces(tmp_path / "other", ["기쁨", "놀람"], 2)
    done = run("test.py", *model, "--data_path", "other", cwd=tmp_path)
    one_line_error(done, "놀람", "it knows 기쁨 분노 중립")
    shutil.rmtree(tmp_path / "other/놀람")
    done = run("test.py", *model, "--data_path", "other", "--image_size", 48, cwd=tmp_path)
    assert done.returncode == 0 and "no images of 분노 중립" in done.stderr


def test_test_logs_the_images_that_it_cannot_read(trained, here):
    shutil.copytree(trained / "data/test", here / "data/test")
    (here / "data/test/기쁨/broken.png").write_bytes(b"<html>")
    done = run("test.py", "--log_dir", "logs", cwd=here)
    assert done.returncode == 1 and "of 18 images" in done.stdout
    assert "1 images could not be read: logs/test.error.log" in done.stderr
    assert "broken.png\tan HTML page" in (here / "logs/test.error.log").read_text("utf-8")


def test_test_reports_a_missing_model_in_one_line(tmp_path):
    one_line_error(run("test.py", cwd=tmp_path), "model.pt", "no such file")
    assert not any(tmp_path.iterdir())


def test_test_refuses_a_file_that_is_no_model(few_faces, tmp_path):
    write_no_model(tmp_path / "m.pt", "random")
    done = run("test.py", "--model_path", "m.pt", "--data_path", few_faces, cwd=tmp_path)
    one_line_error(done, "m.pt", "model file")
    assert {p.name for p in tmp_path.iterdir()} == {"m.pt"}


def test_class_root_is_the_set_by_any_name_or_the_folder_itself(tmp_path, capsys):
    (tmp_path / "val").mkdir()
    assert test.class_root(tmp_path, "validation") == tmp_path / "val"
    assert "val is the validation set" in capsys.readouterr().err
    with pytest.raises(StageError, match="has no test set; give --split validation, or"):
        test.class_root(tmp_path, "test")
    (tmp_path / "faces/기쁨").mkdir(parents=True)
    assert test.class_root(tmp_path / "faces", "test") == tmp_path / "faces"
    (tmp_path / "hub.zip").write_bytes(b"PK")
    with pytest.raises(StageError, match=r"python cropImages\.py --input"):
        test.class_root(tmp_path / "hub.zip", "test")
