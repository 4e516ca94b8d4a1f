"""What a run over the rows counts, and which faces it keeps as samples."""

from __future__ import annotations

import random
from pathlib import Path

from utils.data.crop_survey import SAMPLES, SIDES, CropSurvey, Face
from utils.emotions import NO_VOTE
from utils.imaging.geometry import Box

BOX = Box(0, 0, 100, 80)


def survey_of(names: list[str], label: str = "기쁨") -> CropSurvey:
    survey = CropSurvey()
    for name in names:
        survey.add_face(label, Face(Path("crop") / label / name, ("기쁨",) * 3), BOX)
    return survey


def test_samples_are_few_and_depend_on_the_faces_alone():
    names = [f"{i}.jpg" for i in range(2000)]
    chosen = survey_of(names).samples("기쁨")
    assert len(chosen) == len(set(chosen)) == SAMPLES
    shuffled = random.Random(1).sample(names, len(names))
    assert survey_of(shuffled).samples("기쁨") == chosen
    assert survey_of(names + names).samples("기쁨")[0] == chosen[0]
    assert survey_of(names).samples("슬픔") == []
    numbers = sorted(int(face.path.stem) for face in chosen)
    assert numbers[0] < 500 and numbers[-1] > 1500  # not the first ones, nor the last


def test_samples_of_a_small_class_are_all_its_faces():
    chosen = survey_of(["b.jpg", "a.jpg", "\udcff.jpg"]).samples("기쁨")
    assert {face.name for face in chosen} == {"a.jpg", "b.jpg", "\udcff.jpg"}


def test_rows_are_counted_by_their_answers():
    survey = CropSurvey()
    for answers in (("기쁨", "슬픔", NO_VOTE), ["기쁨", "슬픔", NO_VOTE], ("기쁨",) * 3):
        survey.add_row(answers, [[BOX]] * 3)
    assert survey.patterns == {("기쁨", "슬픔", NO_VOTE): 2, ("기쁨",) * 3: 1}
    assert survey.agreement.rows == 3


def test_faces_are_counted_by_their_longer_side():
    survey = CropSurvey()
    for width, height in ((31, 10), (32, 10), (63, 1), (10, 64), (2048, 10), (9000, 9000)):
        survey.add_face("기쁨", Face(Path("a.jpg"), ()), Box(5, 5, 5 + width, 5 + height))
    assert survey.sides == [1, 2, 1, 0, 0, 0, 0, 2] and len(SIDES) == 7
