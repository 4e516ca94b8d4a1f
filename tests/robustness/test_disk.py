"""Disks that are full or read-only, names at the limit: one clear line, nothing half-written."""

from __future__ import annotations

import os
import subprocess

import numpy as np
import pytest
from PIL import Image

from tests.helpers import (
    box_cell,
    crops_in,
    jpeg,
    make_faces,
    name_of,
    one_line_error,
    row,
    run,
    tree,
    write_table,
)
from utils.data.annotations import Table
from utils.errors import StageError
from utils.recognition.video_io import Frame, VideoWriter

pytestmark = pytest.mark.slow


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 256 KB, mounted at `disk`."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "none", str(disk)]
    try:
        mounted = subprocess.run(mount, capture_output=True).returncode == 0
    except OSError:
        mounted = False
    if not mounted:
        pytest.skip("only an administrator can mount a small disk")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


WHOLE_PHOTO = box_cell(0, 0, 150, 150)


def noise_image(seed: int, side: int = 150) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (side, side), np.uint8))


def write_photos(tmp_path, server):
    """Twenty photos, on the server too, that do not fit on the small disk; return their table."""
    (tmp_path / "original/기쁨").mkdir(parents=True)
    rows = []
    for i in range(20):
        name = name_of("기쁨", i)
        path = tmp_path / "original/기쁨" / name
        noise_image(i).save(path, quality=95)
        server.files[f"/{name}"] = path.read_bytes()
        rows.append(row(name, f"{server.url}/{name}", box=WHOLE_PHOTO))
    return write_table(tmp_path / "t.tsv", rows)


@pytest.mark.parametrize("script", ["downloadImage.py", "cropImages.py"])
def test_stage_on_a_disk_that_fills(tmp_path, small_disk, server, script):
    table = write_photos(tmp_path, server)
    whole = tmp_path / "whole"
    assert run(script, "--input", table, "--output", whole, cwd=tmp_path).returncode == 0
    done = run(script, "--input", table, "--output", small_disk, cwd=tmp_path)
    one_line_error(done, "No space left on device", str(small_disk))
    there = {path: photo for path, photo in tree(small_disk).items() if "/.part-" not in path}
    assert 0 < len(there) < 20 and there.items() <= tree(whole).items()


def test_split_on_a_disk_that_fills_with_copies(tmp_path, small_disk):
    for i in range(20):
        path = tmp_path / f"crop/기쁨/{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        noise_image(i).save(path)
    done = run("dataPreparation.py", "--output", small_disk, cwd=tmp_path)
    one_line_error(done, "No space left on device", str(small_disk))
    for path, content in tree(small_disk).items():
        if path.endswith(".png"):
            assert content == (tmp_path / "crop" / path.split("/", 1)[1]).read_bytes()


def test_video_writer_on_a_disk_that_fills(small_disk):
    (small_disk / "x.mp4").write_bytes(b"an older one")
    colours = np.random.default_rng(0)

    def record() -> None:
        with VideoWriter(small_disk / "x.mp4", (320, 240), 10) as writer:
            for number in range(30):
                pixels = colours.integers(0, 256, (240, 320, 3), np.uint8)
                writer.write(Frame(number, number / 10, pixels))

    with pytest.raises(StageError, match="could not be written whole: No space left"):
        record()
    assert tree(small_disk) == {"x.mp4": b"an older one"}


def test_error_log_on_a_disk_that_fills(tmp_path, small_disk, server):
    rows = [row(f"{i:04d}_기쁨_.jpg", f"{server.url}/{'x' * 200}") for i in range(2000)]
    table = write_table(tmp_path / "t.tsv", rows)
    args = ("--input", table, "--log_dir", small_disk)
    one_line_error_last(run("downloadImage.py", *args, cwd=tmp_path), "No space left on device")


def one_line_error_last(done, word: str) -> None:
    """As `one_line_error`, after lines for the photos that failed before."""
    assert done.returncode == 2 and word in done.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("script", "flags"),
    [
        ("downloadImage.py", ["--output"]),
        ("downloadImage.py", ["--log_dir"]),
        ("cropImages.py", ["--output"]),
        ("dataPreparation.py", ["--output"]),
    ],
)
def test_stage_names_the_file_that_is_where_a_folder_should_be(tmp_path, server, script, flags):
    table = write_photos(tmp_path, server)
    make_faces(tmp_path / "crop", ["x", "y"], 3)
    (tmp_path / "file").write_text("mine")
    for flag in flags:
        source = () if script == "dataPreparation.py" else ("--input", table)
        done = run(script, *source, flag, "file", cwd=tmp_path)
        one_line_error(done, "file: is a file, but a folder is needed")
        assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("script", ["downloadImage.py", "cropImages.py", "dataPreparation.py"])
def test_stage_on_a_read_only_disk(tmp_path, server, small_disk, script):
    table = write_photos(tmp_path, server)
    make_faces(tmp_path / "crop", ["x", "y"], 3)
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    source = () if script == "dataPreparation.py" else ("--input", table)
    done = run(script, *source, "--output", small_disk / "out", cwd=tmp_path)
    one_line_error(done, "Read-only file system", "out")


def test_stages_handle_names_of_255_bytes(tmp_path, server):
    fits = f"{'가' * 80}_기쁨_.jpg"
    fits = "a" * (255 - len(fits.encode())) + fits
    server.files = {"/x": jpeg()}
    rows = [row(fits, f"{server.url}/x"), row("b" + fits, f"{server.url}/x")]
    table = write_table(tmp_path / "t.tsv", rows)
    assert len(os.fsencode(fits)) == 255
    for script in ("downloadImage.py", "cropImages.py"):
        assert run(script, "--input", table, cwd=tmp_path).returncode == 1
    assert list(crops_in(tmp_path / "crop")) == [f"기쁨/{fits}"]
    [bad] = Table(tmp_path / "download.error.log", ())
    assert "longer than 255 bytes" in bad.error[0]
    assert run("dataPreparation.py", cwd=tmp_path).returncode == 0
    assert f"train/기쁨/{fits}" in tree(tmp_path / "data")
