"""Measure trained models on faces that they were not trained on: stage 5 of 5.

Prints the accuracy with its 95 % interval, precision, recall and F1 of each class, and the
confusion matrix, over <data_path>/test, or over <data_path> itself if it holds the class folders.
The same figures, every prediction, some pictures and a page to look at, report.html, go into
<model>-report/<set> beside the model, or here for a model that comes with the project. Network,
image size, channels and classes are read from the model file.

  python test.py                                           # model.pt on data/test
  python test.py --split validation --tta flip
  python test.py --calibrate                               # fit the confidence to the accuracy
  python test.py --balance                                 # as if all classes were as frequent
  python test.py --model_path a.pt b.pt c.pt               # side by side
  python test.py --groups meta.csv                         # by sex, age and the like, too
  python test.py --json --data_path my_faces --no-gpu
  python test.py --split train --suspects 200              # labels to look at again

Next: python emotion.py --img photo.jpg
"""

from __future__ import annotations

from utils import interrupt

if __name__ == "__main__":
    interrupt.exit_at_once()  # if Ctrl-C is pressed during the imports below

import json
from pathlib import Path
from typing import TYPE_CHECKING

from utils import cli
from utils.console import info
from utils.data.error_log import write_file_errors
from utils.data.folds import predictions_path
from utils.data.image_folder import scan_class_folders
from utils.data.image_groups import ImageGroups, find_groups
from utils.data.sets import announce, explain, find_set
from utils.errors import StageError, describe_os_error
from utils.files import make_folder
from utils.imaging.preprocess import MAX_SIDE, TTA
from utils.memory import keep_freed_memory
from utils.metrics import wilson

if TYPE_CHECKING:
    from argparse import Namespace

    from utils.evaluation.balance import Balance
    from utils.evaluation.evaluator import Evaluation, Evaluator
    from utils.evaluation.suspect_report import Suspects
    from utils.inference.face_classifier import Model


def make_parser() -> cli.Parser:
    """Return the parser of this script's flags."""
    parser = cli.Parser(__doc__)
    flag, switch = parser.flag, parser.switch
    models = [Path("model.pt")]
    text = "model files to test; several: compare them in a table"
    flag("--model_path", text, models, cli.path, nargs="+", metavar="FILE")
    text = "folder with test (and validation), or with the class folders themselves"
    flag("--data_path", text, Path("data"), cli.path, metavar="DIR")
    text = "set to test on; train: only with --suspects"
    flag("--split", text, "test", str, choices=("train", "validation", "test"))
    text = "what class folders called 0, 1, 2 … mean, in this order"
    flag("--classes", text, None, str, nargs="+", metavar="NAME")
    text = "images at a time; the scores do not depend on it"
    flag("--batch_size", text, 128, cli.positive_int, metavar="N")
    text = (
        "test-time augmentation: average over several views of each image (default: what "
        "--calibrate chose, else none)"
    )
    flag("--tta", text, None, str, choices=TTA)
    text = (
        "choose --tta none or flip on validation and fit a temperature there, and save both, and "
        "--balance, in the model file"
    )
    switch("--calibrate", text, False)
    text = (
        "logit adjustment: divide by (class frequency in the training)^TAU (without a number: 1; "
        "default: that of the model file)"
    )
    flag("--balance", text, None, cli.non_negative_float, nargs="?", const=1.0, metavar="TAU")
    text = (
        "tables that say which groups images are in: csv of files and columns, votes, annotation "
        "table, or AI-Hub's labels (default: AI-Hub's file names alone)"
    )
    flag("--groups", text, None, cli.path, nargs="+", metavar="FILE")
    text = (
        "list the N images whose labels are most likely wrong, and make a page to decide about "
        "them; those of train need the predictions of train.py --folds"
    )
    flag("--suspects", text, None, cli.positive_int, metavar="N")
    text = "folder for the report (default: <model>-report/<set> beside each model)"
    flag("--output", text, None, cli.path, metavar="DIR")
    switch("--json", "print the figures as JSON, and nothing else, to stdout", False)
    parser.lang_flag()
    parser.reference_size_flag(MAX_SIDE)
    text = "fail if the model takes another number of channels"
    flag("--image_channel", text, None, int, choices=(1, 3))
    parser.device_flags()
    parser.log_dir_flag()
    return parser


def main() -> int:
    """Evaluate the models, or find the suspects of train. Return the exit status."""
    args = make_parser().parse_args()
    check_suspects(args)
    return find_suspects_of_train(args) if args.split == "train" else evaluate_models(args)


def evaluate_models(args: Namespace) -> int:
    """Evaluate each model, write its report and print the results. Return the exit status."""
    keep_freed_memory()
    # torch takes seconds to import: --help and wrong flags must not wait for it, nor must the
    # processes that decode images, which import this script.
    with interrupt.importing():
        from utils.evaluation.balance import make_balance
        from utils.evaluation.evaluator import Evaluator
        from utils.evaluation.report import write_report
        from utils.evaluation.report_folder import prepared_folders, report_folders, report_options
        from utils.evaluation.report_page import write_report_page
        from utils.inference.face_classifier import load_model

    evaluator = Evaluator(args.batch_size, args.classes or ())
    models = [
        (path, load_model(path, args.gpu, args.cuda_idx, args.image_size, args.image_channel))
        for path in args.model_path
    ]
    root = class_root(args.data_path, args.split)
    folders = report_folders(args.model_path, root, args.output)
    if args.calibrate:
        refuse_bundled(args.model_path)
        for path, model in models:
            model.check_calibration(path)
    balances = [
        make_balance(args.balance, model.info, path, args.data_path, args.classes or ())
        for path, model in models
    ]
    options = [
        report_options(args.tta or model.info.tta, balance.tau)
        for (_, model), balance in zip(models, balances, strict=True)
    ]
    groups = read_groups(root, args.groups or [])
    evaluations: list[Evaluation] = []
    problems: list[str] = []
    with prepared_folders(folders, args.model_path, root, options) as unwritable:
        for (path, model), folder, balance in zip(models, folders, balances, strict=True):
            if args.calibrate:
                validation = class_root(args.data_path, "validation")
                calibrate(evaluator, path, model, validation, args.tta, balance, problems)
            evaluation = evaluator.evaluate(path, model, root, args.tta, balance).by_groups(groups)
            evaluations.append(evaluation)
            try:
                if folder not in unwritable:
                    write_report(evaluation, folder)
                    columns = groups.columns(evaluation.paths)
                    write_report_page(evaluation, folder, args.lang, flags_of(args), columns)
            except OSError as error:
                unwritable[folder] = describe_os_error(error)
    problems += [f"no complete report in {folder}: {why}" for folder, why in unwritable.items()]
    log_failures(evaluator.failures, args.log_dir, problems)

    # The figures are printed whatever has happened to the files.
    suspects = find_suspects(evaluations[0]) if args.suspects else None
    print_results(evaluations, args.json, suspects, args.suspects)
    if len(evaluations) == 1 and not args.json and folders[0] not in unwritable:
        print(f"\nto look at: {folders[0] / 'report.html'}")
        print(f"every prediction, and pictures: {folders[0]}")
    if suspects and folders[0] not in unwritable:
        problems += report_suspects(suspects, folders[0], args)
    for problem in problems:
        info(problem)
    return cli.SOME_FAILED if problems else cli.OK


def check_suspects(args: Namespace) -> None:
    """Raise StageError for flags that do not fit --suspects, or train without it."""
    if args.split == "train" and not args.suspects:
        raise StageError(
            "--split train: the model has learnt these images, and figures about them would say "
            "little; --suspects 200 lists the labels that are most likely wrong"
        )
    if args.suspects and len(args.model_path) > 1:
        raise StageError("--suspects takes one model: name one --model_path")
    others = [
        flag
        for flag, value in (
            ("--calibrate", args.calibrate),
            ("--balance", args.balance is not None),
            ("--groups", args.groups),
            ("--tta", args.tta),
        )
        if value
    ]
    if args.split == "train" and others:
        raise StageError(f"--split train takes no {others[0]}: leave it out")


def find_suspects_of_train(args: Namespace) -> int:
    """Report the suspects of train, by the predictions of train.py --folds. Return the status."""
    from utils.evaluation.suspect_report import of_folds, to_json

    root = find_set(args.data_path, "train")
    if not root:
        has_validation = find_set(args.data_path, "validation") is not None
        raise StageError(explain(args.data_path, False, has_validation))
    [model_path] = args.model_path
    suspects = of_folds(model_path, announce(root, "train"))
    if args.json:
        print(json.dumps(to_json(suspects, args.suspects), ensure_ascii=False))
    folder = args.output or predictions_path(model_path).parent
    problems = report_suspects(suspects, folder, args)
    for problem in problems:
        info(problem)
    return cli.SOME_FAILED if problems else cli.OK


def find_suspects(evaluation: Evaluation) -> Suspects:
    """Return the images of a set that the model has not learnt, by how wrong their labels seem."""
    from utils.evaluation.suspect_report import of_evaluation

    return of_evaluation(evaluation)


def report_suspects(suspects: Suspects, folder: Path, args: Namespace) -> list[str]:
    """Write the suspects, and print them unless --json has. Return what could not be written."""
    from utils.evaluation.suspect_report import CSV, HTML, make_lines, write_suspects

    problems = []
    try:
        make_folder(folder)
        write_suspects(suspects, folder, args.suspects, args.lang)
    except OSError as error:
        problems.append(f"no complete list of suspects in {folder}: {describe_os_error(error)}")
    if not args.json:
        print(*([""] * (args.split != "train")), *make_lines(suspects, args.suspects), sep="\n")
        if not problems:
            print(f"\nto decide about each: {folder / HTML}\nas a table: {folder / CSV}")
            print("next: python dataPreparation.py --relabel relabel.tsv")
    return problems


def read_groups(root: Path, tables: list[Path]) -> ImageGroups:
    """Return the groups of the images in `root` by their names and by tables.

    Print what is not used. Raise StageError for a table that cannot be used.
    """
    images = [path for paths in scan_class_folders(root).values() for path in paths]
    groups = find_groups(images, tables)
    for line in groups.lines:
        info(line)
    return groups


def flags_of(args: Namespace) -> dict[str, object]:
    """Return the flags of this run, for the report."""
    return {
        f"--{name}": " ".join(map(str, value)) if isinstance(value, list) else value
        for name, value in vars(args).items()
        if value is not None
    }


def refuse_bundled(model_paths: list[Path]) -> None:
    """Raise StageError for a model that comes with the project: its file is not to be changed."""
    from utils.evaluation.report_folder import is_bundled

    for path in filter(is_bundled, model_paths):
        raise StageError(
            f"--calibrate would change {path}, which comes with the project: copy it, and "
            f"calibrate the copy"
        )


def calibrate(
    evaluator: Evaluator,
    path: Path,
    model: Model,
    root: Path,
    tta: str | None,
    balance: Balance,
    problems: list[str],
) -> None:
    """Calibrate the model. If it cannot be saved, leave it as it was, and add a problem."""
    try:
        accuracies = evaluator.calibrate(path, model, root, tta, balance)
    except OSError as error:
        problems.append(f"{path} is not calibrated: {describe_os_error(error)}")
        return
    compared = ", ".join(f"{tta} {accuracy:.2%}" for tta, accuracy in accuracies.items())
    info(
        f"{path} is calibrated on {root}: temperature {model.info.temperature:.3f}, "
        f"--tta {model.info.tta} (accuracy: {compared})"
        + f", --balance {model.info.balance:g}"
        * bool(model.info.balance)
    )


def log_failures(failures: list[tuple[Path, str]], log_dir: Path, problems: list[str]) -> None:
    """Write the log of the images that could not be read, and add both to the problems."""
    log_path = log_dir / "test.error.log"
    try:
        make_folder(log_dir)
        write_file_errors(log_path, failures)
        place = str(log_path)
    except OSError as error:
        place = f"no log of them, {describe_os_error(error)}"
        if not failures:  # an older log could not be removed
            problems.append(describe_os_error(error))
    if failures:
        problems.append(f"{len(failures)} images could not be read: {place}")


def class_root(data_path: Path, split: str) -> Path:
    """Return the folder with a set's class folders: its own, or for test `data_path` itself.

    Raise StageError if there is no validation set, or no test set beside other sets.
    """
    if folder := find_set(data_path, split):
        return announce(folder, split)
    if split == "validation":
        root = data_path / split
        raise StageError(f"{root}: no such folder; make it with python dataPreparation.py")
    if others := [name for name in ("train", "validation") if find_set(data_path, name)]:
        raise StageError(
            f"{data_path} has no test set; give --split {others[-1]}, or make one with python "
            f"dataPreparation.py"
        )
    if data_path.exists() and not data_path.is_dir():
        raise StageError(explain(data_path))
    return data_path


def print_results(
    evaluations: list[Evaluation],
    as_json: bool,
    suspects: Suspects | None = None,
    count: int = 0,
) -> None:
    """Print the figures: of one model, of several as a table, or all as JSON.

    `suspects`: to add to the JSON of one model, `count` of them.
    """
    from utils.evaluation.report import make_report

    if as_json:
        reports = [make_report(evaluation) for evaluation in evaluations]
        if suspects:
            from utils.evaluation.suspect_report import to_json

            reports[0]["suspects"] = to_json(suspects, count)
        print(json.dumps(reports if len(reports) > 1 else reports[0], ensure_ascii=False))
    elif len(evaluations) > 1:
        print_comparison(evaluations)
    else:
        print_evaluation(evaluations[0])


def print_evaluation(evaluation: Evaluation) -> None:
    """Print one model's scores, its scores by class, its confusion matrix and its groups."""
    from utils.evaluation.group_report import make_lines

    scores, classes = evaluation.scores, evaluation.model.classes
    low, high = wilson(scores.right, scores.total)
    print(
        f"{evaluation.model_path}: {evaluation.model.describe()}\n"
        f"{evaluation.root}: accuracy {scores.accuracy:.3%} "
        f"({scores.right} of {scores.total} images), "
        f"95 % interval {low:.1%} to {high:.1%} (Wilson)\n"
        f"macro F1 {scores.macro_f1:.3f}, balanced accuracy {scores.balanced_accuracy:.3%}, "
        f"calibration error {evaluation.reliability.ece:.3%}, "
        f"{evaluation.images_per_second:.0f} images/s"
    )
    print(f"input: {evaluation.model.describe_input()}")
    for line in choices_of(evaluation):
        print(line)
    print("\n| class | precision | recall | F1 | images |\n|---|---|---|---|---|")
    for i, name in enumerate(classes):
        print(
            f"| {i} {name} | {scores.precision[i]:.3f} | {scores.recall[i]:.3f} "
            f"| {scores.f1[i]:.3f} | {scores.support[i]} |"
        )
    print("\n| Truth\\Prediction  |" + "|".join(map(str, range(len(classes)))) + "|")
    print("|-------------------|" + "-|" * len(classes))
    for i, row in enumerate(scores.confusion.tolist()):
        print(f"|{i}|" + "|".join(map(str, row)) + "|")
    print("\n" + "  ".join(f"{i} {name}" for i, name in enumerate(classes)))
    if evaluation.groups:
        print("", *make_lines(evaluation.groups), sep="\n")


def choices_of(evaluation: Evaluation) -> list[str]:
    """Return what a reader of the figures has to know: the views, and a balance of classes."""
    lines = []
    if evaluation.tta != "none":
        place = " (kept in the model file)" * (evaluation.tta == evaluation.model.tta)
        lines.append(f"test-time augmentation: {evaluation.tta}{place}")
    if before := evaluation.unbalanced:
        place = " (kept in the model file)" * (evaluation.balance == evaluation.model.balance)
        lines.append(
            f"balanced with tau {evaluation.balance:g}{place}; "
            f"without: accuracy {before.accuracy:.3%}, "
            f"balanced accuracy {before.balanced_accuracy:.3%}"
        )
    return lines


def print_comparison(evaluations: list[Evaluation]) -> None:
    """Print the scores of several models, a row per model, and their accuracy by groups."""
    from utils.evaluation.group_report import make_comparison

    name = evaluations[0].root.name
    print(
        f"| Network | Validation (%) | {name} (%) | 95 % interval | macro F1 | Model File Size "
        f"| Parameters | images/s | file |\n|---|---|---|---|---|---|---|---|---|"
    )
    for evaluation in evaluations:
        scores, model = evaluation.scores, evaluation.model
        low, high = wilson(scores.right, scores.total)
        accuracy = model.val_accuracy
        parameters = "" if evaluation.parameters is None else f"{evaluation.parameters:,}"
        validation = "" if accuracy is None else f"{100 * accuracy:.3f}"
        print(
            f"| {model.network} | {validation} | {100 * scores.accuracy:.3f} "
            f"| {100 * low:.1f}–{100 * high:.1f} | {scores.macro_f1:.3f} "
            f"| {evaluation.model_path.stat().st_size / 2**20:.0f}M | {parameters} "
            f"| {evaluation.images_per_second:.0f} | {evaluation.model_path} |"
        )
    for evaluation in evaluations:
        for line in choices_of(evaluation):
            print(f"{evaluation.model_path}: {line}")
    groups = [evaluation.groups for evaluation in evaluations if evaluation.groups]
    if len(groups) == len(evaluations):
        names = [str(evaluation.model_path) for evaluation in evaluations]
        print("", *make_comparison(groups, names), sep="\n")


if __name__ == "__main__":
    cli.run(main)
