"""Some of the images of a set: their pixels, in every form that the set may have."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tests.helpers import make_faces
from utils.data.dataset import load_dataset
from utils.data.enlarged import load_enlarged
from utils.data.image_folder import make_samples, scan_class_folders
from utils.data.subset import take
from utils.imaging.preprocess import Preprocess

CPU, ROWS = torch.device("cpu"), [7, 0, 3, 11, 4]


@pytest.fixture(params=["in memory", "decoded on the fly", "enlarged"])
def whole(request, tmp_path):
    """A set of twelve faces."""
    make_faces(tmp_path / "faces", ["a", "b"], 6, size=24)
    samples = make_samples(scan_class_folders(tmp_path / "faces"), ["a", "b"])
    if request.param == "enlarged":
        return load_enlarged(samples, Preprocess(32, 1), 24, "train", tmp_path / "cache")
    data = load_dataset(samples, Preprocess(24, 1), "train", None)
    return replace(data, images=None) if request.param == "decoded on the fly" else data


def test_take_has_the_rows_of_the_set(whole):
    part = take(whole, ROWS)
    pixels = torch.cat(list(whole.batches([torch.arange(12)], CPU)))
    assert part.samples == [whole.samples[row] for row in ROWS] and len(part) == 5
    assert torch.equal(part.labels, whole.labels[ROWS]) and part.preprocess == whole.preprocess
    assert part.is_enlarged == whole.is_enlarged and part.failures == []
    for each in (part, part.to_device(CPU)):
        [first, second] = each.batches([torch.tensor([4, 0]), torch.tensor([2])], CPU)
        assert torch.equal(torch.cat([first, second]), pixels[[4, 7, 3]])
        batches = list(each.in_order(1, 5, 3, CPU))
        assert [len(batch) for batch in batches] == [3, 1]
        assert torch.equal(torch.cat(batches), pixels[ROWS[1:]])


def test_take_has_a_fingerprint_of_its_own(whole):
    prints = {whole.fingerprint, *(take(whole, rows).fingerprint for rows in (ROWS, ROWS[1:]))}
    assert len(prints) == 3 and take(whole, ROWS).fingerprint in prints
