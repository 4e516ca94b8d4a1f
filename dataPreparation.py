"""Split the faces into train, validation and test: stage 3 of 5.

Each class is split by itself: validation and test get their part of its photos, rounded down, and
train gets the rest. Photos of UNKNOWN are left out, or all go to train with --unknown keep.
<output>/split.tsv lists the set of every photo. If you run it again with another seed or ratio, the
photos move: none is ever in two sets.

Duplicates (photos with the same bytes) always go into the same set; <output>/copies.tsv lists them.
With --group subject, so do all photos of one person (the first part of <person>_….jpg): the test
accuracy then holds for people whom the network has never seen. Otherwise it is too high for them.

  python dataPreparation.py                        # crop/ -> data/
  python dataPreparation.py --group subject        # each person in one set only
  python dataPreparation.py --ratio 70 15 15 --seed 1
  python dataPreparation.py --input my_faces --output my_data --mode copy

Next: python train.py
"""

from __future__ import annotations

from utils import interrupt

if __name__ == "__main__":
    interrupt.exit_at_once()  # if Ctrl-C is pressed during the imports below

import argparse
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import NamedTuple

from utils import cli
from utils.console import ProgressBar, note
from utils.data.duplicates import find_duplicates
from utils.data.error_log import write_file_errors
from utils.data.image_folder import SPLITS, ClassFolders, scan_class_folders
from utils.data.split import (
    SplitItem,
    assign_splits_with_unknown,
    group_by_subject,
    make_items,
)
from utils.emotions import UNKNOWN
from utils.errors import StageError, describe_os_error, is_fatal_os_error
from utils.filenames import SAME_BUT_FOR_CASE, is_printable, is_stored
from utils.files import (
    atomic_file,
    file_lock,
    ignores_case,
    make_folder,
    remove_stale_temp_files,
    write_tsv,
)

NAMES_OF_SETS = {*SPLITS, "training", "val", "valid", "dev", "testing"}
MANIFEST, COPIES = "split.tsv", "copies.tsv"


class Target(NamedTuple):
    """Where a photo goes below the output folder, as in `train/기쁨/x.jpg`."""

    split: str
    label: str
    name: str


def make_parser() -> cli.Parser:
    """Return the parser of this script's flags."""
    parser = cli.Parser(__doc__)
    flag = parser.flag
    parser.section("files")
    text = "folder with one folder of faces per class"
    flag("--input", text, Path("crop"), cli.path, metavar="DIR")
    flag("--output", "folder for the three sets", Path("data"), cli.path, metavar="DIR")
    mode = "make hard links (copies where the disk has none), copies, or symbolic links"
    flag("--mode", mode, "link", str, choices=("link", "copy", "symlink"))
    parser.log_dir_flag()
    parser.section("split")
    ratio = "sizes of the three sets, as parts in any unit"
    flag(
        "--ratio", ratio, [Fraction(80), Fraction(10), Fraction(10)], part, nargs=3,
        metavar=("TRAIN", "VALIDATION", "TEST"),
    )  # fmt: skip
    flag("--seed", "random seed of the split", 0, int, metavar="N")
    text = "photos of UNKNOWN; keep: put them into train, for train.py --unknown soft"
    flag("--unknown", text, "drop", str, choices=("drop", "keep"))
    group = "what stays together in one set: a photo, or all photos of a subject"
    flag("--group", group, "photo", str, choices=("photo", "subject"))
    return parser


def part(text: str) -> Fraction:
    """Return the exact number: a tenth of 70 photos are 7, not 6.999… An argparse type."""
    try:
        value = Fraction(text)
    except (ValueError, ZeroDivisionError):
        value = Fraction(-1)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of 0 or more")
    return value


def main() -> int:
    """Split the photos. Return the exit status."""
    args = make_parser().parse_args()
    photos = find_photos(args)
    duplicates = find_duplicates([photo.path for photo in photos])
    subjects = group_by_subject(photos)
    groups = duplicates
    if args.group == "subject":
        check_subjects(subjects, photos, args.ratio)
        groups = [*duplicates, *subjects.values()]
    splits = assign_splits_with_unknown(photos, groups, args.ratio, args.seed)
    photos = [photo._replace(split=split) for photo, split in zip(photos, splits, strict=True)]
    duplicate_photos = [[photos[i] for i in group] for group in duplicates]
    photos, duplicate_photos = leave_out_tied(photos, duplicate_photos)
    subjects = group_by_subject(photos)

    make_folder(args.log_dir)
    make_folder(args.output)
    with file_lock(args.output, f"another split into {args.output} is being made: waiting for it"):
        removed = remove_stale(photos, args.output)
        write_manifest(photos, args.output)
        write_copies(duplicate_photos, args.output)
        failures = place_files(photos, args.output, args.mode)

    log_path = args.log_dir / "preparation.error.log"
    write_file_errors(log_path, failures)
    print_table(photos)
    print(f"{len(photos) - len(failures)} photos -> {args.output}, {removed} moved or removed")
    print_duplicates(duplicate_photos, args.output)
    if subjects and not dominant_subject(subjects, photos, args.ratio):
        print_subjects([[photos[i] for i in group] for group in subjects.values()])
    if failures:
        print(f"{len(failures)} failed, with their reasons: {log_path}")
    return cli.SOME_FAILED if failures else cli.OK


def leave_out_tied(
    photos: Sequence[SplitItem], duplicates: Sequence[Sequence[SplitItem]]
) -> tuple[list[SplitItem], list[list[SplitItem]]]:
    """Return photos and duplicates without those that have no set, and say how many they are."""
    kept = [photo for photo in photos if photo.split]
    if len(kept) < len(photos):
        note(
            f"{len(photos) - len(kept)} photos of {UNKNOWN} are left out: copies of them, or with "
            f"--group subject other photos of the person, are in validation or test"
        )
    groups = [[photo for photo in group if photo.split] for group in duplicates]
    return kept, [group for group in groups if len(group) > 1]


def find_photos(args: argparse.Namespace) -> list[SplitItem]:
    """Return the photos below --input, sorted by class and name.

    Raise StageError if there are none, or the flags or a file's name cannot be used.
    """
    if not sum(args.ratio):
        raise StageError("--ratio 0 0 0 leaves no photo anywhere: give at least one part above 0")
    images = scan_class_folders(args.input)
    if not images:
        raise StageError(f"{args.input} has no class folders with images in them{images.seen()}")
    if args.input.resolve().is_relative_to(args.output.resolve()):
        raise StageError(f"--input {args.input} lies in --output {args.output}: name another one")
    check_level(images)
    if args.unknown == "keep":
        images.add_unknown()
    images.report()
    output = args.output.absolute()
    existing_folder = next(path for path in (output, *output.parents) if path.is_dir())
    disk_ignores_case = partial(ignores_case, existing_folder)
    check_classes(images, disk_ignores_case)
    photos = make_items(images, disk_ignores_case)
    for photo in photos:
        if not is_printable(str(photo.path)):
            raise StageError(
                f"{photo.path}: a name with a tab, line break or control character; rename it"
            )
    return photos


def check_level(images: ClassFolders) -> None:
    """Raise StageError if the folders are sets, which hold the class folders."""
    are_sets = all(name.lower() in NAMES_OF_SETS for name in images)
    if are_sets and all(path in images.nested for paths in images.values() for path in paths):
        raise StageError(
            f"{images.root} holds sets ({', '.join(images)}), not classes: name one of them with "
            f"--input, or train on them as they are: python train.py --data_path {images.root}"
        )


def check_classes(classes: Iterable[str], disk_ignores_case: Callable[[], bool]) -> None:
    """Raise StageError if the disk of --output takes two classes for one."""
    known: dict[str, str] = {}
    for name in classes:
        other = known.setdefault(name.casefold(), name)
        if other != name and disk_ignores_case():
            raise StageError(
                f"the class {other} and the class {name}: the name {SAME_BUT_FOR_CASE}"
            )


def check_subjects(
    subjects: dict[str, list[int]], photos: Sequence[SplitItem], ratio: Sequence[Fraction]
) -> None:
    """Raise StageError if the photos cannot be split by subject."""
    if not subjects:
        raise StageError("--group subject: no file name begins with <subject>_; leave --group out")
    if subject := dominant_subject(subjects, photos, ratio):
        raise StageError(
            f"--group subject: {len(subjects[subject])} of {len(photos)} photos have the subject "
            f"{subject!r}, the first part of their names; that is more than any set may hold"
        )


def dominant_subject(
    subjects: dict[str, list[int]], photos: Sequence[SplitItem], ratio: Sequence[Fraction]
) -> str | None:
    """Return the subject with more photos than any split may hold, or None.

    Names that have one (such as IMG_0001.jpg) do not begin with a person.
    """
    largest = max(subjects, key=lambda subject: len(subjects[subject]))
    limit = len(photos) * max(ratio) / sum(ratio)
    return largest if len(subjects[largest]) > limit else None


def target_of(photo: SplitItem) -> Target:
    """Return where a photo goes."""
    return Target(photo.split, photo.label, photo.name)


def remove_stale(photos: Sequence[SplitItem], output: Path) -> int:
    """Remove the photos of an earlier split that are no longer at their target. Count them.

    This comes before any photo is placed, so that none is in two splits at any moment. Only files
    that the manifest lists are removed. Raise StageError if a split holds other images.
    """
    existing: dict[Target, Path] = {}
    for split in SPLITS:
        if (output / split).is_dir():
            images = scan_class_folders(output / split)
            for label, paths in images.items():
                remove_stale_temp_files(output / split / label)
                # A photo in a subfolder has a name that no target has.
                existing |= {Target(split, label, images.name_of(path)): path for path in paths}
    listed = read_manifest(output)
    if foreign := existing.keys() - listed:
        raise StageError(
            f"{existing[min(foreign)]} and {len(foreign) - 1} more were not put there by this "
            f"script and would be mixed into the split: name another --output, or move them away"
        )
    wanted = {target_of(photo) for photo in photos}
    removed = 0
    for target in listed:
        path = output.joinpath(*target)
        stored_path = existing.get(target, path)  # a Mac may have decomposed the name
        if target not in wanted or stored_path != path:
            for each in {path, stored_path}:
                if is_stored(each):
                    each.unlink()
                    removed += 1
    return removed


def place_files(photos: Sequence[SplitItem], output: Path, mode: str) -> list[tuple[Path, str]]:
    """Put every photo into its split, unless it is there already. Return files with reasons."""
    for split, label in sorted({(photo.split, photo.label) for photo in photos}):
        make_folder(output / split / label)
    place = {"link": place_hardlink, "copy": place_copy, "symlink": place_symlink}[mode]
    failures = []
    with ProgressBar(len(photos), "split") as bar:
        for photo in photos:
            try:
                place(photo.path, output.joinpath(*target_of(photo)))
            except OSError as error:
                if is_fatal_os_error(error):
                    raise
                failures.append((photo.path, describe_os_error(error)))
                bar.fail(photo.path, describe_os_error(error))
            bar.update()
    return failures


def place_hardlink(source: Path, target: Path) -> None:
    """Make `target` a hard link to `source`, or a copy if the file systems do not allow one."""
    try:
        # Linux would link a symbolic link itself, which leads nowhere from another folder.
        target.hardlink_to(source.resolve() if source.is_symlink() else source)
    except FileExistsError:
        existing = target.lstat()
        if not (os.path.samestat(source.stat(), existing) or is_copy(source, existing)):
            target.unlink()  # of an earlier version of the source, or a symbolic link
            place_hardlink(source, target)
    except FileNotFoundError:
        raise
    except OSError:  # another file system, or one without hard links
        place_copy(source, target)


def place_copy(source: Path, target: Path) -> None:
    """Make `target` an independent copy of `source`, with its time."""
    with suppress(FileNotFoundError):
        if is_copy(source, target.lstat()):
            return
    with source.open("rb") as original, atomic_file(target) as file:
        shutil.copyfileobj(original, file)
        file.flush()
        shutil.copystat(source, file.name)


def place_symlink(source: Path, target: Path) -> None:
    """Make `target` a relative symbolic link to `source`, so that both can move together."""
    path = os.path.relpath(source.resolve(), target.parent.resolve())
    if target.is_symlink() and os.fspath(target.readlink()) == path:
        return
    target.unlink(missing_ok=True)
    target.symlink_to(path)


def is_copy(source: Path, existing: os.stat_result) -> bool:
    """Return whether the existing file is another one with the size and time of the source."""
    state = source.stat()
    same_stamp = (state.st_mode, state.st_size, state.st_mtime_ns) == (
        existing.st_mode,
        existing.st_size,
        existing.st_mtime_ns,
    )
    return same_stamp and not os.path.samestat(state, existing)


def read_manifest(output: Path) -> set[Target]:
    """Return the targets that an earlier run filled.

    Raise StageError if the manifest was not written by this script: its files are removed.
    """
    path = output / MANIFEST
    if not path.exists():
        return set()
    lines = path.read_text(encoding="utf-8-sig", errors="surrogateescape").split("\n")[:-1]
    try:
        columns = [lines[0].split("\t").index(column) for column in ("set", "class", "file")]
        rows = [line.split("\t") for line in lines[1:]]
        targets = {Target(*(row[column] for column in columns)) for row in rows}
    except (IndexError, ValueError):
        targets = {Target("", "", "")}
    if not all(is_safe(target) for target in targets):
        raise StageError(f"{path} is not a list that this script wrote: move it away")
    return targets


def is_safe(target: Target) -> bool:
    """Return whether the target lies in a class folder of a split, and nowhere else."""
    names = (target.label, target.name)
    return target.split in SPLITS and all(
        name not in ("", ".", "..") and not set(name) & {"/", os.sep, "\0"} for name in names
    )


def write_manifest(photos: Sequence[SplitItem], output: Path) -> None:
    """List the split of every photo."""
    rows = sorted((photo.name, photo.label, photo.subject or "", photo.split) for photo in photos)
    write_tsv(output / MANIFEST, [("file", "class", "subject", "set"), *rows])


def write_copies(duplicates: Sequence[Sequence[SplitItem]], output: Path) -> None:
    """List the duplicates, with a number for each group. Without any, remove the list."""
    if not duplicates:
        (output / COPIES).unlink(missing_ok=True)
        return
    rows = [
        (str(number), photo.label, photo.name, photo.split)
        for number, group in enumerate(duplicates, 1)
        for photo in group
    ]
    write_tsv(output / COPIES, [("same", "class", "file", "set"), *rows])


def print_table(photos: Sequence[SplitItem]) -> None:
    """Print the number of photos in each split, by class and in all."""
    counts = Counter((photo.split, photo.label) for photo in photos)
    totals = Counter(photo.split for photo in photos)
    print("\t".join(["", *SPLITS]))
    for label in sorted({photo.label for photo in photos}):
        print("\t".join([label, *(str(counts[split, label]) for split in SPLITS)]))
    print("\t".join(["all", *(str(totals[split]) for split in SPLITS)]))


def print_duplicates(duplicates: Sequence[Sequence[SplitItem]], output: Path) -> None:
    """Print how many photos are duplicates, and how many of them have conflicting labels."""
    if not duplicates:
        return
    copies = sum(map(len, duplicates)) - len(duplicates)
    print(f"{copies} photos are duplicates of others and in the same set: {output / COPIES}")
    conflicts = [group for group in duplicates if len({photo.label for photo in group}) > 1]
    if conflicts:
        first = conflicts[0][0]
        other = next(photo for photo in conflicts[0] if photo.label != first.label)
        print(
            f"{len(conflicts)} groups of duplicates have conflicting labels, for example "
            f"{first.label}/{first.name} and {other.label}/{other.name}: correct them"
        )


def print_subjects(subjects: Sequence[Sequence[SplitItem]]) -> None:
    """Print how many people are in more than one split."""
    shared = sum(len({photo.split for photo in photos}) > 1 for photos in subjects)
    if shared:
        print(
            f"{shared} of {len(subjects)} subjects are in more than one set: the network knows "
            f"their faces from training, so the test accuracy is too high for new people; "
            f"--group subject keeps each person in one set"
        )
    elif len(subjects) > 1:
        print(f"none of {len(subjects)} subjects is in more than one set")


if __name__ == "__main__":
    cli.run(main)
