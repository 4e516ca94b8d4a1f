"""The report of an evaluation: every figure as JSON, every prediction as a row."""

from __future__ import annotations

import csv
import json
import os
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.helpers import make_faces
from utils.data.image_groups import Attribute, ImageGroups
from utils.evaluation import report as report_module
from utils.evaluation.evaluator import Evaluation
from utils.evaluation.report import make_report, write_report
from utils.imaging.preprocess import Preprocess
from utils.inference.checkpoint import Checkpoint
from utils.metrics import wilson

CLASSES = ["기쁨", "분노"]


@pytest.fixture
def evaluation(tmp_path):
    """Four predictions, two of them wrong."""
    root = make_faces(tmp_path / "faces", CLASSES, 2)
    model = tmp_path / "model.pt"
    model.write_bytes(b"12345")
    checkpoint = Checkpoint(
        "emotionnet", CLASSES, Preprocess().to_dict(), 7, 0.75, {}, temperature=1.5
    )
    probs = np.array([[0.9, 0.1], [0.3, 0.7], [0.4, 0.6], [0.95, 0.05]])
    paths = sorted(root.rglob("*.png"))
    truth, environment = np.array([0, 0, 1, 1]), {"device": "a CPU"}
    return Evaluation(
        model, checkpoint, root, paths, truth, probs, 100.0, 4321, environment=environment
    )


def test_make_report_has_every_figure(evaluation):
    report = make_report(evaluation)
    json.dumps(report)
    assert report["classes"].pop("기쁨") == {
        "precision": 0.5, "recall": 0.5, "f1": 0.5, "support": 2,
    }  # fmt: skip
    assert report["classes"].pop("분노")["support"] == 2
    assert report.pop("ece") == pytest.approx(evaluation.reliability.ece)
    assert report == {
        "model": str(evaluation.model_path),
        "network": "emotionnet",
        "epoch": 7,
        "validation_accuracy": 0.75,
        "data": str(evaluation.root),
        "tta": "none",
        "images": 4,
        "right": 2,
        "accuracy": 0.5,
        "accuracy_95": list(wilson(2, 4)),
        "macro_f1": 0.5,
        "balanced_accuracy": 0.5,
        "temperature": 1.5,
        "images_per_second": 100.0,
        "parameters": 4321,
        "file_bytes": 5,
        "classes": {},
        "confusion": [[1, 1], [1, 1]],
        "environment": {"device": "a CPU"},
    }


def test_make_report_of_balanced_predictions_has_the_figures_without(evaluation):
    balanced = replace(
        evaluation, probs=evaluation.probs[:, ::-1], balance=0.5, unbalanced=evaluation.scores
    )
    report = make_report(balanced)
    assert report["balance"] == {
        "tau": 0.5, "accuracy_without": 0.5, "balanced_accuracy_without": 0.5,
    }  # fmt: skip


def test_write_report_writes_figures_predictions_and_pictures(evaluation, tmp_path, monkeypatch):
    mistakes = []
    draw = report_module.draw_mistakes
    monkeypatch.setattr(
        report_module, "draw_mistakes", lambda *args: mistakes.append(args[0]) or draw(*args)
    )
    folder = tmp_path / "a/report"
    folder.mkdir(parents=True)
    write_report(evaluation, folder)
    assert json.loads((folder / "report.json").read_text("utf-8")) == make_report(evaluation)
    with (folder / "predictions.csv").open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["file", "truth", "prediction", *CLASSES]
    assert rows[1] == [str(Path("기쁨/0000.png")), "기쁨", "기쁨", "0.900000", "0.100000"]
    assert rows[4] == [str(Path("분노/0001.png")), "분노", "기쁨", "0.950000", "0.050000"]
    with (folder / "confusion.csv").open(encoding="utf-8-sig", newline="") as file:
        assert list(csv.reader(file)) == [
            ["truth\\prediction", *CLASSES], ["기쁨", "1", "1"], ["분노", "1", "1"],
        ]  # fmt: skip
    for name in ("confusion", "reliability", "mistakes"):
        with Image.open(folder / f"{name}.png") as picture:
            assert min(picture.size) > 100
    # The wrong predictions, the surest first.
    assert mistakes == [
        [(evaluation.paths[3], "분노", "기쁨", 0.95), (evaluation.paths[1], "기쁨", "분노", 0.7)]
    ]


def test_write_report_writes_the_groups_and_removes_those_of_an_earlier_report(
    evaluation, tmp_path
):
    sides = dict(zip(evaluation.paths, ("left", "right", "left", "left"), strict=True))
    groups = ImageGroups([Attribute("side", "t.csv", sides)])
    folder = tmp_path / "report"
    folder.mkdir()
    write_report(evaluation.by_groups(groups), folder)
    sides = json.loads((folder / "report.json").read_text("utf-8"))["groups"]["attributes"]["side"]
    assert {name: group["right"] for name, group in sides["groups"].items()} == {
        "left": 2, "right": 0,
    }  # fmt: skip
    with (folder / "groups.csv").open(encoding="utf-8-sig", newline="") as file:
        assert [row["group"] for row in csv.DictReader(file)] == ["left", "right"]
    write_report(evaluation, folder)
    assert not (folder / "groups.csv").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="names are UTF-8")
def test_write_report_of_a_path_that_is_not_utf8(evaluation, tmp_path):
    name = os.fsdecode("모델.pt".encode("cp949"))
    path = tmp_path / name
    path.write_bytes(b"x")
    object.__setattr__(evaluation, "model_path", path)
    (tmp_path / "report").mkdir()
    write_report(evaluation, tmp_path / "report")
    assert json.loads((tmp_path / "report/report.json").read_text("utf-8"))["images"] == 4
