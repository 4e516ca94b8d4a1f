"""Train a network on the prepared faces: stage 4 of 5.

Learns from <data_path>/train and keeps the epoch with the best accuracy on <data_path>/validation
in --model_path. The test set is never opened. The class names are the names of train's folders.
Each training also gets a folder in runs/ with its options, results and pictures, and with the state
from which it resumes after any interruption.

  python train.py                                   # emotionnet, 50 epochs, data/ -> model.pt
  python train.py --optimizer adam --epochs 20 --model_path adam.pt
  python train.py --resume                          # resume the newest training
  python train.py --config runs/001-emotionnet/options.json --lr 0.05
  python train.py --init model.pt --data_path my_faces --epochs 10
  torchrun --nproc_per_node=4 train.py --model vgg19 --image_channel 3

Next: python test.py
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import models
from utils import cli
from utils.imaging.preprocess import MAX_SIDE
from utils.training.options import resolve_argv, run_options

if TYPE_CHECKING:
    from utils.data.dataset import Dataset
    from utils.training.checkpointing import CheckpointSaver
    from utils.training.run_folder import Run
    from utils.training.trainer import Trainer


def make_parser() -> cli.Parser:
    parser = cli.Parser(__doc__)
    flag, switch = parser.flag, parser.switch
    parser.section("data and model")
    flag("--data_path", "folder with train and validation", Path("data"), Path, metavar="DIR")
    flag("--model_path", "file for the best epoch's model", Path("model.pt"), Path, metavar="FILE")
    flag("--model", f"network: {models.names()}", "emotionnet", network_name, metavar="NAME")
    flag(
        "--image_size", "resize images to a square of this side", 48,
        cli.int_between(1, MAX_SIDE), metavar="PIXELS",
    )  # fmt: skip
    flag("--image_channel", "1: grey, 3: colour", 1, int, choices=(1, 3))
    flag("--init", "start from this model's weights", None, Path, metavar="FILE")
    switch("--pretrained", "start an EfficientNet from ImageNet weights (internet)", False)
    flag("--annotations", "annotation table: learn all three votes", None, Path, metavar="TSV")
    cache = "folder for the decoded images (default: .store in data_path)"
    flag("--store", cache, None, Path, metavar="DIR")

    parser.section("run")
    flag("--runs_path", "folder for the runs' folders", Path("runs"), Path, metavar="DIR")
    flag("--config", "read flags from this JSON file", None, Path, metavar="FILE")
    flag(
        "--resume",
        "resume the newest run, this run, or with 'auto' a run with the same flags, if any",
        None, str, nargs="?", const="newest", metavar="RUN",
    )  # fmt: skip
    minutes = "minutes between saves within an epoch"
    flag("--save_every", minutes, 10.0, cli.non_negative_float, metavar="MINUTES")
    flag("--seed", "random seed", 0, cli.non_negative_int, metavar="N")
    parser.log_dir_flag()

    parser.section("optimization")
    flag("--epochs", "number of epochs", 50, cli.positive_int, metavar="N")
    flag("--batch_size", "images per batch, over all processes", 128, cli.positive_int, metavar="N")
    choices = ("adadelta", "adam", "adamw", "sgd")
    flag("--optimizer", "optimizer", "adadelta", str, choices=choices)
    rates = "default: 0.1 for adadelta, 0.001 for adam and adamw, 0.01 for sgd"
    flag("--lr", f"learning rate ({rates})", None, cli.positive_float, metavar="RATE")
    decays = "default: 5e-4 for sgd, 0.01 for adamw, else 0"
    flag("--weight_decay", f"weight decay ({decays})", None, cli.non_negative_float, metavar="X")
    flag("--momentum", "momentum of sgd", 0.9, cli.fraction, metavar="X")
    schedules = ("none", "cosine", "onecycle")
    flag("--schedule", "learning rate schedule", "none", str, choices=schedules)
    flag("--warmup", "warm-up epochs", 0.0, cli.non_negative_float, metavar="EPOCHS")
    flag("--accumulate", "batches per optimizer step", 1, cli.positive_int, metavar="N")
    clip = "maximum norm of the gradient (0: no limit)"
    flag("--clip", clip, 0.0, cli.non_negative_float, metavar="NORM")
    ema = "decay of the moving average of the weights, such as 0.999 (0: off)"
    flag("--ema", ema, 0.0, cli.fraction, metavar="X")
    dropout = "dropout probability (default: the network's)"
    flag("--dropout", dropout, None, cli.fraction_below_one, metavar="X")
    patience = "stop after this many epochs without improvement (0: off)"
    flag("--patience", patience, 0, cli.non_negative_int, metavar="N")

    parser.section("loss and targets")
    flag("--label_smoothing", "label smoothing", 0.0, cli.fraction, metavar="X")
    weights = ("none", "inverse", "effective")
    flag("--class_weights", "weigh rare classes more", "none", str, choices=weights)
    mixup = "mixup: weights drawn from Beta(X, X) (0: off)"
    flag("--mixup", mixup, 0.0, cli.non_negative_float, metavar="X")
    flag("--teacher", "knowledge distillation from this model", None, Path, metavar="FILE")
    teacher = "weight of the teacher's soft targets; labels get 1 - X"
    flag("--teacher_share", teacher, 0.7, cli.fraction, metavar="X")

    parser.section("augmentation")
    switch("--flip", "mirror half of the images", True)
    flag("--rotation", "maximum rotation", 6.0, cli.non_negative_float, metavar="DEGREES")
    flag("--crop", "maximum shift", 0, cli.non_negative_int, metavar="PIXELS")
    flag("--erase", "random erasing: fraction of images", 0.0, cli.fraction, metavar="X")
    flag("--brightness", "maximum change of brightness", 0.0, cli.fraction, metavar="X")
    flag("--zoom", "maximum change of size", 0.0, cli.fraction_below_one, metavar="X")

    parser.section("device")
    parser.device_flags()
    precisions = ("auto", "bf16", "fp16", "off")
    amp = "mixed precision (auto: where it is faster)"
    flag("--amp", amp, "auto", str, choices=precisions)
    switch("--compile", "torch.compile: half a minute, then faster steps", False)
    switch("--deterministic", "use deterministic operations only", False)
    return parser


def main() -> int:
    argv, initial = resolve_argv(sys.argv[1:])
    args = make_parser().parse_args(argv)
    # torch takes seconds to import: --help and wrong flags must not wait for it, nor must the
    # processes that decode images, which import this script.
    from utils.training import setup
    from utils.training.checkpointing import CheckpointSaver, SaveOptions
    from utils.training.distributed import init_distributed
    from utils.training.trainer import Trainer

    distributed = init_distributed(args.gpu, args.cuda_idx)
    setup.set_determinism(args.deterministic)
    classes, train_samples, validation_samples = setup.find_samples(args.data_path)
    run, resumed = setup.run_to_resume(args, distributed)
    model = setup.make_model(args, classes, initial, is_new=resumed is None)
    teacher = setup.load_teacher(args, classes)
    train_set, validation_set = setup.load_datasets(args, train_samples, validation_samples)
    failures = train_set.failures + validation_set.failures
    run = run or setup.new_run(args, distributed)
    if distributed.is_primary:
        setup.prepare_outputs(args, run, failures)

    with setup.explain_errors(args, run):
        validation_set = validation_set.to_device(distributed.device)
        training_set = setup.make_training_set(args, distributed, train_set, classes)
        recipe = setup.make_recipe(args, distributed, model, train_set, resumed)
        trainer = Trainer(model, training_set, recipe, distributed, teacher)
        template = setup.checkpoint_template(args, trainer, classes, validation_set)
        options = SaveOptions(args.model_path, args.patience, args.save_every)
        saver = CheckpointSaver(run, trainer, template, options)
        if resumed:
            saver.resume(resumed)
        if distributed.is_primary:
            run.write_options(run_options(args))
            print_header(args, trainer, classes, len(validation_set), run)
            draw_first_batch(trainer, classes, run)
        saver.save_last()  # so that the run can be resumed from now on
        while saver.should_continue():
            train_and_validate(trainer, saver, validation_set)
        saver.finish()
    if distributed.is_primary:
        print_summary(args, saver, len(failures))
    distributed.close()
    return cli.SOME_FAILED if failures else cli.OK


def network_name(name: str) -> str:
    """Return a network's full name for argparse."""
    try:
        return models.full_name(name)
    except models.NetworkError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def train_and_validate(trainer: Trainer, saver: CheckpointSaver, validation_set: Dataset) -> None:
    """Train an epoch to its end, validate, save, and print its line."""
    from utils.training.validate import validate

    epoch, recipe, distributed = trainer.progress.epoch, trainer.recipe, trainer.distributed
    title = f"epoch {epoch}/{recipe.epochs}"
    train_loss, rate = trainer.train_epoch(saver.after_step, title)
    loss, accuracy = validate(trainer.best_model, validation_set, recipe.batch_size, distributed)
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


def print_header(
    args: argparse.Namespace, trainer: Trainer, classes: list[str], validation: int, run: Run
) -> None:
    """Print what is trained, on what, and from where a resumed run continues."""
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
        print(f"{run.folder} resumes in {position}", flush=True)


def draw_first_batch(trainer: Trainer, classes: list[str], run: Run) -> None:
    """Draw the first batch as the network sees it into the run's folder."""
    from utils.imaging.grids import draw_batch

    images, targets = trainer.first_batch()
    path = run.folder / "first_batch.png"
    draw_batch(images.float().cpu().numpy(), targets.cpu().numpy(), classes, path)


def print_summary(args: argparse.Namespace, saver: CheckpointSaver, failures: int) -> None:
    """Print the best epoch, where everything is, and the next commands."""
    print(
        f"best epoch {saver.best['epoch']}, validation accuracy "
        f"{saver.best['val_accuracy']:.2%} -> {args.model_path}\n"
        f"results, curves and state of this run: {saver.run.folder}\n"
        f"next: python test.py --model_path {args.model_path} --data_path {args.data_path}\n"
        f"      python emotion.py --model_path {args.model_path} --img face.jpg"
    )
    if failures:
        print(f"{failures} images could not be read: {args.log_dir / 'train.error.log'}")


if __name__ == "__main__":
    cli.run(main)
