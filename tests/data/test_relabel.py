"""Decisions about labels: what becomes of the photos, and which rows cannot be applied."""

from __future__ import annotations

from pathlib import Path

import pytest

from utils.data.relabel import Decision, read_decisions, relabel
from utils.data.split import SplitItem
from utils.errors import StageError

LIST = Path("relabel.tsv")
PHOTOS = [
    SplitItem("기쁨", "1.png", split="train"),
    SplitItem("기쁨", "2.png", split="test"),
    SplitItem("슬픔", "1.png", split="train"),
    SplitItem("슬픔", "3.png", split="validation"),
    SplitItem("중립", "4.png", split="train", own_name="x_4.png"),
]


def rows(*texts: str, path: Path = LIST) -> list[Decision]:
    """Rows such as `기쁨/1.png drop` and `기쁨/1.png move 슬픔`, from line 2 on."""
    made = []
    for line, text in enumerate(texts, 2):
        place, decision, new = [*text.split(" "), ""][:3]
        split, label, file = (
            ["", *place.split("/", 1)] if place.count("/") < 2 else place.split("/", 2)
        )
        made.append(Decision(path, line, split, label, file, decision, new))
    return made


def places(photos: list[SplitItem]) -> list[str]:
    return [f"{photo.split}/{photo.label}/{photo.name}" for photo in photos]


def test_relabel_moves_drops_and_keeps():
    result = relabel(PHOTOS, [rows("기쁨/2.png move 중립", "슬픔/3.png drop", "슬픔/1.png keep")])
    assert places(result.photos) == [
        "train/기쁨/1.png", "test/중립/2.png", "train/슬픔/1.png", "train/중립/4.png",
    ]  # fmt: skip
    assert result.positions == [0, 1, 2, 4] and result.failures == []
    assert [photo.was for photo in result.photos] == ["", "기쁨", "", ""]
    assert result.describe() == (
        "1 photos are moved to another class, 1 are left out, 1 keep theirs"
    )


def test_a_moved_photo_gets_a_number_if_its_name_is_taken():
    # Not even the name of a photo that leaves the class is taken: no path changes its meaning.
    result = relabel(
        PHOTOS, [rows("기쁨/1.png move 슬픔", "슬픔/1.png move 기쁨", "중립/4.png move 기쁨")]
    )
    assert places(result.photos)[0] == "train/슬픔/1-2.png"
    assert places(result.photos)[2] == "train/기쁨/1-2.png"
    assert [result.photos[i].own_name for i in (0, 2, 4)] == ["1.png", "1.png", "x_4.png"]


def test_a_later_list_is_about_the_new_class():
    first = rows("기쁨/1.png move 슬픔")
    for text, expected, counts in (
        ("슬픔/1-2.png move 중립", "train/중립/1-2.png", "1 photos are moved"),
        ("슬픔/1-2.png move 기쁨", "train/기쁨/1.png", "0 photos are moved"),  # back again
        ("슬픔/1-2.png keep", "train/슬픔/1-2.png", "1 photos are moved"),
        ("기쁨/1.png move 슬픔", "train/슬픔/1-2.png", "1 photos are moved"),  # the same once more
    ):
        result = relabel(PHOTOS, [first, rows(text)])
        assert places(result.photos)[0] == expected and result.failures == [], text
        assert result.describe().startswith(counts)
    assert len(relabel(PHOTOS, [first, rows("슬픔/1-2.png drop")]).photos) == 4


@pytest.mark.parametrize("first", ["기쁨/1.png move 슬픔", "기쁨/1.png drop"])
def test_a_later_list_contradicts_an_earlier_one(first):
    done = "moved it to 슬픔" if "move" in first else "left it out"
    result = relabel(PHOTOS, [rows(first), rows("기쁨/1.png move 중립", path=Path("b.tsv"))])
    reason = f"line 2: 기쁨/1.png: contradicts an earlier list, which has {done}; not applied"
    assert result.failures == [(Path("b.tsv"), reason)]
    assert places(result.photos) == places(relabel(PHOTOS, [rows(first)]).photos)


def test_rows_that_contradict_each_other_are_not_applied():
    result = relabel(
        PHOTOS, [rows("기쁨/1.png drop", "기쁨/1.png keep", "기쁨/2.png drop", "기쁨/2.png drop")]
    )
    reason = "line 2: 기쁨/1.png: the lines 2 and 3 contradict each other; none is applied"
    assert result.failures == [(LIST, reason)]
    assert places(result.photos)[0] == "train/기쁨/1.png" and len(result.photos) == 4


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("기쁨/9.png drop", "no such photo in the input"),
        ("슬픔/2.png drop", "no such photo in the input"),  # it is in another class
        ("놀람/1.png drop", "'놀람' is no class of the input: 기쁨 슬픔 중립"),
        ("기쁨/1.png move 놀람", "'놀람' is no class of the input"),
        ("기쁨/1.png move UNKNOWN", "UNKNOWN is no class: a photo without one is to be dropped"),
        ("기쁨/1.png move", "'' is no class of the input"),
        ("기쁨/1.png maybe", "'maybe' is no decision; they are keep, move, drop"),
        ("UNKNOWN/1.png drop", "no such photo; photos of UNKNOWN need --unknown keep"),
    ],
)
def test_a_row_that_cannot_be_applied_is_a_failure(text, reason):
    result = relabel(PHOTOS, [rows(text)])
    assert places(result.photos) == places(PHOTOS)
    [(path, failure)] = result.failures
    assert path == LIST and failure.startswith("line 2: ") and reason in failure
    assert sum(result.counts.values()) == 0


def test_classes_may_have_other_names_and_files_may_lie_deeper():
    photos = [*PHOTOS, SplitItem("기쁨", "sub_7.png", split="train", own_name="7.png")]
    result = relabel(photos, [rows("happy/1.png move sad", "train/기쁨/sub/7.png drop")])
    assert places(result.photos)[0] == "train/슬픔/1-2.png" and result.failures == []
    assert len(result.photos) == 5


def test_the_set_tells_photos_of_one_name_apart():
    photos = [SplitItem(a, "1.png", split=s) for a in ("기쁨", "슬픔") for s in ("train", "test")]
    result = relabel(photos, [rows("val/기쁨/1.png drop", "기쁨/1.png drop")])
    assert [f.split(": ")[2] for _, f in result.failures] == 2 * [
        "it is in several sets, and the column set names none of them"
    ]
    result = relabel(photos, [rows("test/기쁨/1.png move 슬픔")])
    assert places(result.photos)[1] == "test/슬픔/1-2.png"
    photos = [p._replace(split="validation") if p.split == "test" else p for p in photos]
    assert places(relabel(photos, [rows("Valid/기쁨/1.png drop")]).photos)[1] == "train/슬픔/1.png"
    # Of a photo that is in one set only, another set is no matter: --seed may have moved it.
    assert relabel(PHOTOS, [rows("test/기쁨/1.png drop")]).failures == []


def test_read_decisions_takes_what_excel_makes_of_a_list(tmp_path):
    header = "set\tclass\tfile\tdecision\tnew class\n"
    row = "train\t기쁨\ta b.png\tMove\t중립 \n"
    for name, data in (
        ("utf8", (header + row).encode()),
        ("bom", (header + row).encode("utf-8-sig")),
        ("utf16", (header + row).encode("utf-16")),
        ("cp949", (header + row).encode("cp949")),
        ("csv", (header + row).replace("\t", ",").replace("\n", "\r\n").encode()),
        ("short", b"Class,File,Decision,New_Class\n" + "기쁨,a b.png,move,중립\n".encode()),
    ):
        path = tmp_path / f"{name}.tsv"
        path.write_bytes(data)
        [[decision]] = read_decisions([path])
        assert decision == Decision(
            path, 2, "" if name == "short" else "train", "기쁨", "a b.png", "move", "중립"
        ), name


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"class\tfile\n", "is no list of decisions: it has no column decision and new class"),
        (b"", "is no list of decisions: its first line"),
        (b"\0\1", "is a binary file"),
        (None, "no such file"),
    ],
)
def test_read_decisions_refuses_another_file(tmp_path, content, problem):
    path = tmp_path / "x.tsv"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(StageError, match=problem):
        read_decisions([path])
