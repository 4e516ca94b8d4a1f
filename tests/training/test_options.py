"""The flags of a training: which of a run, a model, a config and the command line wins."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

import pytest

import models
import train
from tests.helpers import ROOT
from utils.errors import StageError
from utils.imaging.preprocess import Preprocess
from utils.inference.checkpoint import Checkpoint
from utils.training.options import check_flags, find_run, model_flags, resolve_argv, run_options
from utils.training.run_folder import Run


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """The working folder, with two runs of different options."""
    monkeypatch.chdir(tmp_path)
    for name, epochs in (("001-resnet18", 11), ("002-resnet18", 12)):
        run = Run(Path("runs") / name)
        run.folder.mkdir(parents=True)
        run.write_options({"model": "resnet18", "epochs": epochs, "lr": 0.5, "seed": 1})
        run.last.write_bytes(b"state")
    return tmp_path / "runs"


@pytest.fixture
def model(tmp_path, monkeypatch):
    """A model file of 16 pixels in colour."""
    monkeypatch.chdir(tmp_path)
    weights = models.create("resemotionnet", 2, 3, 16).state_dict()
    preprocess = Preprocess(16, 3).to_dict()
    checkpoint = Checkpoint("resemotionnet", ["a", "b"], preprocess, 1, 0.5, weights)
    checkpoint.save(tmp_path / "model.pt")
    return checkpoint


def write_config(**options: object) -> str:
    Path("c.json").write_text(json.dumps(options))
    return "--config=c.json"


def parse(*words: str) -> argparse.Namespace:
    argv, _ = resolve_argv(list(words))
    return train.make_parser().parse_args(argv)


def test_resolve_argv_without_files_is_the_command_line():
    assert resolve_argv(["--epochs", "3"]) == (["--epochs", "3"], None)


def test_resolve_argv_prefers_the_command_line_to_the_config(runs):
    config = write_config(epochs=7, lr=0.3)
    args = parse("--epochs", "9", config)
    assert (args.epochs, args.lr, args.seed) == (9, 0.3, 0)


def test_resolve_argv_prefers_the_config_to_the_run_that_is_resumed(runs):
    config = write_config(epochs=7)
    args = parse("--resume", config)
    assert (args.epochs, args.lr, args.model) == (7, 0.5, "resnet18")
    args = parse("--resume", config, "--epochs", "9")
    assert (args.epochs, args.lr) == (9, 0.5)


def test_resolve_argv_keeps_a_list_and_a_later_one_replaces_it(runs):
    assert parse(write_config(teacher=["a.pt", "b.pt"])).teacher == [Path("a.pt"), Path("b.pt")]
    assert parse(write_config(teacher="a.pt")).teacher == [Path("a.pt")]  # of an older version
    assert parse(write_config(teacher=None)).teacher is None
    config = write_config(teacher=["a.pt", "b.pt"])
    assert parse("--teacher", "c.pt", config).teacher == [Path("c.pt")]
    Run(runs / "002-resnet18").write_options({"teacher": "-old.pt", "epochs": 12})
    assert parse("--resume").teacher == [Path("-old.pt")]
    args = parse("--resume", config)
    assert (args.teacher, args.epochs) == ([Path("a.pt"), Path("b.pt")], 12)
    assert parse("--resume", config, "--teacher=c.pt").teacher == [Path("c.pt")]


def test_resolve_argv_resumes_the_newest_run_or_the_named_one(runs):
    assert parse("--resume").epochs == 12
    assert parse("--resume", "runs/001-resnet18").epochs == 11
    assert parse("--resume", "runs/001-resnet18/last.pt").epochs == 11


def test_resolve_argv_looks_for_runs_in_runs_path(runs):
    runs.rename(runs.with_name("other"))
    with pytest.raises(StageError, match="runs holds no run to resume"):
        resolve_argv(["--resume"])
    assert parse("--resume", "--runs_path", "other").epochs == 12


def test_resolve_argv_takes_no_flags_of_a_run_for_auto(runs):
    args = parse("--resume", "auto")
    assert (args.epochs, args.resume) == (50, "auto")


def test_resolve_argv_obeys_resume_and_init_in_a_config(runs, model):
    assert parse(write_config(resume="runs/001-resnet18")).epochs == 11
    args = parse(write_config(init="model.pt"))
    assert (args.model, args.image_size) == ("resemotionnet", 16)


def test_resolve_argv_takes_the_network_of_the_model_to_start_from(model):
    argv, initial = resolve_argv(["--init", "model.pt", "--epochs", "3"])
    args = train.make_parser().parse_args(argv)
    assert (args.model, args.image_size, args.image_channel) == ("resemotionnet", 16, 3)
    assert args.epochs == 3 and initial.classes == model.classes
    assert parse("--init", "model.pt", "--image_size", "32").image_size == 32
    assert parse("--init", "model.pt", write_config(image_size=24)).image_size == 24


def test_resolve_argv_of_a_resumed_run_loads_no_initial_model(runs, model):
    assert resolve_argv(["--resume", "--init", "model.pt"])[1] is None


def test_resolve_argv_finds_files_below_the_home_folder(runs, model, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    write_config(data_path="~/faces", store="~", epochs=7)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    args = parse("--config=~/c.json", "--model_path=~/m.pt")
    assert (args.data_path, args.store) == (tmp_path / "faces", tmp_path)
    assert (args.model_path, args.epochs) == (tmp_path / "m.pt", 7)
    assert parse("--resume=~/runs/001-resnet18").epochs == 11
    assert parse("--resume", "--runs_path=~/runs").epochs == 12
    assert parse("--init=~/model.pt").model == "resemotionnet"
    assert run_options(args)["data_path"] == str(tmp_path / "faces")


def test_resolve_argv_takes_hyphens_and_any_case(runs):
    runs.rename(runs.with_name("other"))
    assert parse("--resume", "--runs-path", "other").epochs == 12
    assert parse("--resume", "Newest", "--runs-path=other").epochs == 12
    assert parse("--resume", "AUTO").resume == "auto"
    config = write_config(**{"image-size": 32, "optimizer": "Adam", "model": "VGG19"})
    args = parse(config)
    assert (args.image_size, args.optimizer, args.model) == (32, "adam", "vgg19")


@pytest.mark.parametrize(
    ("options", "suggestion"),
    [
        ({"epoch": 3}, "unknown flag --epoch; did you mean --epochs?"),
        ({"optimizer": "adan"}, "did you mean adam?"),
        ({"model": "vgg18"}, "did you mean vgg19?"),
    ],
)
def test_a_mistyped_word_in_a_config_gets_a_suggestion(runs, options, suggestion, capsys):
    with pytest.raises(SystemExit):
        parse(write_config(**options))
    line = capsys.readouterr().err
    assert line.count("\n") == 1 and suggestion in line


@pytest.mark.parametrize("words", [["--config"], ["--init"], ["--runs_path"]])
def test_resolve_argv_refuses_a_flag_without_its_value_in_one_line(words, capsys):
    with pytest.raises(SystemExit):
        resolve_argv(words)
    line = capsys.readouterr().err
    assert line.count("\n") == 1 and "expected one argument" in line


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--config", "none.json"], r"none\.json: No such file"),
        (["--resume", "none"], "none is not the folder of a run"),
        (["--init", "none.pt"], r"none\.pt: no such file"),
    ],
)
def test_resolve_argv_names_what_cannot_be_read(runs, words, message):
    with pytest.raises(StageError, match=message):
        resolve_argv(words)


def test_find_run_is_the_newest_or_the_named_one(runs):
    assert find_run("newest", runs).folder.name == "002-resnet18"
    assert find_run(str(runs / "001-resnet18"), runs).folder.name == "001-resnet18"


def test_model_flags_name_the_form_of_a_reference_network_to_train():
    preprocess = Preprocess(48, 1).to_dict()
    checkpoint = Checkpoint("resnet18-original", ["a", "b"], preprocess, None, None, {})
    expected = {"model": "resnet18", "image_size": 48, "image_channel": 1}
    assert model_flags(checkpoint) == expected


def test_run_options_are_json_and_make_the_same_run_again(tmp_path):
    words = ["--config", "c.json", "--resume", "--epochs", "3", "--no-flip", "--model", "cnn"]
    words += ["--data_path", "a/b", "--lr", "0.02", "--teacher", "x/y.pt", "z.pt"]
    args = train.make_parser().parse_args(words)
    options = json.loads(json.dumps(run_options(args)))
    assert options["data_path"] == str(Path("a/b")) and options["model"] == "emotionnet"
    assert options["teacher"] == [str(Path("x/y.pt")), "z.pt"]
    assert "config" not in options and "resume" not in options
    run = Run(tmp_path)
    run.write_options(options)
    again = parse("--config", str(tmp_path / "options.json"))
    assert run_options(again) == run_options(args)


@pytest.mark.slow
def test_options_import_no_torch():
    code = "import sys; import utils.training.options; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--nesterov", "--nesterov needs --optimizer sgd"),
        ("--nesterov --optimizer sgd --momentum 0", "a --momentum above 0"),
        ("--sam 0.05 --accumulate 2", "--sam needs .*leave --accumulate out"),
        ("--crop 48", "--crop 48 shifts images of 48 pixels by 48: choose less than 48 pixels"),
        ("--crop 100 --image_size 64", "--crop 100 shifts images of 64 pixels by 100"),
        ("--crop 0.01", "--crop 0.01 shifts images of 48 pixels by 0: .* at least one"),
    ],
)
def test_flags_that_do_not_fit_together_are_refused(words, message):
    with pytest.raises(StageError, match=message):
        check_flags(train.make_parser().parse_args(words.split()))


@pytest.mark.parametrize(
    "words",
    ["", "--nesterov --optimizer sgd", "--sam 0.05", "--crop 47", "--crop 1", "--crop 0.99"],
)
def test_flags_that_fit_are_not_refused(words):
    check_flags(train.make_parser().parse_args(words.split()))


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["--folds", "5", "--fold", "2/5"], "--fold 2/5 is one of --folds: give one"),
        (["--folds", "5", "--resume"], "--folds resumes by itself"),
        (["--folds", "5", "--resume=runs/001-a"], "--folds resumes by itself"),
    ],
)
def test_check_flags_refuses_folds_with_other_flags(words, problem):
    with pytest.raises(StageError, match=problem):
        check_flags(train.make_parser().parse_args(words))


@pytest.mark.parametrize("words", [["--folds", "5", "--resume", "auto"], ["--fold", "02/5"]])
def test_check_flags_takes_folds(words):
    args = train.make_parser().parse_args(words)
    check_flags(args)
    assert args.fold in (None, "2/5")  # one spelling: it is compared with that of earlier runs


def test_a_fold_that_is_none_is_one_line(capsys):
    with pytest.raises(SystemExit):
        train.make_parser().parse_args(["--fold", "6/5"])
    assert "'6/5' is not a fold such as 2/5" in capsys.readouterr().err
