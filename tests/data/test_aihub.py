"""AI-Hub's label files: every encoding and form, broken ones, and their rows."""

from __future__ import annotations

import json

import pytest

from tests.aihub import photo_name, record, write_labels, write_zip
from utils.data.aihub import LabelFile, LabelFiles, is_label_file, make_row
from utils.data.annotations import RowError
from utils.data.archives import ArchivedFile, list_entries, open_archive
from utils.data.boxes import consensus
from utils.emotions import NO_VOTE, majority_vote

NAME = photo_name("당황", 1)


def rows_of(path, part=""):
    files = LabelFiles(path, [LabelFile(path, path.name, part)])
    return list(files), files.problems


@pytest.mark.parametrize("encoding", ["ascii", "utf-8", "utf-8-sig", "cp949"])
def test_label_file_in_every_encoding(tmp_path, encoding):
    records = [record(photo_name("당황", i), "당황 기쁨 당황") for i in range(200)]
    path = write_labels(tmp_path / "x.json", records, encoding, zipped=False)
    assert is_label_file(path.read_bytes())
    rows, problems = rows_of(path, "Training")
    assert not problems and [row["name"] for row in rows] == [r["filename"] for r in records]
    assert {row.part() for row in rows} == {"Training"} and rows[7].line == 8
    assert rows[0].answers() == ["당황", "기쁨", "당황"]
    assert consensus(rows[0].boxes()) == (10.5, 8.5, 60.5, 58.5)
    assert LabelFiles(path, [LabelFile(path, "x", "")]).count() == 200


def test_first_hangul_far_into_the_file_tells_the_encoding(tmp_path):
    records = [record(f"{i}.jpg", "a a a") for i in range(300)] + [record(NAME)]
    for encoding in ("utf-8", "cp949"):
        path = write_labels(tmp_path / "x.json", records, encoding, zipped=False)
        assert rows_of(path)[0][-1]["name"] == NAME


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"{}",
        b'{"filename": "a", "annot_A": 1}',
        b'[{"filename": "a"}]',
        b"PK\3\4",
        b"[[",
    ],
)
def test_other_content_is_no_label_file(content):
    assert not is_label_file(content)


def test_forms_of_annotations():
    corners = {"minX": "10", "minY": 8, "maxX": 60, "maxY": 58}
    older = {f"faceBB_{c}": {"boxes": [corners | {"label": "슬픔"}]} for c in "ABC"}
    bare = {f"faceBB_{c}": [corners | {"label": "슬픔"}] for c in "ABC"}
    one = {f"annot_{c}": {"boxes": corners, "faceExp": "슬픔"} for c in "ABC"}
    many = {f"annot_{c}": {"boxes": [corners], "faceExp": "슬픔"} for c in "ABC"}
    for form in (older, bare, one, many):
        row = make_row({"filename": NAME} | form, 1, "")
        assert row.answers() == ["슬픔"] * 3
        assert row.boxes() == [[(10, 8, 60, 58)]] * 3


def test_unknown_is_no_vote():
    row = make_row(record(NAME, "알수없음 슬픔 슬픔"), 1, "")
    assert row.answers() == [NO_VOTE, "슬픔", "슬픔"] and majority_vote(row.answers()) == "슬픔"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"annot_A": {"boxes": None, "faceExp": "기쁨"}}, "TaskA_result has no box"),
        ({"annot_B": None}, "TaskB_emotion is empty"),
        ({"annot_C": 5}, "TaskC_emotion is empty"),
        ({"annot_C": {"boxes": {"minX": 1}, "faceExp": "기쁨"}}, "without the numbers"),
        ({"annot_C": {"boxes": [[]], "faceExp": "기쁨"}}, "without the numbers"),
        ({"filename": None}, "the name is empty"),
        ({"filename": ["a"]}, "does not end in"),
        ({"filename": "a\tb\n.jpg"}, "not safe"),
        ({"filename": "\ud800.jpg"}, "not safe"),
        ({"filename": '"a".jpg'}, "not safe"),
    ],
)
def test_row_error_of_a_record(change, reason):
    row = make_row(record(NAME) | change, 1, "")
    with pytest.raises(RowError, match=reason):
        row.photo_name(), row.answers(), row.boxes()
    line = "\t".join(row.cells)
    assert line.count("\t") == len(LabelFiles.columns) - 1 and line.isprintable() is False
    assert line.replace("\t", "").isprintable()


def test_broken_records_are_reported_and_the_others_read(tmp_path):
    texts = [json.dumps(record(photo_name("기쁨", i))) for i in range(6)]
    texts[1], texts[3] = texts[1].replace('"age": 20', '"age": 2o'), "7"
    path = tmp_path / "x.json"
    path.write_text("[" + ", ".join(texts) + "]", encoding="utf-8")
    rows, problems = rows_of(path)
    assert [row["name"] for row in rows] == [photo_name("기쁨", i) for i in (0, 2, 4, 5)]
    assert [reason.split(":")[0] for _, reason in problems] == ["record 2", "record 4"]


@pytest.mark.parametrize("bytes_lost", [1, 2, 300])
def test_cut_label_file_is_read_as_far_as_it_goes(tmp_path, bytes_lost):
    path = write_labels(tmp_path / "x.json", [record(NAME)] * 100, zipped=False)
    path.write_bytes(path.read_bytes()[:-bytes_lost])
    rows, [(_, reason)] = rows_of(path)
    assert len(rows) == (100 if bytes_lost == 1 else 99)
    assert ("cut short" if bytes_lost == 1 else "broken JSON") in reason


def test_hostile_json_ends(tmp_path):
    path = tmp_path / "x.json"
    for content in (
        "[" + "{" * 10,
        "[" + "[" * 100_000,
        '[{"a": ' + "9" * 10_000 + "}]",
        "[" + " " * 99,
    ):
        path.write_text(content, encoding="utf-8")
        rows, problems = rows_of(path)
        assert not rows and len(problems) == 1


def test_label_files_say_where_a_row_stands(tmp_path):
    files = []
    for name in ("a.zip", "b.zip"):
        path = write_labels(tmp_path / name, [record(NAME)] * 3)
        with open_archive((str(path),)) as file:
            [entry] = list_entries(file, print)
        files.append(LabelFile(ArchivedFile((str(path),), entry), f"{name}.json", ""))
    labels = LabelFiles(tmp_path, files)
    places = [labels.where(row) for row in labels]
    assert places[2:4] == ["a.zip.json record 3", "b.zip.json record 1"]
    assert labels.count() == 6


def test_damaged_label_archive_is_read_up_to_the_damage(tmp_path):
    records = [record(photo_name("기쁨", i % 900)) for i in range(3000)]
    content = json.dumps(records).encode()
    path = write_zip(tmp_path / "x.zip", [("x.json", content)])
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1  # the checksum does not fit any more
    path.write_bytes(data)
    with open_archive((str(path),)) as file:
        [entry] = list_entries(file, print)
    labels = LabelFiles(path, [LabelFile(ArchivedFile((str(path),), entry), "x.json", "")])
    assert len(list(labels)) > 2900 and "checksum" in labels.problems[-1][1]
