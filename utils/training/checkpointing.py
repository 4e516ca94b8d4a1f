"""Saving a training while it runs: best model, newest state, results; and when it ends."""

from __future__ import annotations

import signal
import time
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from utils import torchrun
from utils.console import info, note
from utils.errors import StageError
from utils.files import atomic_file
from utils.imaging.plots import draw_curves
from utils.inference.checkpoint import Checkpoint, same_model
from utils.training.run_folder import Run
from utils.training.run_page import FINISHED, INTERRUPTED, STOPPED_EARLY, RunPage
from utils.training.trainer import Trainer

DRAW_EVERY = 60  # seconds between drawings of the curves
HIGHER_RATE = 1.1  # times the rate of the last step: a resumed run says so
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)
# Seconds in which the second signal is the first one once more: torchrun, which also gets the
# Ctrl-C of a terminal, passes it on to its processes.
ECHO_SECONDS = 2.0

# What a resumed run cannot change: the keys of `training["fixed"]` in last.pt, and their names in
# messages.
FIXED_SETTINGS = {
    "data": "set of images",
    "optimizer": "optimizer",
    "ema": "use of --ema",
    "order": "order of images (--seed, --batch_size, --accumulate, --sampling)",
}
# The keys in files of version 0.1.0, where they differ.
OLD_FIXED_KEYS = {
    "data": "set of images",
    "ema": "use of --ema",
    "order": "order of images (--seed, --batch_size, --accumulate)",
}


@dataclass(frozen=True)
class SaveOptions:
    """When and where a training is saved, and when it stops early."""

    model_path: Path | None  # None: the best model stays in the run's folder alone
    patience: int  # epochs without improvement before the training stops; 0: off
    save_every: float  # minutes between saves within an epoch
    page: RunPage | None = None  # None: the run has no page


class CheckpointSaver:
    """Saves a training after each epoch and within long epochs, and decides when it ends."""

    def __init__(
        self, run: Run, trainer: Trainer, template: Checkpoint, options: SaveOptions
    ) -> None:
        """Prepare to save. SIGINT and SIGTERM are requests to stop from now on.

        `template`: the checkpoint to save, still without weights and results.
        """
        self.run, self.trainer = run, trainer
        self.history: list[dict[str, float]] = []  # a row of results.csv per epoch
        self._options = options
        self._template = replace(template, training=None)
        self._constants = template.training or {}  # of `training` in every last.pt
        self._saved = self._drawn = time.monotonic()
        # Several processes can save only where they poll.
        trainer.poll.seconds = min(trainer.poll.seconds, 60 * options.save_every)
        self._signals: dict[int, float] = {}  # when each came first
        self._handlers = {
            number: signal.signal(number, self._request_stop) for number in STOP_SIGNALS
        }

    def resume(self, checkpoint: Checkpoint) -> None:
        """Continue from a run's last.pt. Raise StageError if it belongs to another training."""
        state, template = checkpoint.training or {}, self._template
        fixed, expected = state.get("fixed", {}), self._constants["fixed"]
        for name, before, now in (
            ("network", checkpoint.network, template.network),
            ("list of classes", checkpoint.classes, template.classes),
            ("image size or channel", checkpoint.preprocess, template.preprocess),
            *(
                (name, fixed.get(key, fixed.get(OLD_FIXED_KEYS.get(key))), expected[key])
                for key, name in FIXED_SETTINGS.items()
            ),
        ):
            if before != now:
                raise StageError(
                    f"the {name} is not that of {self.run.folder}, which cannot resume with "
                    f"another: start a new training from its weights with --init {self.run.last}"
                )
        missing = self._state().keys() - state.keys()
        if missing:
            raise StageError(
                f"{self.run.last} lacks {', '.join(sorted(missing))}: start a new training from "
                f"its weights with --init {self.run.last}"
            )
        self.trainer.load_state(checkpoint.weights, state)
        self.history = state["history"]
        self._tell_accuracies()
        if not state["batch"]:  # the run may have been killed before it saved this epoch's model
            self._save_best()
        self._note_higher_rate()

    def _note_higher_rate(self) -> None:
        """Say if other flags than the run began with let the learning rate rise again."""
        trainer, recipe = self.trainer, self.trainer.recipe
        done = trainer.steps_done
        if not done or recipe.schedule not in ("cosine", "onecycle"):
            return
        before, then, now = trainer.lr, trainer.lr_of_step(done - 1), trainer.lr_of_step(done)
        if then > HIGHER_RATE * before:
            note(
                f"the learning rate rises from {before:.2g} to {now:.2g}, where --schedule "
                f"{recipe.schedule} with --epochs {recipe.epochs} and --lr {recipe.lr:g} has it"
            )

    @property
    def best(self) -> dict[str, float]:
        """The results of the best epoch so far, the first of equals.

        Only defined after the first epoch.
        """
        return max(self.history, key=lambda row: row["val_accuracy"])

    def should_continue(self) -> bool:
        """Return whether to train another epoch."""
        done, patience = len(self.history), self._options.patience
        if patience and done and done - self.best["epoch"] >= patience:
            return False
        return done < self.trainer.recipe.epochs

    def after_step(self) -> None:
        """Save if it is time. Save and raise KeyboardInterrupt if a signal asked to stop.

        Several processes do so only after a poll, all after the same step.
        """
        poll = self.trainer.poll
        if poll.is_stopping:
            self._stop({})
        if poll.is_current and time.monotonic() - self._saved > 60 * self._options.save_every:
            self.save_last()

    def stop_before_validation(self) -> NoReturn:
        """Save and raise KeyboardInterrupt: a resumed run starts with the epoch's validation."""
        self._stop(self.trainer.epoch_end)

    def after_epoch(self, results: dict[str, float]) -> None:
        """Save after an epoch with these results, by column of results.csv.

        `epoch` (from 1) and `val_accuracy` (in [0, 1]) must be among them.
        """
        self.history.append(results)
        self._tell_accuracies()
        self.save_last()
        self._save_best()
        if self.trainer.distributed.is_primary:
            self.run.write_results(self.history)

    def update_views(self) -> None:
        """Draw the curves and write the run's page again, if it is time.

        It comes after the epoch's line is printed: a run that is killed meanwhile does not lose it.
        """
        if not self.trainer.distributed.is_primary:
            return
        if time.monotonic() - self._drawn > DRAW_EVERY:
            self._draw()
        if self._options.page:
            self._options.page.update()

    def _tell_accuracies(self) -> None:
        """Tell the trainer the results by which `--schedule plateau` sets the learning rate."""
        self.trainer.accuracies = [row["val_accuracy"] for row in self.history]

    def finish(self) -> None:
        """Write the results, the curves and the best model at the end of the training.

        A run that only resumes its last save may lack them: it may have been killed right after
        that save, or have another --model_path, or another run may have replaced its model since.
        """
        if self.trainer.distributed.is_primary:
            self.run.write_results(self.history)
            self._draw()
            is_complete = len(self.history) >= self.trainer.recipe.epochs
            self._write_page(FINISHED if is_complete else STOPPED_EARLY)
            self._publish()

    def release_signals(self) -> None:
        """Let SIGINT and SIGTERM do what they did before: this training has ended."""
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def save_last(self, changes: dict[str, Any] | None = None) -> None:
        """Save the state from which the training resumes, with changes."""
        self._saved = time.monotonic()
        if self.trainer.distributed.is_primary:
            self._checkpoint(self._state() | (changes or {})).save(self.run.last)

    def _stop(self, changes: dict[str, Any]) -> NoReturn:
        """Save the state with changes, and raise KeyboardInterrupt in all processes."""
        distributed = self.trainer.distributed
        self.save_last(changes)
        if distributed.is_primary:
            self._draw()
            self._write_page(INTERRUPTED)
        if distributed.world_size > 1:
            # torchrun ends all processes when one has ended, so all wait for the one that saves.
            distributed.barrier()
            for number in STOP_SIGNALS:
                signal.signal(number, signal.SIG_IGN)
        launcher = "torchrun …" if torchrun.is_launcher() else "python"
        raise KeyboardInterrupt(
            f"the training is saved; to resume: {launcher} train.py --resume {self.run.folder}"
        )

    def _save_best(self) -> None:
        """Save the model of the epoch that has just ended, if it is the best so far."""
        is_best = self.history and self.best is self.history[-1]
        if self.trainer.distributed.is_primary and is_best:
            self._checkpoint(None).save(self.run.best)
            self._publish()

    def _publish(self) -> None:
        """Copy the best model to --model_path, unless the same model is there, maybe calibrated."""
        path = self._options.model_path
        if path and not (path.exists() and same_model(path, self.run.best)):
            with atomic_file(path) as file:
                file.write(self.run.best.read_bytes())

    def _state(self) -> dict[str, Any]:
        """Return `training` of last.pt: the state from which the training resumes."""
        return self._constants | self.trainer.state() | {"history": self.history}

    def _checkpoint(self, training: dict[str, Any] | None) -> Checkpoint:
        """Return the current weights with the results of the last complete epoch."""
        weights = {k: v.cpu() for k, v in self.trainer.best_model.state_dict().items()}
        last = self.history[-1] if self.history else {"epoch": 0, "val_accuracy": 0.0}
        epoch, accuracy = int(last["epoch"]), last["val_accuracy"]
        return replace(
            self._template, epoch=epoch, val_accuracy=accuracy, weights=weights, training=training
        )

    def _draw(self) -> None:
        self._drawn = time.monotonic()
        if self.history:
            draw_curves(self.history, self.best, self.run.folder / "curves.png")

    def _write_page(self, state: str) -> None:
        if self._options.page:
            self._options.page.write(state)

    def _request_stop(self, number: int, frame: FrameType | None) -> None:
        """Ask to save and stop; at a second signal of this kind stop at once."""
        now = time.monotonic()
        first = self._signals.setdefault(number, now)
        if first != now:
            if not torchrun.is_launcher() or now - first > ECHO_SECONDS:
                signal.default_int_handler(number, frame)
            return
        self.trainer.poll.stop_requested = True
        info(
            "stopping after this step; press Ctrl-C again to quit now and lose the work since the "
            "last save"
        )
