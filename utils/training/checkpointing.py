"""What is kept of a training while it runs: the best model, the newest state, the figures."""

from __future__ import annotations

import signal
import time
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

from utils.cli import StageError, say
from utils.files import atomic_file
from utils.imaging.plots import draw_curves
from utils.inference.checkpoint import Checkpoint, same_model
from utils.training.run_folder import Run
from utils.training.trainer import Trainer

DRAW_EVERY = 60  # seconds


class Keeper:
    """Saves after each epoch, and within long ones; and knows when a training is at its end."""

    def __init__(
        self,
        run: Run,
        trainer: Trainer,
        blank: Checkpoint,
        model_path: Path,
        patience: int,
        save_every: float,
    ) -> None:
        """`blank`: the checkpoint to be, its weights and figures still missing.

        `patience`: epochs without a better one after which it ends, 0: never. `save_every`: minutes
        between saves within an epoch.
        """
        self.run, self.trainer, self.model_path = run, trainer, model_path
        self.history: list[dict[str, float]] = []
        self._blank, self._patience, self._seconds = blank, patience, 60 * save_every
        self._saved = self._drawn = time.monotonic()
        self._stop = False
        if trainer.team.size == 1:  # else the processes would stop at different steps
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, self._ask_to_stop)

    def restore(self, resumed: Checkpoint) -> None:
        """Go on from a run's last.pt. Raises StageError where it is not of this training."""
        state, blank = resumed.training, self._blank
        for what, before, now in (
            ("network", resumed.network, blank.network),
            ("list of classes", resumed.classes, blank.classes),
            ("image size or channel", resumed.preprocess, blank.preprocess),
            *((what, state["fixed"][what], now) for what, now in blank.training["fixed"].items()),
        ):
            if before != now:
                raise StageError(
                    f"the {what} is not that of {self.run.folder}, which cannot go on with "
                    f"another: start a new training, with --init {self.run.last} from its weights"
                )
        self.trainer.restore(resumed.weights, state)
        self.history = state["history"]
        if not state["batch"]:  # it may have been killed before it kept this epoch
            self._keep_best()

    @property
    def best(self) -> dict[str, float]:
        """The figures of the best epoch, of the first where several are; there must be one."""
        return max(self.history, key=lambda figures: figures["val_accuracy"])

    def goes_on(self) -> bool:
        """Whether there is another epoch to train."""
        done = len(self.history)
        if self._patience and done and done - self.best["epoch"] >= self._patience:
            return False
        return done < self.trainer.recipe.epochs

    def pause(self) -> None:
        """Between two steps: save if it is time to, or if somebody wants to stop."""
        if self._stop:
            self._save_last()
            self._draw()
            raise KeyboardInterrupt(
                f"what was trained is saved; to go on: python train.py --resume {self.run.folder}"
            )
        if time.monotonic() - self._saved > self._seconds:
            self._save_last()

    def end_epoch(self, figures: dict[str, float]) -> None:
        """Keep an epoch's result: `epoch`, `val_accuracy` and whatever else results.csv holds."""
        self.history.append(figures)
        self._save_last()
        self._keep_best()
        if self.trainer.team.leads:
            self.run.write_results(self.history)
            if time.monotonic() - self._drawn > DRAW_EVERY:
                self._draw()

    def close(self) -> None:
        """When all is trained: the whole table and picture, and the best model at its place.

        A resumed run may have been killed between its last save and the table. It may also have
        been given another `model_path`, or have found no better epoch since another run took the
        place of its own.
        """
        if self.trainer.team.leads:
            self.run.write_results(self.history)
            self._draw()
            self._publish()

    def start(self) -> None:
        """Save before the first step, so that a training can be resumed whenever it is killed."""
        self._save_last()

    def _publish(self) -> None:
        """Put the best model where it was asked for, unless it is there, calibrated perhaps."""
        if not (self.model_path.exists() and same_model(self.model_path, self.run.best)):
            with atomic_file(self.model_path) as file:
                file.write(self.run.best.read_bytes())

    def _keep_best(self) -> None:
        """Keep the model of the epoch that has just ended, if it is the best so far."""
        if self.trainer.team.leads and self.history and self.best is self.history[-1]:
            self._checkpoint().save(self.run.best)
            self._publish()

    def _save_last(self) -> None:
        self._saved = time.monotonic()
        if self.trainer.team.leads:
            state = self.trainer.state() | {"history": self.history}
            self._checkpoint(self._blank.training | state).save(self.run.last)

    def _checkpoint(self, training: dict[str, Any] | None = None) -> Checkpoint:
        """The weights as they are now, with the figures of the last epoch that has ended."""
        weights = {k: v.cpu() for k, v in self.trainer.best_model.state_dict().items()}
        newest = self.history[-1] if self.history else {"epoch": 0, "val_accuracy": 0.0}
        epoch, accuracy = newest["epoch"], newest["val_accuracy"]
        return replace(
            self._blank, epoch=epoch, val_accuracy=accuracy, weights=weights, training=training
        )

    def _draw(self) -> None:
        self._drawn = time.monotonic()
        if self.history:
            draw_curves(self.history, self.best, self.run.folder / "curves.png")

    def _ask_to_stop(self, number: int, frame: FrameType | None) -> None:
        signal.signal(number, signal.default_int_handler)
        self._stop = True
        say("stopping after this step; once more, and it stops at once, and since the last save")
