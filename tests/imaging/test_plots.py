"""The charts: what they show, read back from the figure, and that the file is written whole."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from utils.imaging import plots
from utils.imaging.plots import draw_confusion, draw_curves, draw_reliability
from utils.metrics import Reliability, Scores

HISTORY = [
    {"epoch": 1, "train_loss": 1.9, "val_loss": 1.8, "val_accuracy": 0.25, "lr": 0.1},
    {"epoch": 2, "train_loss": 1.5, "val_loss": 1.6, "val_accuracy": 0.5, "lr": 0.05},
    {"epoch": 3, "train_loss": 1.2, "val_loss": 1.7, "val_accuracy": 0.375, "lr": 0.01},
]


@pytest.fixture
def figures(monkeypatch) -> list:
    """The figures that are saved."""
    saved = []
    save = plots._save
    monkeypatch.setattr(
        plots, "_save", lambda figure, path: saved.append(figure) or save(figure, path)
    )
    return saved


def size_of(path: Path) -> tuple[int, int]:
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        return picture.size


def test_draw_curves_shows_loss_accuracy_and_learning_rate(tmp_path, figures):
    draw_curves(HISTORY, HISTORY[1], tmp_path / "x.png")
    assert size_of(tmp_path / "x.png") == (1200, 400)
    loss, accuracy, rate = figures[0].axes
    train, validation = loss.lines
    assert train.get_xdata().tolist() == [1, 2, 3]
    assert train.get_ydata().tolist() == [1.9, 1.5, 1.2]
    assert validation.get_ydata().tolist() == [1.8, 1.6, 1.7]
    assert accuracy.lines[0].get_ydata().tolist() == [25, 50, 37.5]
    assert accuracy.texts[0].get_text() == "50.00"  # the best epoch
    assert rate.lines[0].get_ydata().tolist() == [0.1, 0.05, 0.01]


def test_draw_curves_of_one_epoch(tmp_path):
    draw_curves(HISTORY[:1], HISTORY[0], tmp_path / "x.png")
    assert size_of(tmp_path / "x.png") == (1200, 400)


def test_draw_confusion_writes_counts_and_percentages(tmp_path, figures):
    scores = Scores(np.array([[3, 1], [0, 1000]]))
    draw_confusion(scores, ["$a", "b"], tmp_path / "x.png")
    size_of(tmp_path / "x.png")
    [axes] = figures[0].axes
    assert [text.get_text() for text in axes.texts] == ["3\n75 %", "1\n25 %", "0", "1,000\n100 %"]
    assert [text.get_text() for text in axes.get_xticklabels()] == [r"\$a", "b"]
    assert axes.get_title() == "accuracy 99.90% of 1,004 images"


def test_draw_confusion_grows_with_the_number_and_names_of_classes(tmp_path):
    two = Scores(np.array([[1, 0], [0, 1]]))
    seven = Scores(np.eye(7, dtype=int))
    draw_confusion(two, ["a", "b"], tmp_path / "2.png")
    draw_confusion(two, ["a", "a class with a long name"], tmp_path / "long.png")
    draw_confusion(seven, list("abcdefg"), tmp_path / "7.png")
    sizes = {name: size_of(tmp_path / f"{name}.png") for name in ("2", "long", "7")}
    assert sizes["7"][0] > sizes["2"][0] and sizes["7"][1] > sizes["2"][1]
    assert sizes["long"][0] > sizes["2"][0]


def test_draw_confusion_of_a_class_without_images(tmp_path, figures):
    draw_confusion(Scores(np.array([[2, 0], [0, 0]])), ["a", "b"], tmp_path / "x.png")
    texts = [text.get_text() for text in figures[0].axes[0].texts]
    assert texts == ["2\n100 %", "0", "0", "0"]


def test_draw_reliability_shows_the_filled_bins(tmp_path, figures):
    probs = np.array([[0.9, 0.1]] * 4 + [[0.6, 0.4]] * 2)
    reliability = Reliability.of(probs, np.array([0, 0, 0, 1, 0, 1]))
    draw_reliability(reliability, tmp_path / "x.png")
    assert size_of(tmp_path / "x.png") == (600, 700)
    counts, axes = figures[0].axes
    assert sorted(bar.get_height() for bar in counts.patches)[-2:] == [2, 4]
    assert [bar.get_height() for bar in axes.patches] == [0.5, 0.75]
    assert axes.lines[0].get_xdata().tolist() == pytest.approx([0.6, 0.9])
    assert counts.get_title() == f"expected calibration error {reliability.ece:.2%}"


def test_plots_leave_the_environment_as_it_was(tmp_path, monkeypatch):
    monkeypatch.delenv("MPLCONFIGDIR", raising=False)
    before = dict(os.environ)
    draw_curves(HISTORY, HISTORY[1], tmp_path / "x.png")
    assert dict(os.environ) == before
    with plots._environment("MPLCONFIGDIR", "elsewhere"):
        assert os.environ["MPLCONFIGDIR"] == "elsewhere"
    assert "MPLCONFIGDIR" not in os.environ
    monkeypatch.setenv("MPLCONFIGDIR", "mine")
    with plots._environment("MPLCONFIGDIR", "elsewhere"):
        assert os.environ["MPLCONFIGDIR"] == "mine"


def test_plots_of_letters_that_the_font_lacks_print_no_warning(tmp_path, recwarn):
    draw_confusion(Scores(np.array([[1]])), ["😀"], tmp_path / "x.png")
    assert not recwarn.list
