"""The sets of a data folder, and the stage that makes those that are missing."""

from __future__ import annotations

from pathlib import Path

import pytest

from utils.data.sets import find_set, find_train_and_validation, name_set
from utils.errors import StageError


@pytest.fixture(autouse=True)
def _working_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def fill(*paths: str) -> None:
    for path in map(Path, paths):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


@pytest.mark.parametrize(
    ("folder", "split"),
    [
        ("train", "train"), ("Training", "train"), ("validation", "validation"),
        ("val", "validation"), ("VALID", "validation"), ("dev", "validation"), ("Test", "test"),
        ("testing", "test"), ("trains", None), ("기쁨", None), ("", None),
    ],
)  # fmt: skip
def test_name_set(folder, split):
    assert name_set(folder) == split


def test_find_set_prefers_its_own_name():
    assert find_set(Path("data"), "train") is None
    fill("data/Training/기쁨/a.png", "data/val/기쁨/a.png", "data/note.txt", "data/test")
    assert find_set(Path("data"), "train") == Path("data/Training")
    assert find_set(Path("data"), "validation") == Path("data/val")
    assert find_set(Path("data"), "test") is None  # a file
    fill("data/validation/기쁨/a.png", "data/valid/기쁨/a.png")
    assert find_set(Path("data"), "validation") == Path("data/validation")


def test_find_set_refuses_to_choose():
    fill("data/val/a/a.png", "data/dev/a/a.png")
    with pytest.raises(StageError, match="data has the folders dev and val: rename the one to use"):
        find_set(Path("data"), "validation")


def test_both_sets_are_found_and_announced(capsys):
    fill("data/train/기쁨/a.png", "data/val/기쁨/a.png")
    found = find_train_and_validation(Path("data"))
    assert found == (Path("data/train"), Path("data/val"))
    assert capsys.readouterr().err == "note: data/val is the validation set\n"
    fill("data/train/info.json", "data/info.zip")  # beside class folders
    assert find_train_and_validation(Path("data")) == found


@pytest.mark.parametrize(
    ("files", "root", "message"),
    [
        ("", "data", "data: no such folder; python dataPreparation.py makes one with the sets"),
        (
            "crop/기쁨/a.jpg crop/분노/a.jpg crop/슬픔/a.jpg crop/중립/a.jpg crop/UNKNOWN/a.jpg",
            "crop",
            "crop holds classes (기쁨 분노 슬픔 …), not the sets train and validation; stage 3 is "
            "missing: python dataPreparation.py --input crop",
        ),
        ("my faces/a/x/1.png", "my faces", 'holds classes (a), not the sets train and validation; '
         'stage 3 is missing: python dataPreparation.py --input "my faces"'),
        ("original/기쁨/a.jpg", "original", "original holds photos; stages 2 and 3 are missing: "
         "python cropImages.py, then python dataPreparation.py"),
        ("d/train/a/1.png d/test/a/1.png", "d", "d has no validation set; python "
         "dataPreparation.py --input d --output DIR takes one out of train"),
        ("d/val/a/1.png", "d", "d has no train set"),
        ("d/train/a/1.png", "d/train", "d/train is a set, not the folder that holds the sets: "
         "--data_path d"),
        ("hub/Training/x.zip", "hub/Training", "holds archives or label files, as AI-Hub"),
        ("hub/Training/[라벨]x.zip", "hub", "python cropImages.py --input hub, then python data"),
        ("hub/Training/[라벨]x.zip hub/Validation/y.zip", "hub", "cropImages.py --input hub, then"),
        ("hub/Training/EMOIMG_기쁨_TRAIN_01/1.jpg hub/Validation/EMOIMG_기쁨_VALID/1.jpg", "hub",
         "cropImages.py --input hub, then"),
        ("hub/01.데이터/1.Training/원천데이터/x.zip", "hub", "cropImages.py --input hub"),
        ("hub/a.json", "hub", "stages 2 and 3 are missing: python cropImages.py --input hub"),
        ("a.zip", "a.zip", "if it is AI-Hub's: python cropImages.py --input ., then python data"),
        ("fer2013.csv", "fer2013.csv", "if it is FER2013's csv: python dataPreparation.py --input "
         "fer2013.csv"),
        ("k/fer2013.csv", "k", "if fer2013.csv is FER2013's: python dataPreparation.py --input "
         "k/fer2013.csv"),
        ("m/emotions.tsv", "m/emotions.tsv", "python downloadImage.py --input m/emotions.tsv"),
        ("a.bin", "a.bin", "a.bin is a file; --data_path is the folder"),
        ("d/1.png", "d", "d holds images in no class folder: put them into a folder for each"),
        ("d/x.txt", "d", "d holds no train set, and nothing to make one of"),
        ("d/a/x.txt d/.hidden/1.png", "d", "nothing to make one of"),
    ],
)  # fmt: skip
def test_a_folder_without_the_sets_names_the_stage_that_is_missing(files, root, message):
    fill(*(["my faces/a/x/1.png"] if "my faces" in files else files.split()))
    with pytest.raises(StageError) as raised:
        find_train_and_validation(Path(root))
    assert message in str(raised.value) and "\n" not in str(raised.value)
