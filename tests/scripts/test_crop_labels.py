"""cropImages.py --labels, run as a user runs it."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from tests.aihub import photo_name, record, write_labels, write_zip
from tests.helpers import jpeg, name_of, one_line_error, row, run, write_table
from utils.data.annotators import Labels, SavedAnnotators
from utils.emotions import EMOTIONS, NO_VOTE, UNKNOWN, majority_vote

pytestmark = pytest.mark.slow

ROWS, PHOTOS = 1100, 60  # so many rows, of which the first have a photo
FLAGS = ("--labels", "dawid_skene")


def answers_of(rows: int) -> list[tuple[str, ...]]:
    """What three annotators saw, of whom the first is right far more often than the others."""
    generator = np.random.default_rng(0)
    truth = generator.integers(0, 7, rows)
    columns = []
    for accuracy in (0.97, 0.6, 0.6):
        wrong = (truth + generator.integers(1, 7, rows)) % 7
        columns.append(np.where(generator.random(rows) < accuracy, truth, wrong))
    return [tuple(EMOTIONS[i] for i in votes) for votes in zip(*columns, strict=True)]


ANSWERS = answers_of(ROWS)


def faces_in(crops: Path) -> dict[str, str]:
    """The faces in a folder of crops, as name → class."""
    return {path.name: path.parent.name for path in crops.glob("*/*.jpg")}


def expected_labels(crops: Path) -> dict[str, str]:
    """The labels of the photos by the annotators' file, the first rows' names."""
    labels = Labels(SavedAnnotators.load(crops).annotators)
    return {name_of("기쁨", i): labels.of(ANSWERS[i]) for i in range(PHOTOS)}


BY_MAJORITY = {name_of("기쁨", i): majority_vote(ANSWERS[i]) for i in range(PHOTOS)}


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    """A folder with the table, and the photos of its first rows."""
    folder = tmp_path_factory.mktemp("photos")
    rows = [row(name_of("기쁨", i), seen=" ".join(seen)) for i, seen in enumerate(ANSWERS)]
    write_table(folder / "t.tsv", rows)
    write_table(folder / "small.tsv", rows[:PHOTOS])
    (folder / "original/기쁨").mkdir(parents=True)
    for i in range(PHOTOS):
        (folder / "original/기쁨" / name_of("기쁨", i)).write_bytes(jpeg())
    return folder


def test_labels_by_dawid_and_skene(photos):
    crops = photos / "crop"
    table = ("--input", "t.tsv")
    first = run("cropImages.py", "--input", "small.tsv", cwd=photos)
    assert "dawid_skene" not in first.stdout and first.returncode == 0
    assert faces_in(crops) == BY_MAJORITY
    times = {path.name: path.stat().st_mtime_ns for path in crops.glob("*/*.jpg")}

    done = run("cropImages.py", *table, *FLAGS, cwd=photos)
    first, second, *_ = done.stdout.splitlines()
    by_model = Labels(SavedAnnotators.load(crops).annotators)
    patterns = Counter(ANSWERS)
    differ = sum(n for seen, n in patterns.items() if by_model.of(seen) != majority_vote(seen))
    unknown = {seen: n for seen, n in patterns.items() if majority_vote(seen) == UNKNOWN}
    named = sum(n for seen, n in unknown.items() if by_model.of(seen) != UNKNOWN)
    assert f"{differ:,} of 1,100 labels differ from the majority's" in first
    assert f"{named:,} of {sum(unknown.values()):,} UNKNOWN get one" in first
    assert 20 < named <= differ
    assert by_model.annotators.describe() in second and by_model.annotators.accuracies[0] > 0.85
    labels = expected_labels(crops)
    moved = sum(labels[name] != BY_MAJORITY[name] for name in labels)
    assert faces_in(crops) == labels and moved > 0
    # The faces are those cropped before, without a second decode of their photos.
    assert times == {path.name: path.stat().st_mtime_ns for path in crops.glob("*/*.jpg")}
    assert f"0 cropped, {PHOTOS} already there" in done.stdout
    assert f"{moved} faces were moved" in done.stdout

    part = run("cropImages.py", *table, *FLAGS, "--shard", "1/2", cwd=photos)
    assert "of 1,100 labels differ" in part.stdout and "moved" not in part.stdout
    assert "a run without --shard, once all parts are done, writes crop/index.html" in part.stdout
    assert faces_in(crops) == labels

    # A retry of some rows labels as the whole table did, and needs its file.
    log, failed = photos / "crop.error.log", PHOTOS + 5
    content = log.read_bytes()
    name = name_of("기쁨", failed)
    shutil.copy(photos / "original/기쁨" / name_of("기쁨", 0), photos / "original/기쁨" / name)
    retry = run("cropImages.py", "--input", log, cwd=photos)
    assert "annotators.json" in retry.stderr and "1 cropped" in retry.stdout
    assert faces_in(crops)[name] == by_model.of(ANSWERS[failed])
    elsewhere = ("--output", "elsewhere")
    refused = run("cropImages.py", "--input", log, *FLAGS, *elsewhere, cwd=photos)
    one_line_error(refused, "crop.error.log holds some of the rows", "whole table")
    log.write_bytes(content)
    (photos / "original/기쁨" / name).unlink()

    few = run("cropImages.py", "--input", "small.tsv", *FLAGS, cwd=photos)
    assert "60 rows are few" in few.stderr and "were labelled from 1,100 rows" in few.stderr

    # By the majority they go back, without their photos.
    (photos / "original").rename(photos / "away")
    (photos / "original").mkdir()
    back = run("cropImages.py", "--input", "small.tsv", cwd=photos)
    assert "was labelled by dawid_skene" in back.stderr and back.returncode == 0
    assert faces_in(crops) == BY_MAJORITY | {name: faces_in(crops)[name]}
    assert json.loads((crops / "annotators.json").read_text("utf-8"))["labels"] == "majority"
    shutil.rmtree(photos / "original")
    (photos / "away").rename(photos / "original")


def test_labels_of_partial_downloads(tmp_path):
    names = [photo_name("기쁨", i) for i in range(ROWS)]
    records = [record(name, " ".join(seen)) for name, seen in zip(names, ANSWERS, strict=True)]
    records[0]["annot_C"]["faceExp"] = NO_VOTE
    write_labels(tmp_path / "AI-Hub/Training/[라벨]EMOIMG_기쁨_TRAIN.zip", records)
    archive = tmp_path / "AI-Hub/Training/[원천]EMOIMG_기쁨_TRAIN_01.zip"
    write_zip(archive, [(name, jpeg()) for name in names[:PHOTOS]])
    done = run("cropImages.py", "--input", "AI-Hub", *FLAGS, cwd=tmp_path)
    assert done.returncode == 0 and "of 1,100 labels differ" in done.stdout
    assert f"{ROWS - PHOTOS:,} of 1,100 records have no photo" in done.stdout
    labels = Labels(SavedAnnotators.load(tmp_path / "crop").annotators)
    seen = [(*ANSWERS[0][:2], NO_VOTE), *ANSWERS[1:PHOTOS]]
    expected = {name: labels.of(a) for name, a in zip(names, seen, strict=False)}
    assert faces_in(tmp_path / "crop") == expected

    # The archive may be deleted: its faces are moved all the same.
    archive.unlink()
    write_zip(archive, [(names[PHOTOS], jpeg())])
    done = run("cropImages.py", "--input", "AI-Hub", cwd=tmp_path)
    assert f"1 cropped, {PHOTOS} already there" in done.stdout
    by_majority = {name: majority_vote(a) for name, a in zip(names, seen, strict=False)}
    by_majority[names[PHOTOS]] = majority_vote(ANSWERS[PHOTOS])
    assert faces_in(tmp_path / "crop") == by_majority


def test_a_table_of_votes_has_no_annotators(tmp_path):
    (tmp_path / "votes.csv").write_text("file,기쁨,슬픔\na.jpg,7,3\n", encoding="utf-8")
    done = run("cropImages.py", "--input", "votes.csv", *FLAGS, cwd=tmp_path)
    one_line_error(done, "votes.csv", "who gave which vote")
