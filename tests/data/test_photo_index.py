"""The index of photos: names in every encoding, and what is found where names differ."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

import pytest

from tests.aihub import photo_name, write_zip
from utils.data.archives import ArchivedFile, list_entries, open_archive
from utils.data.photo_index import AmbiguousNameError, PhotoIndex, upload_of

NAME = photo_name("당황", 1)  # its place has & and parentheses


def index_of(*archives: Path, folders: tuple[Path, ...] = ()) -> PhotoIndex:
    index = PhotoIndex()
    for path in archives:
        number = index.add_archive((str(path),))
        with open_archive((str(path),)) as file:
            for entry in list_entries(file, print):
                index.add_entry(number, entry)
    for folder in folders:
        for path in folder.iterdir():
            index.add_file(os.fsencode(path))
    return index


def nfd(text: str) -> str:
    return unicodedata.normalize("NFD", text)


@pytest.mark.parametrize(
    "stored",
    [
        NAME.encode("cp949"),
        NAME.encode(),
        nfd(NAME).encode(),
        f"EMOIMG/2021/{NAME}".encode("cp949"),
        NAME.replace("&", "_").encode("cp949"),
        NAME.replace(".jpg", ".JPG").encode("cp949"),
        NAME.replace(".jpg", ".jpeg").encode(),
        NAME.encode("cp949").decode("cp437").encode(),  # as unzip garbles it
        NAME.encode("ascii", "replace").replace(b"?", b"_"),
    ],
)
def test_photo_is_found_under_every_form_of_its_name(tmp_path, stored):
    path = write_zip(tmp_path / "x.zip", [(stored, b"photo"), (photo_name("당황", 4), b"other")])
    found = index_of(path).find(NAME)
    assert isinstance(found, ArchivedFile) and found.read(99) == b"photo"
    folder = tmp_path / "unpacked"
    folder.mkdir()
    (folder / os.fsdecode(stored.rpartition(b"/")[2])).write_bytes(b"photo")
    found = index_of(folders=(folder,)).find(NAME)
    assert isinstance(found, Path) and found.read_bytes() == b"photo"


def test_other_photos_are_not_taken(tmp_path):
    other_emotion = NAME.replace("당황", "슬픔")
    other_time = NAME.replace("20210102", "20210103")
    other_subject = "f" + NAME[1:]
    names = (other_emotion, other_time, other_subject)
    path = write_zip(tmp_path / "x.zip", [(name, b"x") for name in names])
    assert index_of(path).find(NAME) is None
    assert PhotoIndex().find(NAME) is None


def test_ambiguous_ascii_parts_find_nothing(tmp_path):
    forms = [NAME.replace("&", "_"), NAME.replace("&", "-")]
    same = write_zip(tmp_path / "a.zip", [(name, b"x") for name in forms])
    assert index_of(same).find(NAME)
    differ = write_zip(tmp_path / "b.zip", [(name, name.encode()) for name in forms])
    assert index_of(differ).find(NAME) is None
    exact = write_zip(tmp_path / "c.zip", [(name, name.encode()) for name in [*forms, NAME]])
    found = index_of(exact).find(NAME)
    assert isinstance(found, ArchivedFile) and found.read(999) == NAME.encode()


def test_same_name_twice_is_one_photo_if_the_content_is_the_same(tmp_path):
    one = write_zip(tmp_path / "1.zip", [(NAME, b"photo")])
    two = write_zip(tmp_path / "2.zip", [(NAME, b"photo")], "utf-8", method=8)
    folder = tmp_path / "unpacked"
    folder.mkdir()
    (folder / NAME).write_bytes(b"photo")
    assert index_of(one, two, folders=(folder,)).find(NAME)
    other = write_zip(tmp_path / "3.zip", [(NAME, b"other")])
    with pytest.raises(
        AmbiguousNameError, match=r"two photos have this name: .*1\.zip and .*3\.zip"
    ):
        index_of(one, two, other).find(NAME)
    with pytest.raises(AmbiguousNameError):
        index_of(other, folders=(folder,)).find(NAME)


def test_photos_that_no_search_has_met_are_counted(tmp_path):
    sad = [photo_name("슬픔", number) for number in (1, 2)]
    names = [NAME, photo_name("당황", 4).replace("&", "_"), *sad]
    index = index_of(
        write_zip(tmp_path / "1.zip", [(name, b"x") for name in names]),
        write_zip(tmp_path / "2.zip", [(NAME, b"other")]),
    )
    assert index.unmet == 5
    with pytest.raises(AmbiguousNameError):
        index.find(NAME)  # both have a row
    assert index.unmet == 3
    assert index.find_any(photo_name("당황", 4)) and not index.find_any(photo_name("당황", 5))
    assert index.unmet == 2


def test_what_tells_an_upload():
    assert upload_of(NAME.encode("cp949")) == upload_of(nfd(NAME).encode()) != b""
    for name in (
        "a.jpg",
        "subject_여_20_기쁨_실내_20200101000000-000-001.jpg",
        "0" * 64 + "_x.jpg",
    ):
        assert upload_of(name.encode()) == b""
