"""Files with the same bytes."""

from __future__ import annotations

from pathlib import Path

from utils.data import duplicates
from utils.data.duplicates import find_duplicates, merge_copies


def write_files(folder: Path, contents: list[bytes]) -> list[Path]:
    paths = [folder / f"{i}.jpg" for i in range(len(contents))]
    for path, content in zip(paths, contents, strict=True):
        path.write_bytes(content)
    return paths


def test_find_duplicates_returns_groups_of_equal_files(tmp_path):
    contents = [b"a", b"b", b"a", b"", b"long", b"b", b"", b"a", b"other"]
    groups = find_duplicates(write_files(tmp_path, contents))
    assert sorted(groups) == [[0, 2, 7], [1, 5], [3, 6]]
    assert find_duplicates([]) == []


def test_find_duplicates_compares_whole_files(tmp_path):
    size = 4 * duplicates.PROBE_BYTES
    same, first, last, middle = (bytearray(size) for _ in range(4))
    first[0] = last[-1] = middle[size // 2] = 1  # of one length; two have equal middles
    paths = write_files(tmp_path, [same, first, last, middle, same])
    assert find_duplicates(paths) == [[0, 4]]


def test_find_duplicates_opens_files_of_equal_length_only(tmp_path, monkeypatch):
    opened = []
    monkeypatch.setattr(
        duplicates, "_probe", lambda path: opened.append(path.name) or path.read_bytes()
    )
    paths = write_files(tmp_path, [b"a", b"bc", b"de", b"fgh"])
    assert find_duplicates(paths) == []
    assert sorted(opened) == ["1.jpg", "2.jpg"]


def test_find_duplicates_leaves_out_files_that_cannot_be_read(tmp_path):
    paths = write_files(tmp_path, [b"a", b"a"])
    missing = [tmp_path / "none 1.jpg", tmp_path / "none 2.jpg", tmp_path]
    assert find_duplicates([*missing, *paths]) == [[3, 4]]


def test_find_duplicates_in_more_files_than_a_thread_takes_at_a_time(tmp_path, monkeypatch):
    monkeypatch.setattr(duplicates, "CHUNK", 2)
    paths = write_files(tmp_path, [bytes([i % 3]) for i in range(20)])
    groups = find_duplicates(paths)
    assert sorted(groups) == [list(range(i, 20, 3)) for i in range(3)]


def test_merge_copies_joins_duplicates_and_near_duplicates():
    copies = merge_copies([[4, 1], [7, 8]], [(1, 5, 0.02), (5, 6, 0.01), (2, 3, 0.05)])
    assert copies.groups == [[1, 4, 5, 6], [2, 3], [7, 8]]
    assert copies.distances == {1: 0, 4: 0, 5: 0.01, 6: 0.01, 2: 0.05, 3: 0.05, 7: 0, 8: 0}
    assert (copies.same, copies.near) == (2, 3)
    fewer = copies.among([0, 1, 2, 5, 6, 7])  # by their positions among these
    assert fewer.groups == [[1, 3, 4]] and (fewer.same, fewer.near) == (0, 2)
    assert merge_copies([], []).groups == []
