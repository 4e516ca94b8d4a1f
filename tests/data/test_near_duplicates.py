"""Pictures saved again, resized or compressed are near duplicates; other pictures are not."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from utils.data import near_duplicates
from utils.data.near_duplicates import (
    ThumbnailCache,
    find_near_duplicates,
    is_worth_a_cache,
    read_thumbnails,
    thumbnail_of,
)


def picture(seed: int, side: int = 120) -> Image.Image:
    """A picture with large and small structures, another one for each seed."""
    generator = np.random.default_rng(seed)
    coarse = Image.fromarray(generator.integers(0, 200, (5, 5), dtype=np.uint8))
    fine = Image.fromarray(generator.integers(0, 56, (30, 30), dtype=np.uint8))
    size, cubic = (side, side), Image.Resampling.BICUBIC
    pixels = np.asarray(coarse.resize(size, cubic)) + np.asarray(fine.resize(size, cubic)) * 0.9
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def saved(image: Image.Image, kind: str, **options: object) -> Image.Image:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return Image.open(file)


COPIES = {
    "png": lambda image: saved(image, "PNG"),
    "jpeg 75": lambda image: saved(image, "JPEG", quality=75),
    "jpeg 40": lambda image: saved(image, "JPEG", quality=40),
    "webp": lambda image: saved(image, "WEBP", quality=75),
    "half": lambda image: image.resize((60, 60), Image.Resampling.BILINEAR),
    "twice": lambda image: saved(image.resize((240, 240)), "JPEG", quality=85),
    "network's size": lambda image: image.resize((48, 48), Image.Resampling.BILINEAR),
    "colour": lambda image: image.convert("RGB"),
    "darker": lambda image: image.point(lambda value: value * 0.9),
}


def pairs_of(*images: Image.Image) -> list[tuple[int, int]]:
    thumbnails = np.stack([thumbnail_of(np.asarray(image.convert("L"))) for image in images])
    return [pair[:2] for pair in find_near_duplicates(thumbnails)]


@pytest.mark.parametrize("copy", COPIES)
def test_copies_are_found(copy):
    images = [picture(seed) for seed in range(6)]
    assert pairs_of(*images, COPIES[copy](images[4])) == [(4, 6)]


def test_other_pictures_are_no_copies():
    image = picture(0)
    moved = image.crop((4, 0, 120, 120))
    mirrored = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    changed = image.copy()
    changed.paste(255, (40, 70, 80, 95))  # as a mouth that opens
    assert pairs_of(image, moved, mirrored, changed, picture(1)) == []


def test_pictures_with_the_same_outline_and_other_details_are_no_copies():
    generator = np.random.default_rng(0)
    images = generator.integers(0, 60, (40, 48, 48), dtype=np.uint8)
    images[:, :24] += 180
    assert pairs_of(*map(Image.fromarray, images)) == []


def test_flat_and_tiny_pictures_have_no_copies(tmp_path):
    assert pairs_of(*[Image.new("L", (50, 50), 90 + i) for i in range(3)]) == []
    paths = [tmp_path / f"{i}.png" for i in range(2)]
    for path in paths:
        Image.fromarray(np.array([[0, 255], [255, 0]], np.uint8)).save(path)
    assert find_near_duplicates(read_thumbnails(paths)) == []
    assert find_near_duplicates(read_thumbnails([])) == []


def test_the_tree_finds_what_comparing_all_finds(monkeypatch):
    generator = np.random.default_rng(0)
    points = generator.normal(0, (0.4, 0.3, 0.2, 0.1, 0.05), (900, 5)).astype(np.float32)
    points = np.concatenate([points, points[:200] + generator.normal(0, 0.02, (200, 5))])
    distances = np.linalg.norm(points[:, None] - points[None], axis=2)
    expected = {(i, j) for i, j in zip(*np.nonzero(distances <= 0.05), strict=True) if i < j}
    monkeypatch.setattr(near_duplicates, "LEAF", 16)
    monkeypatch.setattr(near_duplicates, "ROWS", 7)
    sizes = []
    compare = near_duplicates._compare_all
    monkeypatch.setattr(
        near_duplicates,
        "_compare_all",
        lambda points, part, radius: sizes.append(len(part)) or compare(points, part, radius),
    )
    found = set()
    for first, second in near_duplicates._close_pairs(points.astype(np.float32), 0.05):
        found |= {(min(p), max(p)) for p in zip(first.tolist(), second.tolist(), strict=True)}
    assert expected <= found and len(expected) > 100
    assert all(distances[pair] <= 0.0501 for pair in found)
    assert sum(size**2 for size in sizes) < len(points) ** 2 / 4


def test_many_copies_of_one_picture_are_few_pairs():
    thumbnails = np.stack([thumbnail_of(np.asarray(picture(i % 2))) for i in range(3000)])
    pairs = find_near_duplicates(thumbnails)
    assert len(pairs) == 2998 and {pair.first for pair in pairs} == {0, 1}
    assert {pair.distance for pair in pairs} == {0}


def write_pictures(folder: Path, count: int) -> list[Path]:
    paths = [folder / f"{i}.png" for i in range(count)]
    for i, path in enumerate(paths):
        picture(i).save(path)
    return paths


def test_a_jpeg_of_any_size_has_the_thumbnail_of_its_picture(tmp_path):
    image = picture(3, side=333)  # decoded at half its size: 167 pixels
    image.save(tmp_path / "a.jpg", quality=95)  # it is decoded at an eighth of its size
    image.save(tmp_path / "a.png")
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    thumbnails = read_thumbnails([tmp_path / name for name in ("a.jpg", "a.png", "broken.jpg")])
    [pair] = find_near_duplicates(thumbnails)
    assert pair[:2] == (0, 1) and pair.distance < 0.02
    assert not thumbnails[2].any()


def test_cached_thumbnails_are_not_decoded_again(tmp_path, monkeypatch):
    paths = write_pictures(tmp_path, 5)
    decoded: list[str] = []

    def read(self: object, source: Path) -> np.ndarray:
        decoded.append(source.name)
        return reader.read(source)

    reader = near_duplicates._Reader()
    monkeypatch.setattr(near_duplicates._Reader, "read", read)
    reader = near_duplicates.Preprocess(near_duplicates.THUMBNAIL)

    def thumbnails(paths: list[Path]) -> np.ndarray:
        cache = ThumbnailCache(tmp_path / "cache")
        result = read_thumbnails(paths, cache)
        cache.close()
        return result

    first = thumbnails(paths[:3])
    assert decoded == ["0.png", "1.png", "2.png"]
    with (tmp_path / "cache").open("ab") as file:
        file.write(b"killed here")
    second = thumbnails(paths)
    assert decoded[3:] == ["3.png", "4.png"]
    assert (second[:3] == first).all() and (thumbnails(paths) == second).all()
    assert len(decoded) == 5
    picture(9).save(paths[0])
    assert (thumbnails(paths)[0] != first[0]).any() and decoded[5:] == ["0.png"]


def test_only_many_pictures_are_worth_a_cache():
    assert not is_worth_a_cache(1000) and is_worth_a_cache(100_000)


def test_a_cache_that_cannot_be_written_stops_nothing(tmp_path, capsys):
    paths = write_pictures(tmp_path, 3)
    cache = ThumbnailCache(tmp_path / "none/cache")
    assert (read_thumbnails(paths, cache) == read_thumbnails(paths)).all()
    cache.close()
    assert capsys.readouterr().err.startswith("note: thumbnails are not kept for the next run (")


def test_a_cache_of_pictures_that_are_gone_is_removed(tmp_path):
    paths = write_pictures(tmp_path, 5)
    for few in (paths, paths[:2], paths[:2]):
        cache = ThumbnailCache(tmp_path / "cache")
        expected = read_thumbnails(few)
        assert (read_thumbnails(few, cache) == expected).all()
        cache.close()
    assert (tmp_path / "cache").stat().st_size == 2 * near_duplicates.RECORD.itemsize
