"""The store of decoded images: made once, always of the files as they are, never half."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.helpers import ROOT, make_faces
from utils.data import dataset as store
from utils.data import decode
from utils.data.image_folder import make_samples, scan_class_folders
from utils.errors import StageError
from utils.imaging.preprocess import Preprocess

HOW = Preprocess(32, 1)
CPU = torch.device("cpu")


def load(root: Path, folder: Path | None, how: Preprocess = HOW) -> store.Dataset:
    images = scan_class_folders(root)
    return store.load_dataset(make_samples(images, list(images)), how, "train", folder)


def taken(data: store.Dataset, order: list[list[int]]) -> list[torch.Tensor]:
    return list(data.batches([torch.tensor(index) for index in order], CPU))


@pytest.fixture
def faces(tmp_path):
    make_faces(tmp_path / "faces", ["a", "b"], 6)
    (tmp_path / "faces/a/0003.png").write_bytes(b"<html>")
    return tmp_path / "faces"


def test_the_store_is_the_images_and_lists_what_is_none(faces, tmp_path):
    data = load(faces, tmp_path / "store")
    assert len(data) == 11 and data.labels.tolist() == [0] * 5 + [1] * 6
    assert data.failures == [(faces / "a/0003.png", "an HTML page, not an image")]
    [pixels] = taken(data, [[4, 0]])
    for image, place in zip(pixels, (4, 0), strict=True):
        assert torch.equal(image, torch.from_numpy(HOW.read(data.samples[place].path).copy()))
    in_memory = load(faces, None)
    assert torch.equal(in_memory.images, data.images) and in_memory.failures == data.failures


def test_it_is_made_once_and_anew_when_a_file_changes(faces, tmp_path, monkeypatch):
    first = load(faces, faces / ".store")
    monkeypatch.setattr(store, "decode_chunks", None)  # nothing is decoded any more
    again = load(faces, faces / ".store")
    assert torch.equal(again.images, first.images) and again.failures == first.failures
    moved, folder = tmp_path / "moved", tmp_path / "moved/.store"
    shutil.move(faces, moved)
    assert torch.equal(load(moved, folder).images, first.images)
    monkeypatch.undo()

    before = set(folder.glob("*.npy"))
    os.utime(moved / "b/0000.png", (1, 1))
    load(moved, folder)
    after = set(folder.glob("*.npy"))
    assert len(before) == len(after) == 1 and before != after
    load(moved, folder, Preprocess(16, 3))
    assert len(set(folder.glob("*.npy"))) == 2
    assert first.images.sum() > 0  # what is mapped already stays
    # Another set's store in the same folder is left alone.
    shutil.copytree(moved / "a", tmp_path / "other/a")
    load(tmp_path / "other", folder)
    assert len(set(folder.glob("*.npy"))) == 3


def test_an_image_that_can_be_read_again_is_in(faces, tmp_path):
    """Its disk was away, say, or its rights were not there: the file is the same as before."""
    path = faces / "b/0002.png"
    content, state = path.read_bytes(), path.stat()
    path.write_bytes(bytes(len(content)))
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert len(load(faces, tmp_path / "store")) == 10
    path.write_bytes(content)
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    again = load(faces, tmp_path / "store")
    assert len(again) == len(again.images) == 11
    assert [path.name for path, _ in again.failures] == ["0003.png"]


def test_without_room_images_are_decoded_whenever_they_are_used(
    faces, tmp_path, monkeypatch, capsys
):
    kept = load(faces, tmp_path / "store")
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(store.shutil, "disk_usage", lambda path: usage(1000))
    data = load(faces, tmp_path / "other")
    assert "0.0 GB are free" in capsys.readouterr().err
    assert data.images is None and data.failures == kept.failures and len(data) == len(kept)
    order = [[4, 0], [10], [1, 2, 3]]
    assert all(map(torch.equal, taken(data, order), taken(kept, order)))
    assert not list((tmp_path / "other").glob("*.npy"))
    (tmp_path / "file").write_text("")
    assert load(faces, tmp_path / "file").images is None  # nowhere to make a folder


def test_the_cache_is_an_npy_file_of_the_readable_images(faces, tmp_path):
    data = load(faces, tmp_path / "store")
    [path] = (tmp_path / "store").glob("*.npy")
    assert np.array_equal(np.load(path), data.images.numpy()) and len(data) == 11
    before = path.read_bytes()
    data.images[0] = 0  # copy-on-write
    assert path.read_bytes() == before


def test_a_set_without_readable_images_is_empty(faces, tmp_path):
    for path in faces.rglob("*.png"):
        path.write_bytes(b"")
    for _ in range(2):
        data = load(faces, tmp_path / "store")
        assert len(data) == 0 and data.images.shape == (0, 1, 32, 32) and len(data.failures) == 12


def test_a_cache_of_the_old_format_is_removed_and_rebuilt(faces, tmp_path, capsys):
    folder = tmp_path / "store"
    data = load(faces, folder)
    [path] = folder.glob("*.npy")
    path.with_suffix(".uint8").write_bytes(data.images.numpy().tobytes())
    path.unlink()
    other = folder / "validation-48x1-0123abcd-0123456789abcdef.uint8"
    other.write_bytes(b"")
    (folder / "mine.uint8").write_bytes(b"")
    capsys.readouterr()
    assert torch.equal(load(faces, folder).images, data.images)
    message = "note: the cache of decoded images has a new format: it is rebuilt"
    assert capsys.readouterr().err.count(message) == 1
    assert [old.name for old in folder.glob("*.uint8")] == ["mine.uint8"]
    load(faces, folder)
    assert message not in capsys.readouterr().err


def test_a_broken_cache_is_reported_and_not_used(faces, tmp_path, capsys):
    load(faces, tmp_path / "store")
    [path] = (tmp_path / "store").glob("*.npy")
    path.write_bytes(path.read_bytes()[:-1])
    again = load(faces, tmp_path / "store")
    assert f"{path} is broken: delete it" in capsys.readouterr().err
    order, data = [[3, 1], [10]], load(faces, None)
    assert again.images is None and all(map(torch.equal, taken(again, order), taken(data, order)))


def test_an_image_that_can_no_longer_be_read_is_named(faces, tmp_path):
    (tmp_path / "file").write_text("")
    data = load(faces, tmp_path / "file")  # no folder for a cache: decoded on the fly
    data.samples[4].path.write_bytes(b"")
    with pytest.raises(StageError, match=r"0005\.png can no longer be read: an empty file"):
        taken(data, [[0, 1], [3, 4]])


def test_workers_do_what_one_process_does(tmp_path, monkeypatch):
    make_faces(tmp_path / "faces", ["a", "b"], 100)
    (tmp_path / "faces/b/0070.png").write_bytes(b"")
    alone = load(tmp_path / "faces", None)
    monkeypatch.setattr(decode, "FEW", 10)
    many = load(tmp_path / "faces", tmp_path / "store")
    assert torch.equal(alone.images, many.images) and alone.failures == many.failures
    assert len(many) == 199


TWO = """
import sys, pathlib
sys.path.insert(0, sys.argv[1])
from utils.imaging.preprocess import Preprocess
from utils.data.image_folder import make_samples, scan_class_folders
from utils.data.dataset import load_dataset
images = scan_class_folders(pathlib.Path("faces"))
data = load_dataset(make_samples(images, list(images)), Preprocess(48, 1), "train", pathlib.Path("store"))
print(len(data), int(data.images.sum()))
"""


def test_two_runs_at_once_and_one_that_is_killed(tmp_path):
    make_faces(tmp_path / "faces", ["a", "b"], 400)

    def start() -> subprocess.Popen:
        words = [sys.executable, "-c", TWO, str(ROOT)]
        return subprocess.Popen(words, cwd=tmp_path, stdout=subprocess.PIPE, text=True)

    killed = start()
    while not list(tmp_path.glob("store/.part-*")):
        assert killed.poll() is None
        time.sleep(0.001)
    others = [start(), start()]
    killed.kill()
    killed.wait()
    answers = {other.communicate()[0] for other in others}
    assert len(answers) == 1 and answers.pop().startswith("800 ")
    names = {path.suffix for path in (tmp_path / "store").iterdir() if path.name != ".lock"}
    assert names == {".npy", ".json"} and not list(tmp_path.glob("store/.part-*"))


def test_a_jpeg_decoded_small_is_the_jpeg_resized(tmp_path):
    import skimage.data

    photo = Image.fromarray(skimage.data.astronaut()[:400, 60:460])
    exif = Image.Exif()
    exif[0x0112] = 6
    photo.save(tmp_path / "x.jpg", quality=95, exif=exif)
    for channels in (1, 3):
        how = Preprocess(48, channels)
        assert max(how.open(tmp_path / "x.jpg").size) == 100  # a quarter, and twice 48 at least
        exact = how(photo.rotate(-90)).astype(int)
        assert np.abs(how.read(tmp_path / "x.jpg").astype(int) - exact).mean() < 2
