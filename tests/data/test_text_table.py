"""Tables that people make: encodings, delimiters, and the column of file names."""

from __future__ import annotations

from pathlib import Path

import pytest

from utils.data.text_table import TextTable
from utils.errors import StageError

ROWS = [["파일", "장소"], ["1.jpg", "도심 환경"], ["2.jpg", "공원, 산"]]


def read(path: Path, content: bytes) -> TextTable:
    path.write_bytes(content)
    return TextTable(path, "table of groups", "another column")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp949"])
@pytest.mark.parametrize("delimiter", list(",\t;|"))
def test_a_table_in_any_encoding_with_any_delimiter(tmp_path, encoding, delimiter):
    lines = [delimiter.join(f'"{cell}"' for cell in row) for row in ROWS]
    table = read(tmp_path / "t.csv", "\r\n".join([*lines, ""]).encode(encoding))
    assert table.header == ROWS[0] and table.file_column() == 0
    assert list(table) == [(2, ROWS[1]), (3, ROWS[2])]


def test_short_and_empty_rows(tmp_path):
    table = read(tmp_path / "t.csv", b"file,a,b\n1.jpg\n\n , ,\n2.jpg,x,y,z\n")
    assert list(table) == [(2, ["1.jpg", "", ""]), (5, ["2.jpg", "x", "y", "z"])]
    assert table.count() == 5


def test_the_column_of_file_names_is_called_so_or_holds_such(tmp_path):
    assert read(tmp_path / "t.csv", b"name,Image Name\nann,1.jpg\n").file_column() == 1
    assert read(tmp_path / "t.csv", b"who,pic\nann,1.jpg\nbob, 2.PNG\nx,3\n").file_column() == 1
    # A name may be that of a file, or of a person.
    assert read(tmp_path / "t.csv", b"name,pic\nann,1.jpg\nbob,2.jpg\n").file_column() == 1
    assert read(tmp_path / "t.csv", b"pic,name\n1.jpg,1.jpg\n2.jpg,2.jpg\n").file_column() == 1
    assert read(tmp_path / "t.csv", b"who,name\nann,fer0001\n").file_column() == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "t.csv is no table of groups: its first line has no file column and another column"),
        (b"1.jpg\n", "is no table of groups"),
        (b"a,b\n1,2\n", "has no column of file names .*its header is: a b"),
        (b"1.jpg,x\n2.jpg,y\n", "has no header: write the names of its columns above it"),
        (b"PK\0\0", "t.csv is a binary file"),
    ],
)
def test_a_file_that_is_no_such_table(tmp_path, content, message):
    with pytest.raises(StageError, match=message):
        read(tmp_path / "t.csv", content).file_column()


def test_a_path_that_is_no_file(tmp_path):
    with pytest.raises(StageError, match="no such file"):
        TextTable(tmp_path / "t.csv", "", "")
    with pytest.raises(StageError, match="is not a regular file"):
        TextTable(tmp_path, "", "")


def test_a_quote_that_is_not_closed(tmp_path):
    table = read(tmp_path / "t.csv", b'file,a\n1.jpg,"x\n2.jpg,y\n')
    [(line, cells)] = table
    with pytest.raises(StageError, match="line 3: a cell has several lines; a quote"):
        table.check_lines(line, cells)


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_a_byte_of_no_encoding_does_not_spoil_the_others(tmp_path, capsys, mark):
    table = read(tmp_path / "t.csv", mark + "파일,장소\n기쁨.jpg,도심\n".encode() + b"\xff.jpg,x\n")
    assert table.header == ["파일", "장소"] and next(iter(table))[1] == ["기쁨.jpg", "도심"]
    assert "t.csv: some bytes are neither UTF-8 nor CP949" in capsys.readouterr().err
