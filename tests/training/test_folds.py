"""Trainings of folds: what they leave out, when they are done, and the file of all of them."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import train
from tests.helpers import make_faces
from tests.trainings import CLASSES, PLAIN_AUGMENT, REMEMBERED_RECIPE, small_dataset, small_trainer
from utils.data.folds import Fold
from utils.data.image_folder import Sample
from utils.data.subset import take
from utils.errors import StageError
from utils.imaging.preprocess import Preprocess
from utils.inference.checkpoint import Checkpoint
from utils.inference.predict import predict_log_probs
from utils.training import folds, setup
from utils.training.folds import FoldPlan, plan_fold
from utils.training.run_folder import Run

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _working_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def data(tmp_path):
    """Folders of three classes, 8 pixels an image, and two photos of no class."""
    for name, count in {"train": 5, "validation": 1}.items():
        make_faces(tmp_path / "data" / name, CLASSES, count, size=9)
    make_faces(tmp_path / "data/train", ["UNKNOWN"], 2, size=9, seed=5)
    (tmp_path / "data/split.tsv").write_text("file\tclass\tset\n")
    return tmp_path / "data"


def flags(*words: object):
    return train.make_parser().parse_args(["--image_size", "9", *map(str, words)])


def plan_of(*words: object) -> FoldPlan:
    args = flags(*words)
    found = setup.find_data(args)
    unknown = [Sample(path, -1) for path in sorted(Path("data/train/UNKNOWN").iterdir())]
    plan = plan_fold(args, found.labelled, unknown, found.validation_samples)
    assert plan
    return plan


def test_plan_fold_is_none_without_the_flag(data):
    found = setup.find_data(flags())
    assert plan_fold(flags(), found.labelled, [], []) is None


def test_folds_leave_out_each_image_once(data):
    samples = setup.find_data(flags()).labelled
    unknown = [Sample(path, 0) for path in sorted(Path("data/train/UNKNOWN").iterdir())]
    everything = [*samples, *unknown]
    whole = replace(small_dataset(len(everything)), samples=everything)
    left_out = []
    for number in (1, 2, 3):
        plan = plan_of("--fold", f"{number}/3")
        learnt, held_out = plan.split(whole)
        assert {*learnt.samples} | {*held_out.samples} == {*everything}
        assert {*unknown} < {*learnt.samples}  # they have no label to look at
        left_out += held_out.samples
    assert sorted(left_out) == sorted(samples)


def test_a_photo_of_unknown_is_left_out_with_its_copy(data):
    rows = ("same\tclass\tfile", "1\tUNKNOWN\t0000.png", "1\t기쁨\t0000.png")
    (data / "copies.tsv").write_text("".join(f"{row}\n" for row in rows))
    plan = plan_of("--fold", "1/2")
    number = plan.numbers[Path("data/train/기쁨/0000.png")]
    plan = plan_of("--fold", f"{number}/2")
    samples = [Sample(path, 0) for path in plan.numbers]
    learnt, held_out = plan.split(replace(small_dataset(len(samples)), samples=samples))
    copy = Path("data/train/UNKNOWN/0000.png")
    assert copy not in {s.path for s in learnt.samples} | {s.path for s in held_out.samples}


def test_a_plan_fits_only_runs_about_the_same_images(data):
    plan = plan_of("--fold", "1/3")
    checkpoint = Checkpoint("emotionnet", CLASSES, Preprocess(9, 1).to_dict(), 0, 0.0, {})
    assert not plan.fits(checkpoint)
    assert plan.fits(replace(checkpoint, training={"fold": plan.key}))
    assert plan_of("--fold", "1/3").key == plan.key == plan_of("--fold", "2/3").key
    assert (
        len({plan.key, plan_of("--fold", "1/4").key, plan_of("--fold", "1/3", "--seed", 1).key})
        == 3
    )
    (data / "train/기쁨/0000.png").rename(data / "train/분노/moved.png")
    assert plan_of("--fold", "1/3").key != plan.key


def test_split_refuses_more_folds_than_images(data):
    plan = plan_of("--fold", "100/100")
    samples = [Sample(path, 0) for path in plan.numbers]
    with pytest.raises(StageError, match="fold 100/100 of data/train leaves no image out"):
        plan.split(replace(small_dataset(len(samples)), samples=samples))


def test_run_to_resume_finds_the_run_of_a_fold_until_the_images_change(data):
    args = flags("--fold", "1/3")
    plan = plan_of("--fold", "1/3")
    run = Run(Path("runs/001-emotionnet-fold1of3"))
    run.folder.mkdir(parents=True)
    run.write_options(train.run_options(args))
    state = {"fold": plan.key, "history": []}
    preprocess = Preprocess(9, 1).to_dict()
    Checkpoint("emotionnet", CLASSES, preprocess, 0, 0.0, {}, training=state).save(run.last)
    found, checkpoint = setup.run_to_resume(args, setup.Distributed(CPU), flags(), plan)
    assert found.folder == run.folder and checkpoint.training["fold"] == plan.key
    changed = replace(plan, key="other")
    assert setup.run_to_resume(args, setup.Distributed(CPU), flags(), changed) == (None, None)
    assert setup.run_to_resume(flags("--fold", "2/3"), setup.Distributed(CPU), flags(), plan) == (
        None, None,
    )  # fmt: skip
    # Without a plan, a training does not resume by itself.
    assert setup.run_to_resume(args, setup.Distributed(CPU), flags()) == (None, None)
    assert setup.new_run(args, setup.Distributed(CPU)).folder.name == "002-emotionnet-fold1of3"


def test_a_fold_is_done_if_its_images_are_predicted(tmp_path, capsys):
    run = Run(tmp_path)
    assert not train.is_predicted(flags("--fold", "1/3"), run)
    run.held_out.write_text("x")
    assert train.is_predicted(flags("--fold", "1/3"), run)
    assert f"fold 1/3 is done: {tmp_path}" in capsys.readouterr().out
    # --resume RUN may have other flags, such as more epochs.
    assert not train.is_predicted(flags("--fold", "1/3", "--resume", tmp_path), run)


def held_out_of(tmp_path: Path, flip: bool) -> tuple[float, list[list[str]], torch.Tensor]:
    """Predict rows 0, 5 and 7 of a small set. Return accuracy, file and the best model's views."""
    augment = replace(PLAIN_AUGMENT, flip=flip)
    trainer = small_trainer(replace(REMEMBERED_RECIPE, augment=augment, ema=0))
    run = Run(tmp_path / "run")
    run.folder.mkdir()
    best = {name: value + 0.01 for name, value in trainer.best_model.state_dict().items()}
    best = {
        n: v if v.is_floating_point() else trainer.best_model.state_dict()[n]
        for n, v in best.items()
    }
    Checkpoint("resemotionnet", CLASSES, Preprocess(8, 1).to_dict(), 1, 0.5, best).save(run.best)
    root = Path("data/train")
    whole = small_dataset(9)
    whole = replace(
        whole, samples=[Sample(root / CLASSES[s.label] / s.path, s.label) for s in whole.samples]
    )
    numbers = {sample.path: 2 for sample in whole.samples}
    part = take(whole, [0, 5, 7])
    plan = FoldPlan(Fold(2, 5), root, numbers, "key")
    accuracy = folds.predict_held_out(trainer, run, part, plan, CLASSES)
    with run.held_out.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.reader(file))
    trainer.best_model.load_state_dict(best)
    tta = "flip" if flip else "none"
    expected = predict_log_probs(trainer.best_model, part.in_order(0, 3, 8, CPU), tta=tta).exp()
    return accuracy, rows, expected


@pytest.mark.parametrize("flip", [False, True])
def test_predict_held_out_writes_the_best_models_predictions(tmp_path, flip):
    accuracy, rows, expected = held_out_of(tmp_path, flip)
    assert rows[0] == ["file", "truth", "prediction", "fold", *CLASSES]
    assert [row[0] for row in rows[1:]] == ["기쁨/0.png", "중립/5.png", "분노/7.png"]
    assert [row[1] for row in rows[1:]] == ["기쁨", "중립", "분노"]
    assert {row[3] for row in rows[1:]} == {"2"}
    probs = torch.tensor([[float(cell) for cell in row[4:]] for row in rows[1:]])
    torch.testing.assert_close(probs, expected, rtol=1e-5, atol=1e-6)
    answers = [CLASSES[i] for i in expected.argmax(1)]
    assert [row[2] for row in rows[1:]] == answers
    assert accuracy == sum(row[1] == row[2] for row in rows[1:]) / 3


def write_held_out(run: Run, *rows: str) -> Run:
    run.folder.mkdir()
    run.held_out.write_text("\n".join(["file,truth,prediction,fold,a,b", *rows, ""]), "utf-8-sig")
    return run


def test_join_folds_writes_all_predictions_in_order(tmp_path, capsys):
    runs = [
        write_held_out(Run(tmp_path / "1"), "b/2.png,b,a,1,0.9,0.1"),
        write_held_out(Run(tmp_path / "2"), "b/1.png,b,b,2,0.2,0.8", "a/x.png,a,a,2,0.8,0.2"),
    ]
    folds.join_folds(flags("--model_path", "my models/m.pt"), runs)
    text = Path("my models/m-folds/predictions.csv").read_text("utf-8-sig")
    assert [line[:7] for line in text.splitlines()[1:]] == ["a/x.png", "b/1.png", "b/2.png"]
    out = capsys.readouterr().out
    assert "3 images of data/train are predicted" in out and "66.67% as labelled" in out
    assert "--model_path 'my models/m.pt' --data_path data --split train --suspects 200" in out


@pytest.mark.parametrize("rows", [[], ["a/x.png,a,a"]])
def test_join_folds_refuses_a_damaged_file(tmp_path, rows):
    run = write_held_out(Run(tmp_path / "1"), *rows)
    with pytest.raises(StageError, match=r"held_out\.csv is damaged: delete it"):
        folds.join_folds(flags(), [run])
    run.held_out.unlink()
    with pytest.raises(StageError, match="No such file"):
        folds.join_folds(flags(), [run])


def test_the_cost_is_said_before_and_after_the_first_epoch(capsys):
    folds.announce_cost(flags("--folds", 5, "--epochs", 8), 25057)
    folds.announce_cost(flags("--folds", 2, "--patience", 3, "--init", "m.pt"), 10)
    trainer = small_trainer()  # 23 images, 3 epochs
    folds.tell_rest(trainer, [{"images_per_second": 0.01}], 4)
    folds.tell_rest(trainer, [{"images_per_second": 0.01}] * 3, 0)  # nothing is left
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == (
        "--folds 5: 5 trainings of 8 epochs, each on 4/5 of 25057 images; together 4 times as "
        "long as one training on all of them"
    )
    assert "2 trainings of at most 50 epochs" in lines[1]
    assert lines[2].startswith("note: --init: it has to be one that has never seen these images")
    assert lines[3:] == ["an epoch takes 2.3e+03 s: about 8 h 57 min for 14 more"]
