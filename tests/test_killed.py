"""Any stage may be killed at any moment: run again, it ends with the files of a run left alone."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.helpers import kill_when, make_faces, name_of, row, run, tree, write_table

pytestmark = pytest.mark.skipif(os.name == "nt", reason="SIGKILL")


def count(folder: Path, suffix: str = ".jpg") -> int:
    return sum(1 for path in folder.rglob(f"*{suffix}") if not path.name.startswith("."))


def whole_so_far(folder: Path, expected: dict[str, bytes]) -> None:
    """Whatever has a final name is complete."""
    for path, content in tree(folder).items():
        if not Path(path).name.startswith(".part-"):
            assert content == expected[path], path


def photo(i: int, size: tuple[int, int]) -> Image.Image:
    rows = np.arange(size[1], dtype=np.uint8)[:, None] + np.uint8(i)
    return Image.fromarray(np.broadcast_to(rows, (size[1], size[0])).copy())


@pytest.mark.parametrize("after", [3, 40])
def test_download(tmp_path, server, after):
    photo(1, (500, 500)).save(tmp_path / "x.jpg", quality=95)
    content = (tmp_path / "x.jpg").read_bytes()
    names = [name_of("기쁨", i) for i in range(80)]
    server.files = {f"/{name}": content for name in names}
    server.delay = 0.02
    rows = [row(name, f"{server.url}/{name}") for name in names]
    table = write_table(tmp_path / "t.tsv", [*rows, row("gone_기쁨_.jpg", f"{server.url}/gone")])
    args = ("--input", table, "--workers", 4)
    expected = {f"기쁨/{name}": content for name in names}

    out = tmp_path / "original"
    kill_when(lambda: count(out) >= after, "downloadImage.py", *args, cwd=tmp_path)
    assert after <= count(out) < 80
    whole_so_far(out, expected)
    before = sum(server.asked.values())
    there = count(out)
    done = run("downloadImage.py", *args, cwd=tmp_path)
    assert done.returncode == 1 and f"{80 - there} downloaded, {there} already there" in done.stdout
    assert sum(server.asked.values()) == before + 80 - there + 1
    assert tree(out) == expected
    assert {p.name for p in tmp_path.iterdir()} == {
        "t.tsv", "x.jpg", "original", "download.error.log",
    }  # fmt: skip


def test_download_interrupted_keeps_its_log(tmp_path, server):
    content = Path(__file__).read_bytes()
    server.files = {f"/{name_of('기쁨', i)}": content for i in range(400)}
    server.delay = 0.05
    rows = [row(path[1:], f"{server.url}{path}") for path in server.files]
    table = write_table(tmp_path / "t.tsv", rows)
    args = ("--input", table, "--workers", 2)
    asked = server.asked
    started = lambda: sum(asked.values()) > 20  # noqa: E731
    status = kill_when(started, "downloadImage.py", *args, cwd=tmp_path, sig=signal.SIGINT)
    assert status == 130
    lines = (tmp_path / "download.error.log").read_text(encoding="utf-8").splitlines()
    assert 1 < len(lines) < 400 and all("a text, not an image" in line for line in lines[1:])


@pytest.mark.parametrize("after", [1, 12])
def test_crop(tmp_path, after):
    rows = []
    (tmp_path / "original/기쁨").mkdir(parents=True)
    for i in range(24):
        photo(i, (2000, 1500)).save(tmp_path / "original/기쁨" / name_of("기쁨", i))
        rows.append(row(name_of("기쁨", i), seen="기쁨 슬픔 " + ("슬픔", "기쁨", "중립")[i % 3]))
    rows[5] |= {"TaskA_result": "{"}
    table = write_table(tmp_path / "t.tsv", rows)
    alone = tmp_path / "alone"
    alone.mkdir()
    args = ("--input", table, "--original", tmp_path / "original")
    assert run("cropImages.py", *args, cwd=alone).returncode == 1
    expected = tree(alone / "crop")

    out = tmp_path / "crop"
    kill_when(lambda: count(out) >= after, "cropImages.py", *args, cwd=tmp_path)
    assert count(out) < 23
    time.sleep(0.5)  # workers end with their stage
    there = count(out)
    whole_so_far(out, expected)
    done = run("cropImages.py", *args, cwd=tmp_path)
    assert f"{23 - there} cropped, {there} already there, 1 failed" in done.stdout
    assert tree(out) == expected and len(expected) == 23
    assert (tmp_path / "parse.error.log").exists()
    assert not list(tmp_path.glob(".part-*"))


@pytest.mark.parametrize("moment", ["first photo", "half of them", "taking out", "new manifest"])
def test_split(tmp_path, moment):
    make_faces(tmp_path / "crop", ["x", "y"], 1500, size=2)
    data = tmp_path / "data"
    seed = ("--seed", 0 if "photo" in moment or "half" in moment else 1)
    assert run("dataPreparation.py", *seed, cwd=tmp_path).returncode == 0
    data.rename(tmp_path / "expected")
    if seed[1]:  # there is an earlier split, whose photos have to be moved
        assert run("dataPreparation.py", cwd=tmp_path).returncode == 0
        earlier = (data / "split.tsv").read_text()
    reached = {
        "first photo": lambda: count(data, ".png") >= 1,
        "half of them": lambda: count(data, ".png") >= 1500,
        "taking out": lambda: count(data, ".png") < 3000,
        "new manifest": lambda: (data / "split.tsv").read_text() != earlier,
    }[moment]
    kill_when(reached, "dataPreparation.py", *seed, cwd=tmp_path)
    found = [path.split("/", 1)[1] for path in tree(data) if path.endswith(".png")]
    assert len(found) == len(set(found)) < 3000
    assert run("dataPreparation.py", *seed, cwd=tmp_path).returncode == 0
    assert tree(data) == tree(tmp_path / "expected")


def test_train(tmp_path):
    make_faces(tmp_path / "data/train", ["x", "y"], 20)
    make_faces(tmp_path / "data/validation", ["x", "y"], 4)
    args = ("--amp", "off", "--lr", 0.01, "--batch_size", 8, "--epochs", 4)
    assert run("train.py", *args, "--model_path", "alone.pt", cwd=tmp_path).returncode == 0
    model = tmp_path / "model.pt"
    kill_when(model.exists, "train.py", *args, cwd=tmp_path)
    done = run("train.py", *args, cwd=tmp_path)
    assert done.returncode == 0 and "model.pt exists" in done.stderr
    assert model.read_bytes() == (tmp_path / "alone.pt").read_bytes()
    assert {p.name for p in tmp_path.iterdir()} == {"data", "model.pt", "alone.pt", "runs"}
