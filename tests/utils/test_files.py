"""Atomic files, folders and locks."""

from __future__ import annotations

import codecs
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers import ROOT
from utils.files import (
    CSV_ENCODING,
    atomic_file,
    file_lock,
    ignores_case,
    make_folder,
    package_file,
    remove_stale_temp_files,
    try_lock,
    write_csv,
    write_tsv,
)


def test_atomic_file_gets_its_name_at_the_end(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"old")
    with atomic_file(path) as file:
        file.write(b"new")
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"


def test_atomic_file_keeps_the_older_file_after_an_error(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"old")

    def write_half() -> None:
        with atomic_file(path) as file:
            file.write(b"half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        write_half()
    assert [p.name for p in tmp_path.iterdir()] == ["x"] and path.read_bytes() == b"old"


def test_atomic_file_names_the_final_path_in_an_os_error(tmp_path):
    missing = tmp_path / "none" / "x.jpg"
    with pytest.raises(FileNotFoundError) as caught, atomic_file(missing):
        pass
    assert caught.value.filename == str(missing)


def test_remove_stale_temp_files_keeps_files_in_use(tmp_path):
    dead = tmp_path / ".part-0123456789abcdef.jpg"
    dead.write_bytes(b"half")
    (tmp_path / "photo.jpg").touch()
    with atomic_file(tmp_path / "x.jpg") as file:
        file.write(b"whole")
        remove_stale_temp_files(tmp_path)
        assert not dead.exists() and Path(file.name).exists()
    assert {p.name for p in tmp_path.iterdir()} == {"photo.jpg", "x.jpg"}
    remove_stale_temp_files(tmp_path / "none")


def test_make_folder_makes_parents_and_removes_stale_files(tmp_path):
    folder = tmp_path / "a" / "b"
    make_folder(folder)
    assert folder.is_dir()
    (folder / ".part-0123456789abcdef").touch()
    (folder / "kept").touch()
    make_folder(folder)
    assert [p.name for p in folder.iterdir()] == ["kept"]


@pytest.mark.parametrize("below", ["", "sub", "sub/sub"])
def test_make_folder_names_the_file_that_is_in_the_way(tmp_path, below):
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError, match="is a file, but a folder is needed") as caught:
        make_folder(tmp_path / "file" / below)
    assert caught.value.filename == str(tmp_path / "file")


@pytest.mark.skipif(os.name == "nt", reason="file names are Unicode on Windows")
def test_write_csv_is_read_by_excel_and_with_its_encoding(tmp_path):
    path = tmp_path / "x.csv"
    name = "\udcff.png"  # the byte 0xff in a file's name
    write_csv(path, [["파일", "기쁨, 슬픔"], [Path("a") / name, 0.5]])
    begin = codecs.BOM_UTF8 + '파일,"기쁨, 슬픔"\r\n'.encode()
    assert path.read_bytes() == begin + b"a/\xff.png,0.5\r\n"
    for mark in (codecs.BOM_UTF8, b""):
        path.write_bytes(mark + "파일\r\n".encode())
        assert path.read_text(CSV_ENCODING) == "파일\n"


def test_write_tsv_keeps_undecodable_file_names(tmp_path):
    name = os.fsdecode("기쁨.jpg".encode("cp949"))
    write_tsv(tmp_path / "x.tsv", [("file", "class"), (name, "기쁨")])
    expected = b"file\tclass\n" + os.fsencode(name) + "\t기쁨\n".encode()
    assert (tmp_path / "x.tsv").read_bytes() == expected


HOLD_LOCK = """
import sys, pathlib
from utils.files import file_lock
with file_lock(pathlib.Path(sys.argv[1]), "waiting"):
    print("locked", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def lock_holder(tmp_path):
    """Another process that holds the lock of `tmp_path`, until its stdin is closed."""
    words = [sys.executable, "-c", HOLD_LOCK, str(tmp_path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(words, cwd=ROOT, **pipes) as process:
        assert process.stdout.readline() == "locked\n"
        yield process
        process.kill()


posix_locks = pytest.mark.skipif(os.name == "nt", reason="file locks are for POSIX")


@posix_locks
def test_try_lock_fails_while_another_process_holds_the_lock(tmp_path, lock_holder):
    assert try_lock(tmp_path) is False
    lock_holder.kill()  # which releases it
    lock_holder.wait()
    assert try_lock(tmp_path) is True


@posix_locks
def test_file_lock_waits_for_another_process(tmp_path, lock_holder, capsys, monkeypatch):
    entered = []

    def let_go(message: str) -> None:
        entered.append(message)
        lock_holder.stdin.close()

    monkeypatch.setattr("utils.files.note", let_go)
    with file_lock(tmp_path, "another run is at work: waiting"):
        assert lock_holder.wait() == 0
    assert entered == ["another run is at work: waiting"]


def test_file_lock_of_a_file_makes_the_file(tmp_path):
    for _ in range(2):
        with file_lock(tmp_path / ".lock", "waiting"):
            assert (tmp_path / ".lock").exists()


def test_ignores_case_asks_the_disk(tmp_path, monkeypatch):
    (tmp_path / "probe").touch()
    expected = (tmp_path / "PROBE").exists()
    assert ignores_case(tmp_path) is expected
    assert [path.name for path in tmp_path.iterdir()] == ["probe"]
    assert not ignores_case(tmp_path / "none")
    monkeypatch.setattr(Path, "exists", lambda path: True)
    (tmp_path / "other").mkdir()
    assert ignores_case(tmp_path / "other")


def test_package_file_finds_a_file_without_importing_the_package(tmp_path, monkeypatch):
    package = tmp_path / "heavy_package"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError", encoding="utf-8")
    (package / "data.bin").write_bytes(b"1")
    monkeypatch.syspath_prepend(tmp_path)
    assert package_file("heavy_package", "data.bin") == package / "data.bin"
    assert package_file("heavy_package", "other.bin") is None
    assert package_file("no_such_package", "data.bin") is None
