"""FER2013's csv and FER+'s votes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from utils.data.fer2013 import FerFaces, FerPlus, FerTable
from utils.errors import StageError

VOTES = "neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF"
FACES = np.random.default_rng(0).integers(0, 256, (9, 48, 48), dtype=np.uint8)
GOOD = " ".join(map(str, FACES[0].ravel()))


def row(number: int, emotion: object, usage: str = "Training") -> str:
    return f"{emotion},{' '.join(map(str, FACES[number].ravel()))},{usage}"


def write(path: Path, *lines: str, header: str = "emotion,pixels,Usage") -> Path:
    path.write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    return path


def placed(faces: FerFaces, output: Path) -> dict[str, np.ndarray]:
    faces.photos = [photo._replace(split=photo.part or "train") for photo in faces.photos]
    assert faces.place(output) == []
    return {
        path.relative_to(output).as_posix(): np.asarray(Image.open(path))
        for path in output.rglob("*.png")
    }


def test_faces_come_out_pixel_for_pixel(tmp_path):
    usages = ("Training", "PublicTest", "PrivateTest")
    path = write(tmp_path / "fer.csv", *(row(i, i % 7, usages[i % 3]) for i in range(9)))
    found = placed(FerFaces(path), tmp_path / "data")
    classes = ("분노", "혐오", "공포", "기쁨", "슬픔", "놀람", "중립")
    splits = ("train", "validation", "test")
    assert set(found) == {f"{splits[i % 3]}/{classes[i % 7]}/fer{i:07}.png" for i in range(9)}
    for name, pixels in found.items():
        assert (pixels == FACES[int(name[-11:-4])]).all()


def test_other_forms_of_the_csv(tmp_path):
    lines = [f"3, PublicTest,{GOOD}", f'0, Training,"{GOOD}"', "", f"happy, Training,{GOOD}"]
    path = write(tmp_path / "icml_face_data.csv", *lines, header="\ufeffemotion, Usage, pixels")
    faces = FerFaces(path)
    assert [(p.part, p.label, p.name) for p in faces.photos] == [
        ("validation", "기쁨", "fer0000000.png"),
        ("train", "기쁨", "fer0000002.png"),
        ("train", "분노", "fer0000001.png"),
    ]
    path = write(tmp_path / "train.csv", row(0, 1).rpartition(",")[0], header="emotion,pixels")
    [photo] = FerFaces(path, ["a", "b"]).photos
    assert (photo.label, photo.part) == ("b", "")


def test_bad_rows_stop_nothing(tmp_path):
    bad = {
        f"0,{GOOD} 7,Training": "2305 pixels instead of 48×48 = 2304",
        "0,,Training": "0 pixels instead of",
        f"0,{GOOD.replace(' ', ' x', 1)},Training": "the pixel 'x",
        f"0,{'256' + GOOD[GOOD.index(' ') :]},Training": "the pixel '256' is not a whole number",
        f"0,{'-1' + GOOD[GOOD.index(' ') :]},Training": "the pixel '-1' is not a whole number",
        f"0,{'1_0' + GOOD[GOOD.index(' ') :]},Training": "the pixel '1_0' is not a whole number",
        f"7,{GOOD},Training": "the emotion '7' is no class; they are 0 to 6",
        f",{GOOD},Training": "the emotion '' is no class",
        f"0,{GOOD},Tests": "the Usage 'Tests' is none of",
        f'0,"{GOOD},Training': "the Usage '' is none of",
        "0": "the Usage '' is none of",
    }
    path = write(tmp_path / "fer.csv", row(0, 0), *bad, row(1, 1))
    faces = FerFaces(path)
    assert [photo.name for photo in faces.photos] == ["fer0000000.png", "fer0000012.png"]
    reasons = [reason for _, reason in faces.failures]
    assert len(reasons) == len(bad)
    for number, (reason, expected) in enumerate(zip(reasons, bad.values(), strict=True), 3):
        assert reason.startswith(f"line {number}: ") and expected in reason


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"pixels\n1 2 3\n", "has no column emotion: it is the challenge's test data"),
        (b"name,age\nx,3\n", "is not FER2013's csv: no column emotion and pixels"),
        (b"\0\1\2", "a binary file"),
        (b"", "is not FER2013's csv"),
        (b"emotion,pixels\n", "has no row with a face"),
        (b"emotion,pixels\n0,1 2 3\n", "for example line 2: 3 pixels"),
    ],
)
def test_other_files_are_refused(tmp_path, content, reason):
    path = tmp_path / "x.csv"
    path.write_bytes(content)
    with pytest.raises(StageError, match=reason):
        FerFaces(path)


def test_equal_faces_are_duplicates(tmp_path):
    path = write(tmp_path / "fer.csv", row(0, 0), row(1, 0), row(0, 3), row(1, 0))
    faces = FerFaces(path)
    groups = [{faces.photos[i].name[-5] for i in group} for group in faces.duplicates()]
    assert sorted(groups, key=min) == [{"0", "2"}, {"1", "3"}]
    thumbnails = faces.thumbnails(range(4), tmp_path)
    assert (thumbnails[0] == thumbnails[1]).all() != (thumbnails[0] == thumbnails[3]).all()


def test_faces_that_are_there_are_not_written_again(tmp_path):
    path = write(tmp_path / "fer.csv", row(0, 0), row(1, 0))
    placed(FerFaces(path), tmp_path / "data")
    kept, lost = sorted((tmp_path / "data").rglob("*.png"))
    stamp = kept.stat().st_mtime_ns, kept.stat().st_ino
    lost.write_bytes(b"killed here")
    found = placed(FerFaces(path), tmp_path / "data")
    assert (kept.stat().st_mtime_ns, kept.stat().st_ino) == stamp
    assert (found["train/분노/fer0000001.png"] == FACES[1]).all()


def test_ferplus_gives_classes_by_the_majority_and_leaves_out_unknown(tmp_path):
    votes = [
        "7,0,0,1,1,1,0,0,0,0",  # neutral: single votes are dropped
        "5,0,0,5,0,0,0,0,0,0",  # no more than half
        "0,6,0,0,0,0,0,3,0,1",
        "0,0,0,0,0,0,0,2,8,0",  # unknown wins
        "0,0,0,0,0,0,0,0,0,10",
        "0,0,0,0,0,0,0,9,1,0",
        "0,0,x,0,0,0,0,9,1,0",
    ]
    names = ["fer0000000.png", "fer0000001.png", "fer0000002.png", "fer0000003.png", "",
             "fer0000004.png", "fer0000005.png"]  # fmt: skip
    lines = [f"Training,{name},{cells}" for name, cells in zip(names, votes, strict=True)]
    plus = write(tmp_path / "new.csv", *lines, header=f"Usage,Image name,{VOTES}")
    path = write(tmp_path / "fer.csv", *(row(i, 3) for i in range(7)))
    faces = FerFaces(path, votes=plus)
    # By order, with the names of FER+, whose numbers are not those of the rows.
    assert [(p.label, p.name) for p in faces.photos] == [
        ("경멸", "fer0000004.png"), ("기쁨", "fer0000002.png"), ("중립", "fer0000000.png")
    ]  # fmt: skip
    assert (placed(faces, tmp_path / "data")["train/경멸/fer0000004.png"] == FACES[5]).all()
    assert faces.lines == [
        "1 rows are left out: they have no votes, as no faces",
        "2 rows are left out: no class has the majority of votes",
    ]
    assert "'x' in the column surprise" in faces.failures[-1][1]
    both = FerFaces(path, votes=plus, with_unknown=True)
    assert [photo.label for photo in both.photos].count("UNKNOWN") == 2


@pytest.mark.parametrize(
    ("names", "usages", "faces", "expected"),
    [
        ("0 1 2", "T T P", "T T P", [0, 1, 2]),
        ("0 1 2 3", "T T P P", "T T", [0, 1, None, None]),  # the challenge's train.csv
        ("0 - 1", "T T P", "T T P", [0, None, 2]),  # FER+ numbers what it keeps
        ("0 - 1 2", "T T P V", "N N", [0, None, None, None]),  # no Usage: train.csv
        ("0 - 1 2", "P T T V", "T T P", [2, None, 1, None]),
        ("- - -", "T T T", "T T T", [0, 1, 2]),
        ("2 0", "T T", "T T T", [2, 0]),  # by number
        ("- 5", "T T", "T T T", "cannot be matched"),
        ("7 8", "T T", "T T T", "has no votes on the 3 rows"),
    ],
)
def test_rows_of_votes_are_matched(tmp_path, names, usages, faces, expected):
    words = {"T": "Training", "P": "PublicTest", "V": "PrivateTest"}
    lines = [
        f"{words[usage]},{'' if name == '-' else f'fer000000{name}.png'},0,9,0,0,0,0,0,0,0,0"
        for name, usage in zip(names.split(), usages.split(), strict=True)
    ]
    plus = write(tmp_path / "new.csv", *lines, header=f"Usage,Image name,{VOTES}")
    if "N" in faces:
        rows = [row(0, 3).rpartition(",")[0] for _ in faces.split()]
        table = FerTable(write(tmp_path / "fer.csv", *rows, header="emotion,pixels"))
    else:
        rows = [row(0, 3, words[usage]) for usage in faces.split()]
        table = FerTable(write(tmp_path / "fer.csv", *rows))
    if isinstance(expected, str):
        with pytest.raises(StageError, match=expected):
            FerPlus(plus, table)
        return
    found = FerPlus(plus, table)
    labels = [found[number][0] for number in range(len(faces.split()))]
    wanted = {number for number in expected if number is not None}
    assert labels == ["기쁨" if number in wanted else None for number in range(len(labels))]
