"""From flags to objects: what the flags of train.py make, and which of them do not fit."""

from __future__ import annotations

import argparse
import errno
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

import models
import train
from tests.helpers import make_faces
from tests.trainings import CLASSES, CPU, small_dataset, small_network
from utils.errors import StageError, TransientError
from utils.imaging.preprocess import Preprocess
from utils.inference.checkpoint import Checkpoint
from utils.training import optim, setup, targets
from utils.training.augment import Augment
from utils.training.distributed import Distributed
from utils.training.mixing import Mixing
from utils.training.run_folder import Run
from utils.training.trainer import Recipe, Trainer


def flags(*words: object) -> argparse.Namespace:
    return train.make_parser().parse_args(list(map(str, words)))


@pytest.fixture(autouse=True)
def _working_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def data(tmp_path):
    """Folders of three classes, 8 pixels an image."""
    for name, count in {"train": 2, "validation": 1}.items():
        make_faces(tmp_path / "data" / name, CLASSES, count, size=9)
    return tmp_path / "data"


@pytest.fixture
def model_file(tmp_path):
    """A model of 16 pixels for the classes."""
    torch.manual_seed(3)
    weights = models.create("resemotionnet", 3, 1, 16).state_dict()
    preprocess = Preprocess(16, 1).to_dict()
    checkpoint = Checkpoint("resemotionnet", CLASSES, preprocess, 1, 0.5, weights)
    checkpoint.save(tmp_path / "old.pt")
    return checkpoint


# --- samples


def test_find_samples_labels_by_the_folders_of_train(data, capsys):
    classes, train_samples, validation_samples = setup.find_samples(data)
    assert classes == CLASSES and capsys.readouterr().err == ""
    assert [sample.label for sample in train_samples] == [0, 0, 1, 1, 2, 2]
    assert [sample.label for sample in validation_samples] == [0, 1, 2]


@pytest.mark.parametrize(
    ("classes", "word"),
    [
        ([], "train has no class folder"),
        (["기쁨"], "train has only the class 기쁨; a model needs two"),
    ],
)
def test_find_samples_refuses_one_class_or_none(classes, word):
    for name in ("train", "validation"):
        (Path("data") / name).mkdir(parents=True)
        make_faces(Path("data") / name, classes, 2)
    with pytest.raises(StageError, match=word):
        setup.find_samples(Path("data"))


def test_find_samples_refuses_a_class_of_validation_alone(data):
    shutil.rmtree(data / "train/중립")
    with pytest.raises(StageError, match="classes that train does not: 중립; add images of them"):
        setup.find_samples(data)


def test_find_samples_matches_the_classes_of_validation_by_another_name(data, capsys):
    (data / "validation/기쁨").rename(data / "validation/3_happy")
    (data / "validation").rename(data / "Valid")
    assert [sample.label for sample in setup.find_samples(data)[2]] == [0, 1, 2]
    err = capsys.readouterr().err
    assert "Valid is the validation set" in err
    assert "Valid has train's classes by other names: 3_happy = 기쁨" in err
    shutil.copytree(data / "Valid/3_happy", data / "Valid/기쁨")
    with pytest.raises(StageError, match="3_happy and 기쁨 are the same class; put them into one"):
        setup.find_samples(data)


def test_find_samples_notes_two_classes_of_one_emotion(data, capsys):
    for name in ("train", "validation"):
        make_faces(data / name, ["angry"], 1)
    assert "angry" in setup.find_samples(data)[0]
    expected = "note: angry and 분노 are learnt as different classes, but mean one emotion\n"
    assert capsys.readouterr().err == expected


def test_find_samples_notes_a_class_without_validation(data, capsys):
    shutil.rmtree(data / "validation/중립")
    assert setup.find_samples(data)[0] == CLASSES
    assert "no validation image of 중립" in capsys.readouterr().err


# --- run


def test_run_to_resume_is_none_for_a_new_run():
    assert setup.run_to_resume(flags(), CPU) == (None, None)
    assert setup.run_to_resume(flags("--resume", "auto"), CPU) == (None, None)


def test_run_to_resume_refuses_a_run_without_a_state(model_file):
    stopped, foreign = Run.new(Path("runs"), "a"), Run.new(Path("runs"), "b")
    for run in (stopped, foreign):
        run.write_options({})
    model_file.save(foreign.last)
    with pytest.raises(StageError, match="ended before its first save: start a new run"):
        setup.run_to_resume(flags("--resume", stopped.folder), CPU)
    with pytest.raises(StageError, match="is not the state of a training"):
        setup.run_to_resume(flags("--resume", foreign.folder), CPU)


@pytest.fixture
def started_again(monkeypatch):
    """Two attempts of torchrun's: one after the other, with one memory."""
    monkeypatch.setattr(Run, "lock", lambda run: None)  # the first one's ended with its process
    memory = torch.distributed.HashStore()
    return [replace(CPU, memory=memory) for _ in range(2)]


def test_a_restart_resumes_its_own_run_and_no_other_with_the_same_flags(
    model_file, started_again, monkeypatch
):
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    first, second = started_again
    args = flags("--epochs", 3)
    finished = Run.new(Path("runs"), "old")
    finished.write_options(setup.run_options(args))
    replace(model_file, training={"history": [{}] * 3}).save(finished.last)
    assert setup.restart_flags(first) == [] and setup.run_to_resume(args, first) == (None, None)
    run = setup.new_run(args, first)
    assert run.folder == Path("runs/002-emotionnet")
    # The first attempt ends before its first save: the second one begins in the same folder.
    assert setup.restart_flags(second) == [] and setup.run_to_resume(args, second) == (None, None)
    assert setup.new_run(args, second).folder == run.folder
    # And now after it, and somebody else has begun a newer run.
    run.write_options(setup.run_options(args))
    model_file.save(run.last)
    newer = Run.new(Path("runs"), "new")
    newer.write_options(setup.run_options(args))
    model_file.save(newer.last)
    assert setup.restart_flags(second) == [f"--resume={run.folder}"]


@pytest.mark.parametrize("resume", ["auto", "newest", "runs/001-a"])
def test_a_restart_of_a_resumed_run_resumes_the_same(model_file, started_again, resume):
    first, second = started_again
    args, run = flags("--resume", resume), Run.new(Path("runs"), "a")
    run.write_options(setup.run_options(args))
    replace(model_file, training={"epoch": 1}).save(run.last)
    assert setup.restart_flags(first) == []
    assert setup.run_to_resume(args, first)[0].folder == run.folder
    assert setup.restart_flags(second) == ["--resume=runs/001-a"]


def test_a_restart_whose_folder_is_gone_begins_another(started_again):
    first, second = started_again
    run = setup.new_run(flags(), first)
    run.folder.rmdir()
    Path("runs/007-vgg19").mkdir()
    assert setup.restart_flags(second) == []
    assert setup.new_run(flags(), second).folder == Path("runs/008-emotionnet")


@pytest.mark.parametrize(
    ("restarts", "epochs_done", "resumes"), [("0", 1, False), ("1", 1, True), ("1", 3, False)]
)
def test_a_restart_without_memory_resumes_an_unfinished_run_with_the_same_flags(
    model_file, monkeypatch, restarts, epochs_done, resumes
):
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", restarts)
    args, run = flags("--epochs", 3), Run.new(Path("runs"), "a")
    run.write_options(setup.run_options(args))
    replace(model_file, training={"history": [{}] * epochs_done}).save(run.last)
    found, checkpoint = setup.run_to_resume(args, CPU)
    assert (found is not None) == (checkpoint is not None) == resumes


def test_run_to_resume_auto_finds_a_run_of_an_earlier_version(model_file):
    args, run = flags("--epochs", 3, "--resume", "auto"), Run.new(Path("runs"), "a")
    options = setup.run_options(args)
    run.write_options({key: options[key] for key in ("epochs", "data_path", "model_path")})
    replace(model_file, training={"epoch": 1}).save(run.last)
    assert setup.run_to_resume(args, CPU, flags())[0].folder == run.folder
    changed = flags("--epochs", 3, "--resume", "auto", "--votes_min", 2)
    assert setup.run_to_resume(changed, CPU, flags()) == (None, None)


def test_new_run_makes_a_folder_by_the_networks_name():
    run = setup.new_run(flags("--model", "vgg19", "--runs_path", "a/b"), CPU)
    assert run.folder == Path("a/b/001-vgg19") and run.folder.is_dir()


# --- model


def test_make_model_starts_from_the_seed():
    one, other, third = (
        setup.make_model(flags("--seed", seed, "--model", "resemotionnet"), CLASSES, None)
        for seed in (1, 1, 2)
    )
    assert torch.equal(one.fc.weight, other.fc.weight)
    assert not torch.equal(one.fc.weight, third.fc.weight) and one.fc.out_features == 3


def test_make_model_loads_the_weights_of_init_in_a_new_run_only(model_file):
    args = flags("--init", "old.pt", "--model", "resemotionnet", "--image_size", 16)
    model = setup.make_model(args, CLASSES[::-1], model_file)
    expected = model_file.weights["fc.weight"][[2, 1, 0]]
    assert torch.equal(model.fc.weight, expected)
    resumed = setup.make_model(args, CLASSES, model_file, resumed=model_file)
    assert not torch.equal(resumed.conv1.weight, model.conv1.weight)


@pytest.mark.parametrize(
    ("initial", "resumed", "expected"),
    [
        *((None, None, True), (False, None, False), (True, None, True)),
        *((None, True, True), (None, False, False), (True, False, False)),
    ],
)
def test_make_model_keeps_the_padding_of_trained_weights(
    model_file, monkeypatch, initial, resumed, expected
):
    asked = []

    def create(*words: object, same_padding: bool) -> nn.Module:
        asked.append(same_padding)
        return real(*words)

    real = models.create
    monkeypatch.setattr(models, "create", create)
    files = [
        None if padding is None else replace(model_file, same_padding=padding)
        for padding in (initial, resumed)
    ]
    setup.make_model(flags("--model", "resemotionnet"), CLASSES, *files)
    assert asked == [expected]


def test_make_model_notes_classes_that_the_model_does_not_know(model_file, capsys):
    args = flags("--init", "old.pt", "--model", "resemotionnet")
    model = setup.make_model(args, ["기쁨", "놀람"], model_file)
    assert "old.pt does not know the classes 놀람" in capsys.readouterr().err
    assert model.fc.out_features == 2
    assert torch.equal(model.conv1.weight, model_file.weights["conv1.weight"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--model", "vgg24"), "vgg24 takes images of 64 to 127 pixels, not 48"),
        (("--model", "resemotionnet", "--dropout", 0.5), "resemotionnet has no dropout layer"),
        (("--pretrained",), "--pretrained needs --model efficientnet"),
        (
            ("--pretrained", "--model", "efficientnet-b4", "--init", "old.pt"),
            "--pretrained needs --model efficientnet-b4 or -b5, and no --init",
        ),
        (("--init", "old.pt", "--model", "vgg19"), r"old\.pt is a resemotionnet of 1 channel"),
        (
            ("--init", "old.pt", "--model", "resemotionnet", "--image_channel", 3),
            "leave --model and --image_channel out",
        ),
    ],
)
def test_make_model_refuses_flags_that_do_not_fit(model_file, words, message):
    args = flags(*words)
    with pytest.raises(StageError, match=message):
        setup.make_model(args, CLASSES, model_file if args.init else None)


def test_make_model_sets_the_dropout():
    model = setup.make_model(flags("--dropout", 0.35), CLASSES, None)
    assert model.dropout.p == 0.35


def test_load_teacher_is_none_without_the_flag():
    assert setup.load_teacher(flags(), CLASSES) is None


def test_load_teacher_has_its_share(model_file):
    args = flags("--teacher", "old.pt", "--teacher_share", 0.2, "--image_size", 16)
    assert setup.load_teacher(args, CLASSES).weight == 0.2


def test_load_teacher_refuses_the_file_that_the_new_model_replaces(model_file):
    args = flags("--teacher", "other.pt", "./old.pt", "--model_path", "old.pt")
    with pytest.raises(StageError, match=r"old\.pt would be overwritten by the new model"):
        setup.load_teacher(args, CLASSES)


# --- data


def test_load_datasets_decodes_into_the_cache_of_the_data_or_of_the_flag(data):
    _, train_samples, validation_samples = setup.find_samples(data)
    for words, cache in (((), data / ".store"), (("--store", "cache"), Path("cache"))):
        args = flags("--data_path", data, "--image_size", 8, *words)
        train_set, validation_set = setup.load_datasets(args, train_samples, validation_samples)
        assert (len(train_set), len(validation_set)) == (6, 3) and any(cache.iterdir())
        assert train_set.images.shape == (6, 1, 8, 8)


def test_load_datasets_keeps_small_images_small_unless_the_run_began_otherwise(data, model_file):
    args = flags("--data_path", data, "--image_size", 20, "--amp", "off")
    samples = setup.find_samples(data)[1:]
    sets = setup.load_datasets(args, *samples)
    assert [each.images.shape[-1] for each in sets] == [9, 9]
    assert {each.preprocess.image_size for each in sets} == {20}
    training_set = setup.make_training_set(args, CPU, sets[0], CLASSES)
    recipe = setup.make_recipe(args, CPU, None)
    model = nn.Sequential(nn.Flatten(), nn.Linear(400, 3))
    trainer = Trainer(model, training_set, recipe, CPU)
    template = setup.checkpoint_template(args, trainer, CLASSES, sets[1])
    again = setup.load_datasets(args, *samples, template)
    assert again[0].images.shape[-1] == 9 and trainer.first_batch()[0].shape[-1] == 20
    del template.training["fixed"]["enlarged"]  # as in a last.pt of an earlier version
    whole = setup.load_datasets(args, *samples, template)
    assert [each.images.shape[-1] for each in whole] == [20, 20]
    assert [each.fingerprint for each in whole] == [each.fingerprint for each in sets]
    # Both sets, or none.
    make_faces(data / "larger", CLASSES, 1, size=30)
    validation = [
        sample._replace(path=data / "larger" / sample.path.relative_to(data / "validation"))
        for sample in samples[1]
    ]
    mixed = setup.load_datasets(args, samples[0], validation)
    assert [each.images.shape[-1] for each in mixed] == [20, 20]


@pytest.mark.parametrize("broken", ["train", "validation"])
def test_load_datasets_refuses_a_set_without_a_readable_image(data, broken):
    samples = setup.find_samples(data)[1:]
    for path in (data / broken).rglob("*.png"):
        path.write_bytes(b"<html>")
    with pytest.raises(StageError, match=f"{broken}: no readable image"):
        setup.load_datasets(flags("--data_path", data), *samples)


def test_make_training_set_has_one_hot_targets_and_weights():
    data = small_dataset(13)
    plain = setup.make_training_set(flags(), CPU, data, CLASSES)
    assert torch.equal(plain.targets, targets.one_hot(data.samples, CLASSES))
    assert plain.class_weights is None and plain.images is data
    weighted = setup.make_training_set(flags("--class_weights", "inverse"), CPU, data, CLASSES)
    expected = targets.class_weights(plain.targets, "inverse")
    assert torch.equal(weighted.class_weights, expected) and expected.std() > 0
    assert plain.sample_weights is None
    drawn = setup.make_training_set(flags("--sampling", "sqrt"), CPU, data, CLASSES)
    assert torch.equal(drawn.sample_weights, targets.sample_weights(plain.targets, "sqrt"))


def test_find_votes_is_none_without_annotations(data):
    samples = setup.find_samples(data)[1]
    assert setup.find_votes(flags(), CLASSES, samples) is None
    for words in (("--unknown", "soft"), ("--votes_min", 2)):
        with pytest.raises(StageError, match=f"{words[0]}.* needs the votes: name their table"):
            setup.find_votes(flags(*words), CLASSES, samples)


def test_make_training_set_has_the_votes_of_annotations(data, capsys):
    (data / "train/UNKNOWN").mkdir()
    shutil.copy(next((data / "train/기쁨").iterdir()), data / "train/UNKNOWN/u.png")
    paths = [data / f"train/{name}/0000.png" for name in CLASSES]
    counts = {
        paths[0]: "6,2,0,1,3",
        paths[1]: "0,0,9,1,1",
        data / "train/UNKNOWN/u.png": "3,4,3,0,0",
    }
    rows = [f"{path},{votes}" for path, votes in counts.items()]
    Path("v.csv").write_text("\n".join(["path,happy,anger,neutral,unknown,width", *rows]))
    words = ("--annotations", "v.csv", "--data_path", data, "--votes_min", 2, "--unknown", "soft")
    args = flags(*words, "--image_size", 8)
    _, samples, validation_samples = setup.find_samples(data, takes_unknown=True)
    votes = setup.find_votes(args, CLASSES, samples)
    train_set, _ = setup.load_datasets(args, votes.samples, validation_samples)
    result = setup.make_training_set(args, CPU, train_set, CLASSES, votes)
    targets_by_name = {
        "/".join(sample.path.parts[-2:]): target
        for sample, target in zip(train_set.samples, result.targets.tolist(), strict=True)
    }
    assert len(targets_by_name) == 7
    assert targets_by_name["UNKNOWN/u.png"] == pytest.approx([0.3, 0.4, 0.3])
    assert targets_by_name["기쁨/0000.png"] == pytest.approx([0.75, 0.25, 0])
    assert targets_by_name["기쁨/0001.png"] == [1, 0, 0]
    assert targets_by_name["분노/0000.png"] == [0, 1, 0]  # the majority is another class
    out, err = capsys.readouterr()
    assert (
        out.startswith("v.csv: 2 of 7 images are learnt by their votes (") and out.count("\n") == 1
    )
    assert "happy = 기쁨, anger = 분노, neutral = 중립" in err and "called so: width" in err


def test_find_samples_notes_unknown_photos_unless_they_are_taken(data, capsys):
    (data / "train/UNKNOWN").mkdir()
    (data / "train/UNKNOWN/u.png").touch()
    setup.find_samples(data, takes_unknown=True)
    assert capsys.readouterr().err == ""
    setup.find_samples(data)
    assert "UNKNOWN is left out" in capsys.readouterr().err


def test_find_votes_soft_notes_a_missing_folder(data, capsys):
    Path("v.csv").write_text("file,happy,sad\n0000.png,1,0\n")
    args = flags("--annotations", "v.csv", "--data_path", data, "--unknown", "soft")
    setup.find_votes(args, CLASSES, setup.find_samples(data)[1])
    assert "train/UNKNOWN does not exist; python dataPreparation.py" in capsys.readouterr().err


@pytest.mark.parametrize(("world_size", "minimum"), [(1, 2), (3, 6)])
def test_make_training_set_refuses_a_batch_too_small_for_the_processes(world_size, minimum):
    distributed = Distributed(CPU.device, 0, world_size)
    data = small_dataset(13)
    with pytest.raises(StageError, match=f"the minimum here is {minimum} images"):
        setup.make_training_set(flags("--batch_size", minimum - 1), distributed, data, CLASSES)
    setup.make_training_set(flags("--batch_size", minimum), distributed, data, CLASSES)


@pytest.mark.parametrize(
    ("world_size", "words"), [(1, "training takes 2"), (3, "training in 3 processes takes 6")]
)
def test_make_training_set_refuses_fewer_images_than_the_processes_need(world_size, words):
    distributed = Distributed(CPU.device, 0, world_size)
    count = 2 * world_size - 1
    message = rf"data.train has {count} readable image\(s\); {words} or more"
    with pytest.raises(StageError, match=message):
        setup.make_training_set(flags(), distributed, small_dataset(count), CLASSES)
    setup.make_training_set(flags(), distributed, small_dataset(count + 1), CLASSES)


# --- recipe


def test_every_flag_of_a_training_reaches_the_trainer():
    words = "--epochs 7 --batch_size 6 --lr 0.3 --optimizer sgd --weight_decay 0.2 --momentum 0.5"
    words += " --schedule onecycle --warmup 2 --accumulate 3 --clip 4 --ema 0.6 --amp bf16"
    words += " --label_smoothing 0.15 --mixup 0.7 --compile --seed 8 --class_weights inverse"
    words += " --nesterov --plateau_factor 0.3 --plateau_patience 2 --cutmix 0.9"
    words += " --shear 3 --contrast 0.15 --augment_p 0.6 --cuda_graph off"
    words += " --flip False --rotation 9 --crop 2 --erase 0.1 --brightness 0.25 --zoom 0.35"
    args, model = flags(*words.split()), nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    training_set = setup.make_training_set(args, CPU, small_dataset(13), CLASSES)
    recipe = setup.make_recipe(args, CPU, None)
    assert recipe == Recipe(
        epochs=7, batch_size=6, lr=0.3, optimizer="sgd", weight_decay=0.2, momentum=0.5,
        schedule="onecycle", warmup=2, accumulate=3, clip=4, ema=0.6, label_smoothing=0.15,
        mixing=Mixing(0.7, 0.9), amp="bf16", compile=True, cuda_graph=False, seed=8,
        augment=Augment(False, 9, 2, 0.1, 0.25, 0.35, 3, 0.15, 0.6),
        nesterov=True, plateau_factor=0.3, plateau_patience=2,
    )  # fmt: skip
    # To compile takes seconds, even if nothing is trained.
    trainer = Trainer(model, training_set, replace(recipe, compile=False), CPU)
    assert trainer.best_model is trainer.ema.model
    [group] = trainer.optimizer.param_groups
    assert (group["lr"], group["weight_decay"], group["momentum"]) == (0.3, 0.2, 0.5)
    assert group["nesterov"] and setup.make_recipe(flags("--sam", 0.05), CPU, None).sam == 0.05


def test_make_recipe_without_flags_is_the_default_recipe():
    args = flags("--amp", "off")
    assert setup.make_recipe(args, CPU, None) == Recipe(50, 128, 0.1)


@pytest.mark.parametrize("optimizer", ["adadelta", "adam", "adamw", "sgd"])
def test_make_recipe_without_rate_and_decay_has_the_optimizers_own(optimizer):
    args = flags("--optimizer", optimizer, "--amp", "off")
    recipe = setup.make_recipe(args, CPU, None)
    assert recipe.lr == optim.LEARNING_RATES[optimizer]
    assert recipe.weight_decay == optim.WEIGHT_DECAYS[optimizer]
    args = flags("--optimizer", optimizer, "--amp", "off", "--weight_decay", 0)
    assert setup.make_recipe(args, CPU, None).weight_decay == 0


def test_make_recipe_keeps_the_precision_of_the_run_that_is_resumed(model_file, monkeypatch):
    monkeypatch.setattr(setup, "resolve_amp", lambda *args: "chosen")
    resumed = replace(model_file, training={"amp": "bf16"})

    def amp(checkpoint: Checkpoint | None, *words: object) -> str:
        args = flags(*words)
        return setup.make_recipe(args, CPU, checkpoint).amp

    assert amp(resumed) == "bf16" and amp(resumed, "--amp", "off") == "off"
    assert amp(None) == amp(None, "--deterministic") == "chosen"


@pytest.mark.parametrize("batch_size", [2, 64])
def test_make_recipe_chooses_the_precision_by_network_and_device_alone(monkeypatch, batch_size):
    asked = []
    monkeypatch.setattr(setup, "resolve_amp", lambda *args: asked.append(args))
    setup.make_recipe(flags("--batch_size", batch_size, "--model", "vgg19"), CPU, None)
    assert asked == [("auto", "vgg19", CPU.device)]


def test_make_recipe_takes_the_choice_of_rank_0(monkeypatch):
    monkeypatch.setattr(setup, "resolve_amp", lambda *args: "off")  # this machine's
    monkeypatch.setattr(Distributed, "broadcast", lambda self, value: "bf16")
    assert setup.make_recipe(flags(), CPU, None).amp == "bf16"


def test_checkpoint_template_holds_what_a_resumed_run_cannot_change():
    args = flags("--optimizer", "adam", "--ema", 0.9, "--seed", 3, "--batch_size", 4,
                 "--accumulate", 2, "--amp", "bf16", "--model", "resemotionnet")  # fmt: skip
    training_set = setup.make_training_set(args, CPU, small_dataset(13, "train"), CLASSES)
    recipe = setup.make_recipe(args, CPU, None)
    trainer = Trainer(small_network(), training_set, recipe, CPU)
    template = setup.checkpoint_template(args, trainer, CLASSES, small_dataset(5, "validation"))
    assert template.training == {
        "amp": "bf16",
        "fixed": {
            "data": ["train", "validation"], "optimizer": "adam", "ema": True, "order": [3, 4, 2],
        },
    }  # fmt: skip
    assert (template.network, template.classes) == ("resemotionnet", CLASSES)
    assert template.preprocess == Preprocess(8, 1).to_dict() and template.weights == {}
    assert template.class_priors == pytest.approx([5 / 13, 4 / 13, 4 / 13])
    assert not template.same_padding
    args.sampling = "sqrt"
    drawn = setup.checkpoint_template(args, trainer, CLASSES, small_dataset(5, "validation"))
    assert drawn.training["fixed"]["order"] == [3, 4, 2, "sqrt"]
    trainer.model.same_padding = True  # as an EfficientNet's
    assert setup.checkpoint_template(args, trainer, CLASSES, small_dataset(5)).same_padding


# --- outputs and errors


def test_prepare_outputs_makes_folders_and_logs_failures(capsys):
    args = flags("--model_path", "a/b/m.pt", "--log_dir", "logs")
    run = Run.new(Path("runs"), "a")
    setup.prepare_outputs(args, run, [(Path("x.png"), "a text, not an image")])
    assert Path("a/b").is_dir() and capsys.readouterr().err == ""
    assert "x.png\ta text, not an image" in Path("logs/train.error.log").read_text("utf-8")


def test_prepare_outputs_keeps_a_model_that_no_run_has(capsys):
    run = Run.new(Path("runs"), "a")
    Path("model.pt").write_bytes(b"somebody's")
    setup.prepare_outputs(flags(), run, [])
    message = capsys.readouterr().err
    assert f"the old model is kept as {run.replaced}" in message
    assert run.replaced.read_bytes() == b"somebody's"
    run.best.write_bytes(b"")  # a resumed run replaces its own model
    setup.prepare_outputs(flags(), run, [])
    assert capsys.readouterr().err == ""


def test_prepare_outputs_refuses_a_folder_as_model_path():
    Path("models").mkdir()
    with pytest.raises(StageError, match="--model_path models is a folder; name a file in it"):
        setup.prepare_outputs(flags("--model_path", "models"), Run(Path("runs/a")), [])


class BackendError(RuntimeError):
    """An error of torch.compile's."""

    __module__ = "torch._dynamo.exc"


@pytest.mark.parametrize(
    ("error", "words", "message"),
    [
        (
            torch.OutOfMemoryError("CUDA out of memory. Tried"),
            (),
            "--batch_size 64 --accumulate 2",
        ),
        (
            RuntimeError("[enforce] DefaultCPUAllocator: can't allocate memory: you"),
            ("--batch_size", 9, "--accumulate", 3),
            "--batch_size 4 --accumulate 6",
        ),
        (
            RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(h)`"),
            ("--batch_size", 4),
            "--batch_size 2 --accumulate 2",
        ),
        (
            torch.OutOfMemoryError("CUDA out of memory. Tried"),
            ("--batch_size", 3, "--accumulate", 5),
            "--batch_size 2 --accumulate 10",
        ),
        (
            torch.OutOfMemoryError("CUDA out of memory. Tried"),
            ("--batch_size", 2),
            "out of memory with --batch_size 2, the smallest here: use a smaller --image_size or",
        ),
        (OSError(errno.ENOSPC, "No space left", "last.pt"), (), r"free some space, .*--resume run"),
        (BackendError("no compiler"), ("--compile",), r"--compile does not work here \(no compil"),
        (
            RuntimeError("x has no deterministic implementation"),
            ("--deterministic",),
            "--deterministic: leave it out",
        ),
    ],
)
def test_explain_errors_says_what_to_change(error, words, message):
    with (
        pytest.raises(StageError, match=message),
        setup.explain_errors(flags(*words), Run(Path("run"))),
    ):
        raise error


@pytest.mark.parametrize("batch_size", range(2, 20))
@pytest.mark.parametrize("world_size", [1, 2, 4])
def test_explain_errors_advises_no_batch_size_that_is_refused(batch_size, world_size):
    distributed = Distributed(torch.device("cpu"), 0, world_size)
    if batch_size < 2 * world_size:
        pytest.skip("refused before anything is trained")
    args = flags("--batch_size", batch_size)
    with (
        pytest.raises(StageError) as raised,
        setup.explain_errors(args, Run(Path("run")), world_size),
    ):
        raise RuntimeError("CUDA out of memory")
    advice = re.search(r": use --batch_size (\d+) ", str(raised.value))
    assert (advice is None) == (batch_size == 2 * world_size)
    if advice:
        assert int(advice[1]) < batch_size
        smaller = flags("--batch_size", advice[1])
        setup.make_training_set(smaller, distributed, small_dataset(13), CLASSES)


@pytest.mark.parametrize(
    ("has_gpu", "words", "mentions"),
    [(True, (), True), (False, (), False), (True, ("--no-gpu",), False),
     (True, ("--cuda_graph", "off"), False)],
)  # fmt: skip
def test_explain_errors_names_the_memory_of_a_graph(has_gpu, words, mentions, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: has_gpu)
    with pytest.raises(StageError) as raised, setup.explain_errors(flags(*words), Run(Path("run"))):
        raise torch.OutOfMemoryError("CUDA out of memory")
    assert ("--cuda_graph off" in str(raised.value)) == mentions


def test_explain_errors_of_a_missing_file_gives_no_advice_about_space():
    with (
        pytest.raises(StageError, match=r"^x: Permission denied$"),
        setup.explain_errors(flags(), Run(Path("run"))),
    ):
        raise OSError(errno.EACCES, "Permission denied", "x")


@pytest.mark.parametrize(
    ("error", "is_transient"),
    [
        (OSError(errno.ENOSPC, "No space left", "last.pt"), False),
        (OSError(errno.ESTALE, "Stale file handle", "last.pt"), True),
        (torch.OutOfMemoryError("CUDA out of memory"), False),
        (RuntimeError("[/gloo/pair.cc:1] Connection closed by peer"), True),
        (torch.distributed.DistBackendError("NCCL error"), True),
    ],
)
def test_explain_errors_lets_torchrun_try_again_what_may_succeed(error, is_transient):
    with (
        pytest.raises(StageError) as raised,
        setup.explain_errors(flags(), Run(Path("run"))),
    ):
        raise error
    assert isinstance(raised.value, TransientError) == is_transient


def test_explain_errors_does_not_hide_a_bug():
    with (
        pytest.raises(RuntimeError, match="shapes"),
        setup.explain_errors(flags(), Run(Path())),
    ):
        raise RuntimeError("shapes do not fit")


def test_set_determinism_forbids_other_operations(monkeypatch):
    chosen = []
    monkeypatch.setattr(torch, "use_deterministic_algorithms", chosen.append)
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    setup.set_determinism(True)
    assert chosen == [True] and not torch.backends.cudnn.benchmark
    setup.set_determinism(False)
    assert chosen == [True] and torch.backends.cudnn.benchmark
