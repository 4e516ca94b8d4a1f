"""The folder of a run: its number, its options, its results, and who may train in it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers import ROOT
from utils.errors import StageError
from utils.training.run_folder import Run, read_options, to_argv


def make_run(runs: Path, name: str, options: dict | None = None, resumable: bool = True) -> Run:
    run = Run(runs / name)
    run.folder.mkdir(parents=True)
    run.write_options(options or {"epochs": 3})
    if resumable:
        run.last.write_bytes(b"state")
    return run


def test_new_takes_the_next_number_and_never_an_old_folder(tmp_path):
    runs = tmp_path / "a/runs"
    assert Run.new(runs, "vgg19").folder.name == "001-vgg19"
    (runs / "007-emotionnet").mkdir()
    (runs / "notes").mkdir()
    assert [Run.new(runs, "vgg19").folder.name for _ in "ab"] == ["008-vgg19", "009-vgg19"]


def test_new_survives_another_run_that_takes_its_number(tmp_path, monkeypatch):
    mkdir = Path.mkdir

    def mkdir_once_taken(path: Path, *args: object, **options: object) -> None:
        if path.name == "001-vgg19":
            mkdir(path)
        mkdir(path, *args, **options)

    monkeypatch.setattr(Path, "mkdir", mkdir_once_taken)
    assert Run.new(tmp_path, "vgg19").folder.name == "002-vgg19"


def test_newest_is_the_highest_number_with_a_state(tmp_path):
    with pytest.raises(StageError, match="holds no run to resume"):
        Run.newest(tmp_path)
    make_run(tmp_path, "002-a")
    make_run(tmp_path, "010-a")
    make_run(tmp_path, "011-a", resumable=False)
    (tmp_path / "012-no-run").mkdir()
    assert Run.newest(tmp_path).folder.name == "010-a"


def test_at_takes_a_folder_or_a_file_in_it(tmp_path):
    run = make_run(tmp_path, "001-a")
    assert Run.at(run.folder).folder == Run.at(run.last).folder == run.folder
    for path in (tmp_path, tmp_path / "none"):
        with pytest.raises(StageError, match="is not the folder of a run"):
            Run.at(path)


def test_find_matching_is_the_newest_with_the_same_options(tmp_path):
    options = {"epochs": 3, "lr": None, "data_path": "data"}
    assert Run.find_matching(tmp_path, options) is None
    make_run(tmp_path, "001-a", options)
    make_run(tmp_path, "002-a", options)
    make_run(tmp_path, "003-a", options | {"epochs": 4})
    make_run(tmp_path, "004-a", options, resumable=False)
    make_run(tmp_path, "005-a")
    (tmp_path / "005-a/options.json").write_text("broken")
    assert Run.find_matching(tmp_path, options).folder.name == "002-a"


def test_find_matching_of_an_earlier_version_lacks_newer_flags(tmp_path):
    make_run(tmp_path, "001-a", {"epochs": 3, "teacher": "a.pt"})
    defaults = {"epochs": 50, "votes_min": 1}
    options = {"epochs": 3, "votes_min": 1, "teacher": ["a.pt"]}  # one flag may take several now
    assert Run.find_matching(tmp_path, options) is None
    assert Run.find_matching(tmp_path, options, defaults)
    assert Run.find_matching(tmp_path, options | {"votes_min": 2}, defaults) is None
    assert Run.find_matching(tmp_path, options | {"teacher": ["a.pt", "b.pt"]}, defaults) is None


def test_backup_replaced_keeps_a_model_that_no_run_has(tmp_path):
    old, new = make_run(tmp_path / "runs", "001-a"), make_run(tmp_path / "runs", "002-a")
    model = tmp_path / "model.pt"
    model.write_bytes(b"somebody's")
    old.best.write_bytes(b"another")
    new.backup_replaced(model)
    assert new.replaced.read_bytes() == b"somebody's"
    new.replaced.unlink()
    old.best.write_bytes(b"somebody's")
    new.backup_replaced(model)
    assert not new.replaced.exists()


def test_options_come_back_as_they_were_written(tmp_path):
    options = {"epochs": 3, "lr": 0.1, "flip": False, "init": None, "data_path": "얼굴"}
    if os.name == "posix":  # whose names need not be UTF-8
        options["model_path"] = os.fsdecode("모델.pt".encode("cp949"))
    run = make_run(tmp_path, "001-a", options)
    assert read_options(run.folder / "options.json") == options
    assert "얼굴" in (run.folder / "options.json").read_bytes().decode(errors="replace")


ENVIRONMENT = {"amp": "bf16", "torch": "2.9.0", "toolkit": "0.1.0", "device": "a CPU"}


def test_write_options_keeps_the_environment_beside_the_flags(tmp_path):
    options = {"epochs": 3, "lr": 0.1, "init": None}
    run = make_run(tmp_path, "001-a", options)
    run.write_options(options, ENVIRONMENT)
    content = json.loads((run.folder / "options.json").read_text("utf-8"))
    assert content == {**options, "environment": ENVIRONMENT}
    assert read_options(run.folder / "options.json") == options  # none is a flag


@pytest.mark.parametrize("environment", [None, ENVIRONMENT, ENVIRONMENT | {"torch": "3"}])
def test_find_matching_compares_no_environment(tmp_path, environment):
    options = {"epochs": 3, "lr": None}
    run = make_run(tmp_path, "001-a", options)
    run.write_options(options, environment)
    assert Run.find_matching(tmp_path, options).folder == run.folder
    assert Run.find_matching(tmp_path, options | {"epochs": 4}) is None


def test_read_options_leaves_an_environment_that_is_a_users_mistake(tmp_path):
    (tmp_path / "c.json").write_text('{"epochs": 1, "environment": "x"}')
    assert read_options(tmp_path / "c.json") == {"epochs": 1, "environment": "x"}


def test_write_options_removes_what_a_killed_process_left(tmp_path):
    run = make_run(tmp_path, "001-a")
    (run.folder / ".part-x").write_bytes(b"half")
    run.write_options({"epochs": 1})
    assert sorted(path.name for path in run.folder.iterdir()) == ["last.pt", "options.json"]


@pytest.mark.parametrize("text", ["[1]", "epochs: 1", "", "[" * 100_000, '"words"'])
def test_read_options_refuses_what_is_no_json_object(tmp_path, text):
    (tmp_path / "c.json").write_text(text)
    with pytest.raises(StageError, match=r"c\.json is not JSON like"):
        read_options(tmp_path / "c.json")


def test_read_options_names_a_missing_file(tmp_path):
    with pytest.raises(StageError, match=r"none\.json: No such file"):
        read_options(tmp_path / "none.json")


@pytest.mark.parametrize("character", ["\0", "\ud800"])
def test_read_options_refuses_a_character_that_no_path_can_hold(tmp_path, character):
    (tmp_path / "c.json").write_text(json.dumps({"epochs": 1, "log_dir": f"a{character}b"}))
    with pytest.raises(StageError, match=r"c\.json: log_dir has a character"):
        read_options(tmp_path / "c.json")


def test_read_options_accepts_a_byte_order_mark(tmp_path):
    (tmp_path / "c.json").write_text('\ufeff{"epochs": 1}', encoding="utf-8")
    assert read_options(tmp_path / "c.json") == {"epochs": 1}


def test_to_argv_leaves_out_null():
    options = {"epochs": 3, "lr": None, "flip": False, "init": "a b"}
    assert to_argv(options) == ["--epochs=3", "--flip=False", "--init=a b"]


def test_write_results_writes_the_whole_table_each_time(tmp_path):
    run = make_run(tmp_path, "001-a")
    rows = [{"epoch": 1, "loss": 1 / 3}, {"epoch": 2, "loss": 0.25}]
    (run.folder / "results.csv").write_text("epoch,loss\n1,0.3\n1,0.3\n2,0.")
    run.write_results(rows)
    text = (run.folder / "results.csv").read_text("utf-8-sig")
    assert text.split() == ["epoch,loss", "1,0.333333", "2,0.25"]


@pytest.mark.slow
def test_lock_keeps_a_second_process_out_until_the_first_ends(tmp_path):
    run = make_run(tmp_path, "001-a")
    words = [sys.executable, "-m", "tests.hold_run", str(run.folder)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, cwd=ROOT) as other:
        assert other.stdout.read(1) == b"1"
        with pytest.raises(StageError, match="is being trained by another process"):
            run.lock()
        other.kill()
    run.lock()
