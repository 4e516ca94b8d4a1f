"""Train a network on the prepared faces: stage 4 of 5.

Trains on <data_path>/train, and saves the model of the epoch with the best accuracy on
<data_path>/validation. It never opens the test set. The classes are the folders in train. Each
training also gets a folder in runs/ with its options, results and curves, and with its newest
state, from which it can be resumed after any interruption.

  python train.py                                   # emotionnet, 50 epochs, data/ -> model.pt
  python train.py --optimizer adam --epochs 20 --model_path adam.pt
  python train.py --resume                          # resume the newest training
  python train.py --config runs/001-emotionnet/options.json --lr 0.05
  python train.py --init model.pt --data_path my_faces --epochs 10
  torchrun --nproc_per_node=4 train.py --model vgg19 --image_channel 3
  python train.py --folds 5                         # predict each training image as if it were new

Next: python test.py
"""

from __future__ import annotations

from utils import interrupt

if __name__ == "__main__":
    interrupt.exit_at_once()  # if Ctrl-C is pressed during the imports below

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import models
from utils import cli
from utils.console import is_primary_process
from utils.data.folds import MAX_FOLDS, Fold
from utils.errors import StageError
from utils.imaging.geometry import MAX_MARGIN, SHAPES
from utils.imaging.preprocess import MAX_SIDE
from utils.memory import keep_freed_memory
from utils.training.options import (
    AUTO,
    NEWEST,
    check_flags,
    resolve_argv,
    run_name,
    run_options,
)
from utils.training.run_folder import PAGE

if TYPE_CHECKING:
    from utils.data.dataset import Dataset
    from utils.data.subset import Subset
    from utils.inference.checkpoint import Checkpoint
    from utils.training.checkpointing import CheckpointSaver
    from utils.training.distributed import Distributed
    from utils.training.folds import FoldPlan
    from utils.training.run_folder import Run
    from utils.training.setup import Data
    from utils.training.trainer import Trainer


def make_parser() -> cli.Parser:
    """Return the parser of this script's flags."""
    parser = cli.Parser(__doc__)
    flag, switch = parser.flag, parser.switch
    parser.section("data and model")
    text = "folder with train and validation"
    flag("--data_path", text, Path("data"), cli.path, metavar="DIR")
    text = "file for the model of the best epoch"
    flag("--model_path", text, Path("model.pt"), cli.path, metavar="FILE")
    flag("--model", f"network: {models.names()}", "emotionnet", network_name, metavar="NAME")
    side = cli.int_between(1, MAX_SIDE)
    flag("--image_size", "resize images to a square of this side", 48, side, metavar="PIXELS")
    flag("--image_channel", "1: grey, 3: colour", 1, int, choices=(1, 3))
    flag("--init", "start from the weights of this model file", None, cli.path, metavar="FILE")
    text = "start an EfficientNet from ImageNet weights, which are downloaded once"
    switch("--pretrained", text, False)
    text = "folder for the cache of decoded images (default: .store in data_path)"
    flag("--store", text, None, cli.path, metavar="DIR")

    parser.section("annotators' votes")
    text = "learn all annotators' votes: annotation table, csv of counts, or AI-Hub's labels"
    flag("--annotations", text, None, cli.path, metavar="FILE")
    text = "ignore a class with fewer votes than this on an image"
    flag("--votes_min", text, 1, cli.positive_int, metavar="N")
    text = "images in train/UNKNOWN, on which no majority agreed; soft: learn their votes"
    flag("--unknown", text, "drop", str, choices=("drop", "soft"))

    parser.section("folds, to find wrong labels")
    text = (
        "train K models, each without one K-th of train, which it predicts: <model>-folds/"
        "predictions.csv, for test.py --split train --suspects; takes K - 1 times as long as a "
        "training"
    )
    flag("--folds", text, None, cli.int_between(2, MAX_FOLDS), metavar="K")
    text = "train only this fold, such as 2/5, for example on another machine"
    flag("--fold", text, None, fold_name, metavar="I/K")

    parser.section("run")
    flag("--runs_path", "folder for the run folders", Path("runs"), cli.path, metavar="DIR")
    text = "read flags from this JSON file, such as a run's options.json"
    flag("--config", text, None, cli.path, metavar="FILE")
    text = (
        "resume the newest run, or the run with this folder; auto: the newest run with the same "
        "flags, or else start a new one"
    )
    flag("--resume", text, None, run_name, nargs="?", const=NEWEST, metavar="RUN")
    text = "minutes between saves within an epoch"
    flag("--save_every", text, 10.0, cli.non_negative_float, metavar="MINUTES")
    text = "seed of all random numbers; on a GPU only --deterministic gives the same model again"
    flag("--seed", text, 0, cli.non_negative_int, metavar="N")
    parser.log_dir_flag()
    parser.lang_flag()

    parser.section("optimization")
    flag("--epochs", "number of epochs", 50, cli.positive_int, metavar="N")
    flag("--batch_size", "images per batch, over all processes", 128, cli.positive_int, metavar="N")
    optimizers = ("adadelta", "adam", "adamw", "sgd")
    flag("--optimizer", "optimizer", "adadelta", str, choices=optimizers)
    text = "learning rate (default: 0.1 for adadelta, 0.001 for adam and adamw, 0.01 for sgd)"
    flag("--lr", text, None, cli.positive_float, metavar="RATE")
    text = "weight decay (default: 5e-4 for sgd, 0.01 for adamw, else 0)"
    flag("--weight_decay", text, None, cli.non_negative_float, metavar="X")
    flag("--momentum", "momentum of sgd", 0.9, cli.fraction, metavar="X")
    switch("--nesterov", "Nesterov's momentum for sgd", False)
    schedules = ("none", "cosine", "onecycle", "plateau")
    flag("--schedule", "schedule of the learning rate", "none", str, choices=schedules)
    text = "plateau: epochs without a better validation accuracy before the rate falls"
    flag("--plateau_patience", text, 5, cli.non_negative_int, metavar="N")
    text = "plateau: factor by which the rate falls"
    flag("--plateau_factor", text, 0.75, cli.fraction_below_one, metavar="X")
    text = "epochs at the beginning in which the learning rate rises"
    flag("--warmup", text, 0.0, cli.non_negative_float, metavar="EPOCHS")
    flag("--accumulate", "batches per optimizer step", 1, cli.positive_int, metavar="N")
    text = "maximum norm of the gradient (0: no limit)"
    flag("--clip", text, 0.0, cli.non_negative_float, metavar="NORM")
    text = (
        "sharpness-aware minimization: look this far for the worst loss nearby, such as 0.05; a "
        "step takes twice as long (0: off)"
    )
    flag("--sam", text, 0.0, cli.non_negative_float, metavar="RHO")
    text = "decay of the moving average of the weights, such as 0.999 (0: off)"
    flag("--ema", text, 0.0, cli.fraction, metavar="X")
    text = "dropout probability (default: the network's)"
    flag("--dropout", text, None, cli.fraction_below_one, metavar="X")
    text = "stop after this many epochs without improvement (0: off)"
    flag("--patience", text, 0, cli.non_negative_int, metavar="N")

    parser.section("loss and targets")
    text = "label smoothing: fraction of a target that is spread over all classes"
    flag("--label_smoothing", text, 0.0, cli.fraction, metavar="X")
    schemes = ("none", "inverse", "effective")
    text = "weight of a class in the loss: equal, or higher for rare classes"
    flag("--class_weights", text, "none", str, choices=schemes)
    text = (
        "how often an epoch shows the images of a class: each image once, or rare classes more "
        "often, up to all classes equally"
    )
    flag("--sampling", text, "uniform", str, choices=("uniform", "sqrt", "balanced"))
    text = "mixup: draw the weight of the mix from Beta(X, X), such as 0.2 (0: off)"
    flag("--mixup", text, 0.0, cli.non_negative_float, metavar="X")
    text = (
        "CutMix: paste a box of another image, its area drawn from Beta(X, X), such as 1; with "
        "--mixup: one of both for each batch (0: off)"
    )
    flag("--cutmix", text, 0.0, cli.non_negative_float, metavar="X")
    text = "knowledge distillation: learn from this model's predictions; several: from their mean"
    flag("--teacher", text, None, cli.path, nargs="+", metavar="FILE")
    text = "weight of the teacher's soft targets; labels get 1 - X"
    flag("--teacher_share", text, 0.7, cli.fraction, metavar="X")

    parser.section("faces in recognition, kept in the model file")
    text = "what the network sees of a detected face: its box, or the square around it"
    flag("--face_shape", text, SHAPES[0], str, choices=SHAPES)
    text = "margin on each side of a detected face, as a fraction of its size"
    margin = cli.number_between(0, MAX_MARGIN)
    flag("--face_margin", text, 0.0, margin, metavar="X")
    switch("--face_level", "turn a detected face so that its eyes are level", False)

    parser.section("augmentation")
    switch("--flip", "mirror half of the images", True)
    text = "maximum rotation to either side"
    flag("--rotation", text, 6.0, cli.non_negative_float, metavar="DEGREES")
    text = "maximum shift to each side: below 1 a fraction of the side, else pixels"
    flag("--crop", text, 0, cli.pixels_or_fraction, metavar="X")
    text = "random erasing: fraction of the images that get a black box"
    flag("--erase", text, 0.0, cli.fraction, metavar="X")
    text = "maximum change of brightness, such as 0.2"
    flag("--brightness", text, 0.0, cli.fraction, metavar="X")
    text = "maximum change of size, such as 0.2"
    flag("--zoom", text, 0.0, cli.fraction_below_one, metavar="X")
    text = "maximum shear: how far vertical lines lean to either side"
    flag("--shear", text, 0.0, cli.shear_angle, metavar="DEGREES")
    text = "maximum change of contrast, such as 0.2"
    flag("--contrast", text, 0.0, cli.fraction, metavar="X")
    text = (
        "probability with which an image gets each of rotation, crop, zoom, shear, brightness and "
        "contrast"
    )
    flag("--augment_p", text, 1.0, cli.fraction, metavar="P")

    parser.section("device")
    parser.device_flags()
    precisions = ("auto", "bf16", "fp16", "off")
    text = "mixed precision; auto: where device and network gain from it"
    flag("--amp", text, "auto", str, choices=precisions)
    text = "compile the network: half a minute at the start, then faster steps"
    switch("--compile", text, False)
    text = "on a GPU, replay each step as one CUDA graph; auto: where a trial shows that it works"
    flag("--cuda_graph", text, "auto", str, choices=("auto", "off"))
    switch("--deterministic", "use only deterministic operations", False)
    return parser


def main() -> int:
    """Train from the flags to the last epoch, or several folds. Return the exit status."""
    argv, initial = resolve_argv(sys.argv[1:])
    args = make_parser().parse_args(argv)
    check_flags(args)
    keep_freed_memory()
    # torch takes seconds to import: --help and wrong flags must not wait for it, nor must the
    # processes that decode images, which import this script.
    with interrupt.importing():
        from utils.training import setup
        from utils.training.distributed import init_distributed

    distributed = init_distributed(args.gpu, args.cuda_idx)
    if flags := setup.restart_flags(distributed):
        argv, initial = resolve_argv([*sys.argv[1:], *flags])
        args = make_parser().parse_args(argv)
    setup.set_determinism(args.deterministic)
    data = setup.find_data(args)
    if args.folds:
        failures = train_folds(args, data, initial, distributed)
    else:
        _, failures = train(args, data, initial, distributed)
        if args.fold and distributed.is_primary:
            total = Fold.parse(args.fold).total
            print(f"next: --folds {total} instead of --fold does what is left, and joins all folds")
    distributed.close()
    return cli.SOME_FAILED if failures else cli.OK


def train(
    args: argparse.Namespace,
    data: Data,
    initial: Checkpoint | None,
    distributed: Distributed,
    later: int = 0,
) -> tuple[Run, int]:
    """Train to the last epoch. Return the run, and the number of images that cannot be read.

    `later`: trainings of other folds that follow.
    """
    from utils.inference.environment import describe_environment
    from utils.training import setup
    from utils.training.checkpointing import CheckpointSaver, SaveOptions
    from utils.training.folds import plan_fold, tell_rest
    from utils.training.run_page import RunPage
    from utils.training.trainer import Trainer

    classes, votes = data.classes, data.votes
    plan = plan_fold(args, data.labelled, data.train_samples, data.validation_samples)
    defaults = make_parser().parse_args([])
    run, resumed = setup.run_to_resume(args, distributed, defaults, plan)
    if plan and run and is_predicted(args, run):
        return run, 0
    model = setup.make_model(args, classes, initial, resumed)
    teacher = setup.load_teacher(args, classes)
    datasets = setup.load_datasets(args, data.train_samples, data.validation_samples, resumed)
    train_set, validation_set = datasets
    failures = train_set.failures + validation_set.failures
    if plan:
        train_set, held_out = plan.split(train_set)
    run = run or setup.new_run(args, distributed)
    if distributed.is_primary:
        setup.prepare_outputs(args, run, failures)

    with setup.explain_errors(args, run, distributed.world_size):
        validation_set = validation_set.to_device(distributed.device)
        training_set = setup.make_training_set(args, distributed, train_set, classes, votes)
        recipe = setup.make_recipe(args, distributed, resumed)
        trainer = Trainer(model, training_set, recipe, distributed, teacher)
        template = setup.checkpoint_template(args, trainer, classes, validation_set, plan)
        model_path = None if plan else args.model_path
        page = RunPage(run.folder, args.lang, run_options(defaults))
        options = SaveOptions(model_path, args.patience, args.save_every, page)
        saver = CheckpointSaver(run, trainer, template, options)
        if resumed:
            saver.resume(resumed)
        if distributed.is_primary:
            environment = describe_environment(distributed.device, recipe.amp)
            environment["training_images"] = trainer.planner.images
            environment["validation_images"] = len(validation_set)
            run.write_options(run_options(args), environment)
            print_header(args, trainer, classes, len(validation_set), run)
            draw_first_batch(trainer, classes, run)
            page.update()
            print(f"to watch: {page.path}", flush=True)
        saver.save_last()  # so that the run can be resumed from now on
        first = len(saver.history) + 1
        while saver.should_continue():
            train_and_validate(trainer, saver, validation_set)
            if plan and len(saver.history) == first:
                tell_rest(trainer, saver.history, later)
        saver.finish()
        if plan and distributed.is_primary:
            saver.release_signals()
            finish_fold(saver, held_out, plan, classes)
    if distributed.is_primary and not plan:
        print_summary(args, saver, len(failures))
    return run, len(failures)


def train_folds(
    args: argparse.Namespace, data: Data, initial: Checkpoint | None, distributed: Distributed
) -> int:
    """Train all folds that are left, and join their predictions.

    Return the number of images that cannot be read.
    """
    from utils.training.folds import announce_cost, join_folds

    if distributed.world_size > 1:
        raise StageError(
            f"--folds needs a single process: start it without torchrun, or torchrun … train.py "
            f"--fold 1/{args.folds} and so on, and then --folds {args.folds} to join them"
        )
    announce_cost(args, len(data.train_samples))
    runs, failures = [], 0
    for number in range(1, args.folds + 1):
        flags = vars(args) | {"folds": None, "fold": str(Fold(number, args.folds))}
        later = args.folds - number
        try:
            run, failed = train(argparse.Namespace(**flags), data, initial, distributed, later)
        except KeyboardInterrupt:
            raise KeyboardInterrupt("the same command does what is left") from None
        runs.append(run)
        failures = max(failures, failed)
    join_folds(args, runs)
    return failures


def is_predicted(args: argparse.Namespace, run: Run) -> bool:
    """Return whether a fold has been trained and predicted before. Say so."""
    if not run.held_out.exists() or args.resume not in (None, AUTO):
        return False
    if is_primary_process():
        print(f"fold {args.fold} is done: {run.folder}", flush=True)
    return True


def finish_fold(
    saver: CheckpointSaver, held_out: Subset, plan: FoldPlan, classes: list[str]
) -> None:
    """Predict the images that a fold has left out, and print how well that went."""
    from utils.training.folds import predict_held_out

    run = saver.run
    accuracy = predict_held_out(saver.trainer, run, held_out, plan, classes)
    print(
        f"fold {plan.fold}: best epoch {saver.best['epoch']}, {accuracy:.2%} of the "
        f"{len(held_out)} images left out are predicted as labelled -> {run.held_out}",
        flush=True,
    )


def network_name(name: str) -> str:
    """Return the full name of a network, for argparse."""
    try:
        return models.full_name(name)
    except models.NetworkError as error:
        suggestion = cli.did_you_mean(name, [*models.NETWORKS, *models.ALIASES])
        raise argparse.ArgumentTypeError(f"{error}{suggestion}") from None


def fold_name(text: str) -> str:
    """Return the name of a fold, for argparse."""
    try:
        return str(Fold.parse(text))
    except ValueError:
        problem = f"{text!r} is not a fold such as 2/5: the second of five"
        raise argparse.ArgumentTypeError(problem) from None


def train_and_validate(trainer: Trainer, saver: CheckpointSaver, validation_set: Dataset) -> None:
    """Train to the end of the epoch, validate, save, and print the epoch's line."""
    from utils.training.validate import StopRequestedError, validate

    epoch, recipe, distributed = trainer.progress.epoch, trainer.recipe, trainer.distributed
    title = f"epoch {epoch}/{recipe.epochs}"
    train_loss, rate = trainer.train_epoch(saver.after_step, title)
    try:
        loss, accuracy = validate(
            trainer.best_model, validation_set, recipe.batch_size, distributed,
            lambda: trainer.poll.stop_requested or trainer.poll.is_stopping, recipe.amp,
        )  # fmt: skip
    except StopRequestedError:
        saver.stop_before_validation()
    saver.after_epoch(
        {
            "epoch": epoch,
            "lr": trainer.lr,
            "train_loss": train_loss,
            "val_loss": loss,
            "val_accuracy": accuracy,
            "images_per_second": rate,
        }
    )
    if distributed.is_primary:
        print(
            f"{title}  train loss {train_loss:.4f}  validation loss {loss:.4f}  "
            f"accuracy {accuracy:.2%}  best {saver.best['val_accuracy']:.2%} "
            f"(epoch {saver.best['epoch']})  {rate:.0f} images/s",
            flush=True,
        )
    saver.update_views()


def print_header(
    args: argparse.Namespace, trainer: Trainer, classes: list[str], validation: int, run: Run
) -> None:
    """Print network, device, settings and data, and where a resumed run continues."""
    distributed, recipe, progress = trainer.distributed, trainer.recipe, trainer.progress
    parameters = sum(p.numel() for p in trainer.model.parameters())
    device, batch = str(distributed.device), f"batches of {recipe.batch_size}"
    if distributed.world_size > 1:
        device = f"{distributed.world_size} processes, {distributed.device.type}"
        batch += " over all processes"
    precision = "" if recipe.amp == "off" else f" in {recipe.amp}"
    print(
        f"{args.model} with {parameters:,} parameters on {device}{precision}, "
        f"{recipe.optimizer} with lr {recipe.lr:g}, {batch}, seed {recipe.seed}\n"
        f"{trainer.planner.images} training images, {validation} validation images, "
        f"{len(classes)} classes: {' '.join(classes)}",
        flush=True,
    )
    if (progress.epoch, progress.batch) != (1, 0):
        position = f"epoch {progress.epoch}, batch {progress.batch + 1}"
        if progress.batch == len(trainer.planner.sizes):
            position = f"epoch {progress.epoch}, before its validation"
        print(f"{run.folder} resumes in {position}", flush=True)


def draw_first_batch(trainer: Trainer, classes: list[str], run: Run) -> None:
    """Draw the first batch as the network sees it, into the run's folder."""
    from utils.imaging.grids import draw_batch

    images, targets = trainer.first_batch()
    path = run.folder / "first_batch.png"
    draw_batch(images.float().cpu().numpy(), targets.cpu().numpy(), classes, path)


def print_summary(args: argparse.Namespace, saver: CheckpointSaver, failures: int) -> None:
    """Print the best epoch, where the results are, and the next commands."""
    print(
        f"best epoch {saver.best['epoch']}, validation accuracy "
        f"{saver.best['val_accuracy']:.2%} -> {args.model_path}\n"
        f"results, curves and state of this run: {saver.run.folder}\n"
        f"to look at: {saver.run.folder / PAGE}\n"
        f"next: python test.py --model_path {args.model_path} --data_path {args.data_path}\n"
        f"      python emotion.py --model_path {args.model_path} --img face.jpg"
    )
    if failures:
        print(f"{failures} images could not be read: {args.log_dir / 'train.error.log'}")


if __name__ == "__main__":
    cli.run(main)
