"""Decoding many images, in one process or several."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from utils.data import decode
from utils.data.decode import chunked, decode_chunk, decode_chunks
from utils.errors import StageError
from utils.imaging.image_io import ImageError
from utils.imaging.preprocess import Preprocess

PREPROCESS = Preprocess(8, 1)


@pytest.fixture
def photos(tmp_path) -> list[Path]:
    """Ten grey photos of different brightness; the one at 7 is empty."""
    paths = [tmp_path / f"{i}.png" for i in range(10)]
    for i, path in enumerate(paths):
        Image.new("L", (20, 20), 10 * i).save(path)
    paths[7].write_bytes(b"")
    return paths


def test_decode_chunk_returns_images_and_failures(photos):
    images, failures = decode_chunk(photos[5:], PREPROCESS)
    assert images.shape == (4, 1, 8, 8) and images.dtype == np.uint8
    assert images[:, 0, 0, 0].tolist() == [50, 60, 80, 90]
    assert failures == {2: "an empty file, not an image"}


def test_decode_chunk_without_readable_images(photos):
    images, failures = decode_chunk([photos[7]], PREPROCESS)
    assert images.shape == (0, 1, 8, 8) and list(failures) == [0]


def test_chunked_splits_all_files_in_order(monkeypatch):
    monkeypatch.setattr(decode, "CHUNK", 3)
    paths = [Path(str(i)) for i in range(7)]
    assert [len(chunk) for chunk in chunked(paths)] == [3, 3, 1]
    assert [path for chunk in chunked(paths) for path in chunk] == paths
    assert list(chunked([])) == []


def decode_in_threes(photos: list[Path], workers: int) -> tuple[list[int], list[dict[int, str]]]:
    chunks = [photos[i : i + 3] for i in range(0, len(photos), 3)]
    results = list(decode_chunks(iter(chunks), PREPROCESS, len(photos), workers))
    values = [int(image[0, 0, 0]) for images, _ in results for image in images]
    return values, [failures for _, failures in results]


def test_decode_chunks_on_workers_returns_what_one_process_does(photos, monkeypatch):
    alone = decode_in_threes(photos, workers=2)
    assert alone[0] == [0, 10, 20, 30, 40, 50, 60, 80, 90]
    assert alone[1] == [{}, {}, {1: "an empty file, not an image"}, {}]
    monkeypatch.setattr(decode, "FEW", 9)
    started = []
    pool = decode.ProcessPool
    monkeypatch.setattr(decode, "ProcessPool", lambda count: started.append(count) or pool(count))
    assert decode_in_threes(photos, workers=2) == alone
    assert started == [2]
    assert decode_in_threes(photos, workers=1) == alone
    assert started == [2]


class Deadly(Preprocess):
    def read(self, source):
        os.kill(os.getpid(), 9)
        raise ImageError("not killed")


@pytest.mark.skipif(os.name == "nt", reason="SIGKILL")
def test_decode_chunks_reports_killed_workers(photos, monkeypatch):
    monkeypatch.setattr(decode, "FEW", 0)
    with pytest.raises(StageError, match=r"images cannot be decoded: .*killed twice"):
        list(decode_chunks([photos], Deadly(8, 1), len(photos), workers=2))
