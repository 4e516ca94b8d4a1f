"""Split the faces into train, validation and test: stage 3 of 5.

Each class is split by itself: validation and test get the given share of its n photos, rounded
down, and train the rest. Photos of UNKNOWN are left out. <output>/split.tsv says which photo is in
which set. Run again with another seed or ratio, photos are moved, so that none is ever in two sets.

Photos with the same bytes always go into one set; <output>/copies.tsv lists them. With --group
subject so do all photos of one person (the first token of `<person>_….jpg`), which is what an
honest figure for new faces needs: a network that knows a face from training does better on it.

  python dataPreparation.py                                # crop/ -> data/
  python dataPreparation.py --group subject                # nobody is in two sets
  python dataPreparation.py --ratio 70 15 15 --seed 1
  python dataPreparation.py --input my_faces --output my_data --mode copy

Next: python train.py
"""

from __future__ import annotations

import argparse
import os
import shutil
from collections import Counter
from contextlib import suppress
from fractions import Fraction
from pathlib import Path

from utils import cli
from utils.console import ProgressBar
from utils.data.duplicates import find_duplicates
from utils.data.error_log import write_file_errors
from utils.data.image_folder import SPLITS, scan_class_folders
from utils.data.split import SplitItem, assign_splits, group_by_subject
from utils.errors import StageError, describe_os_error, is_fatal_os_error
from utils.filenames import is_printable, nfc
from utils.files import atomic_file, file_lock, make_folder, remove_stale_temp_files, write_tsv

MANIFEST, COPIES = "split.tsv", "copies.tsv"

# A file's place below the output folder, `train/기쁨/x.jpg`, as (set, class, name).
Place = tuple[str, str, str]


def make_parser() -> cli.Parser:
    parser = cli.Parser(__doc__)
    flag = parser.flag
    flag("--input", "the faces, a folder for each class", Path("crop"), Path, metavar="DIR")
    flag("--output", "where the three sets are made", Path("data"), Path, metavar="DIR")
    parser.add_argument(
        "--ratio",
        help="shares of the three sets, in any unit (80 10 10)",
        default=[Fraction(80), Fraction(10), Fraction(10)],
        type=share,
        nargs=3,
        metavar=("TRAIN", "VALIDATION", "TEST"),
    )
    flag("--seed", "another seed, another split", 0, int, metavar="N")
    whole = "what is never divided: a photo, or all photos of a subject"
    flag("--group", whole, "photo", str, choices=("photo", "subject"))
    modes = "hard links (copies where there are none), copies, or symbolic links"
    flag("--mode", modes, "link", str, choices=("link", "copy", "symlink"))
    parser.log_dir_flag()
    return parser


def share(text: str) -> Fraction:
    """A part of the whole, exactly: ten per cent of 70 photos are 7, not 6.999…"""
    try:
        value = Fraction(text)
    except (ValueError, ZeroDivisionError):
        value = Fraction(-1)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of 0 or more")
    return value


def main() -> int:
    args = make_parser().parse_args()
    if not sum(args.ratio):
        raise StageError("--ratio 0 0 0 leaves no photo anywhere")
    images = scan_class_folders(args.input)
    if not images:
        raise StageError(f"{args.input} has no class folders with images in them")
    if args.input.resolve().is_relative_to(args.output.resolve()):
        raise StageError(f"--input {args.input} lies in --output {args.output}: name another one")

    paths = [path for found in images.values() for path in found]
    if odd := next((path for path in paths if not is_printable(str(path))), None):
        raise StageError(f"{odd}: a name with a tab, line break or control character; rename it")
    photos = [SplitItem(label, nfc(path.name)) for label, found in images.items() for path in found]

    copies = find_duplicates(paths)
    subjects = group_by_subject(photos)
    together = [*copies, *subjects.values()] if args.group == "subject" else copies
    if args.group == "subject":
        check_subjects(subjects, photos, args.ratio)
    sets = assign_splits(photos, together, args.ratio, args.seed)
    plan = {(name, *photo): path for name, photo, path in zip(sets, photos, paths, strict=True)}

    make_folder(args.log_dir)
    make_folder(args.output)
    with file_lock(args.output, f"another split into {args.output} is being made: waiting"):
        removed = remove_all_but(plan, args.output)
        write_manifest(photos, sets, args.output)
        write_copies(copies, photos, sets, args.output)
        failures = place_all(plan, args.output, args.mode)

    log_path = args.log_dir / "preparation.error.log"
    write_file_errors(log_path, failures)
    print_table(plan, list(images))
    print(f"{len(plan) - len(failures)} photos -> {args.output}, {removed} moved or taken out")
    print_copies(copies, photos, args.output)
    if subjects and not too_large(subjects, photos, args.ratio):
        print_subjects(subjects, sets)
    if failures:
        print(f"{len(failures)} failed, with their reasons: {log_path}")
    return cli.SOME_FAILED if failures else cli.OK


def check_subjects(
    subjects: dict[str, list[int]], photos: list[SplitItem], ratio: list[Fraction]
) -> None:
    """Raise StageError where whole subjects cannot make up the sets."""
    if not subjects:
        raise StageError("--group subject: no name begins as <subject>_…, as it has to")
    if name := too_large(subjects, photos, ratio):
        raise StageError(
            f"--group subject: {len(subjects[name])} of {len(photos)} photos have the subject "
            f"{name!r}, the first token of their names; that is more than any set may hold"
        )


def too_large(
    subjects: dict[str, list[int]], photos: list[SplitItem], ratio: list[Fraction]
) -> str | None:
    """The subject with more photos than any set may hold; such names hardly tell people apart."""
    name = max(subjects, key=lambda subject: len(subjects[subject]))
    return name if len(subjects[name]) > len(photos) * max(ratio) / sum(ratio) else None


def remove_all_but(plan: dict[Place, Path], output: Path) -> int:
    """Take every photo of an earlier split out of the place where it no longer belongs.

    This comes before any photo is placed, so that at no moment one is in two sets. Only what the
    manifest names is touched. Raises StageError where there are other images in a set.
    """
    there: dict[Place, Path] = {}
    for name in SPLITS:
        if (output / name).is_dir():
            for label, paths in scan_class_folders(output / name).items():
                remove_stale_temp_files(output / name / label)
                there |= {(name, label, nfc(path.name)): path for path in paths}
    ours = read_manifest(output)
    if foreign := there.keys() - ours:
        raise StageError(
            f"{there[min(foreign)]} and {len(foreign) - 1} more were not put there by this script "
            f"and would be mixed into the split: name another --output, or move them away"
        )
    removed = 0
    for place in ours:
        path = output.joinpath(*place)
        found = there.get(place, path)  # stored decomposed, perhaps
        if place not in plan or found != path:
            for each in {path, found}:
                with suppress(FileNotFoundError):
                    each.unlink()
                    removed += 1
    return removed


def place_all(plan: dict[Place, Path], output: Path, mode: str) -> list[tuple[Path, str]]:
    """Put every photo into its place; what is there already stays. Returns the failures."""
    for folder in sorted({place[:2] for place in plan}):
        make_folder(output.joinpath(*folder))
    put = {"link": put_link, "copy": put_copy, "symlink": put_symlink}[mode]
    failures = []
    with ProgressBar(len(plan), "split") as bar:
        for place, source in plan.items():
            try:
                put(source, output.joinpath(*place))
            except OSError as error:
                if is_fatal_os_error(error):
                    raise
                failures.append((source, describe_os_error(error)))
                bar.fail(source, describe_os_error(error))
            bar.update()
    return failures


def put_link(source: Path, target: Path) -> None:
    """Make `target` the same file as `source`, or, across file systems, a copy of it."""
    try:
        # Linux would link a symbolic link itself, which leads nowhere from another folder.
        target.hardlink_to(source.resolve() if source.is_symlink() else source)
    except FileExistsError:
        there = target.lstat()
        if not (os.path.samestat(source.stat(), there) or is_copy(source, there)):
            target.unlink()  # what the source was before it was made anew, or a symbolic link
            put_link(source, target)
    except FileNotFoundError:
        raise
    except OSError:  # another file system, or one without hard links
        put_copy(source, target)


def put_copy(source: Path, target: Path) -> None:
    """Make `target` a file of its own with the bytes and the time of `source`."""
    with suppress(FileNotFoundError):
        if is_copy(source, target.lstat()):
            return
    with source.open("rb") as original, atomic_file(target) as file:
        shutil.copyfileobj(original, file)
        file.flush()
        shutil.copystat(source, file.name)


def put_symlink(source: Path, target: Path) -> None:
    """Make `target` a symbolic link to `source`, from folder to folder, so that both can move."""
    way = os.path.relpath(source.resolve(), target.parent.resolve())
    if target.is_symlink() and os.fspath(target.readlink()) == way:
        return
    target.unlink(missing_ok=True)
    target.symlink_to(way)


def is_copy(source: Path, there: os.stat_result) -> bool:
    """Whether the file `there` is one of its own, with the size and time of the source."""
    wanted = source.stat()
    stamp = (wanted.st_mode, wanted.st_size, wanted.st_mtime_ns)
    same = stamp == (there.st_mode, there.st_size, there.st_mtime_ns)
    return same and not os.path.samestat(wanted, there)


def read_manifest(output: Path) -> set[Place]:
    """What an earlier run put into the output folder."""
    path = output / MANIFEST
    if not path.exists():
        return set()
    lines = path.read_text(encoding="utf-8", errors="surrogateescape").split("\n")[:-1]
    try:
        columns = [lines[0].split("\t").index(column) for column in ("set", "class", "file")]
        rows = [line.split("\t") for line in lines[1:]]
        places = {tuple(row[column] for column in columns) for row in rows}
    except (IndexError, ValueError):
        places = {("", "", "")}
    if any(
        name not in SPLITS or not is_name(label) or not is_name(file)
        for name, label, file in places
    ):
        raise StageError(f"{path} is not a list of this script's making: move it away")
    return places


def is_name(text: str) -> bool:
    """Whether the text names something in a folder, and nothing outside of it."""
    return text not in ("", ".", "..") and not set(text) & {"/", os.sep, "\0"}


def write_manifest(photos: list[SplitItem], sets: list[str], output: Path) -> None:
    rows = sorted(
        (photo.name, photo.label, photo.subject or "", name)
        for photo, name in zip(photos, sets, strict=True)
    )
    write_tsv(output / MANIFEST, [("file", "class", "subject", "set"), *rows])


def write_copies(
    copies: list[list[int]], photos: list[SplitItem], sets: list[str], output: Path
) -> None:
    """List the photos with the same bytes, each such group by a number. None, no file."""
    if not copies:
        (output / COPIES).unlink(missing_ok=True)
        return
    rows = [
        (str(number), photos[i].label, photos[i].name, sets[i])
        for number, group in enumerate(copies, 1)
        for i in group
    ]
    write_tsv(output / COPIES, [("same", "class", "file", "set"), *rows])


def print_table(plan: dict[Place, Path], labels: list[str]) -> None:
    counts = Counter(place[:2] for place in plan)
    print("\t".join(["", *SPLITS]))
    for label in labels:
        print("\t".join([label, *(str(counts[name, label]) for name in SPLITS)]))
    totals = (sum(counts[name, label] for label in labels) for name in SPLITS)
    print("\t".join(["all", *map(str, totals)]))


def print_copies(copies: list[list[int]], photos: list[SplitItem], output: Path) -> None:
    if not copies:
        return
    torn = [group for group in copies if len({photos[i].label for i in group}) > 1]
    more = sum(map(len, copies)) - len(copies)
    print(f"{more} photos are copies of others; copies are in one set: {output / COPIES}")
    if torn:
        first = photos[torn[0][0]]
        other = next(photos[i] for i in torn[0] if photos[i].label != first.label)
        print(
            f"{len(torn)} photos are there under more than one class, {first.label}/{first.name} "
            f"and {other.label}/{other.name} for one: correct them"
        )


def print_subjects(subjects: dict[str, list[int]], sets: list[str]) -> None:
    """Say how many people are in more than one set, where the names tell who is on a photo."""
    shared = sum(len({sets[i] for i in photos}) > 1 for photos in subjects.values())
    if shared:
        print(
            f"{shared} of {len(subjects)} subjects are in more than one set: a network knows their "
            f"faces from training, and its figures on them flatter it; --group subject parts them"
        )
    elif len(subjects) > 1:
        print(f"none of {len(subjects)} subjects is in more than one set")


if __name__ == "__main__":
    cli.run(main)
