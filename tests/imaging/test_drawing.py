"""Labels, frames and bars on pictures."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from utils.emotions import ENGLISH
from utils.errors import StageError
from utils.imaging import drawing
from utils.imaging.drawing import (
    FRAME_COLOUR,
    draw_face,
    draw_probabilities,
    fit_text,
    font_size_for,
    hangul_font,
    load_font,
    paste,
    render_text,
)
from utils.imaging.geometry import Box


def test_hangul_font_draws_every_syllable_otherwise():
    font = load_font(20)
    letters = {letter for emotion in ENGLISH for letter in emotion}
    assert len({bytes(font.getmask(letter)) for letter in letters}) == len(letters)
    assert Path(hangul_font()).name == "NanumGothic.ttf"


def test_hangul_font_is_taken_without_importing_its_package():
    assert drawing.FONT_PACKAGE not in sys.modules


def test_hangul_font_that_is_not_installed_is_named(monkeypatch):
    monkeypatch.setattr(drawing, "FONT_PACKAGE", "no_such_package")
    hangul_font.cache_clear()
    with pytest.raises(StageError, match="pip install koreanize-matplotlib"):
        load_font(20)


def test_render_text_is_white_on_dark_and_grows_with_its_size():
    small, large = render_text("abc", 14), render_text("abc", 40)
    assert small.dtype == np.uint8 and small.shape[2] == 3
    assert large.shape[0] > 2 * small.shape[0] and large.shape[1] > 2 * small.shape[1]
    assert large.max() > 240 and large[0, 0].tolist() == list(drawing.TEXT_BACKGROUND)


def test_fit_text_shortens_the_name_and_keeps_the_suffix():
    font = load_font(20)
    assert fit_text("abc", font, 1000, " 9 %") == "abc 9 %"
    text = fit_text("a very long class name", font, 120, " 9 %")
    assert text.startswith("a ver") and text.endswith("… 9 %")
    assert font.getlength(text) <= 120


def test_font_size_for_has_limits():
    assert [font_size_for(height) for height in (10, 270, 5000)] == [14, 30, 40]


def test_draw_face_frames_the_face_and_labels_it_above():
    picture = np.zeros((200, 300, 3), np.uint8)
    below = draw_face(picture, Box(50, 60, 150, 180), "기쁨", 87)
    assert below == 60  # the label ends where the frame begins
    assert picture[60, 100].tolist() == list(FRAME_COLOUR)
    assert picture[179, 100].tolist() == list(FRAME_COLOUR)
    assert picture[100, 50].tolist() == picture[100, 149].tolist() == list(FRAME_COLOUR)
    assert picture[100, 100].tolist() == [0, 0, 0]
    assert picture[30:60, 50:].max() > 200  # the text
    assert not picture[181:].any()


def test_draw_face_puts_the_label_below_the_border_without_room_above():
    picture = np.zeros((200, 300, 3), np.uint8)
    below = draw_face(picture, Box(0, 0, 100, 100), "기쁨", 87)
    assert below > 0 and picture[:below, :100].max() > 200


@pytest.mark.parametrize(
    "box", [Box(-20, -30, 40, 50), Box(80, 70, 130, 140), Box(-9, -9, 120, 99)]
)
def test_draw_face_of_a_face_that_leaves_the_picture(box):
    picture = np.zeros((90, 100, 3), np.uint8)
    draw_face(picture, box, "a class with a name that is wider than the picture", 5, "#12 ")
    assert picture.any()


def bars(picture: np.ndarray) -> np.ndarray:
    """Where the picture has a bar's colour."""
    green = (picture == FRAME_COLOUR).all(axis=2)
    return green | (picture == drawing.BAR_COLOUR).all(axis=2)


def test_draw_probabilities_draws_bars_as_long_as_the_probabilities():
    picture = np.full((200, 400, 3), 90, np.uint8)
    draw_probabilities(picture, Box(10, 20, 110, 120), ["a", "b"], np.array([0.25, 0.75]))
    lengths = sorted({int(n) for n in bars(picture).sum(axis=1)} - {0})
    assert lengths == [round(0.25 * 50), round(0.75 * 50)]
    best = (picture == FRAME_COLOUR).all(axis=2).sum(axis=1)
    assert best.max() == round(0.75 * 50)  # the most probable class is green


@pytest.mark.parametrize(
    ("box", "side"), [(Box(10, 20, 110, 120), "right"), (Box(290, 20, 390, 120), "left")]
)
def test_draw_probabilities_takes_the_side_with_more_room(box, side):
    picture = np.full((200, 400, 3), 90, np.uint8)
    draw_probabilities(picture, box, ["a", "b"], np.array([0.5, 0.5]))
    columns = np.flatnonzero(bars(picture).any(axis=0))
    assert columns.min() > box.right if side == "right" else columns.max() < box.left


@pytest.mark.parametrize("box", [Box(-50, -50, 20, 20), Box(90, 90, 160, 160), Box(0, 0, 100, 100)])
def test_draw_probabilities_of_a_face_at_the_border_stays_in_the_picture(box):
    picture = np.full((100, 100, 3), 90, np.uint8)
    probs = np.array([0.1, 0.2, 0.7])
    draw_probabilities(picture, box, ["기쁨", "슬픔", "중립"], probs)
    assert bars(picture).any()


def test_draw_probabilities_begins_below_min_top():
    picture = np.full((300, 400, 3), 90, np.uint8)
    draw_probabilities(picture, Box(10, 20, 110, 120), ["a"], np.array([1.0]), min_top=150)
    rows = np.flatnonzero((picture != 90).any(axis=(1, 2)))
    assert rows.min() >= 150


def test_paste_puts_a_patch_above_the_point_and_inside_the_picture():
    patch = np.full((10, 20, 3), 255, np.uint8)
    for x, bottom, rows, columns in (
        (30, 40, slice(30, 40), slice(30, 50)),
        (95, 5, slice(0, 10), slice(80, 100)),
        (-5, 98, slice(88, 98), slice(0, 20)),
    ):
        picture = np.zeros((100, 100, 3), np.uint8)
        assert paste(picture, patch, x, bottom) == rows.stop
        assert picture[rows, columns].min() == 255 and picture.sum() == patch.sum()
