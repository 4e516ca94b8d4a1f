"""Reports of test.py: a folder for each set, and figures whatever happens to the files."""

from __future__ import annotations

import json
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest
import torch

from tests.helpers import make_faces, one_line_error, run, tree
from utils import __version__
from utils.inference.checkpoint import Checkpoint
from utils.inference.model_path import BUNDLED_MODEL

pytestmark = pytest.mark.slow


@pytest.fixture
def here(trained, tmp_path):
    """A folder with a copy of the model, to work in."""
    shutil.copy(trained / "model.pt", tmp_path)
    return tmp_path


@pytest.fixture
def mount(tmp_path):
    """A function that mounts a disk at a folder."""
    mounted = []

    def mount(folder: Path, options: str) -> Path:
        folder.mkdir(exist_ok=True)
        words = ["mount", "-t", "tmpfs", "-o", options, "none", str(folder)]
        try:
            if subprocess.run(words, capture_output=True).returncode:
                pytest.skip("only an administrator can mount a disk")
        except OSError:
            pytest.skip("no disk can be mounted here")
        mounted.append(folder)
        return folder

    yield mount
    for folder in mounted:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_report_of_another_set_is_not_replaced(trained, here):
    data = trained / "data"
    shutil.copytree(data / "validation", here / "other/test")
    for args in (
        ("--data_path", data),
        ("--data_path", data, "--split", "validation"),
        ("--data_path", data / "train"),
    ):
        assert run("test.py", *args, cwd=here).returncode == 0
    done = run("test.py", "--data_path", "other", cwd=here)
    assert "model-report/test holds the report of model.pt on" in done.stderr
    assert done.stdout.endswith("pictures: model-report/test-2\n")
    images = {
        path.parent.name: json.loads(path.read_text("utf-8"))["images"]
        for path in (here / "model-report").glob("*/report.json")
    }
    assert images == {"test": 18, "validation": 24, "train": 72, "test-2": 24}
    done = run("test.py", "--data_path", data, "--output", "model-report/test-2", cwd=here)
    assert done.stderr.startswith("note: model-report/test-2: the report of model.pt on ")
    assert done.returncode == 0 and "will be replaced\n" in done.stderr


def test_the_report_names_precision_versions_and_device(trained, here):
    done = run("test.py", "--data_path", trained / "data", "--json", "--tta", "flip", cwd=here)
    report = json.loads(done.stdout)
    assert report == json.loads((here / "model-report/test/report.json").read_text("utf-8"))
    environment = report["environment"]
    assert (environment["amp"], environment["toolkit"]) == ("off", __version__)
    assert environment["torch"] == str(torch.__version__) and environment["device"]
    assert report["tta"] == "flip"


def test_nothing_is_written_into_pretrained(here):
    before = tree(BUNDLED_MODEL.parent)
    faces = make_faces(here / "얼굴", Checkpoint.load(BUNDLED_MODEL).classes, 2)
    args = ("--model_path", BUNDLED_MODEL, "--data_path", faces)
    done = run("test.py", *args, cwd=here)
    assert done.returncode == 0 and (here / "resnet29-ferplus-report/얼굴/report.json").exists()
    shutil.copytree(faces, here / "d/validation")
    done = run(
        "test.py", *args[:2], "--data_path", "d", "--split", "validation", "--calibrate", cwd=here
    )
    one_line_error(done, "--calibrate would change", "copy it, and calibrate the copy")
    done = run("test.py", *args, cwd=BUNDLED_MODEL.parent)
    one_line_error(done, "comes with the project", "--output")
    assert tree(BUNDLED_MODEL.parent) == before


def test_a_file_in_the_way_is_found_before_anything_is_measured(trained, here):
    (here / "model-report").write_bytes(b"mine")
    done = run("test.py", "--data_path", trained / "data", cwd=here)
    one_line_error(done, "no report: model-report: is a file, but a folder is needed")
    assert (here / "model-report").read_bytes() == b"mine"


def test_a_measurement_that_cannot_begin_leaves_no_folder(here):
    make_faces(here / "other", ["기쁨", "놀람"], 2)
    one_line_error(run("test.py", "--data_path", "other", cwd=here), "놀람")
    assert not (here / "model-report").exists()


@pytest.mark.parametrize("as_json", [False, True])
@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ("ro", "Read-only file system"),
        ("size=4k", "No space left on device"),
        ("size=16k", "No space left on device"),  # room for the trial, not for the report
    ],
)
def test_figures_are_printed_though_the_disk_cannot_be_written(
    trained, here, mount, options, reason, as_json
):
    disk = mount(here / "disk", options)
    args = ("--data_path", trained / "data", "--output", disk / "report")
    done = run("test.py", *args, *(["--json"] if as_json else []), cwd=here)
    assert done.returncode == 1, done.stderr
    if as_json:
        assert json.loads(done.stdout)["images"] == 18
    else:
        assert "of 18 images" in done.stdout and done.stdout.endswith("0 기쁨  1 분노  2 중립\n")
    *_, last = done.stderr.splitlines()
    assert last.startswith(f"no complete report in {disk / 'report'}: ") and reason in last
    assert done.stderr.count("\n") <= 2 and not list(disk.rglob(".part-*"))


def test_figures_are_printed_though_the_log_cannot_be_written(trained, here, mount):
    disk = mount(here / "disk", "ro")
    shutil.copytree(trained / "data/test", here / "faces")
    (here / "faces/기쁨/broken.png").write_bytes(b"<html>")
    done = run("test.py", "--data_path", "faces", "--log_dir", disk / "logs", cwd=here)
    assert done.returncode == 1 and "of 18 images" in done.stdout
    last = done.stderr.splitlines()[-1]
    assert last.startswith("1 images could not be read: no log of them, ")
    assert "Read-only file system" in last
    assert (here / "model-report/faces/report.json").exists()


def test_figures_are_printed_though_the_calibration_cannot_be_saved(trained, here, mount):
    disk = mount(here / "disk", "size=19m")
    shutil.copy(here / "model.pt", disk)
    (disk / "rest").write_bytes(bytes(300_000))
    args = ("--data_path", trained / "data", "--calibrate", "--output", "report")
    done = run("test.py", "--model_path", disk / "model.pt", *args, cwd=here)
    assert done.returncode == 1 and "of 18 images" in done.stdout
    assert done.stderr.splitlines()[-1].startswith(f"{disk / 'model.pt'} is not calibrated: ")
    assert (disk / "model.pt").read_bytes() == (here / "model.pt").read_bytes()
    assert json.loads((here / "report/report.json").read_text("utf-8"))["temperature"] == 1


def test_figures_of_several_models_are_printed_though_one_report_cannot_be_written(
    trained, here, mount
):
    disk = mount(here / "disk", "size=19m")
    shutil.copy(here / "model.pt", disk / "other.pt")
    with (disk / "rest").open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))
    args = ("--model_path", "model.pt", disk / "other.pt", "--data_path", trained / "data")
    done = run("test.py", *args, cwd=here)
    assert done.returncode == 1 and done.stdout.count("\n") == 4, done.stderr
    assert done.stderr.splitlines()[-1].startswith(f"no complete report in {disk}/other-report")
    assert (here / "model-report/test/report.json").exists()
