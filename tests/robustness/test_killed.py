"""Any stage may be killed at any moment: run again, it ends with the files of a run left alone."""

from __future__ import annotations

import os
import random
import shutil
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

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

pytestmark = pytest.mark.skipif(os.name == "nt", reason="SIGKILL")


def moments(total: int, count: int = 10) -> Iterator[int]:
    """Random file operations of a run at which to kill it, each a bit different from the others."""
    chance = random.Random(0)
    edges = [1 + total * i // count for i in range(count + 1)]
    yield from (chance.randrange(*edge) for edge in pairwise(edges))


def whole_so_far(folder: Path, expected: dict[str, bytes]) -> None:
    """Whatever has a final name is complete."""
    for path, content in tree(folder).items():
        if not Path(path).name.startswith(".part-"):
            assert content == expected[path], path


def photo(i: int, size: tuple[int, int]) -> Image.Image:
    rows = np.arange(size[1], dtype=np.uint8)[:, None] + np.uint8(i)
    return Image.fromarray(np.broadcast_to(rows, (size[1], size[0])).copy())


def kill_and_run_again(tmp_path: Path, results: str, *stage: object) -> None:
    """Kill the stage at ten moments, each time from the start, and let it finish: no difference."""

    def fresh(name: str) -> Path:
        (tmp_path / name).mkdir()
        return tmp_path / name

    alone = fresh("alone")
    total = steps_of(*stage, cwd=alone)
    expected = tree(alone / results)
    logs = {path.name for path in alone.iterdir()}

    def killed_at(step: int) -> None:
        cwd = fresh(f"killed at {step}")
        kill_at(step, *stage, cwd=cwd)
        whole_so_far(cwd / results, expected)
        assert run(*stage, cwd=cwd).returncode == 1
        assert tree(cwd / results) == expected, step
        assert {path.name for path in cwd.iterdir()} == logs
        for log in cwd.glob("*.log"):  # each line but for its time
            lines = zip(sorted(log.open()), sorted((alone / log.name).open()), strict=True)
            assert all(a.split("\t")[:-1] == b.split("\t")[:-1] for a, b in lines)

    with ThreadPoolExecutor(2) as two:
        list(two.map(killed_at, moments(total)))


def test_download(tmp_path, server):
    photo(1, (500, 500)).save(tmp_path / "x.jpg", quality=95)
    content = (tmp_path / "x.jpg").read_bytes()
    names = [name_of("기쁨", i) for i in range(30)]
    server.files = {f"/{name}": content for name in names}
    rows = [row(name, f"{server.url}/{name}") for name in names]
    table = write_table(tmp_path / "t.tsv", [*rows, row("gone_기쁨_.jpg", f"{server.url}/gone")])
    stage = ("downloadImage.py", "--input", table, "--workers", 4)
    kill_and_run_again(tmp_path, "original", *stage)


def test_download_asks_for_nothing_twice(tmp_path, server):
    names = [name_of("기쁨", i) for i in range(30)]
    photo(1, (100, 100)).save(tmp_path / "x.jpg")
    server.files = dict.fromkeys((f"/{n}" for n in names), (tmp_path / "x.jpg").read_bytes())
    table = write_table(tmp_path / "t.tsv", [row(n, f"{server.url}/{n}") for n in names])
    stage = ("downloadImage.py", "--input", table, "--workers", 4)
    kill_at(60, *stage, cwd=tmp_path)
    there = sum(1 for name in names if (tmp_path / "original/기쁨" / name).exists())
    assert 0 < there < 30
    before = sum(server.requests.values())
    done = run(*stage, cwd=tmp_path)
    assert f"{30 - there} downloaded, {there} already there" in done.stdout
    assert sum(server.requests.values()) == before + 30 - there


def test_download_interrupted_keeps_its_log(tmp_path, server):
    content = Path(__file__).read_bytes()
    server.files = {f"/{name_of('기쁨', i)}": content for i in range(400)}
    rows = [row(path[1:], f"{server.url}{path}") for path in server.files]
    table = write_table(tmp_path / "t.tsv", rows)
    args = ("--input", table, "--workers", 2, "--retries", 0)
    kill_at(100, "downloadImage.py", *args, cwd=tmp_path, sig=signal.SIGINT)
    lines = (tmp_path / "download.error.log").read_text(encoding="utf-8").splitlines()
    assert 1 < len(lines) < 400 and all("a text, not an image" in line for line in lines[1:])


def test_crop(tmp_path):
    rows = []
    (tmp_path / "original/기쁨").mkdir(parents=True)
    for i in range(12):
        photo(i, (200, 150)).save(tmp_path / "original/기쁨" / name_of("기쁨", i))
        rows.append(row(name_of("기쁨", i), seen="기쁨 슬픔 " + ("슬픔", "기쁨", "중립")[i % 3]))
    rows[5] |= {"TaskA_result": "{"}
    rows.append(row("missing_기쁨_.jpg"))
    table = write_table(tmp_path / "t.tsv", rows)
    stage = ("cropImages.py", "--input", table, "--original", tmp_path / "original")
    kill_and_run_again(tmp_path, "crop", *stage)


@pytest.mark.parametrize("again", [False, True], ids=["first split", "another seed"])
@pytest.mark.parametrize("mode", ["link", "copy"])
def test_split(tmp_path, again, mode):
    make_faces(tmp_path / "crop", ["x", "y"], 30, size=2)
    crop = ("--input", tmp_path / "crop", "--mode", mode)
    if again:  # there is an earlier split, whose photos have to be moved
        assert run("dataPreparation.py", *crop, cwd=tmp_path).returncode == 0
    else:
        (tmp_path / "data").mkdir()
    stage = ("dataPreparation.py", *crop, "--seed", 5, "--output", "data")
    alone = tmp_path / "alone"
    shutil.copytree(tmp_path / "data", alone / "data")
    total = steps_of(*stage, cwd=alone)
    for step in moments(total, 5):
        cwd = tmp_path / str(step)
        shutil.copytree(tmp_path / "data", cwd / "data")
        kill_at(step, *stage, cwd=cwd)
        found = [path.split("/", 1)[1] for path in tree(cwd / "data") if path.endswith(".png")]
        found = [path for path in found if "/.part-" not in path]
        assert len(found) == len(set(found)) <= 60, "a photo in two sets"
        assert run(*stage, cwd=cwd).returncode == 0
        assert tree(cwd / "data") == tree(alone / "data")


def test_train(tmp_path):
    make_faces(tmp_path / "data/train", ["x", "y"], 20)
    make_faces(tmp_path / "data/validation", ["x", "y"], 4)
    args = ("--amp", "off", "--lr", 0.01, "--batch_size", 8, "--epochs", 4)
    args += ("--data_path", tmp_path / "data")
    (tmp_path / "alone").mkdir()
    total = steps_of("train.py", *args, cwd=tmp_path / "alone")
    cwd = tmp_path / "killed"
    cwd.mkdir()
    kill_at(total // 2, "train.py", *args, cwd=cwd)
    assert run("train.py", *args, cwd=cwd).returncode == 0
    assert (cwd / "model.pt").read_bytes() == (tmp_path / "alone/model.pt").read_bytes()
    assert {p.name for p in cwd.iterdir()} == {"model.pt", "runs"}
