"""Targets from the votes of any number of annotators, and the images that are left out."""

from __future__ import annotations

import json
import re
import unicodedata
from pathlib import Path

import pytest
import torch

from tests.helpers import name_of, row, write_table
from tests.trainings import CLASSES
from utils.data.image_folder import Sample
from utils.data.votes import AnnotatorVotes, VotesTable, open_votes
from utils.errors import StageError
from utils.training.vote_targets import VoteTargets, vote_targets

TWO = ["happy", "sad"]
FER_PLUS = "file,neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF\n"


def annotated(folder: Path, *answers: str) -> Path:
    """An annotation table of the photos 0, 1, … of 기쁨."""
    rows = [row(name_of("기쁨", i), seen=words) for i, words in enumerate(answers)]
    return write_table(folder / "t.tsv", rows)


def counted(folder: Path, *lines: str, columns: str = "happy,sad,unknown,NF") -> Path:
    """A votes table of the images 0.png, 1.png, …"""
    rows = [f"{i}.png,{line}" for i, line in enumerate(lines)]
    path = folder / "v.csv"
    path.write_text("\n".join([f"file,{columns}", *rows]), encoding="utf-8")
    return path


def faces(count: int, label: int = 0) -> list[Sample]:
    return [Sample(Path("data/train") / TWO[label] / f"{i}.png", label) for i in range(count)]


def learn(path: Path, samples: list[Sample], *, unknown=(), classes=TWO, **options) -> VoteTargets:
    return vote_targets(open_votes(path, classes), samples, list(unknown), classes, **options)


def targets_of(votes: VoteTargets, classes=TWO) -> list[list[float]]:
    return votes.targets(votes.samples, classes).tolist()


# --- three annotators


def test_votes_of_three_annotators_are_their_shares(tmp_path):
    table = annotated(
        tmp_path,
        "기쁨 기쁨 기쁨",
        "기쁨 중립 기쁨",
        "중립 중립 기쁨",  # the majority is not the folder's class
        "기쁨 기쁨 슬픔",  # a class that the training does not have
        "분노 기쁨 중립",  # no majority
        "슬픔 기쁨 슬픔",  # a majority that the training does not have
        "기쁨 알수없음 기쁨",
        "기쁨 알수없음 중립",
        "알수없음 알수없음 알수없음",
        "기쁨 x 기쁨",
    )
    samples = [Sample(Path("기쁨") / name_of("기쁨", i), 0) for i in (*range(10), 99)]
    votes = learn(table, samples, classes=["기쁨", "중립"])
    third = torch.tensor(1 / 3).item()
    expected = [[1, 0]] * 11
    expected[1] = [torch.tensor(2 / 3).item(), third]  # bit for bit
    assert targets_of(votes, ["기쁨", "중립"]) == expected
    assert votes.samples == samples
    assert votes.lines[0] == (
        f"{table}: 4 of 11 images are learnt by their votes (2.8 votes an image, Fleiss' kappa "
        "-0.032); with their label: 4 whose majority is another class, 3 without votes"
    )
    assert votes.lines[1].startswith(
        "1 rows are invalid, the first in t.tsv line 11: TaskB_emotion"
    )
    assert votes.lines[2].startswith("2 of the images with their label alone have no majority: ")


def test_faces_labelled_by_a_model_of_the_annotators_have_their_label(tmp_path):
    table = annotated(tmp_path, "기쁨 슬픔 중립", "기쁨 슬픔 슬픔", "기쁨 기쁨 슬픔")
    votes = learn(table, [Sample(Path("기쁨") / name_of("기쁨", i), 0) for i in range(3)])
    assert targets_of(votes) == [[1, 0], [1, 0], [pytest.approx(2 / 3), pytest.approx(1 / 3)]]
    assert "with their label: 2 whose majority is another class" in votes.lines[0]
    assert votes.lines[1] == (
        "1 of the images with their label alone have no majority: it was chosen by cropImages.py "
        "--labels dawid_skene, or by hand"
    )


def test_votes_come_from_the_first_valid_row_of_a_name(tmp_path):
    seen = ("기쁨 기쁨 x", "기쁨 기쁨 기쁨", "기쁨 기쁨 중립")
    table = write_table(tmp_path / "t.tsv", [row("a_기쁨_.jpg", seen=words) for words in seen])
    votes = learn(table, [Sample(Path("a_기쁨_.jpg"), 0)], classes=CLASSES)
    assert targets_of(votes, CLASSES) == [[1, 0, 0]]


def test_votes_are_found_by_a_name_in_either_unicode_form(tmp_path):
    table = annotated(tmp_path, "기쁨 기쁨 중립")
    decomposed = Path(unicodedata.normalize("NFD", name_of("기쁨")))
    votes = learn(table, [Sample(decomposed, 0)], classes=["기쁨", "중립"])
    assert len(votes.shares) == 1


def test_votes_for_a_class_by_another_name(tmp_path):
    table = annotated(tmp_path, "기쁨 기쁨 슬픔")
    votes = learn(table, [Sample(Path(name_of("기쁨")), 0)])
    assert targets_of(votes) == [pytest.approx([2 / 3, 1 / 3])]


def test_unknown_photos_of_three_annotators_are_learnt_softly(tmp_path):
    table = annotated(
        tmp_path, "기쁨 중립 슬픔", "기쁨 분노 중립", "분노 상처 불안", "중립 중립 기쁨"
    )
    unknown = [Path("UNKNOWN") / name_of("기쁨", i) for i in (0, 1, 2, 3, 9)]
    samples = [Sample(Path(name_of("기쁨", 1)).with_name(name_of("기쁨", 1)), 0)]
    votes = learn(table, samples, unknown=unknown, classes=["중립", "기쁨"])
    assert [(s.path, s.label) for s in votes.samples] == [
        (samples[0].path, 0),
        (unknown[0], 0),
        (unknown[1], 0),
    ]
    assert targets_of(votes, ["중립", "기쁨"]) == [[1, 0], [0.5, 0.5], [0.5, 0.5]]
    assert "1 without a vote for a class of the training" in votes.lines[0]
    assert "1 of UNKNOWN whose majority is another class" in votes.lines[0]
    assert "1 of UNKNOWN without votes" in votes.lines[0]


# --- tables of votes


def test_votes_are_shares_of_the_classes_of_the_training(tmp_path):
    table = counted(tmp_path, "9,0,1,0", "6,2,0,2", "10,0,0,0", columns="happy,sad,unknown,fear")
    votes = learn(table, faces(4))
    assert targets_of(votes) == [[1, 0], [0.75, 0.25], [1, 0], [1, 0]]
    assert votes.lines == [
        f"{table}: 3 of 4 images are learnt by their votes (10.0 votes an image, Fleiss' kappa "
        f"{kappa_in(votes)}); with their label: 1 without votes",
        "no image of sad is left to learn from",
    ]


def kappa_in(votes: VoteTargets) -> str:
    found = re.search(r"Fleiss' kappa (-?\d\.\d{3}|nan)\)", votes.lines[0])
    assert found
    return found[1]


def test_votes_min_ignores_classes_with_fewer_votes(tmp_path):
    table = counted(tmp_path, "6,1,1,2", "3,2,1,4", "1,0,0,0")
    ones = learn(table, faces(3))
    assert targets_of(ones) == [pytest.approx([6 / 7, 1 / 7]), [1, 0]]
    assert "left out: 1 whose majority is NF" in ones.lines[0]
    twos = learn(table, faces(3), minimum=2)
    assert targets_of(twos) == [[1, 0], [1, 0]]
    assert twos.lines[0].startswith(f"{table}: 1 of 3 images are learnt by their votes")
    assert "with their label: 1 without votes" in twos.lines[0]


def test_an_image_is_learnt_by_its_votes_if_no_class_has_more(tmp_path):
    table = counted(tmp_path, "4,3,3,0", "4,4,2,0", "3,3,0,3", "3,4,3,0", "0,4,0,4")
    votes = learn(table, faces(5))
    assert targets_of(votes) == [
        pytest.approx([4 / 7, 3 / 7]), [0.5, 0.5], [0.5, 0.5], [1, 0], [1, 0],
    ]  # fmt: skip
    assert votes.lines[0].endswith("with their label: 2 whose majority is another class")


def test_images_whose_majority_is_no_class_are_left_out(tmp_path):
    table = counted(tmp_path, "9,1,0,0", "0,1,9,0", "0,0,0,10", "1,0,2,7", "0,10,0,0", "0,0,0,0")
    samples = faces(6)
    votes = learn(table, samples)
    assert votes.samples == [samples[0], samples[4], samples[5]]
    assert targets_of(votes) == [pytest.approx([0.9, 0.1]), [1, 0], [1, 0]]
    assert votes.lines[0].endswith(
        "left out: 2 whose majority is NF, 1 whose majority is unknown; "
        "with their label: 1 whose majority is another class, 1 without votes"
    )


def test_a_majority_that_the_training_does_not_have_is_left_out(tmp_path):
    table = counted(tmp_path, "9,1,0", "0,1,9", columns="happy,sad,contempt")
    votes = learn(table, faces(2), unknown=[Path("UNKNOWN/1.png")])
    assert len(votes.samples) == 1 and "2 whose majority is contempt" in votes.lines[0]


def test_unknown_images_are_learnt_softly(tmp_path):
    counts = (
        "9,1,0,0",
        "5,5,0,0",
        "4,1,4,0",
        "0,0,5,5",
        "0,0,9,0",
        "1,0,9,0",
        "7,3,0,0",
        "0,0,0,0",
    )
    table = counted(tmp_path, *counts)
    unknown = [Path(f"data/train/UNKNOWN/{i}.png") for i in range(1, 9)]
    votes = learn(table, faces(1), unknown=unknown)
    assert targets_of(votes) == [
        pytest.approx([0.9, 0.1]), [0.5, 0.5], pytest.approx([0.8, 0.2]), pytest.approx([0.7, 0.3]),
    ]  # fmt: skip
    assert votes.samples == [*faces(1), *(Sample(unknown[i], 0) for i in (0, 1, 5))]
    assert votes.lines[0].startswith(f"{table}: 4 of 9 images")
    assert votes.lines[0].endswith(
        "left out: 2 whose majority is unknown, 2 of UNKNOWN without votes, "
        "1 whose majority is NF or unknown"
    )


def test_an_unknown_image_has_the_label_of_its_strongest_class(tmp_path):
    table = counted(tmp_path, "2,3,2,0", "1,0,0,0")
    votes = learn(table, [], unknown=[Path("UNKNOWN/0.png")])
    assert votes.samples == [Sample(Path("UNKNOWN/0.png"), 1)]


def test_a_table_of_shares_is_refused(tmp_path):
    path = tmp_path / "v.csv"
    path.write_text("file,happy,sad\n0.png,0.7,0.3\n1.png,0.6,0.4\n2.png,1.0,0.0\n")
    with pytest.raises(StageError, match=r"2 rows are invalid, .* holds no counts of votes"):
        learn(path, faces(3))


def test_invalid_rows_are_said_and_do_not_hide_later_ones(tmp_path):
    path = tmp_path / "v.csv"
    path.write_text(
        "file,happy,sad\n0.png,x,0\n0.png,3,1\n0.png,4,0\n0.png,3,1\n1.png,-1,0\n2.png,1,1\n"
    )
    votes = learn(path, faces(3))
    assert targets_of(votes) == [[0.75, 0.25], [1, 0], [0.5, 0.5]]
    assert votes.lines[1] == (
        "2 rows are invalid, the first in v.csv line 2: 'x' in the column happy is no whole number "
        "of votes"
    )
    assert votes.lines[2] == (
        "1 rows repeat a name with other votes: the first row counts, not v.csv line 4"
    )


@pytest.mark.parametrize(
    "names", ["happy/0.png sad/0.png", r"C:\x\happy\0.png C:\x\sad\0.png", "a/happy/0 a/sad/0"]
)
def test_a_path_means_the_image_in_its_folder(tmp_path, names):
    path = tmp_path / "v.csv"
    lines = [f"{name},{votes}" for name, votes in zip(names.split(), ("3,1", "1,3"), strict=True)]
    path.write_text("\n".join(["path,happy,sad", "raw/0.png,1,3", *lines]))
    samples = [*faces(1), *faces(1, label=1), Sample(Path("data/train/other/0.png"), 1)]
    votes = learn(path, samples)
    assert targets_of(votes) == [[0.75, 0.25], [0.25, 0.75], [0, 1]]


def test_a_path_of_another_folder_means_the_only_image_of_its_name(tmp_path):
    path = tmp_path / "v.csv"
    path.write_text("path,happy,sad\nraw/0.png,3,1\n")
    assert targets_of(learn(path, faces(1))) == [[0.75, 0.25]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x.png,1,0\n", r"0 of 2 images have votes: .*v\.csv has no row for any of them; it begins "
         r"with 'x\.png', the images with '0\.png'"),
        ("", r"0 of 2 images have votes: .*v\.csv has no row for any of them$"),
        ("0.png,x,0\n", r"0 of 2 images have votes: v\.csv line 2: 'x' in the column happy"),
        ("0.png,0,5\n", r"no image is learnt by its votes in .*v\.csv: with their label: 1 whose"),
    ],
)  # fmt: skip
def test_a_table_without_votes_for_the_images_is_refused(tmp_path, text, message):
    (tmp_path / "v.csv").write_text("file,happy,sad\n" + text)
    with pytest.raises(StageError, match=message):
        learn(tmp_path / "v.csv", faces(2))


# --- which kind a file is


def test_open_votes_tells_the_kind_from_the_content(tmp_path):
    for has_header in (True, False):
        table = write_table(tmp_path / "t.csv", [row(name_of("기쁨"))], header=has_header)
        assert isinstance(open_votes(table, TWO), AnnotatorVotes)
    for delimiter in ",\t":
        path = tmp_path / "v.tsv"
        path.write_text(FER_PLUS.replace(",", delimiter))
        assert isinstance(open_votes(path, TWO), VotesTable)
    with pytest.raises(StageError, match="no such file"):
        open_votes(tmp_path / "none.csv", TWO)


def test_votes_in_label_files_of_ai_hub(tmp_path):
    record = {"filename": name_of("기쁨"), "annot_A": {"faceExp": "기쁨"}}
    record |= {"annot_B": {"faceExp": "중립"}, "annot_C": {"faceExp": "기쁨"}}
    text = json.dumps([record, record | {"filename": name_of("기쁨", 1), "annot_B": None}])
    (tmp_path / "hub/Training").mkdir(parents=True)
    (tmp_path / "hub/Training/labels.json").write_text(text)
    samples = [Sample(Path("기쁨") / name_of("기쁨", i), 0) for i in range(3)]
    for path in ("hub", "hub/Training/labels.json"):
        votes = learn(tmp_path / path, samples, classes=["기쁨", "중립"])
        assert targets_of(votes, ["기쁨", "중립"])[0] == pytest.approx([2 / 3, 1 / 3])
        assert votes.lines[0].startswith(f"{tmp_path / path}: 1 of 3 images")
        assert votes.lines[1].startswith("1 rows are invalid, the first in labels.json record 2: ")
    (tmp_path / "hub/Training/cut.json").write_text(text[:-20])
    votes = learn(tmp_path / "hub", samples, classes=["기쁨", "중립"])
    assert any("cut.json" in line for line in votes.lines)
