"""A set of images and its cache: built once, never outdated, never half."""

from __future__ import annotations

import os
import shutil
import time
from collections import namedtuple
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.helpers import fork_context, make_faces
from utils.data import dataset as dataset_module
from utils.data import decode
from utils.data.dataset import Dataset, fingerprint, load_dataset, upload_rows
from utils.data.image_folder import make_samples, scan_class_folders
from utils.errors import StageError
from utils.imaging.preprocess import Preprocess

PREPROCESS = Preprocess(32, 1)
CPU = torch.device("cpu")
replaces_mapped_files = pytest.mark.skipif(
    os.name == "nt", reason="Windows cannot replace files that are mapped into memory"
)


def load(root: Path, folder: Path | None, preprocess: Preprocess = PREPROCESS) -> Dataset:
    images = scan_class_folders(root)
    return load_dataset(make_samples(images, list(images)), preprocess, "train", folder)


def batches_of(data: Dataset, indices: list[list[int]]) -> list[torch.Tensor]:
    return list(data.batches([torch.tensor(index) for index in indices], CPU))


@pytest.fixture
def faces(tmp_path):
    make_faces(tmp_path / "faces", ["a", "b"], 6)
    (tmp_path / "faces/a/0003.png").write_bytes(b"<html>")
    return tmp_path / "faces"


def test_load_dataset_decodes_images_and_lists_failures(faces, tmp_path):
    data = load(faces, tmp_path / "cache")
    assert len(data) == 11 and data.labels.tolist() == [0] * 5 + [1] * 6
    assert data.failures == [(faces / "a/0003.png", "an HTML page, not an image")]
    [pixels] = batches_of(data, [[4, 0]])
    for image, place in zip(pixels, (4, 0), strict=True):
        assert torch.equal(
            image, torch.from_numpy(PREPROCESS.read(data.samples[place].path).copy())
        )
    in_memory = load(faces, None)
    assert torch.equal(in_memory.images, data.images) and in_memory.failures == data.failures


@replaces_mapped_files
def test_load_dataset_builds_a_cache_once_and_again_after_a_change(faces, tmp_path, monkeypatch):
    first = load(faces, faces / ".cache")
    monkeypatch.setattr(dataset_module, "decode_chunks", None)  # decoding would fail
    again = load(faces, faces / ".cache")
    assert torch.equal(again.images, first.images) and again.failures == first.failures
    moved, folder = tmp_path / "moved", tmp_path / "moved/.cache"
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
    # Another set's cache in the same folder is left alone.
    shutil.copytree(moved / "a", tmp_path / "other/a")
    load(tmp_path / "other", folder)
    assert len(set(folder.glob("*.npy"))) == 3


@replaces_mapped_files
def test_load_dataset_includes_an_image_that_has_recovered(faces, tmp_path):
    """The file is the same as before: perhaps its disk was not mounted."""
    path = faces / "b/0002.png"
    content, state = path.read_bytes(), path.stat()
    path.write_bytes(bytes(len(content)))
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert len(load(faces, tmp_path / "cache")) == 10
    path.write_bytes(content)
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    again = load(faces, tmp_path / "cache")
    assert len(again) == len(again.images) == 11
    assert [path.name for path, _ in again.failures] == ["0003.png"]


def test_load_dataset_without_room_decodes_on_the_fly(faces, tmp_path, monkeypatch, capsys):
    kept = load(faces, tmp_path / "cache")
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(dataset_module.shutil, "disk_usage", lambda path: usage(1000))
    data = load(faces, tmp_path / "other")
    assert "0.0 GB are free" in capsys.readouterr().err
    assert data.images is None and data.failures == kept.failures and len(data) == len(kept)
    order = [[4, 0], [10], [1, 2, 3]]
    assert all(map(torch.equal, batches_of(data, order), batches_of(kept, order)))
    assert not list((tmp_path / "other").glob("*.npy"))
    (tmp_path / "file").write_text("")
    assert load(faces, tmp_path / "file").images is None  # nowhere to make a folder


def test_load_dataset_writes_an_npy_file_that_never_changes(faces, tmp_path):
    data = load(faces, tmp_path / "cache")
    [path] = (tmp_path / "cache").glob("*.npy")
    assert np.array_equal(np.load(path), data.images.numpy()) and len(data) == 11
    before = path.read_bytes()
    data.images[0] = 0  # copy-on-write
    assert path.read_bytes() == before


def test_load_dataset_without_readable_images_is_empty(faces, tmp_path):
    for path in faces.rglob("*.png"):
        path.write_bytes(b"")
    for _ in range(2):
        data = load(faces, tmp_path / "cache")
        assert len(data) == 0 and data.images.shape == (0, 1, 32, 32) and len(data.failures) == 12


@replaces_mapped_files
def test_load_dataset_rebuilds_a_cache_of_the_old_format(faces, tmp_path, capsys):
    folder = tmp_path / "cache"
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


@replaces_mapped_files
def test_load_dataset_reports_a_broken_cache_and_does_not_use_it(faces, tmp_path, capsys):
    load(faces, tmp_path / "cache")
    [path] = (tmp_path / "cache").glob("*.npy")
    path.write_bytes(path.read_bytes()[:-1])
    again = load(faces, tmp_path / "cache")
    assert f"{path} is broken: delete it" in capsys.readouterr().err
    order, data = [[3, 1], [10]], load(faces, None)
    assert again.images is None and all(
        map(torch.equal, batches_of(again, order), batches_of(data, order))
    )


def test_batches_name_an_image_that_can_no_longer_be_read(faces, tmp_path):
    (tmp_path / "file").write_text("")
    data = load(faces, tmp_path / "file")  # no folder for a cache: decoded on the fly
    data.samples[4].path.write_bytes(b"")
    with pytest.raises(StageError, match=r"0005\.png can no longer be read: an empty file"):
        batches_of(data, [[0, 1], [3, 4]])


def test_load_dataset_on_workers_returns_what_one_process_does(tmp_path, monkeypatch):
    make_faces(tmp_path / "faces", ["a", "b"], 100, size=32)
    (tmp_path / "faces/b/0070.png").write_bytes(b"")
    alone = load(tmp_path / "faces", None)
    monkeypatch.setattr(decode, "FEW", 10)
    many = load(tmp_path / "faces", tmp_path / "cache")
    assert torch.equal(alone.images, many.images) and len(many) == 199
    assert alone.failures == many.failures
    assert [path.name for path, _ in many.failures] == ["0070.png"]


def load_and_report(folder: Path, report: Path) -> None:
    data = load(folder / "faces", folder / "cache", Preprocess(48, 1))
    report.write_text(f"{len(data)} {int(data.images.sum())}")


@pytest.mark.slow
def test_load_dataset_in_two_runs_at_once_while_one_is_killed(tmp_path):
    make_faces(tmp_path / "faces", ["a", "b"], 400)
    reports = [tmp_path / f"report {i}" for i in range(3)]
    runs = [
        fork_context().Process(target=load_and_report, args=(tmp_path, report))
        for report in reports
    ]
    killed, *others = runs
    killed.start()
    while not list(tmp_path.glob("cache/.part-*")):
        assert killed.is_alive()
        time.sleep(0.001)
    for run in others:
        run.start()
    killed.kill()
    for run in runs:
        run.join()
    answers = [report.read_text() for report in reports[1:]]
    assert answers[0] == answers[1] and answers[0].startswith("800 ")
    names = {path.suffix for path in (tmp_path / "cache").iterdir() if path.name != ".lock"}
    assert names == {".npy", ".json"} and not list(tmp_path.glob("cache/.part-*"))


def test_dataset_stays_where_it_is_without_a_gpu(faces):
    data = load(faces, None)
    assert data.to_device(CPU) is data


def test_in_order_yields_slices_of_memory_or_decodes(faces, tmp_path):
    in_memory = load(faces, None)
    batches = list(in_memory.in_order(2, 9, 3, CPU))
    assert [len(batch) for batch in batches] == [3, 3, 1]
    assert torch.equal(torch.cat(batches), in_memory.images[2:9])
    storage = in_memory.images.untyped_storage().data_ptr()
    assert all(batch.untyped_storage().data_ptr() == storage for batch in batches)
    on_the_fly = replace(in_memory, images=None)
    assert torch.equal(torch.cat(list(on_the_fly.in_order(2, 9, 3, CPU))), in_memory.images[2:9])
    assert in_memory.device == on_the_fly.device == CPU


def test_batches_for_a_gpu_are_gathered_in_two_buffers_that_nobody_overwrites(monkeypatch):
    """A stand-in for the GPU notes when a buffer is free again, and when it is filled."""
    log = []

    class Event:
        def __init__(self) -> None:
            log.append("event")
            self.number = len(log)

        def synchronize(self) -> None:
            log.append(f"wait {self.number}")

        def record(self) -> None:
            log.append(f"copy {self.number}")

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: tensor)
    images = torch.arange(24, dtype=torch.uint8).view(8, 1, 1, 3)
    indices = [torch.tensor(index) for index in ([3, 1], [0, 7], [5, 5], [2, 4, 6], [7])]
    places = []
    for index, batch in zip(indices, upload_rows(images, indices, CPU), strict=True):
        assert torch.equal(batch, images[index])
        places.append(batch.data_ptr())
    assert places[0] == places[2] == places[4] and places[1] != places[0]
    turns = [f"{what} {1 + number % 2}" for number in range(5) for what in ("wait", "copy")]
    assert log == ["event", "event", *turns]


def test_fingerprint_depends_on_files_and_preprocessing_but_not_on_their_folder(faces, tmp_path):
    def fingerprint_of(root: Path, preprocess: Preprocess = PREPROCESS) -> str:
        images = scan_class_folders(root)
        return fingerprint(make_samples(images, list(images)), preprocess)

    first = fingerprint_of(faces)
    assert first != fingerprint_of(faces, Preprocess(32, 3))
    moved = faces.rename(tmp_path / "moved")
    assert fingerprint_of(moved) == first
    (moved / "a/0000.png").rename(moved / "a/9999.png")
    assert fingerprint_of(moved) != first
