"""Train a network on the prepared faces: stage 4 of 5.

Learns from <data_path>/train; the epoch with the best accuracy on <data_path>/validation is kept in
--model_path. The test set is never opened. Class names are the folders' names, whatever they are.
Each training also has a folder of its own in runs/, with its options, results and pictures, and
with all that is needed to go on after it has been stopped, by whatever.

  python train.py                                   # emotionnet, 50 epochs, data/ -> model.pt
  python train.py --optimizer adam --epochs 20 --model_path adam.pt
  python train.py --resume                          # go on where the newest training stopped
  python train.py --config runs/001-emotionnet/options.json --lr 0.05
  python train.py --init model.pt --data_path my_faces --epochs 10
  torchrun --nproc_per_node=4 train.py --model vgg19 --image_channel 3

Next: python test.py
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import models
from utils import cli
from utils.cli import StageError, say
from utils.data.error_log import log_files
from utils.data.image_folder import Sample, find_images, label_images
from utils.files import prepare_folder, stops_the_stage
from utils.imaging.preprocess import Preprocess
from utils.training.run_folder import OPTIONS, Run, as_words, read_options

if TYPE_CHECKING:  # torch takes seconds, which neither --help should nor processes that decode
    from torch import nn

    from utils.data.dataset import Dataset
    from utils.inference.checkpoint import Checkpoint
    from utils.training.checkpointing import Keeper
    from utils.training.distributed import Team
    from utils.training.targets import Teacher
    from utils.training.trainer import Trainer

STORE = ".store"  # in the data folder: the decoded images


def parse_args(words: list[str]) -> argparse.Namespace:
    parser = cli.Parser(__doc__)
    flag, switch = parser.flag, parser.switch
    parser.section("what is learnt, and where it is kept")
    flag("--data_path", "folder that holds train and validation", Path("data"), Path, metavar="DIR")
    flag("--model_path", "where the best epoch is kept", Path("model.pt"), Path, metavar="FILE")
    flag("--model", f"network: {models.names()}", "emotionnet", str, metavar="NAME")
    flag("--image_size", "images are resized to this square", 48, cli.side, metavar="PIXELS")
    flag("--image_channel", "1 grey, 3 colour", 1, int, choices=(1, 3))
    flag("--init", "start from this model's weights", None, Path, metavar="FILE")
    switch("--pretrained", "start an efficientnet from ImageNet (internet)", False)
    flag("--annotations", "annotation table: learn all three votes", None, Path, metavar="TSV")
    flag("--store", "decoded images; unset: .store in data_path", None, Path, metavar="DIR")

    parser.section("this run")
    flag("--runs_path", "each training gets a folder here", Path("runs"), Path, metavar="DIR")
    flag("--config", "take flags from this JSON; those given here win", None, Path, metavar="FILE")
    flag(
        "--resume", "go on: newest run, this one, or 'auto': one of the same flags or a new one",
        None, str, nargs="?", const="newest", metavar="RUN",
    )  # fmt: skip
    flag("--save_every", "minutes between saves in an epoch", 10.0, cli.not_negative, metavar="M")
    flag("--seed", "same seed, same machine: same model", 0, cli.whole, metavar="N")
    parser.log_dir_flag()

    parser.section("how the weights move")
    flag("--epochs", "passes over the images", 50, cli.positive, metavar="N")
    flag("--batch_size", "images a batch, over all processes", 128, cli.positive, metavar="N")
    choices = ("adadelta", "adam", "adamw", "sgd")
    flag("--optimizer", "what moves the weights", "adadelta", str, choices=choices)
    rates = "0.1 for adadelta, 0.001 for adam and adamw, 0.01 for sgd"
    flag("--lr", f"learning rate; unset it is {rates}", None, cli.positive_float, metavar="RATE")
    decays = "5e-4 for sgd, 0.01 for adamw, else 0"
    flag("--weight_decay", f"unset it is {decays}", None, cli.not_negative, metavar="X")
    flag("--momentum", "of sgd", 0.9, cli.share, metavar="X")
    schedules = ("none", "cosine", "onecycle")
    flag("--schedule", "the learning rate over time", "none", str, choices=schedules)
    flag("--warmup", "epochs in which the rate rises", 0.0, cli.not_negative, metavar="EPOCHS")
    flag("--accumulate", "batches a step", 1, cli.positive, metavar="N")
    flag("--clip", "largest norm of the gradient; 0: any", 0.0, cli.not_negative, metavar="NORM")
    flag("--ema", "keep the average of the weights, decay 0.999 say", 0.0, cli.share, metavar="X")
    units = "share of units that rest; unset: the network's own"
    flag("--dropout", units, None, cli.part, metavar="X")
    flag(
        "--patience",
        "epochs without a best to stop after; 0: never",
        0,
        cli.whole,
        metavar="N",
    )

    parser.section("what counts as right")
    flag("--label_smoothing", "share spread over all classes", 0.0, cli.share, metavar="X")
    weights = ("none", "inverse", "effective")
    flag("--class_weights", "rare classes count more", "none", str, choices=weights)
    flag("--mixup", "mix pairs of images, Beta(X, X); 0: none", 0.0, cli.not_negative, metavar="X")
    flag("--teacher", "learn this model's answers beside the labels", None, Path, metavar="FILE")
    flag("--teacher_share", "what its answers count; labels: the rest", 0.7, cli.share, metavar="X")

    parser.section("how training images vary")
    switch("--flip", "mirror half of them", True)
    flag("--rotation", "turn by up to so many degrees", 6.0, cli.not_negative, metavar="DEGREES")
    flag("--crop", "move by up to so many pixels", 0, cli.whole, metavar="PIXELS")
    flag("--erase", "share of them with a black rectangle", 0.0, cli.share, metavar="X")
    flag("--brightness", "brighter or darker by up to this share", 0.0, cli.share, metavar="X")
    flag("--zoom", "larger or smaller by up to this share", 0.0, cli.part, metavar="X")

    parser.section("the machine")
    parser.device_flags()
    precisions = ("auto", "bf16", "fp16", "off")
    flag("--amp", "reduced precision; auto: where it is faster", "auto", str, choices=precisions)
    switch("--compile", "torch.compile: half a minute, then faster", False)
    switch("--deterministic", "no operation that differs from run to run", False)
    return parser.parse_args(words)


def main() -> int:
    words, initial = words_given()
    args = parse_args(words)
    args.model = models.full_name(args.model)
    from models.dropout import set_dropout
    from utils.training.checkpointing import Keeper
    from utils.training.distributed import join

    team = join(args.gpu, args.cuda_idx)
    set_determinism(args.deterministic)
    classes, train_samples, validation_samples = find_samples(args.data_path)
    run, resumed = run_to_resume(args, team)
    model = make_model(args, classes, initial, fresh=resumed is None)
    if args.dropout is not None and not set_dropout(model, args.dropout):
        raise StageError(f"--dropout: {args.model} has none; leave the flag out")
    teacher = load_teacher(args, classes)
    train_set, validation_set = load_sets(args, train_samples, validation_samples)
    failures = train_set.failures + validation_set.failures
    run = run or new_run(args, team)
    validation_set = validation_set.near(team.device)
    if team.leads:
        prepare_outputs(args, run)
        log_files(args.log_dir / "train.error.log", failures)

    with told_in_a_line(args, run):
        trainer = make_trainer(args, team, model, classes, train_set, teacher, resumed)
        blank = blank_checkpoint(args, trainer, classes, validation_set)
        keeper = Keeper(run, trainer, blank, args.model_path, args.patience, args.save_every)
        if resumed:
            keeper.restore(resumed)
        if team.leads:
            run.write_options(options_of(args))
            announce(args, trainer, classes, validation_set, run)
            draw_first_batch(trainer, classes, run)
        keeper.start()
        while keeper.goes_on():
            train_and_validate(trainer, keeper, validation_set)
        keeper.close()
    if team.leads:
        tell_the_end(args, keeper, len(failures))
    team.leave()
    return cli.SOME_FAILED if failures else cli.OK


def words_given() -> tuple[list[str], Checkpoint | None]:
    """The command line, after what a run to go on with, a config, or a model to start from says.

    What comes later wins: what is really on the command line wins over all. Returns also the model
    to start from, where a run may begin with it.
    """
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--config", type=Path)
    first.add_argument("--init", type=Path)
    first.add_argument("--resume", nargs="?", const="newest")
    first.add_argument("--runs_path", type=Path, default=Path("runs"))
    given, _ = first.parse_known_args()
    told = as_words(read_options(given.config)) if given.config else []
    given, _ = first.parse_known_args(told + sys.argv[1:])
    before: list[str] = []
    initial = None
    if given.resume and given.resume != "auto":
        run = find_run(given.resume, given.runs_path)
        before = as_words(read_options(run.folder / OPTIONS))
    elif given.init:
        from utils.inference.checkpoint import Checkpoint

        initial = Checkpoint.load(given.init)
        before = as_words(shape_of(initial))
    return before + told + sys.argv[1:], initial


def shape_of(checkpoint: Checkpoint) -> dict[str, Any]:
    """The flags with which a model was made that is to be trained on."""
    how = checkpoint.preprocessing()
    return {
        "model": checkpoint.network.removesuffix("-original"),  # its weights fit ours as well
        "image_size": how.image_size,
        "image_channel": how.image_channel,
    }


def find_run(resume: str, runs_path: Path) -> Run:
    return Run.newest(runs_path) if resume == "newest" else Run.of(Path(resume))


def options_of(args: argparse.Namespace) -> dict[str, Any]:
    """What a run is told, as JSON can hold it: every flag but those that only find the run."""
    chosen = {key: value for key, value in vars(args).items() if key not in ("config", "resume")}
    return {key: str(v) if isinstance(v, Path) else v for key, v in chosen.items()}


def run_to_resume(args: argparse.Namespace, team: Team) -> tuple[Run | None, Checkpoint | None]:
    """The stopped run that this one goes on with, and where it is; None and None for a new one."""
    from utils.inference.checkpoint import Checkpoint

    # torchrun starts all processes anew when one is killed: they go on.
    restarted = int(os.environ.get("TORCHELASTIC_RESTART_COUNT", 0)) > 0
    run = None
    if team.leads and args.resume and args.resume != "auto":
        run = find_run(args.resume, args.runs_path)
    elif team.leads and (args.resume or restarted):
        run = Run.with_options(args.runs_path, options_of(args))
    run = team.agree(run)
    if run is None:
        return None, None
    if team.leads:
        run.claim()
    if not run.last.exists():
        raise StageError(f"{run.folder} was ended before anything was saved: start it anew")
    resumed = Checkpoint.load(run.last)
    if resumed.training is None:
        raise StageError(f"{run.last} is not the state of a training")
    return run, resumed


def new_run(args: argparse.Namespace, team: Team) -> Run:
    """A folder for a run that begins."""
    run = team.agree(Run.new(args.runs_path, args.model) if team.leads else None)
    if team.leads:
        run.claim()
    return run


def find_samples(data_path: Path) -> tuple[list[str], list[Sample], list[Sample]]:
    """Class names, as train's folders have them, and the samples of train and of validation.

    Raises StageError where the folders do not make a task.
    """
    train_images = find_images(data_path / "train")
    validation_images = find_images(data_path / "validation")
    classes = list(train_images)
    if len(classes) < 2:
        what = f"only the class {classes[0]}" if classes else "no class folder with images"
        raise StageError(f"{data_path / 'train'} has {what}; a model needs two classes or more")
    unknown = [name for name in validation_images if name not in classes]
    if unknown:
        raise StageError(
            f"{data_path / 'validation'} has classes that train does not: {' '.join(unknown)}; "
            f"put images of them into train, or take them out of validation"
        )
    missing = [name for name in classes if name not in validation_images]
    if missing:
        say(
            f"note: no validation image of {' '.join(missing)}: the best epoch is chosen without; "
            f"python dataPreparation.py with a larger share of validation gives it some"
        )
    return (
        classes,
        label_images(train_images, classes),
        label_images(validation_images, classes),
    )


def make_model(
    args: argparse.Namespace, classes: list[str], initial: Checkpoint | None, fresh: bool
) -> nn.Module:
    """The network; for a fresh run with the weights that it is to start from, if there are any."""
    import torch

    torch.manual_seed(args.seed)
    name = args.model
    if args.pretrained and fresh:
        if args.init or not name.startswith("efficientnet"):
            raise StageError("--pretrained is for the efficientnets, and not beside --init")
        from models.efficientnet import pretrained

        return pretrained(name, len(classes), args.image_channel)
    model = models.create(name, len(classes), args.image_channel, args.image_size)
    if initial and fresh:
        shape = {**shape_of(initial), "image_size": args.image_size}
        if shape | {"model": name, "image_channel": args.image_channel} != shape:
            raise StageError(
                f"--init {args.init} is a {shape['model']} of {shape['image_channel']} channel(s): "
                f"leave --model and --image_channel out"
            )
        new = initial.start(model, classes)
        if new:
            say(f"note: {args.init} does not know {' '.join(new)}: its last layer is made anew")
    return model


def load_teacher(args: argparse.Namespace, classes: list[str]) -> Teacher | None:
    if not args.teacher:
        return None
    from utils.training.targets import Teacher

    if args.teacher.resolve() == args.model_path.resolve():
        raise StageError(
            f"--teacher {args.teacher} is where the new model goes: name another --model_path"
        )
    preprocess = Preprocess(args.image_size, args.image_channel)
    return Teacher(args.teacher, classes, preprocess, args.teacher_share)


def load_sets(
    args: argparse.Namespace, train_samples: list[Sample], validation_samples: list[Sample]
) -> tuple[Dataset, Dataset]:
    """Both sets, decoded. Raises StageError where nothing in one of them can be read."""
    from utils.data.dataset import load

    preprocess = Preprocess(args.image_size, args.image_channel)
    folder = args.store or args.data_path / STORE
    train_set = load(train_samples, preprocess, "train", folder)
    validation_set = load(validation_samples, preprocess, "validation", folder)
    for name, images in (("train", train_set), ("validation", validation_set)):
        if not len(images):
            raise StageError(f"{args.data_path / name}: not one readable image")
    return train_set, validation_set


def prepare_outputs(args: argparse.Namespace, run: Run) -> None:
    if args.model_path.is_dir():
        raise StageError(f"--model_path {args.model_path} is a folder; name a file in it")
    for folder in (args.model_path.parent, args.log_dir):
        prepare_folder(folder)
    if args.model_path.exists() and not run.best.exists():
        run.keep_replaced(args.model_path)
        kept = f"; it stays as {run.replaced}" * run.replaced.exists()
        say(f"note: {args.model_path} exists; the first epoch's model will take its place{kept}")


def make_trainer(
    args: argparse.Namespace,
    team: Team,
    model: nn.Module,
    classes: list[str],
    data: Dataset,
    teacher: Teacher | None,
    resumed: Checkpoint | None,
) -> Trainer:
    from utils.training import amp as precision
    from utils.training.augment import Augment
    from utils.training.optim import LEARNING_RATES, WEIGHT_DECAYS
    from utils.training.targets import class_weights, one_hot, votes
    from utils.training.trainer import Recipe, Trainer

    if args.batch_size < 2 * team.size:
        raise StageError(f"--batch_size {args.batch_size}: {2 * team.size} images are the least")
    targets = one_hot(data.samples, classes)
    if args.annotations:
        targets, found = votes(args.annotations, data.samples, classes)
        if not found:
            raise StageError(f"{args.annotations} has no row for any image of {args.data_path}")
        if team.leads:
            print(f"{found} of {len(data)} images have three annotators' votes")
    # What was chosen once stays, so that a resumed run does what it would have done.
    amp = resumed.training["amp"] if resumed and args.amp == "auto" else args.amp
    if amp == "auto" and args.deterministic:
        amp = "off"  # a measurement may decide either way
    batch = (args.batch_size // team.size, *data.preprocess.shape)
    amp = team.agree(precision.choose(amp, model, batch, team.device))
    rate, decay = LEARNING_RATES[args.optimizer], WEIGHT_DECAYS[args.optimizer]
    recipe = Recipe(
        epochs=args.epochs,
        batch_size=args.batch_size,
        lr=args.lr or rate,
        optimizer=args.optimizer,
        weight_decay=decay if args.weight_decay is None else args.weight_decay,
        momentum=args.momentum,
        schedule=args.schedule,
        warmup=args.warmup,
        accumulate=args.accumulate,
        clip=args.clip,
        ema=args.ema,
        label_smoothing=args.label_smoothing,
        mixup=args.mixup,
        amp=amp,
        compile=args.compile,
        seed=args.seed,
        augment=Augment(
            args.flip, args.rotation, args.crop, args.erase, args.brightness, args.zoom
        ),
    )
    weights = class_weights(targets, args.class_weights)
    return Trainer(model, data.near(team.device), targets, recipe, team, weights, teacher)


def blank_checkpoint(
    args: argparse.Namespace, trainer: Trainer, classes: list[str], validation_set: Dataset
) -> Checkpoint:
    """The checkpoint that the training fills: what is known of it before the first epoch."""
    from utils.inference.checkpoint import Checkpoint

    name, how = args.model, trainer.data.preprocess.settings()
    fixed = {  # what a run cannot change when it goes on, beside the network itself
        "set of images": [trainer.data.fingerprint, validation_set.fingerprint],
        "optimizer": args.optimizer,
        "use of --ema": bool(args.ema),
        "order of images (--seed, --batch_size, --accumulate)": [
            args.seed, args.batch_size, args.accumulate,
        ],
    }  # fmt: skip
    training = {"amp": trainer.recipe.amp, "fixed": fixed}
    return Checkpoint(name, classes, how, 0, 0.0, {}, training=training)


def announce(
    args: argparse.Namespace,
    trainer: Trainer,
    classes: list[str],
    validation_set: Dataset,
    run: Run,
) -> None:
    team, recipe, place = trainer.team, trainer.recipe, trainer.place
    parameters = sum(p.numel() for p in trainer.model.parameters())
    where = f"{team.size} processes, {team.device.type}" if team.size > 1 else str(team.device)
    precision = "" if recipe.amp == "off" else f" in {recipe.amp}"
    batch = f"batches of {recipe.batch_size}"
    batch += " over all processes" if team.size > 1 else ""
    print(
        f"{args.model} of {parameters:,} parameters on {where}{precision}, "
        f"{recipe.optimizer} with lr {recipe.lr:g}, {batch}, seed {recipe.seed}\n"
        f"{len(trainer.data)} images to learn from, {len(validation_set)} to validate on, "
        f"{len(classes)} classes: {' '.join(classes)}",
        flush=True,
    )
    if (place.epoch, place.batch) != (1, 0):
        print(f"{run.folder} goes on in epoch {place.epoch}, batch {place.batch + 1}", flush=True)


def draw_first_batch(trainer: Trainer, classes: list[str], run: Run) -> None:
    from utils.imaging.plots import draw_mosaic

    images, targets = trainer.first_batch()
    path = run.folder / "first_batch.png"
    draw_mosaic(images.float().cpu().numpy(), targets.cpu().numpy(), classes, path)


def set_determinism(wanted: bool) -> None:
    import torch

    if wanted:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
    else:
        torch.backends.cudnn.benchmark = True


@contextmanager
def told_in_a_line(args: argparse.Namespace, run: Run) -> Iterator[None]:
    """What the machine cannot do becomes one line that says what to change."""
    try:
        yield
    except OSError as error:
        what = f"; make room, then python train.py --resume {run.folder}"
        raise StageError(cli.describe(error) + what * stops_the_stage(error)) from None
    except RuntimeError as error:
        reason = str(error).strip().partition("\n")[0]
        if "out of memory" in reason or "can't allocate memory" in reason:
            half = max(1, args.batch_size // 2)
            raise StageError(
                f"out of memory with --batch_size {args.batch_size}: take --batch_size {half} "
                f"--accumulate {2 * args.accumulate}, which makes the same steps"
            ) from None
        if args.compile and type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
            raise StageError(f"--compile does not work here ({reason}): leave it out") from None
        if args.deterministic and "deterministic" in reason:
            raise StageError(f"--deterministic: {reason}") from None
        raise


def train_and_validate(trainer: Trainer, keeper: Keeper, validation_set: Dataset) -> None:
    """One epoch, to its end in the log."""
    from utils.training.validate import evaluate

    epoch, recipe, team = trainer.place.epoch, trainer.recipe, trainer.team
    where = f"epoch {epoch}/{recipe.epochs}"
    train_loss, rate = trainer.train_epoch(keeper.pause, where)
    loss, accuracy = evaluate(
        trainer.best_model, validation_set, recipe.batch_size, team, "validate"
    )
    keeper.end_epoch(
        {
            "epoch": epoch,
            "lr": trainer.lr,
            "train_loss": train_loss,
            "val_loss": loss,
            "val_accuracy": accuracy,
            "images_per_second": rate,
        }
    )
    if team.leads:
        print(
            f"{where}  train loss {train_loss:.4f}  validation loss {loss:.4f}  "
            f"accuracy {accuracy:.2%}  best {keeper.best['val_accuracy']:.2%} "
            f"(epoch {keeper.best['epoch']})  {rate:.0f} images/s",
            flush=True,
        )


def tell_the_end(args: argparse.Namespace, keeper: Keeper, failures: int) -> None:
    print(
        f"best epoch {keeper.best['epoch']}, validation accuracy "
        f"{keeper.best['val_accuracy']:.2%} -> {args.model_path}\n"
        f"all about this run: {keeper.run.folder}"
    )
    print(
        f"next: python test.py --model_path {args.model_path} --data_path {args.data_path}\n"
        f"      python emotion.py --model_path {args.model_path} --img face.jpg"
    )
    if failures:
        print(f"{failures} images could not be read: {args.log_dir / 'train.error.log'}")


if __name__ == "__main__":
    cli.run(main)
