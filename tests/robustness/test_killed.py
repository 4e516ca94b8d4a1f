"""Stages killed at any moment: run again, they end with the files of an undisturbed run."""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.aihub import photo as aihub_photo
from tests.aihub import photo_name, record, write_labels, write_zip
from tests.helpers import (
    kill_at,
    make_faces,
    name_of,
    row,
    run,
    steps_of,
    tree,
    write_table,
)

pytestmark = [pytest.mark.slow, pytest.mark.skipif(os.name == "nt", reason="SIGKILL")]


def moments(total: int, count: int) -> Iterator[int]:
    """Random file operations of a run at which to kill it, one in each part of the run."""
    generator = random.Random(0)
    edges = [1 + total * i // count for i in range(count + 1)]
    yield from (generator.randrange(*edge) for edge in pairwise(edges))


def assert_whole(folder: Path, expected: dict[str, bytes]) -> None:
    """Check that every file that has its final name is complete."""
    for path, content in timeless(tree(folder)).items():
        if not Path(path).name.startswith(".part-"):
            assert content == expected[path], path


def timeless(files: dict[str, bytes]) -> dict[str, bytes]:
    """Return files without the time of a page."""
    return {
        path: re.sub(rb"<time.*?</time>", b"", content) if path.endswith(".html") else content
        for path, content in files.items()
    }


def photo(i: int, size: tuple[int, int]) -> Image.Image:
    rows = np.arange(size[1], dtype=np.uint8)[:, None] + np.uint8(i)
    return Image.fromarray(np.broadcast_to(rows, (size[1], size[0])).copy())


def kill_and_run_again(tmp_path: Path, results: str, kills: int, *stage: object) -> None:
    """Kill the stage at several moments, each time from the start, and let it finish."""

    def fresh(name: str) -> Path:
        (tmp_path / name).mkdir()
        return tmp_path / name

    undisturbed = fresh("undisturbed")
    total = steps_of(*stage, cwd=undisturbed)
    expected = timeless(tree(undisturbed / results))
    names = {path.name for path in undisturbed.iterdir()}

    for step in moments(total, kills):
        cwd = fresh(f"killed at {step}")
        kill_at(step, *stage, cwd=cwd)
        assert_whole(cwd / results, expected)
        assert run(*stage, cwd=cwd).returncode == 1
        assert timeless(tree(cwd / results)) == expected, step
        assert {path.name for path in cwd.iterdir()} == names
        for log in cwd.glob("*.log"):  # each line but for its time
            lines = zip(sorted(log.open()), sorted((undisturbed / log.name).open()), strict=True)
            assert all(a.split("\t")[:-1] == b.split("\t")[:-1] for a, b in lines)
        for manifest in cwd.glob("*.tsv"):
            assert manifest.read_bytes() == (undisturbed / manifest.name).read_bytes()


def test_download_killed_at_any_moment(tmp_path, server):
    photo(1, (500, 500)).save(tmp_path / "x.jpg", quality=95)
    content = (tmp_path / "x.jpg").read_bytes()
    names = [name_of("기쁨", i) for i in range(30)]
    server.files = {f"/{name}": content for name in names}
    rows = [row(name, f"{server.url}/{name}") for name in names]
    table = write_table(tmp_path / "t.tsv", [*rows, row("gone_기쁨_.jpg", f"{server.url}/gone")])
    stage = ("downloadImage.py", "--input", table, "--workers", 4)
    kill_and_run_again(tmp_path, "original", 10, *stage)


def test_download_killed_and_run_again_requests_nothing_twice(tmp_path, server):
    names = [name_of("기쁨", i) for i in range(30)]
    photo(1, (100, 100)).save(tmp_path / "x.jpg")
    server.files = dict.fromkeys((f"/{n}" for n in names), (tmp_path / "x.jpg").read_bytes())
    table = write_table(tmp_path / "t.tsv", [row(n, f"{server.url}/{n}") for n in names])
    stage = ("downloadImage.py", "--input", table, "--workers", 4)
    kill_at(60, *stage, cwd=tmp_path)
    existing = sum(1 for name in names if (tmp_path / "original/기쁨" / name).exists())
    assert 0 < existing < 30
    before = sum(server.requests.values())
    done = run(*stage, cwd=tmp_path)
    assert f"{30 - existing} downloaded, {existing} already there" in done.stdout
    assert sum(server.requests.values()) == before + 30 - existing


def test_download_interrupted_keeps_its_log(tmp_path, server):
    content = Path(__file__).read_bytes()
    server.files = {f"/{name_of('기쁨', i)}": content for i in range(400)}
    rows = [row(path[1:], f"{server.url}{path}") for path in server.files]
    table = write_table(tmp_path / "t.tsv", rows)
    args = ("--input", table, "--workers", 2, "--retries", 0)
    kill_at(100, "downloadImage.py", *args, cwd=tmp_path, sig=signal.SIGINT)
    lines = (tmp_path / "download.error.log").read_text(encoding="utf-8").splitlines()
    assert 1 < len(lines) < 400 and all("a text, not an image" in line for line in lines[1:])


def test_crop_killed_at_any_moment(tmp_path):
    rows = []
    (tmp_path / "original/기쁨").mkdir(parents=True)
    for i in range(12):
        photo(i, (200, 150)).save(tmp_path / "original/기쁨" / name_of("기쁨", i))
        rows.append(row(name_of("기쁨", i), seen="기쁨 슬픔 " + ("슬픔", "기쁨", "중립")[i % 3]))
    rows[5] |= {"TaskA_result": "{"}
    rows.append(row("missing_기쁨_.jpg"))
    table = write_table(tmp_path / "t.tsv", rows)
    stage = ("cropImages.py", "--input", table, "--original", tmp_path / "original", "--workers", 2)
    kill_and_run_again(tmp_path, "crop", 10, *stage)


def test_crop_from_archives_killed_at_any_moment(tmp_path):
    downloads = tmp_path / "downloads"
    names = [photo_name("기쁨", i) for i in range(12)]
    records = [record(name, "기쁨 슬픔 슬픔") for name in names]
    write_labels(downloads / "TRAIN.zip", [*records[:6], records[11] | {"annot_A": None}])
    write_labels(downloads / "VALID.zip", records[6:11])
    write_zip(downloads / "a.zip", [(name, aihub_photo(i)) for i, name in enumerate(names)])
    write_zip(downloads / "b.zip", [("../x.jpg", b"")])
    stage = ("cropImages.py", "--input", downloads, "--workers", 2)
    kill_and_run_again(tmp_path, "crop", 10, *stage)


@pytest.mark.parametrize("again", [False, True], ids=["first split", "another seed"])
@pytest.mark.parametrize("mode", ["link", "copy"])
def test_split_killed_at_any_moment(tmp_path, again, mode):
    make_faces(tmp_path / "crop", ["x", "y"], 30, size=2)
    crop = ("--input", tmp_path / "crop", "--mode", mode)
    if again:  # there is an earlier split, whose photos have to be moved
        assert run("dataPreparation.py", *crop, cwd=tmp_path).returncode == 0
    else:
        (tmp_path / "data").mkdir()
    stage = ("dataPreparation.py", *crop, "--seed", 5, "--output", "data")
    undisturbed = tmp_path / "undisturbed"
    shutil.copytree(tmp_path / "data", undisturbed / "data")
    total = steps_of(*stage, cwd=undisturbed)
    for step in moments(total, 5):
        cwd = tmp_path / str(step)
        shutil.copytree(tmp_path / "data", cwd / "data")
        kill_at(step, *stage, cwd=cwd)
        found = [path.split("/", 1)[1] for path in tree(cwd / "data") if path.endswith(".png")]
        found = [path for path in found if "/.part-" not in path]
        assert len(found) == len(set(found)) <= 60, "a photo in two sets"
        assert run(*stage, cwd=cwd).returncode == 0
        assert tree(cwd / "data") == tree(undisturbed / "data")


def test_train_killed_and_run_again_ends_with_the_same_model(tmp_path):
    make_faces(tmp_path / "data/train", ["x", "y"], 20)
    make_faces(tmp_path / "data/validation", ["x", "y"], 4)
    args = ("--amp", "off", "--lr", 0.01, "--batch_size", 8, "--epochs", 4)
    args += ("--data_path", tmp_path / "data")
    (tmp_path / "undisturbed").mkdir()
    total = steps_of("train.py", *args, cwd=tmp_path / "undisturbed")
    cwd = tmp_path / "killed"
    cwd.mkdir()
    kill_at(total // 2, "train.py", *args, cwd=cwd)
    assert run("train.py", *args, cwd=cwd).returncode == 0
    assert (cwd / "model.pt").read_bytes() == (tmp_path / "undisturbed/model.pt").read_bytes()
    assert {p.name for p in cwd.iterdir()} == {"model.pt", "runs"}
