"""Saving a training while it runs: the best model, the newest state, the table of results."""

from __future__ import annotations

import signal
import time
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Any

from utils.console import info
from utils.errors import StageError
from utils.files import atomic_file
from utils.imaging.plots import draw_curves
from utils.inference.checkpoint import Checkpoint, same_model
from utils.training.run_folder import Run
from utils.training.trainer import Trainer

DRAW_EVERY = 60  # seconds

# What a resumed run cannot change: the keys of `training["fixed"]` in last.pt, and their names in
# messages.
FIXED_SETTINGS = {
    "data": "set of images",
    "optimizer": "optimizer",
    "ema": "use of --ema",
    "order": "order of images (--seed, --batch_size, --accumulate)",
}
# The keys in a last.pt of version 0.1.0, where they differ.
OLD_FIXED_KEYS = {
    "data": "set of images",
    "ema": "use of --ema",
    "order": "order of images (--seed, --batch_size, --accumulate)",
}


@dataclass(frozen=True)
class SaveOptions:
    """When and where a training is saved, and when it stops early."""

    model_path: Path
    patience: int  # epochs without improvement before the training stops; 0: off
    save_every: float  # minutes between saves within an epoch


class CheckpointSaver:
    """Saves a training after each epoch and within long ones, and decides when it ends."""

    def __init__(
        self, run: Run, trainer: Trainer, template: Checkpoint, options: SaveOptions
    ) -> None:
        """`template`: the checkpoint to save, with its weights and figures still missing."""
        self.run, self.trainer = run, trainer
        self.history: list[dict[str, float]] = []  # a row of results.csv per epoch
        self._template, self._options = template, options
        self._saved = self._drawn = time.monotonic()
        self._stop = False
        if trainer.distributed.world_size == 1:  # several processes would stop at different steps
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, self._request_stop)

    def resume(self, checkpoint: Checkpoint) -> None:
        """Continue from a run's last.pt. Raise StageError if it is not of this training."""
        state, template = checkpoint.training or {}, self._template
        fixed, expected = state.get("fixed", {}), (template.training or {})["fixed"]
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
                    f"another: start a new training, with --init {self.run.last} from its weights"
                )
        self.trainer.load_state(checkpoint.weights, state)
        self.history = state["history"]
        if not state["batch"]:  # the run may have been killed before it kept this epoch
            self._save_best()

    @property
    def best(self) -> dict[str, float]:
        """The results of the best epoch so far, the first of equals. There must be one."""
        return max(self.history, key=lambda row: row["val_accuracy"])

    def should_continue(self) -> bool:
        """Return whether there is another epoch to train."""
        done, patience = len(self.history), self._options.patience
        if patience and done and done - self.best["epoch"] >= patience:
            return False
        return done < self.trainer.recipe.epochs

    def after_step(self) -> None:
        """Save if it is time, or if the user wants to stop."""
        if self._stop:
            self.save_last()
            self._draw()
            raise KeyboardInterrupt(
                f"the training is saved; to resume: python train.py --resume {self.run.folder}"
            )
        if time.monotonic() - self._saved > 60 * self._options.save_every:
            self.save_last()

    def after_epoch(self, results: dict[str, float]) -> None:
        """Keep an epoch's results: `epoch`, `val_accuracy` and the other columns of results.csv."""
        self.history.append(results)
        self.save_last()
        self._save_best()
        if self.trainer.distributed.is_primary:
            self.run.write_results(self.history)
            if time.monotonic() - self._drawn > DRAW_EVERY:
                self._draw()

    def finish(self) -> None:
        """Write the whole table, the curves and the best model.

        A resumed run may have been killed between its last save and the table. It may also have
        another --model_path, or have found no better epoch since another run replaced its model.
        """
        if self.trainer.distributed.is_primary:
            self.run.write_results(self.history)
            self._draw()
            self._publish()

    def save_last(self) -> None:
        """Save the state from which the training resumes."""
        self._saved = time.monotonic()
        if self.trainer.distributed.is_primary:
            training = self._template.training or {}
            state = training | self.trainer.state() | {"history": self.history}
            self._checkpoint(state).save(self.run.last)

    def _save_best(self) -> None:
        """Keep the model of the epoch that has just ended, if it is the best so far."""
        is_best = self.history and self.best is self.history[-1]
        if self.trainer.distributed.is_primary and is_best:
            self._checkpoint(None).save(self.run.best)
            self._publish()

    def _publish(self) -> None:
        """Copy the best model to --model_path, unless it is there, perhaps calibrated."""
        path = self._options.model_path
        if not (path.exists() and same_model(path, self.run.best)):
            with atomic_file(path) as file:
                file.write(self.run.best.read_bytes())

    def _checkpoint(self, training: dict[str, Any] | None) -> Checkpoint:
        """Return the present weights with the results of the last complete epoch."""
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

    def _request_stop(self, number: int, frame: FrameType | None) -> None:
        signal.signal(number, signal.default_int_handler)
        self._stop = True
        info(
            "stopping after this step; press Ctrl-C again to quit now and lose the work since the "
            "last save"
        )
