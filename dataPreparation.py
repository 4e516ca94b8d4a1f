"""Split the faces into train, validation and test: stage 3 of 5.

--input takes the crops of stage 2, or a data set as it was downloaded: class folders, sets of class
folders (train/val/test), FER2013's csv, or RAF-DB's list of labels. Sets of the data are kept as
they are. Everything else is divided by --ratio: each class by itself, rounded down for validation
and test, and train gets the rest. Photos of UNKNOWN are left out, or all go to train with --unknown
keep. <output>/split.tsv lists the set of every photo. If you run it again with another seed or
ratio, the photos move: none is ever in two sets.

Copies go into the same set: duplicates (the same bytes), and near duplicates, which were saved
again, resized or compressed more. <output>/copies.tsv lists them. With --group subject, so do all
photos of one person (the first part of <person>_….jpg): the test accuracy then holds for people
whom the network has never seen. Otherwise it is too high for them.

  python dataPreparation.py                        # crop/ -> data/
  python dataPreparation.py --split official       # AI-Hub's Training and Validation are kept apart
  python dataPreparation.py --group subject        # each person in one set only
  python dataPreparation.py --ratio 70 15 15 --seed 1
  python dataPreparation.py --relabel relabel.tsv  # apply decisions about labels
  python dataPreparation.py --input my_faces --output my_data --mode copy
  python dataPreparation.py --input fer2013.csv --votes fer2013new.csv
  python dataPreparation.py --input affectnet --classes 중립 기쁨 슬픔 놀람 공포 혐오 분노 경멸

Next: python train.py
"""

from __future__ import annotations

from utils import interrupt

if __name__ == "__main__":
    interrupt.exit_at_once()  # if Ctrl-C is pressed during the imports below

import argparse
import os

# Threads of a matrix product would wait for each other: the matrices here are small.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from collections import Counter
from collections.abc import Mapping, Sequence
from fractions import Fraction
from functools import partial
from pathlib import Path

from utils import cli
from utils.console import SHOWN_FAILURES, info, note
from utils.data.duplicates import Copies, merge_copies
from utils.data.error_log import write_file_errors
from utils.data.fer2013 import FerFaces
from utils.data.folder_faces import FolderFaces
from utils.data.image_folder import SPLITS
from utils.data.layouts import pool, ratios_of
from utils.data.near_duplicates import find_near_duplicates
from utils.data.official import TRAINING, VALIDATION, manifest_path, read_parts
from utils.data.placement import COPIES, PlacedFiles, is_relabelled, write_manifest
from utils.data.raf_db import LISTS
from utils.data.relabel import Decision, read_decisions, relabel
from utils.data.split import SplitItem, assign_parts, group_by_subject, name_people
from utils.emotions import UNKNOWN, emotion_called
from utils.errors import StageError
from utils.filenames import nfc
from utils.files import file_lock, ignores_case, make_folder, write_tsv

RATIO = [Fraction(80), Fraction(10), Fraction(10)]
# How AI-Hub's parts are divided.
OFFICIAL = {TRAINING: [Fraction(1), Fraction(0), Fraction(0)],
            VALIDATION: [Fraction(0), Fraction(1), Fraction(1)]}  # fmt: skip

Faces = FolderFaces | FerFaces
Ratios = Mapping[str, Sequence[Fraction]]  # part of the published data → how it is divided


def make_parser() -> cli.Parser:
    """Return the parser of this script's flags."""
    parser = cli.Parser(__doc__)
    flag = parser.flag
    parser.section("files")
    text = "folder of faces, in class folders or as a data set has them; or FER2013's csv"
    flag("--input", text, Path("crop"), cli.path, metavar="PATH")
    flag("--output", "folder for the three sets", Path("data"), cli.path, metavar="DIR")
    mode = "make hard links (copies where the disk has none), copies, or symbolic links"
    flag("--mode", mode, "link", str, choices=("link", "copy", "symlink"))
    parser.log_dir_flag()
    parser.section("classes")
    text = "names of numbered classes, in the order of their numbers"
    flag("--classes", text, None, str, nargs="+", metavar="NAME")
    text = "FER+'s fer2013new.csv: the classes of FER2013's csv by the majority of its votes"
    flag("--votes", text, None, cli.path, metavar="CSV")
    text = "decisions about labels, as suspects.html of test.py --suspects saves them; several: in "
    text += "this order"
    flag("--relabel", text, None, cli.path, nargs="+", metavar="TSV")
    parser.section("split")
    text = "keep the sets of the data, or divide all by --ratio (default: keep those of folders, "
    text += "csv and list; divide crops)"
    flag("--split", text, None, str, choices=("official", "ratio"))
    ratio = "sizes of the three sets, as parts in any unit"
    flag(
        "--ratio", ratio, RATIO, part, nargs=3, metavar=("TRAIN", "VALIDATION", "TEST")
    )  # fmt: skip
    flag("--seed", "random seed of the split", 0, int, metavar="N")
    text = "photos of UNKNOWN; keep: put them into train, for train.py --unknown soft"
    flag("--unknown", text, "drop", str, choices=("drop", "keep"))
    group = "what stays together in one set: a photo, or all photos of a subject"
    flag("--group", group, "photo", str, choices=("photo", "subject"))
    text = "keep near duplicates together too: the same picture resized or compressed (off: only "
    text += "the same bytes)"
    parser.switch("--near_copies", text, True)
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
    check_flags(args)
    decisions = read_decisions(args.relabel) if args.relabel else []
    faces = read_faces(args)
    ratios = plan_split(faces, args)
    subjects = find_subjects(faces.photos, args)

    make_folder(args.log_dir)
    make_folder(args.output)
    with file_lock(args.output, f"another split into {args.output} is being made: waiting for it"):
        placed = PlacedFiles(args.output)
        copies = find_copies(faces, args)
        by_subject = args.group == "subject" or ratios is OFFICIAL
        together = [*copies.groups, *(subjects.values() if by_subject else ())]
        splits = assign_parts(faces.photos, together, ratios, args.seed)
        copies = copies.among(keep_assigned(faces, splits))
        # The sets are assigned by the labels of the input: decisions move no photo to another set.
        if args.relabel:
            copies = copies.among(apply_decisions(faces, decisions))
        elif is_relabelled(args.output):
            note(f"{args.output}: every photo has the class of the input again, without --relabel")
        removed = placed.remove_stale(faces.photos)
        write_manifest(faces.photos, args.output, bool(subjects), bool(args.relabel))
        write_copies(faces.photos, copies, args.output)
        failures = faces.place(args.output)

    log_path = args.log_dir / "preparation.error.log"
    write_file_errors(log_path, [*faces.failures, *failures])
    print_table(faces.photos)
    count = len(faces.photos) - len(failures)
    print(f"{count} photos -> {args.output}, {removed} moved or removed")
    print_copies(faces.photos, copies, args.output)
    if subjects and name_people(subjects, faces.photos):
        groups = group_by_subject(faces.photos).values()
        print_subjects([[faces.photos[i] for i in group] for group in groups])
    if failures := [*faces.failures, *failures]:
        print(f"{len(failures)} failed, with their reasons: {log_path}")
    return cli.SOME_FAILED if failures else cli.OK


def check_flags(args: argparse.Namespace) -> None:
    """Raise StageError for flags that do not fit each other."""
    if not sum(args.ratio):
        raise StageError("--ratio 0 0 0 leaves no photo anywhere: give at least one part above 0")
    if args.votes and not is_table(args.input):
        raise StageError("--votes gives FER2013's csv other classes: name that csv with --input")
    if args.votes and args.classes:
        raise StageError("--votes gives the classes: leave --classes out")
    if is_table(args.input) and args.mode == "symlink":
        raise StageError("--mode symlink: the faces of a csv are no files: leave --mode out")
    if args.input.is_dir() and args.input.resolve().is_relative_to(args.output.resolve()):
        raise StageError(f"--input {args.input} lies in --output {args.output}: name another one")


def is_table(path: Path) -> bool:
    """Return whether a path is a file that holds the faces themselves, as FER2013's csv."""
    return path.is_file() and path.name not in LISTS


def read_faces(args: argparse.Namespace) -> Faces:
    """Return the faces of --input, of whatever form."""
    faces: Faces
    with_unknown = args.unknown == "keep"
    if is_table(args.input):
        faces = FerFaces(args.input, args.classes, args.votes, with_unknown)
    else:
        output = args.output.absolute()
        folder = next(path for path in (output, *output.parents) if path.is_dir())
        disk_ignores_case = partial(ignores_case, folder)
        faces = FolderFaces(args.input, args.classes, disk_ignores_case, args.mode, with_unknown)
    return faces


def plan_split(faces: Faces, args: argparse.Namespace) -> Ratios:
    """Return how each part of the published data is divided, and say so. Each photo knows its part.

    Raise StageError if the flags cannot be followed.
    """
    lines = faces.lines
    if args.split == "ratio" and any(photo.part for photo in faces.photos):
        faces.photos = pool(faces.photos)
        lines.append(f"{args.input}: the photos of all sets are split again")
    if args.split == "official" and not any(photo.part for photo in faces.photos):
        lines += keep_official_parts(faces, args.input)
        ratios: Ratios = OFFICIAL
    else:
        ratios, text = ratios_of({photo.part for photo in faces.photos}, args.ratio)
        lines += [f"{args.input}: {text}"] if text else []
    is_kept = all(1 in ratio for ratio in ratios.values()) and "" not in ratios
    if is_kept and args.ratio is not RATIO:
        raise StageError(
            f"--ratio divides nothing, because the sets of {args.input} are kept; --split ratio "
            f"splits all photos again"
        )
    for line in lines:
        note(line)
    return ratios


def keep_official_parts(faces: Faces, crops: Path) -> list[str]:
    """Give each crop its part, Training or Validation, and leave out those without one.

    Return what to say. Raise StageError if no crop has one.
    """
    parts = read_parts(crops) if crops.is_dir() else {}
    photos = [
        photo._replace(part=parts.get(nfc(photo.own_name or photo.name), ""))
        for photo in faces.photos
    ]
    faces.photos = [photo for photo in photos if photo.part]
    if not faces.photos:
        raise StageError(
            f"--split official: {crops} has no official parts. cropImages.py lists those of "
            f"AI-Hub's files in {manifest_path(crops)}; leave --split out to divide by --ratio"
        )
    lines = [f"{crops}: Training is train, the halves of Validation are validation and test"]
    if not any(photo.part == TRAINING for photo in faces.photos):
        lines.append(
            f"train is empty, because {crops} holds no photo of Training; leave --split out to "
            f"divide by --ratio"
        )
    if missing := len(photos) - len(faces.photos):
        lines.append(
            f"{missing} of {len(photos)} photos have no official part and are left out: their "
            f"subjects may be in any of the sets"
        )
    return lines


def find_copies(faces: Faces, args: argparse.Namespace) -> Copies:
    """Return the copies among the photos: duplicates and, with --near_copies, near duplicates."""
    duplicates = faces.duplicates()
    if not args.near_copies:
        return merge_copies(duplicates, [])
    others = {i for group in duplicates for i in group[1:]}
    positions = [i for i in range(len(faces.photos)) if i not in others]
    pairs = find_near_duplicates(faces.thumbnails(positions, args.output))
    return merge_copies(
        duplicates, [(positions[first], positions[second], gap) for first, second, gap in pairs]
    )


def keep_assigned(faces: Faces, splits: Sequence[str]) -> list[int]:
    """Put each photo into its split, and leave out those without one. Return the others."""
    kept = [i for i, split in enumerate(splits) if split]
    faces.photos = [faces.photos[i]._replace(split=splits[i]) for i in kept]
    if len(kept) < len(splits):
        note(
            f"{len(splits) - len(kept)} photos of {UNKNOWN} are left out: copies of them, or with "
            f"--group subject other photos of the person, or they themselves, are in validation or "
            f"test"
        )
    return kept


def apply_decisions(faces: Faces, decisions: Sequence[Sequence[Decision]]) -> list[int]:
    """Give photos the classes that were decided, and leave some out. Return the others.

    Rows that cannot be applied become failures.
    """
    relabelling = relabel(faces.photos, decisions)
    faces.photos = relabelling.photos
    faces.failures = [*faces.failures, *relabelling.failures]
    for path, reason in relabelling.failures[:SHOWN_FAILURES]:
        info(f"failed: {path}: {reason}")
    info(relabelling.describe())
    return relabelling.positions


def find_subjects(photos: Sequence[SplitItem], args: argparse.Namespace) -> dict[str, list[int]]:
    """Return subject → the positions of its photos; empty if the names begin with no people.

    Raise StageError if --group subject needs them.
    """
    subjects = group_by_subject(photos)
    if args.group == "subject":
        check_subjects(subjects, photos, args.ratio)
        return subjects
    return subjects if name_people(subjects, photos) else {}


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


def write_copies(photos: Sequence[SplitItem], copies: Copies, output: Path) -> None:
    """List the copies, with a number for each group. Without any, remove the list."""
    if not copies.groups:
        (output / COPIES).unlink(missing_ok=True)
        return
    rows = [
        (str(number), photo.label, photo.name, photo.split, format_distance(copies.distances[i]))
        for number, group in enumerate(copies.groups, 1)
        for i, photo in ((i, photos[i]) for i in group)
    ]
    write_tsv(output / COPIES, [("same", "class", "file", "set", "distance"), *rows])


def format_distance(distance: float) -> str:
    """Return a distance with three decimals; that of the same bytes is a bare 0."""
    return f"{distance:.3f}" if distance else "0"


def print_table(photos: Sequence[SplitItem]) -> None:
    """Print the number of photos in each split, by class and in all."""
    counts = Counter((photo.split, photo.label) for photo in photos)
    totals = Counter(photo.split for photo in photos)
    print("\t".join(["", *SPLITS]))
    for label in sorted({photo.label for photo in photos}):
        print("\t".join([label, *(str(counts[split, label]) for split in SPLITS)]))
    print("\t".join(["all", *(str(totals[split]) for split in SPLITS)]))


def print_copies(photos: Sequence[SplitItem], copies: Copies, output: Path) -> None:
    """Print how many photos are copies, and how many of them have conflicting labels."""
    if not copies.groups:
        return
    groups = [[photos[i] for i in group] for group in copies.groups]
    parted = sum(len({photo.split for photo in group}) > 1 for group in groups)
    where = f"{'' if parted else ' and in the same set'}: {output / COPIES}"
    for count, kind in ((copies.same, "duplicates"), (copies.near, "near duplicates")):
        if count:
            print(f"{count} photos are {kind} of others{where}")
    if parted:
        print(
            f"{parted} groups of copies are in more than one set, because the sets of the data are "
            f"kept: the network knows these photos from training"
        )
    conflicts = [group for group in groups if len({meaning(photo) for photo in group}) > 1]
    if conflicts:
        first = conflicts[0][0]
        other = next(photo for photo in conflicts[0] if meaning(photo) != meaning(first))
        print(
            f"{len(conflicts)} groups of duplicates have conflicting labels, for example "
            f"{first.label}/{first.name} and {other.label}/{other.name}: correct them"
        )


def meaning(photo: SplitItem) -> str:
    """Return what the class of a photo means: happy and 기쁨 are no conflict."""
    return emotion_called(photo.label) or photo.label


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
