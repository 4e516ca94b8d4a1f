"""ZIP archives: listed, read, damaged, in parts, and hostile."""

from __future__ import annotations

import io
import os
import struct
import tracemalloc
import zipfile
from contextlib import suppress
from pathlib import Path

import pytest

from tests.aihub import Stored, write_zip
from utils.data import archives
from utils.data.archives import ArchivedFile, ArchiveError, decode_name, list_entries, open_archive

CONTENT = {f"{i}_기쁨.jpg": os.urandom(3000 + i) for i in range(5)}


def listed(*paths: Path) -> tuple[dict[str, ArchivedFile], list[tuple[str, str]]]:
    """The entries of an archive by name, and those that were refused."""
    refused: list[tuple[str, str]] = []
    files = tuple(map(str, paths))
    with open_archive(files) as file:
        entries = list(list_entries(file, lambda name, reason: refused.append((name, reason))))
    return {decode_name(entry.name): ArchivedFile(files, entry) for entry in entries}, refused


def contents(*paths: Path) -> dict[str, bytes]:
    return {name: file.read(1 << 20) for name, file in listed(*paths)[0].items()}


@pytest.mark.parametrize("encoding", ["cp949", "utf-8"])
@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_entries_of_every_method_and_encoding(tmp_path, encoding, method):
    path = write_zip(tmp_path / "[x] (1).zip", CONTENT.items(), encoding, method)
    assert contents(path) == CONTENT and listed(path)[1] == []


def test_folders_and_side_files_of_macos_are_left_out(tmp_path):
    names = ("a/b/x.jpg", "a/", "__MACOSX/a/b/._x.jpg", "a/b/.DS_Store", "__MACOSX/y.jpg")
    path = write_zip(tmp_path / "x.zip", [(name, b"x") for name in names])
    assert listed(path)[0].keys() == {"a/b/x.jpg"} and listed(path)[1] == []


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("../../x.jpg", "leads out"),
        ("a/../x.jpg", "leads out"),
        ("/etc/x.jpg", "absolute"),
        ("C:/x.jpg", "absolute"),
        ("a\\x.jpg", "back-slash"),
    ],
)
def test_unsafe_names_are_refused_and_others_read(tmp_path, name, reason):
    path = write_zip(tmp_path / "x.zip", [(name, b"x"), ("a..b.jpg", b"y")])
    files, [(refused, why)] = listed(path)
    assert files.keys() == {"a..b.jpg"} and refused == name and reason in why
    truncate(path)  # then the local headers are read
    files, [_, (refused, why)] = listed(path)
    assert files.keys() == {"a..b.jpg"} and refused == name and reason in why


def truncate(path: Path, lost: int | None = None) -> None:
    """Cut an archive: its list of contents alone, or this many bytes from its end."""
    data = path.read_bytes()
    path.write_bytes(data[: data.index(b"PK\1\2")] if lost is None else data[:-lost])


def test_symbolic_link_encrypted_entry_bomb_and_odd_method_are_refused(tmp_path):
    link = write_zip(tmp_path / "l.zip", [("x.jpg", b"/etc/passwd")], mode=0o120777)
    locked = write_zip(tmp_path / "e.zip", [("x.jpg", b"x")], flags=1)
    bomb = write_zip(tmp_path / "b.zip", [("x.jpg", bytes(40 << 20))], method=zipfile.ZIP_DEFLATED)
    odd = write_zip(tmp_path / "o.zip", [("x.jpg", b"x")])
    data = odd.read_bytes()
    at = data.index(b"PK\1\2") + 10
    odd.write_bytes(data[:at] + struct.pack("<H", 9) + data[at + 2 :])
    for path, reason in (
        (link, "link"),
        (locked, "encrypted"),
        (bomb, "become"),
        (odd, "Deflate64"),
    ):
        files, [(name, why)] = listed(path)
        assert not files and name == "x.jpg" and reason in why


def test_entry_that_lies_about_its_size_is_not_read_beyond_it(tmp_path):
    path = write_zip(tmp_path / "x.zip", [("x.jpg", bytes(90 << 20))], method=zipfile.ZIP_DEFLATED)
    data = bytearray(path.read_bytes())
    at = data.index(b"PK\1\2") + 24
    data[at : at + 4] = struct.pack("<L", 100)
    path.write_bytes(data)
    [file] = listed(path)[0].values()
    tracemalloc.start()
    with pytest.raises(ArchiveError, match="checksum"):
        file.read(1 << 20)
    assert tracemalloc.get_traced_memory()[1] < 8 << 20
    tracemalloc.stop()
    with pytest.raises(ArchiveError, match="the most that is read"):
        file.read(99)


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_damaged_entry_fails_alone(tmp_path, method):
    path = write_zip(tmp_path / "x.zip", CONTENT.items(), method=method)
    data = bytearray(path.read_bytes())
    data[5000] ^= 255  # in the second entry
    data[data.index(b"PK\3\4", 7000)] = 0  # the header of the third
    path.write_bytes(data)
    reasons = []
    for name, file in listed(path)[0].items():
        try:
            assert file.read(1 << 20) == CONTENT[name]
        except ArchiveError as error:
            reasons.append(str(error))
    assert len(reasons) == 2 and all("damaged" in reason for reason in reasons)


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("stream", [False, True], ids=["sizes first", "sizes last"])
def test_archive_without_its_list_is_read_by_its_headers(tmp_path, method, stream):
    path = write_stream(tmp_path / "x.zip", method) if stream else tmp_path / "x.zip"
    if not stream:
        write_zip(path, CONTENT.items(), method=method)
    assert contents(path) == CONTENT
    truncate(path)
    assert contents(path) == CONTENT
    assert "cut short" in listed(path)[1][0][1]
    truncate(path, 1000)
    files, refused = listed(path)
    assert [name for name, file in files.items() if not file.entry.is_cut] == list(CONTENT)[:4]
    assert refused[1] == ("4_기쁨.jpg", "the archive is cut short within it")
    with pytest.raises(ArchiveError):
        files["4_기쁨.jpg"].read(1 << 20)


class Pipe(io.RawIOBase):
    """A file that cannot seek, so that sizes stand behind the data."""

    def __init__(self) -> None:
        self.data = bytearray()

    def writable(self):
        return True

    def write(self, data):
        self.data += data
        return len(data)


def write_stream(path: Path, method: int) -> Path:
    pipe = Pipe()
    with zipfile.ZipFile(pipe, "w", method) as archive:
        for name, content in CONTENT.items():
            entry = Stored(name)
            entry.raw, entry.compress_type = name.encode("cp949"), method
            archive.writestr(entry, content)
    path.write_bytes(pipe.data)
    return path


def test_hole_in_the_middle_of_a_damaged_archive(tmp_path):
    path = write_zip(tmp_path / "x.zip", CONTENT.items())
    truncate(path)
    data = path.read_bytes()
    path.write_bytes(data[:4000] + data[8000:])
    found = {}
    for name, file in listed(path)[0].items():
        try:
            found[name] = file.read(1 << 20)
        except ArchiveError:
            continue
    assert found == {name: CONTENT[name] for name in ("0_기쁨.jpg", "3_기쁨.jpg", "4_기쁨.jpg")}


def test_archive_behind_something_else_and_with_a_comment(tmp_path):
    path = write_zip(tmp_path / "x.zip", CONTENT.items())
    comment = b"made by PK\5\6" + bytes(30)
    data = path.read_bytes()[:-2] + struct.pack("<H", len(comment)) + comment
    path.write_bytes(b"#!/bin/sh\n" * 100 + data)
    assert contents(path) == CONTENT and listed(path)[1] == []


def test_zip64(tmp_path, monkeypatch):
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 1000)
    monkeypatch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 3)
    path = write_zip(tmp_path / "x.zip", CONTENT.items())
    data = path.read_bytes()
    assert b"PK\6\6" in data and b"\xff\xff\xff\xff" in data
    assert contents(path) == CONTENT and listed(path)[1] == []
    path.write_bytes(b"before" * 10 + data)
    assert contents(path) == CONTENT


@pytest.mark.parametrize("cut", [0, 30])
def test_zip64_with_numbers_beyond_any_file(tmp_path, monkeypatch, cut):
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 1000)
    path = write_zip(tmp_path / "x.zip", CONTENT.items())
    data = path.read_bytes()[: -cut or None]
    places = [i for i in range(len(data) - 12) if data[i : i + 2] == b"\1\0"]  # ZIP64 extra fields
    places += [data.find(b"PK\6\7") + 4]
    for place in places:
        for start in range(4, 28, 8):
            broken = bytearray(data)
            broken[place + start : place + start + 8] = b"\xff" * 8
            path.write_bytes(broken)
            for file in listed(path)[0].values():
                with suppress(ArchiveError):
                    file.read(1 << 20)


def test_parts_are_read_as_one_archive(tmp_path):
    data = write_zip(tmp_path / "x.zip", CONTENT.items()).read_bytes()
    parts = []
    for start in range(0, len(data), 4000):
        parts.append(tmp_path / f"x.zip.part{start}")
        parts[-1].write_bytes(data[start : start + 4000])
    assert contents(*parts) == CONTENT
    files, problems = listed(*parts[::-1])  # joined in a wrong order
    assert files and "damaged" in problems[0][1]


@pytest.mark.parametrize("count", range(40))
def test_random_damage_raises_nothing_else(tmp_path, count):
    import random

    generator = random.Random(count)
    data = bytearray(write_zip(tmp_path / "x.zip", CONTENT.items()).read_bytes())
    for _ in range(generator.choice((1, 5, 50))):
        data[generator.randrange(len(data))] = generator.randrange(256)
    (tmp_path / "x.zip").write_bytes(data[: generator.choice((len(data), 100, 15000))])
    for file in listed(tmp_path / "x.zip")[0].values():
        try:
            file.read(1 << 20)
        except ArchiveError:
            continue


def test_archive_cut_at_any_length_raises_nothing_else(tmp_path):
    path = tmp_path / "x.zip"
    for files in ([], [("a.jpg", b"x")]):  # an empty archive is an end record alone
        data = write_zip(path, files).read_bytes()
        for length in range(len(data)):
            path.write_bytes(data[:length])
            assert listed(path)[1], length


def test_entry_goes_to_another_process(tmp_path):
    import pickle

    path = write_zip(tmp_path / "x.zip", CONTENT.items())
    for name, file in listed(path)[0].items():
        assert pickle.loads(pickle.dumps(file)).read(1 << 20) == CONTENT[name]
    assert archives.local_name(file) == name.encode("cp949")
    path.unlink()
    archives._open_again.cache_clear()
    with pytest.raises(ArchiveError, match="No such file"):
        file.read(1 << 20)
