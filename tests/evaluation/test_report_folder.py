"""Where reports go: a folder for each set, known to be writable before anything is measured."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest

from tests.helpers import tree
from utils.errors import StageError
from utils.evaluation import report_folder
from utils.evaluation.report_folder import is_bundled, prepared_folders, report_folders
from utils.files import make_folder
from utils.inference.model_path import BUNDLED_MODEL

MODEL, ROOT = Path("models/m.pt"), Path("data/test")


@pytest.fixture(autouse=True)
def _working_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def default_folder(root: str | Path, model: Path = MODEL) -> Path:
    [folder] = report_folders([model], Path(root), None)
    return folder


def write(folder: Path, model: str = "m.pt", data: Path = ROOT, tta: str = "none") -> None:
    """Write the figures of a report that tell what it is about."""
    folder.mkdir(parents=True, exist_ok=True)
    report = {"model": f"anywhere/{model}", "data": str(data), "tta": tta}
    (folder / "report.json").write_text(json.dumps(report), encoding="utf-8")


# --- the folder


@pytest.mark.parametrize(
    ("root", "name"),
    [
        ("data/test", "test"),
        ("data/validation", "validation"),
        ("my_faces", "my_faces"),
        ("/a/b/얼굴", "얼굴"),
        ("my_faces/.", "my_faces"),
    ],
)
def test_a_report_goes_beside_the_model_into_a_folder_of_its_set(root, name):
    assert default_folder(root) == Path("models/m-report") / name


def test_a_set_without_a_name_gets_that_of_its_folder(tmp_path, monkeypatch):
    (tmp_path / "faces/sub").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "faces")
    assert default_folder(".").name == "faces"
    monkeypatch.chdir(tmp_path / "faces/sub")
    assert default_folder("..").name == "faces"
    assert default_folder("/").name == "root"


def test_output_names_the_folder_itself_or_that_of_several():
    output = Path("out/x")
    assert report_folders([MODEL], ROOT, output) == [output]
    several = report_folders([MODEL, Path("b.pt")], ROOT, output)
    assert several == [output / "m-report", output / "b-report"]


@pytest.mark.parametrize("output", [None, Path("out")])
def test_an_exported_model_beside_the_original_has_its_own_folder(output):
    folders = report_folders([Path("m.pt"), Path("m.onnx")], ROOT, output)
    assert [folder.relative_to(output or ".").parts[0] for folder in folders] == [
        "m-report",
        "m.onnx-report",
    ]


@pytest.mark.parametrize("output", [None, Path("out")])
def test_two_reports_in_one_folder_are_refused(output):
    with pytest.raises(StageError, match="two models have the same name"):
        report_folders([Path("m.pt"), Path("./m.pt")], ROOT, output)
    with pytest.raises(StageError, match="two models have the same name"):
        report_folders([Path("m.pt"), Path("m.pth")], ROOT, output)
    assert len(report_folders([Path("a/m.pt"), Path("b/m.pt")], ROOT, None)) == 2


def test_a_report_of_another_set_or_model_is_kept(capsys):
    """Two data folders have a test set each, and two models may differ in their suffix."""
    write(Path("models/m-report/test"), data=Path("old/test"))
    write(Path("models/m-report/test-2"), model="m.pth")
    assert default_folder("data/test") == Path("models/m-report/test-3")
    notes = capsys.readouterr().err.splitlines()
    assert len(notes) == 2 and f"of m.pt on {Path('old/test').resolve()}: it is kept" in notes[0]
    write(Path("models/m-report/test-3"))
    assert default_folder("data/test") == Path("models/m-report/test-3")  # found again
    assert default_folder("old/test") == Path("models/m-report/test")
    assert default_folder(Path("data/test").resolve()) == Path("models/m-report/test-3")


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"model": 5, "data": null}', "\xff"])
def test_a_file_that_is_no_report_holds_no_place(content):
    Path("models/m-report/test").mkdir(parents=True)
    Path("models/m-report/test/report.json").write_text(content, encoding="latin-1")
    assert default_folder(ROOT) == Path("models/m-report/test")


def test_a_model_of_the_project_is_reported_here(tmp_path, monkeypatch):
    assert is_bundled(BUNDLED_MODEL) and not is_bundled(MODEL)
    assert default_folder(ROOT, BUNDLED_MODEL) == Path("resnet29-ferplus-report/test")
    monkeypatch.chdir(BUNDLED_MODEL.parent)
    for path in (BUNDLED_MODEL, Path(BUNDLED_MODEL.name)):
        with pytest.raises(StageError, match=r"comes with the project.* with --output"):
            report_folders([path], tmp_path, None)
    assert report_folders([BUNDLED_MODEL], tmp_path, tmp_path / "x") == [tmp_path / "x"]


@pytest.mark.skipif(os.name == "nt", reason="links need a privilege")
def test_a_link_to_the_models_of_the_project_is_followed():
    Path("link").symlink_to(BUNDLED_MODEL.parent)
    assert default_folder(ROOT, Path("link/x.pt")) == Path("x-report/test")


# --- before anything is measured


def prepare(*folders: Path | str, tta: str = "none"):
    paths = [Path(folder) for folder in folders]
    return prepared_folders(paths, [MODEL] * len(paths), ROOT, [f"--tta {tta}"] * len(paths))


def test_prepared_folders_exist_and_leave_nothing_that_is_empty(capsys):
    Path("mine").mkdir()
    with prepare("a/b", "mine/c") as unwritable:
        assert Path("a/b").is_dir() and Path("mine/c").is_dir() and unwritable == {}
        Path("a/b/report.json").write_text("{}")
    assert Path("a/b").is_dir() and Path("mine").is_dir() and not Path("mine/c").exists()
    assert capsys.readouterr().err == "" and list(tree(Path())) == [str(Path("a/b/report.json"))]


def test_prepared_folders_are_removed_if_the_measurement_fails():
    with pytest.raises(KeyboardInterrupt), prepare("a/b"):
        raise KeyboardInterrupt
    assert not Path("a").exists()


def test_a_report_that_will_be_replaced_is_named(capsys):
    write(Path("out"), data=Path("other/faces"))
    with prepare("out"):
        pass
    assert "out: the report of m.pt on " in (text := capsys.readouterr().err)
    assert text.endswith(f"{Path('other/faces').resolve()}, --tta none, will be replaced\n")
    write(Path("out"), tta="flip")
    with prepare("out"):
        pass
    assert capsys.readouterr().err.endswith("--tta flip, will be replaced\n")
    with prepare("out", tta="flip"):  # the same again
        pass
    assert capsys.readouterr().err == ""


def test_a_report_without_balance_is_another(capsys):
    options = report_folder.report_options("none", 0.5)
    assert options == "--tta none --balance 0.5"
    write(Path("out"))
    with prepared_folders([Path("out")], [MODEL], ROOT, [options]):
        pass
    assert capsys.readouterr().err.endswith(", --tta none, will be replaced\n")
    report = {"model": "m.pt", "data": str(ROOT), "tta": "none", "balance": {"tau": 0.5}}
    (Path("out") / "report.json").write_text(json.dumps(report), encoding="utf-8")
    with prepared_folders([Path("out")], [MODEL], ROOT, [options]):
        pass
    assert capsys.readouterr().err == ""


@pytest.mark.skipif(os.name == "nt", reason="other errors")
@pytest.mark.parametrize("place", ["file", "file/report", "x" * 300])
def test_a_path_that_can_be_no_folder_is_refused(place):
    Path("file").write_bytes(b"mine")
    with pytest.raises(StageError, match=r"^no report: "), prepare("a/b", place):
        pytest.fail("it has to be refused before anything is measured")
    assert Path("file").read_bytes() == b"mine" and not Path("a").exists()


@pytest.mark.parametrize("number", [errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EACCES])
def test_a_disk_that_cannot_be_written_is_named_once(monkeypatch, number, capsys):
    def fail(folder: Path) -> None:
        raise OSError(number, os.strerror(number), str(folder))

    monkeypatch.setattr(report_folder, "make_folder", fail)
    with prepare("a") as unwritable:
        assert unwritable == {Path("a"): f"a: {os.strerror(number)}"}
    text = capsys.readouterr().err
    assert text == (
        f"note: a: {os.strerror(number)}: only the figures will be printed (or name --output)\n"
    )


def test_a_full_disk_is_noticed_though_a_folder_fits(monkeypatch, capsys):
    def full(*args: object, **options: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(report_folder.tempfile, "TemporaryFile", full)
    with prepare("a") as unwritable:
        assert unwritable == {Path("a"): "a: No space left on device"}
    assert make_folder  # the folder itself could be made
    assert not Path("a").exists()
