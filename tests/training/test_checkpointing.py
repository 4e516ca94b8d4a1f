"""Saving a training: the newest state, the best model, when it ends, and what may resume it."""

from __future__ import annotations

import os
import re
import signal
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch

from tests.ranks import run_ranks
from tests.trainings import CLASSES, REMEMBERED_RECIPE, equal_bits, small_dataset, small_trainer
from train import train_and_validate
from utils.errors import StageError
from utils.imaging.preprocess import Preprocess
from utils.inference.checkpoint import Checkpoint
from utils.training import checkpointing
from utils.training.checkpointing import CheckpointSaver, SaveOptions
from utils.training.distributed import Distributed
from utils.training.poll import Poll
from utils.training.run_folder import Run
from utils.training.trainer import Trainer

FIXED = {"data": ["a", "b"], "optimizer": "sgd", "ema": True, "order": [0, 4, 2]}
# What version 0.1.0 called them.
OLD_FIXED_KEYS = {
    "data": "set of images",
    "optimizer": "optimizer",
    "ema": "use of --ema",
    "order": "order of images (--seed, --batch_size, --accumulate)",
}


@pytest.fixture(autouse=True)
def _signals():
    """Put back the signal handlers that a saver sets."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


class NothingDrawn:
    """Counts the curves that would be drawn."""

    count = 0

    def __call__(self, *args: object) -> None:
        self.count += 1


@pytest.fixture(autouse=True)
def drawings(monkeypatch):
    drawings = NothingDrawn()
    monkeypatch.setattr(checkpointing, "draw_curves", drawings)
    return drawings


def make_saver(
    folder: Path,
    trainer: Trainer | None = None,
    fixed: dict | None = None,
    patience: int = 0,
    save_every: float = 10,
    model_path: str | None = "model.pt",
    **changes: object,
) -> CheckpointSaver:
    """Return a saver that writes into a run below `folder`, and its model to model.pt there."""
    run = Run(folder / "run")
    run.folder.mkdir(parents=True, exist_ok=True)
    template = Checkpoint(
        "resemotionnet", CLASSES, Preprocess(8, 1).to_dict(), 0, 0.0, {},
        training={"amp": "off", "fixed": FIXED if fixed is None else fixed},
    )  # fmt: skip
    options = SaveOptions(model_path and folder / model_path, patience, save_every)
    trainer = trainer or small_trainer()
    return CheckpointSaver(run, trainer, replace(template, **changes), options)


def finish_epoch(saver: CheckpointSaver, accuracy: float, bias: float = 0) -> None:
    """End an epoch with this accuracy, and weights that can be told from others by a number."""
    saver.trainer.best_model[5].bias.data.fill_(bias)
    saver.after_epoch({"epoch": len(saver.history) + 1, "val_accuracy": accuracy})
    saver.update_views()


def bias_of(path: Path) -> float:
    return Checkpoint.load(path).weights["5.bias"][0].item()


class StoppedError(Exception):
    """Raised in the middle of an epoch, as by a signal."""


def stopped_mid_epoch(folder: Path) -> Checkpoint:
    """Train one epoch and a step of the second, save, and return what was saved."""
    saver = make_saver(folder)
    saver.trainer.train_epoch(saver.after_step, "")
    finish_epoch(saver, 0.5, bias=0.25)

    def after_step() -> None:
        saver.save_last()
        raise StoppedError

    with suppress(StoppedError):
        saver.trainer.train_epoch(after_step, "")
    last = Checkpoint.load(saver.run.last)
    assert (last.training["epoch"], last.training["batch"]) == (2, 2)
    return last


def with_old_keys(checkpoint: Checkpoint) -> Checkpoint:
    """Return a last.pt as version 0.1.0 wrote it."""
    fixed = {OLD_FIXED_KEYS[key]: value for key, value in checkpoint.training["fixed"].items()}
    return replace(checkpoint, training=checkpoint.training | {"fixed": fixed})


def unchanged(checkpoint: Checkpoint) -> Checkpoint:
    return checkpoint


def test_save_last_writes_all_that_a_training_needs(tmp_path):
    saver = make_saver(tmp_path)
    saver.save_last()
    last = Checkpoint.load(saver.run.last)
    assert last.training.keys() == {
        "amp", "fixed", "history", "epoch", "batch", "loss", "optimizer", "scaler", "model",
        "ema_updates",
    }  # fmt: skip
    assert last.training["fixed"] == FIXED and (last.epoch, last.val_accuracy) == (0, 0.0)
    assert not (tmp_path / "model.pt").exists() and not saver.run.best.exists()


@pytest.mark.parametrize("version", [unchanged, with_old_keys])
def test_resume_mid_epoch_continues_bit_for_bit(tmp_path, version):
    undisturbed = make_saver(tmp_path / "a")
    undisturbed.trainer.train_epoch(undisturbed.after_step, "")
    finish_epoch(undisturbed, 0.5, bias=0.25)
    last = stopped_mid_epoch(tmp_path / "b")
    torch.manual_seed(99)
    resumed = make_saver(tmp_path / "b")
    resumed.resume(version(last))
    assert resumed.history == undisturbed.history
    losses = [
        [saver.trainer.train_epoch(saver.after_step, "")[0] for _ in (2, 3)]
        for saver in (undisturbed, resumed)
    ]
    assert losses[0] == losses[1]
    for saver in (undisturbed, resumed):
        saver.save_last()
    states = [Checkpoint.load(saver.run.last) for saver in (undisturbed, resumed)]
    assert equal_bits(states[0].training, states[1].training)
    assert equal_bits(dict(states[0].weights), dict(states[1].weights))


def test_resume_continues_a_plateau(tmp_path):
    """The rate follows from the results, which last.pt holds."""
    recipe = replace(REMEMBERED_RECIPE, schedule="plateau", plateau_patience=1, warmup=0)
    savers = [make_saver(tmp_path / name, small_trainer(recipe)) for name in "ab"]
    for saver in savers:
        for accuracy in (0.6, 0.5, 0.5):
            saver.trainer.train_epoch(saver.after_step, "")
            finish_epoch(saver, accuracy, bias=0.25)
    resumed = make_saver(tmp_path / "b", small_trainer(recipe))
    resumed.resume(Checkpoint.load(savers[1].run.last))
    assert savers[0].trainer.lr == 0.05
    losses = [saver.trainer.train_epoch(saver.after_step, "")[0] for saver in (savers[0], resumed)]
    assert losses[0] == losses[1]
    assert savers[0].trainer.lr == resumed.trainer.lr == 0.05 * 0.75


@pytest.mark.parametrize("version", [unchanged, with_old_keys])
@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"data": ["a", "c"]}, "set of images"),
        ({"optimizer": "adam"}, "optimizer"),
        ({"ema": False}, "use of --ema"),
        ({"order": [1, 4, 2]}, "order of images (--seed, --batch_size, --accumulate, --sampling)"),
    ],
)
def test_resume_refuses_another_training_in_one_line(tmp_path, version, change, name):
    last = version(stopped_mid_epoch(tmp_path))
    saver = make_saver(tmp_path, fixed=FIXED | change)
    with pytest.raises(StageError) as raised:
        saver.resume(last)
    message = str(raised.value)
    assert message.startswith(f"the {name} is not that of {saver.run.folder}")
    assert message.endswith(f"--init {saver.run.last}") and "\n" not in message
    assert saver.history == [] and saver.trainer.progress.batch == 0


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"network": "resnet18"}, "network"),
        ({"classes": CLASSES[::-1]}, "list of classes"),
        ({"preprocess": Preprocess(8, 3).to_dict()}, "image size or channel"),
    ],
)
def test_resume_refuses_another_network_in_one_line(tmp_path, change, name):
    last = stopped_mid_epoch(tmp_path)
    saver = make_saver(tmp_path, **change)
    with pytest.raises(StageError, match=f"the {name} is not that of"):
        saver.resume(last)


@pytest.mark.parametrize("version", [unchanged, with_old_keys])
@pytest.mark.parametrize("key", FIXED)
def test_resume_refuses_a_state_that_lacks_a_fixed_setting(tmp_path, version, key):
    last = version(stopped_mid_epoch(tmp_path))
    last.training["fixed"].pop(key, None)
    last.training["fixed"].pop(OLD_FIXED_KEYS[key], None)
    with pytest.raises(StageError, match="is not that of"):
        make_saver(tmp_path).resume(last)


@pytest.mark.parametrize(
    "key",
    ["amp", "history", "epoch", "batch", "loss", "optimizer", "scaler", "model", "ema_updates"],
)
def test_resume_refuses_a_state_that_lacks_a_key(tmp_path, key):
    last = stopped_mid_epoch(tmp_path)
    del last.training[key]
    with pytest.raises(StageError, match=rf"last\.pt lacks {key}: start a new training"):
        make_saver(tmp_path).resume(last)


@pytest.mark.parametrize("training", [None, {}])
def test_resume_refuses_what_is_no_state(tmp_path, training):
    last = replace(stopped_mid_epoch(tmp_path), training=training)
    with pytest.raises(StageError, match="is not that of"):
        make_saver(tmp_path).resume(last)


def with_schedule(schedule: str, epochs: int, lr: float = 0.05) -> Trainer:
    recipe = replace(REMEMBERED_RECIPE, epochs=epochs, schedule=schedule, lr=lr)
    return small_trainer(recipe)


@pytest.mark.parametrize("schedule", ["cosine", "onecycle", "none"])
@pytest.mark.parametrize("epochs_done", [2, 3])
def test_resume_notes_a_rate_that_rises_again(tmp_path, capsys, schedule, epochs_done):
    saver = make_saver(tmp_path, with_schedule(schedule, 3))
    for _ in range(epochs_done):
        saver.trainer.train_epoch(saver.after_step, "")
        finish_epoch(saver, 0.5)
    last = Checkpoint.load(saver.run.last)

    def notes_with(epochs: int, lr: float = 0.05) -> list[str]:
        make_saver(tmp_path, with_schedule(schedule, epochs, lr)).resume(last)
        return capsys.readouterr().err.splitlines()

    assert notes_with(3) == notes_with(3, lr=0.01) == []
    words = f"where --schedule {schedule} with --epochs 30 and --lr 0.05 has it"
    assert [words in note for note in notes_with(30)] == [True] * (schedule != "none")


def test_after_epoch_keeps_the_best_epoch_the_first_of_equals(tmp_path):
    saver = make_saver(tmp_path)
    for epoch, accuracy in enumerate((0.5, 0.75, 0.75, 0.25), 1):
        finish_epoch(saver, accuracy, bias=epoch)
        assert bias_of(saver.run.last) == epoch
    assert saver.best == {"epoch": 2, "val_accuracy": 0.75}
    assert bias_of(saver.run.best) == bias_of(tmp_path / "model.pt") == 2
    best = Checkpoint.load(saver.run.best)
    assert (best.epoch, best.val_accuracy, best.training) == (2, 0.75, None)
    assert len((saver.run.folder / "results.csv").read_text("utf-8").splitlines()) == 5


@pytest.mark.parametrize(
    ("accuracies", "patience", "expected"),
    [
        ([], 0, True),
        ([0.5, 0.5], 0, True),
        ([0.5, 0.6, 0.7], 0, False),  # as many epochs as the recipe has
        ([0.5, 0.4], 2, True),
        ([0.5, 0.4], 1, False),
        ([0.4, 0.5], 1, True),
    ],
)
def test_should_continue_to_the_last_epoch_or_while_it_improves(
    tmp_path, accuracies, patience, expected
):
    saver = make_saver(tmp_path, patience=patience)
    saver.history = [{"epoch": i, "val_accuracy": a} for i, a in enumerate(accuracies, 1)]
    assert saver.should_continue() is expected


def test_after_step_saves_when_the_minutes_have_passed(tmp_path, monkeypatch):
    now = 1000.0
    monkeypatch.setattr(checkpointing.time, "monotonic", lambda: now)
    saver = make_saver(tmp_path, save_every=2)
    now += 119
    saver.after_step()
    assert not saver.run.last.exists()
    now += 2
    saver.after_step()
    assert saver.run.last.exists()
    saver.run.last.unlink()
    now += 100
    saver.after_step()
    assert not saver.run.last.exists()


def test_update_views_draws_the_curves_once_a_minute(tmp_path, monkeypatch, drawings):
    now = 1000.0
    monkeypatch.setattr(checkpointing.time, "monotonic", lambda: now)
    saver = make_saver(tmp_path)
    for seconds, count in ((1, 0), (60, 1), (59, 1), (2, 2)):
        now += seconds
        finish_epoch(saver, 0.5)
        assert drawings.count == count


@pytest.mark.skipif(os.name == "nt", reason="signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_after_step_saves_and_stops_after_a_signal(tmp_path, number, capsys):
    saver = make_saver(tmp_path)
    os.kill(os.getpid(), number)
    assert "stopping after this step" in capsys.readouterr().err
    message = f"to resume: python train.py --resume {saver.run.folder}"
    with pytest.raises(KeyboardInterrupt, match=re.escape(message)):
        saver.after_step()
    assert saver.run.last.exists()
    with pytest.raises(KeyboardInterrupt):  # a second one stops at once
        os.kill(os.getpid(), number)


@pytest.mark.skipif(os.name == "nt", reason="signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_that_torchrun_passes_on_is_no_second_one(tmp_path, monkeypatch, number, capsys):
    now = 1000.0
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "7")
    monkeypatch.setattr(checkpointing.time, "monotonic", lambda: now)
    saver = make_saver(tmp_path)
    os.kill(os.getpid(), number)
    now += 1.9
    os.kill(os.getpid(), number)
    assert capsys.readouterr().err.count("stopping after this step") == 1
    now += 0.2
    with pytest.raises(KeyboardInterrupt, match=r"^$"):
        os.kill(os.getpid(), number)
    with pytest.raises(KeyboardInterrupt, match=re.escape("torchrun … train.py --resume")):
        saver.after_step()


def test_stop_before_validation_resumes_with_it(tmp_path):
    saver = make_saver(tmp_path)
    loss, _ = saver.trainer.train_epoch(saver.after_step, "")
    with pytest.raises(KeyboardInterrupt, match="the training is saved; to resume"):
        saver.stop_before_validation()
    last = Checkpoint.load(saver.run.last)
    assert (last.training["epoch"], last.training["batch"]) == (1, 6)
    assert last.training["history"] == []
    resumed = make_saver(tmp_path)
    resumed.resume(last)
    assert resumed.trainer.train_epoch(resumed.after_step, "")[0] == loss


@pytest.mark.skipif(os.name == "nt", reason="signals")
@pytest.mark.parametrize("moment", ["validation", "save"])
def test_a_signal_at_another_moment_than_a_step_costs_nothing(tmp_path, monkeypatch, moment):
    """The second epoch's validation stops; a save goes on to its end."""
    undisturbed, stopped = (make_saver(tmp_path / name) for name in "ab")
    calls = []

    def terminate(*_: object) -> None:
        calls.append(1)
        if len(calls) == (3 if moment == "validation" else 2):
            os.kill(os.getpid(), signal.SIGTERM)

    if moment == "validation":  # of two batches an epoch
        stopped.trainer.best_model.register_forward_pre_hook(terminate)
    else:
        stopped.run.write_results = terminate
    with suppress(KeyboardInterrupt):
        while stopped.should_continue():
            train_and_validate(stopped.trainer, stopped, small_dataset(40))
    assert len(stopped.history) == (1 if moment == "validation" else 2)
    resumed = make_saver(tmp_path / "b")
    resumed.resume(Checkpoint.load(stopped.run.last))
    for saver in (undisturbed, resumed):
        while saver.should_continue():
            train_and_validate(saver.trainer, saver, small_dataset(40))
        saver.save_last()
    states = [Checkpoint.load(saver.run.last) for saver in (undisturbed, resumed)]
    assert equal_bits(states[0].training, states[1].training)
    assert equal_bits(dict(states[0].weights), dict(states[1].weights))


def of_several(rank: int, folder: Path, **options: object) -> CheckpointSaver:
    """Return the saver of one of two processes."""
    trainer = small_trainer()
    trainer.distributed = replace(trainer.distributed, rank=rank, world_size=2)
    trainer.poll = Poll(trainer.distributed, 50)
    return make_saver(folder, trainer, **options)


def test_of_several_processes_only_rank_0_writes(tmp_path):
    saver = of_several(1, tmp_path)
    saver.save_last()
    finish_epoch(saver, 0.5)
    saver.finish()
    assert list(tmp_path.rglob("*.*")) == []


def test_several_processes_save_only_after_a_poll(tmp_path):
    saver = of_several(0, tmp_path, save_every=0)
    saver.trainer.poll.is_current = False
    saver.trainer.poll.stop_requested = True
    saver.after_step()
    assert not saver.run.last.exists()
    saver.trainer.poll.is_current = True
    saver.after_step()
    assert saver.run.last.exists()


@pytest.mark.parametrize(("minutes", "seconds"), [(10, 2), (0.01, 0.6), (0, 0)])
def test_several_processes_poll_often_enough_to_save(tmp_path, minutes, seconds):
    assert of_several(0, tmp_path, save_every=minutes).trainer.poll.seconds == seconds


def save_and_stop(folder: Path, distributed: Distributed) -> list:
    """Train three epochs undisturbed. Then again, with a stop that one of the two processes is
    asked to in the second epoch, where they poll after each step or at the epoch's end, and
    resumed. Return where they stopped, and the final states.
    """
    position, where, states = [0, 0], [], []

    def train_to_the_end(name: str, stops: bool, save_every: float) -> None:
        trainer = small_trainer(distributed=distributed)
        saver = make_saver(folder / name, trainer, save_every=save_every)
        if saver.run.last.exists():
            saver.resume(Checkpoint.load(saver.run.last))
        distributed.barrier()  # the other has loaded, too
        after_step = saver.after_step

        def maybe_stop() -> None:
            position[:] = trainer.progress.epoch, trainer.progress.batch
            if stops and position == [2, 2] and distributed.rank == 1:
                os.kill(os.getpid(), signal.SIGTERM)
            after_step()

        saver.after_step = maybe_stop
        while saver.should_continue():
            train_and_validate(trainer, saver, small_dataset(13))
        weights = {key: value.contiguous() for key, value in trainer.model.state_dict().items()}
        states.append(trainer.state() | {"history": saver.history, "weights": weights})

    train_to_the_end("undisturbed", False, 10)
    for save_every in (0, 10):
        name = f"saved every {save_every} minutes"
        with suppress(KeyboardInterrupt):
            train_to_the_end(name, True, save_every)
        is_ignored = signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
        last = Checkpoint.load(folder / name / "run/last.pt").training
        where.append([*position, last["epoch"], last["batch"], is_ignored])
        train_to_the_end(name, False, save_every)
    return [where, states]


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="gloo")
def test_processes_stop_together_and_resume_bit_for_bit(tmp_path):
    for where, states in run_ranks(partial(save_and_stop, tmp_path), tmp_path):
        # After the next poll, which is the next step's or that of the epoch's end.
        assert where == [[2, 4, 2, 4, True], [2, 5, 2, 5, True]]
        assert len(states[0]["history"]) == 3 and isinstance(states[0]["loss"], list)
        for state in states[1:]:
            assert equal_bits(state, states[0])


def test_finish_writes_what_a_killed_run_lacks(tmp_path, drawings):
    saver = make_saver(tmp_path)
    finish_epoch(saver, 0.5, bias=1)
    last = Checkpoint.load(saver.run.last)
    for path in (saver.run.best, tmp_path / "model.pt", saver.run.folder / "results.csv"):
        path.unlink()
    resumed = make_saver(tmp_path)
    resumed.resume(last)
    resumed.finish()
    assert bias_of(saver.run.best) == bias_of(tmp_path / "model.pt") == 1
    assert len((saver.run.folder / "results.csv").read_text("utf-8").splitlines()) == 2
    assert drawings.count == 1


def test_finish_replaces_another_model_and_keeps_a_calibrated_one(tmp_path):
    saver, model = make_saver(tmp_path), tmp_path / "model.pt"
    finish_epoch(saver, 0.5, bias=1)
    replace(Checkpoint.load(model), temperature=1.5).save(model)
    saver.finish()
    assert Checkpoint.load(model).temperature == 1.5
    model.write_bytes(b"another run's")
    saver.finish()
    assert model.read_bytes() == saver.run.best.read_bytes()


def test_a_fold_keeps_its_model_to_itself_and_gives_signals_back(tmp_path):
    before = signal.getsignal(signal.SIGTERM)
    saver = make_saver(tmp_path, model_path=None)
    finish_epoch(saver, 0.5)
    saver.finish()
    assert saver.run.best.exists() and not (tmp_path / "model.pt").exists()
    assert signal.getsignal(signal.SIGTERM) != before
    saver.release_signals()
    assert signal.getsignal(signal.SIGTERM) == before
