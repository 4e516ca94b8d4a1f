"""From flags to objects: samples, run, model, teacher, datasets, recipe and checkpoint template."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn

import models
from models.dropout import set_dropout
from utils.class_names import find_synonyms
from utils.console import note
from utils.data.dataset import Dataset, load_dataset
from utils.data.enlarged import common_side, load_enlarged
from utils.data.error_log import write_file_errors
from utils.data.folds import Fold
from utils.data.image_folder import Sample, make_samples, scan_class_folders
from utils.data.sets import find_set, find_train_and_validation
from utils.data.votes import open_votes
from utils.emotions import UNKNOWN
from utils.errors import StageError, TransientError, describe_os_error, is_fatal_os_error
from utils.files import make_folder
from utils.imaging.geometry import FaceGeometry
from utils.imaging.image_files import find_images
from utils.imaging.preprocess import Preprocess
from utils.inference.checkpoint import Checkpoint
from utils.training.amp import resolve_amp
from utils.training.augment import Augment
from utils.training.distillation import Teacher
from utils.training.distributed import Distributed, explain_lost_process, is_lost_process
from utils.training.folds import FoldPlan
from utils.training.loss import class_priors
from utils.training.mixing import Mixing
from utils.training.optim import LEARNING_RATES, WEIGHT_DECAYS
from utils.training.options import AUTO, find_run, model_flags, run_options
from utils.training.run_folder import Run
from utils.training.targets import class_weights, one_hot, sample_weights
from utils.training.trainer import Recipe, Trainer, TrainingSet
from utils.training.vote_targets import VoteTargets, vote_targets

RUN_KEY = "run"  # under which processes that torchrun starts again find the folder of their run
CACHE = ".store"  # folder for the decoded images, in the data folder
MIN_ROWS = 2  # images of a batch in each process: batch norm has no variance of one
# How errors of torch and CUDA name a lack of memory.
OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "STATUS_ALLOC_FAILED")


class Data(NamedTuple):
    """The images of train and of validation, and what is learnt of them."""

    classes: list[str]  # train's folders
    labelled: list[Sample]  # of train, in class folders
    train_samples: list[Sample]  # to learn from: with --annotations some fewer, and UNKNOWN's
    validation_samples: list[Sample]
    votes: VoteTargets | None


def find_data(args: argparse.Namespace) -> Data:
    """Return the images that the flags name, before any is decoded.

    Raise StageError if the folders or the votes do not make a classification task.
    """
    takes_unknown = args.unknown == "soft"
    classes, labelled, validation_samples = find_samples(args.data_path, takes_unknown)
    votes = find_votes(args, classes, labelled)
    train_samples = votes.samples if votes else labelled
    return Data(classes, labelled, train_samples, validation_samples, votes)


def find_samples(
    data_path: Path, takes_unknown: bool = False
) -> tuple[list[str], list[Sample], list[Sample]]:
    """Return the class names (train's folders), and the samples of train and of validation.

    `takes_unknown`: whether the images in UNKNOWN are used after all, see `find_votes`. Raise
    StageError if the folders do not make a classification task.
    """
    train_path, validation_path = find_train_and_validation(data_path)
    train_images = scan_class_folders(train_path)
    validation_images = scan_class_folders(validation_path)
    classes = list(train_images)
    if len(classes) < 2:
        content = f"only the class {classes[0]}" if classes else "no class folder with images"
        content += train_images.seen()
        raise StageError(f"{train_path} has {content}; a model needs two classes or more")
    train_images.has_unknown &= not takes_unknown
    train_images.report()
    validation_images.report()
    for names in find_synonyms(classes):
        note(f"{' and '.join(names)} are learnt as different classes, but mean one emotion")
    validation_images.rename_to(classes, "train")
    unknown = [name for name in validation_images if name not in classes]
    if unknown:
        raise StageError(
            f"{validation_path} has classes that train does not: {' '.join(unknown)}; "
            f"add images of them to train, or remove them from validation"
        )
    missing = [name for name in classes if name not in validation_images]
    if missing:
        note(
            f"no validation image of {' '.join(missing)}: the best epoch is chosen without; "
            f"python dataPreparation.py with more validation in --ratio adds some"
        )
    return (
        classes,
        make_samples(train_images, classes),
        make_samples(validation_images, classes),
    )


def find_votes(
    args: argparse.Namespace, classes: list[str], samples: list[Sample]
) -> VoteTargets | None:
    """Return what --annotations says about the samples of train, or None without the flag.

    Raise StageError if it says nothing, or for flags that need it.
    """
    if not args.annotations:
        flag = "--unknown soft" if args.unknown == "soft" else "--votes_min"
        if args.unknown == "soft" or args.votes_min > 1:
            raise StageError(f"{flag} needs the votes: name their table with --annotations")
        return None
    votes = open_votes(args.annotations, classes)
    for line in votes.describe_columns():
        note(line)
    unknown: list[Path] = []
    if args.unknown == "soft":
        folder = (find_set(args.data_path, "train") or args.data_path) / UNKNOWN
        if folder.is_dir():
            paths, left_out = find_images(folder)
            unknown = [Path(path) for path in paths]
            if left_out:
                note(f"{folder}: {left_out}")
        else:
            note(f"{folder} does not exist; python dataPreparation.py --unknown keep makes it")
    return vote_targets(votes, samples, unknown, classes, args.votes_min)


def run_to_resume(
    args: argparse.Namespace,
    distributed: Distributed,
    defaults: argparse.Namespace | None = None,
    plan: FoldPlan | None = None,
) -> tuple[Run | None, Checkpoint | None]:
    """Return the stopped run to resume and its last state, or None and None for a new run.

    `defaults`: the flags of an empty command line. A fold, which has a `plan`, always resumes a run
    with the same flags, if its images are still the same. Raise StageError if the run cannot be
    resumed.
    """
    run = None
    if distributed.is_primary and args.resume and args.resume != AUTO:
        run = find_run(args.resume, args.runs_path)
    elif distributed.is_primary and (
        args.resume or plan or _is_restart_without_memory(distributed)
    ):
        default_options = run_options(defaults) if defaults else {}
        run = Run.find_matching(args.runs_path, run_options(args), default_options)
        if not (args.resume or plan) and run and _is_finished(run, args.epochs):
            run = None  # an earlier training with the same flags
        if plan and run and not plan.fits(Checkpoint.load(run.last)):
            run = None  # the images have changed
    run = distributed.broadcast(run)
    if run is None:
        return None, None
    if distributed.is_primary:
        run.lock()
        distributed.remember(RUN_KEY, str(run.folder))
    if not run.last.exists():
        raise StageError(f"{run.folder} ended before its first save: start a new run")
    checkpoint = Checkpoint.load(run.last)
    if checkpoint.training is None:
        raise StageError(f"{run.last} is not the state of a training: start a new run")
    return run, checkpoint


def _is_restart_without_memory(distributed: Distributed) -> bool:
    """Return whether torchrun started these processes again, but keeps nothing for them."""
    return not distributed.memory and os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") != "0"


def _is_finished(run: Run, epochs: int) -> bool:
    """Return whether a run has trained all epochs."""
    state = Checkpoint.load(run.last).training or {}
    return len(state.get("history", ())) >= epochs


def new_run(args: argparse.Namespace, distributed: Distributed) -> Run:
    """Make the folder of a new run, or take that of `restarted_run`, and lock it."""
    run = restarted_run(distributed)
    if distributed.is_primary:
        fold = f"-{Fold.parse(args.fold).name}" if args.fold else ""
        run = run or Run.new(args.runs_path, args.model + fold)
        run.lock()
        distributed.remember(RUN_KEY, str(run.folder))
    run = distributed.broadcast(run)
    assert run
    return run


def restart_flags(distributed: Distributed) -> list[str]:
    """Return the flags with which processes that torchrun starts again resume their run."""
    run = restarted_run(distributed)
    can_resume = distributed.broadcast(bool(run and run.last.exists()))
    return [f"--resume={run.folder}"] if run and can_resume else []


def restarted_run(distributed: Distributed) -> Run | None:
    """Return the run of the processes that torchrun starts again with these, or None."""
    folder = distributed.recall(RUN_KEY)
    run = Run(Path(folder)) if folder and Path(folder).is_dir() else None
    return distributed.broadcast(run)  # rank 0's, which may see a folder that others do not


def make_model(
    args: argparse.Namespace,
    classes: list[str],
    initial: Checkpoint | None,
    resumed: Checkpoint | None = None,
) -> nn.Module:
    """Build the network. In a new run, load the weights of --init or --pretrained.

    The weights of a resumed run come later (see `CheckpointSaver.resume`). Raise StageError for
    flags that do not fit the network.
    """
    torch.manual_seed(args.seed)
    try:
        if args.pretrained and not resumed:
            model = _pretrained_model(args, classes)
        else:
            trained = resumed or initial  # weights keep the padding with which they were trained
            model = models.create(
                args.model, len(classes), args.image_channel, args.image_size,
                same_padding=trained is None or trained.same_padding,
            )  # fmt: skip
    except models.NetworkError as error:
        raise StageError(str(error)) from None
    if initial and not resumed:
        _load_initial_weights(model, initial, args, classes)
    if args.dropout is not None and not set_dropout(model, args.dropout):
        raise StageError(f"--dropout: {args.model} has no dropout layer; leave the flag out")
    return model


def _pretrained_model(args: argparse.Namespace, classes: list[str]) -> nn.Module:
    if args.init or not args.model.startswith("efficientnet"):
        raise StageError("--pretrained needs --model efficientnet-b4 or -b5, and no --init")
    try:
        return models.pretrained(args.model, len(classes), args.image_channel, args.image_size)
    except models.WeightsError as error:
        raise StageError(f"--pretrained: {error}, or leave the flag out") from None


def _load_initial_weights(
    model: nn.Module, initial: Checkpoint, args: argparse.Namespace, classes: list[str]
) -> None:
    """Load the weights of --init. Raise StageError if --model or --image_channel contradict it."""
    needed = model_flags(initial)
    name, channels = needed["model"], needed["image_channel"]
    if (args.model, args.image_channel) != (name, channels):
        raise StageError(
            f"--init {args.init} is a {name} of {channels} channel(s): "
            f"leave --model and --image_channel out"
        )
    unknown = initial.transfer_to(model, classes, args.init)
    if unknown:
        note(
            f"{args.init} does not know the classes {' '.join(unknown)}: the last layer starts "
            f"from random weights"
        )


def load_teacher(args: argparse.Namespace, classes: list[str]) -> Teacher | None:
    """Load the models of --teacher. Raise StageError if one does not fit the training."""
    if not args.teacher:
        return None
    for path in args.teacher:
        if path.resolve() == args.model_path.resolve():
            raise StageError(
                f"--teacher {path} would be overwritten by the new model: name another --model_path"
            )
    preprocess = Preprocess(args.image_size, args.image_channel)
    return Teacher(args.teacher, classes, preprocess, args.teacher_share)


def load_datasets(
    args: argparse.Namespace,
    train_samples: list[Sample],
    validation_samples: list[Sample],
    resumed: Checkpoint | None = None,
) -> tuple[Dataset, Dataset]:
    """Decode both datasets. Raise StageError if one of them has no readable image.

    Small images stay small (see `EnlargedDataset`), but not in a resumed run that began otherwise.
    """
    preprocess = Preprocess(args.image_size, args.image_channel)
    folder = args.store or args.data_path / CACHE
    named = {"train": train_samples, "validation": validation_samples}
    sides: list[int | None] = [None]
    if not resumed or ((resumed.training or {}).get("fixed") or {}).get("enlarged"):
        sides = [common_side(samples, preprocess) for samples in named.values()]
    if None in sides:
        sides = [None] * len(named)
    train_set, validation_set = (
        load_enlarged(samples, preprocess, side, name, folder)
        if side
        else load_dataset(samples, preprocess, name, folder)
        for (name, samples), side in zip(named.items(), sides, strict=True)
    )
    for name, dataset in (("train", train_set), ("validation", validation_set)):
        if not len(dataset):
            raise StageError(f"{args.data_path / name}: no readable image")
    return train_set, validation_set


def prepare_outputs(args: argparse.Namespace, run: Run, failures: list[tuple[Path, str]]) -> None:
    """Make the folders that the run writes to, and log the images that cannot be read."""
    if args.model_path.is_dir():
        raise StageError(f"--model_path {args.model_path} is a folder; name a file in it")
    if args.fold:
        run.held_out.unlink(missing_ok=True)  # it would be of fewer epochs
    for folder in (args.model_path.parent, args.log_dir):
        make_folder(folder)
    if not args.fold and args.model_path.exists() and not run.best.exists():
        run.backup_replaced(args.model_path)
        kept = f"; the old model is kept as {run.replaced}" * run.replaced.exists()
        note(f"{args.model_path} exists; the first epoch's model will replace it{kept}")
    write_file_errors(args.log_dir / "train.error.log", failures)


def make_training_set(
    args: argparse.Namespace,
    distributed: Distributed,
    data: Dataset,
    classes: list[str],
    votes: VoteTargets | None = None,
) -> TrainingSet:
    """Return the images with their targets and class weights. Raise StageError for bad flags."""
    minimum = MIN_ROWS * distributed.world_size
    if args.batch_size < minimum:
        raise StageError(f"--batch_size {args.batch_size}: the minimum here is {minimum} images")
    if len(data) < minimum:
        processes = f" in {distributed.world_size} processes" * (distributed.world_size > 1)
        raise StageError(
            f"{args.data_path / 'train'} has {len(data)} readable image(s); training{processes} "
            f"takes {minimum} or more"
        )
    targets = one_hot(data.samples, classes)
    if votes:
        targets = votes.targets(data.samples, classes)
        if distributed.is_primary:
            print("\n".join(votes.lines), flush=True)
    return TrainingSet(
        data.to_device(distributed.device),
        targets,
        class_weights(targets, args.class_weights),
        sample_weights(targets, args.sampling),
    )


def make_recipe(
    args: argparse.Namespace, distributed: Distributed, resumed: Checkpoint | None
) -> Recipe:
    """Return the training's settings, with `--amp auto` and the optimizer's defaults resolved."""
    decay = WEIGHT_DECAYS[args.optimizer] if args.weight_decay is None else args.weight_decay
    return Recipe(
        epochs=args.epochs,
        batch_size=args.batch_size,
        lr=args.lr or LEARNING_RATES[args.optimizer],
        optimizer=args.optimizer,
        weight_decay=decay,
        momentum=args.momentum,
        schedule=args.schedule,
        warmup=args.warmup,
        accumulate=args.accumulate,
        clip=args.clip,
        ema=args.ema,
        label_smoothing=args.label_smoothing,
        mixing=Mixing(args.mixup, args.cutmix),
        amp=_choose_amp(args, distributed, resumed),
        compile=args.compile,
        cuda_graph=args.cuda_graph == "auto",
        seed=args.seed,
        augment=Augment(
            args.flip,
            args.rotation,
            args.crop,
            args.erase,
            args.brightness,
            args.zoom,
            args.shear,
            args.contrast,
            args.augment_p,
        ),
        nesterov=args.nesterov,
        plateau_factor=args.plateau_factor,
        plateau_patience=args.plateau_patience,
        sam=args.sam,
    )


def _choose_amp(
    args: argparse.Namespace, distributed: Distributed, resumed: Checkpoint | None
) -> str:
    if args.amp != "auto":
        return args.amp
    # A resumed run keeps its first choice, so that its results do not depend on the interruption.
    if resumed and resumed.training:
        return resumed.training.get("amp", "off")
    return distributed.broadcast(resolve_amp("auto", args.model, distributed.device))


def checkpoint_template(
    args: argparse.Namespace,
    trainer: Trainer,
    classes: list[str],
    validation_set: Dataset,
    plan: FoldPlan | None = None,
) -> Checkpoint:
    """Return the checkpoint that the training fills: it lacks the weights and the results.

    `training["fixed"]` holds what a resumed run cannot change (see checkpointing.FIXED_SETTINGS).
    """
    train_set = trainer.data.images
    fixed = {
        "data": [train_set.fingerprint, validation_set.fingerprint],
        "optimizer": args.optimizer,
        "ema": bool(args.ema),
        "order": [args.seed, args.batch_size, args.accumulate],
    }
    if args.sampling != "uniform":
        fixed["order"].append(args.sampling)
    if train_set.is_enlarged:
        fixed["enlarged"] = True
    training = {"amp": trainer.recipe.amp, "fixed": fixed}
    if plan:
        training["fold"] = plan.key
    preprocess = train_set.preprocess.to_dict()
    geometry = FaceGeometry(args.face_shape, args.face_margin, args.face_level)
    face = None if geometry == FaceGeometry() else geometry.to_dict()
    data = trainer.data
    priors = class_priors(data.targets, data.class_weights, data.sample_weights)
    return Checkpoint(
        args.model, classes, preprocess, 0, 0.0, {}, training=training, class_priors=priors,
        same_padding=getattr(trainer.model, "same_padding", False), face=face,
    )  # fmt: skip


def set_determinism(deterministic: bool) -> None:
    """Forbid operations that differ from run to run, or let cuDNN choose the fastest ones."""
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
    else:
        torch.backends.cudnn.benchmark = True


@contextmanager
def explain_errors(args: argparse.Namespace, run: Run, world_size: int = 1) -> Iterator[None]:
    """Turn out-of-memory, disk and compile errors into a StageError that says what to change."""
    try:
        yield
    except OSError as error:
        advice = f"; free some space, then run python train.py --resume {run.folder}"
        if is_fatal_os_error(error):
            raise StageError(describe_os_error(error) + advice) from None
        raise TransientError(describe_os_error(error)) from None
    except RuntimeError as error:
        reason = str(error).strip().partition("\n")[0]
        if any(words in reason for words in OUT_OF_MEMORY):
            raise StageError(_memory_advice(args, MIN_ROWS * world_size)) from None
        if is_lost_process(error):
            with explain_lost_process():
                raise
        if args.compile and type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
            raise StageError(f"--compile does not work here ({reason}); leave it out") from None
        if args.deterministic and "deterministic" in reason:
            raise StageError(f"--deterministic: leave it out, or add --no-gpu ({reason})") from None
        raise


def _memory_advice(args: argparse.Namespace, minimum: int) -> str:
    """Return what to change if a batch does not fit; `minimum`: images in the smallest batch."""
    problem = f"out of memory with --batch_size {args.batch_size}"
    is_on_gpu = bool(args.gpu and torch.cuda.is_available())
    if args.batch_size <= minimum:
        cpu = ", or --no-gpu" * is_on_gpu
        return f"{problem}, the smallest here: use a smaller --image_size or --model{cpu}"
    half = max(minimum, args.batch_size // 2)
    graph = "; --cuda_graph off alone saves some" * (is_on_gpu and args.cuda_graph == "auto")
    return (
        f"{problem}: use --batch_size {half} --accumulate {2 * args.accumulate}, for similar steps "
        f"with less memory{graph}"
    )
