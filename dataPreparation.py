"""Split the faces into train, validation and test: stage 3 of 5.

Each class is split by itself: validation and test get the given share of its n photos, rounded
down, and train the rest. Photos of UNKNOWN are left out. The files are hard links where the file
system allows, copies otherwise, and <output>/split.tsv says which photo is in which set. Run again
with another seed or ratio, photos are moved, so that none is ever in two sets.

  python dataPreparation.py                                # crop/ -> data/
  python dataPreparation.py --ratio 70 15 15 --seed 1
  python dataPreparation.py --input my_faces --output my_data

Next: python train.py
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
from contextlib import suppress
from fractions import Fraction
from pathlib import Path

from utils import cli
from utils.cli import Bar, StageError
from utils.emotions import nfc
from utils.errorlog import log_files
from utils.files import atomic_file, clear_parts, prepare_folder, stops_the_stage
from utils.samples import SPLITS, find_images

MANIFEST = "split.tsv"
HEADER = "file\tclass\tset"

# A file's place below the output folder, `train/기쁨/x.jpg`, as (set, class, name).
Place = tuple[str, str, str]


def parse_args() -> argparse.Namespace:
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
    parser.log_dir_flag()
    return parser.parse_args()


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
    args = parse_args()
    if not sum(args.ratio):
        raise StageError("--ratio 0 0 0 leaves no photo anywhere")
    images = find_images(args.input)
    if not images:
        raise StageError(f"{args.input} has no class folders with images in them")
    if args.input.resolve().is_relative_to(args.output.resolve()):
        raise StageError(f"--input {args.input} lies in --output {args.output}: name another one")

    odd = [path for paths in images.values() for path in paths if not is_plain(path)]
    if odd:
        raise StageError(f"{odd[0]}: a file or folder name with a tab or line break; rename it")

    plan: dict[Place, Path] = {}
    for label, paths in images.items():
        plan |= split(label, paths, args.ratio, args.seed)

    args.log_dir.mkdir(parents=True, exist_ok=True)
    removed = remove_all_but(plan, args.output)
    write_manifest(plan, args.output)
    failures = place_all(plan, args.output)

    log_path = args.log_dir / "preparation.error.log"
    log_files(log_path, failures)
    print_table(plan, list(images))
    print(f"{len(plan) - len(failures)} photos -> {args.output}, {removed} moved or taken out")
    if failures:
        print(f"{len(failures)} failed, with their reasons: {log_path}")
    return cli.SOME_FAILED if failures else cli.OK


def is_plain(path: Path) -> bool:
    """Whether the path can stand in a line of the manifest."""
    return not any(c in str(path) for c in "\t\n\r")


def split(label: str, paths: list[Path], ratio: list[Fraction], seed: int) -> dict[Place, Path]:
    """Where each photo of one class goes: validation = test = ⌊n · ratio⌋, train the rest.

    It depends on the seed, the class and the photos' names alone.
    """
    _, validation, test = (int(len(paths) * part / sum(ratio)) for part in ratio)
    sets = ["validation"] * validation + ["test"] * test
    sets += ["train"] * (len(paths) - len(sets))
    shuffled = random.Random(os.fsencode(f"{seed}/{label}")).sample(paths, len(paths))
    return {(name, label, nfc(path.name)): path for name, path in zip(sets, shuffled, strict=True)}


def remove_all_but(plan: dict[Place, Path], output: Path) -> int:
    """Take every photo of an earlier split out of the place where it no longer belongs.

    This comes before any photo is placed, so that at no moment one is in two sets. Only what the
    manifest names is touched. Raises StageError where there are other images in a set.
    """
    there: dict[Place, Path] = {}
    for name in SPLITS:
        if (output / name).is_dir():
            for label, paths in find_images(output / name).items():
                clear_parts(output / name / label)
                there |= {(name, label, nfc(path.name)): path for path in paths}
    foreign = there.keys() - read_manifest(output)
    if foreign:
        raise StageError(
            f"{there[min(foreign)]} and {len(foreign) - 1} more were not put there by this script "
            f"and would be mixed into the split: name another --output, or move them away"
        )
    stale = there.keys() - plan.keys()
    for place in stale:
        there[place].unlink()
    return len(stale)


def place_all(plan: dict[Place, Path], output: Path) -> list[tuple[Path, str]]:
    """Link or copy every photo to its place; what is there already stays. Returns the failures."""
    for folder in sorted({place[:2] for place in plan}):
        prepare_folder(output.joinpath(*folder))
    failures = []
    with Bar(len(plan), "split") as bar:
        for place, source in plan.items():
            try:
                put(source, output.joinpath(*place))
            except OSError as error:
                if stops_the_stage(error):
                    raise
                failures.append((source, cli.describe(error)))
                bar.fail(source, cli.describe(error))
            bar.update()
    return failures


def put(source: Path, target: Path) -> None:
    """Make `target` the same file as `source`, or, across file systems, a copy of it."""
    wanted = source.stat()
    with suppress(FileNotFoundError):
        there = target.stat()
        stamp = (there.st_size, there.st_mtime_ns)
        if os.path.samestat(wanted, there) or stamp == (wanted.st_size, wanted.st_mtime_ns):
            return
        target.unlink()  # what the source was before it was made anew
    try:
        # Linux would link a symbolic link itself, which leads nowhere from another folder.
        os.link(os.path.realpath(source) if source.is_symlink() else source, target)
    except OSError:  # another file system, or one without hard links
        with source.open("rb") as original, atomic_file(target) as file:
            shutil.copyfileobj(original, file)
            file.flush()
            shutil.copystat(source, file.name)


def read_manifest(output: Path) -> set[Place]:
    """What an earlier run put into the output folder."""
    path = output / MANIFEST
    if not path.exists():
        return set()
    lines = path.read_text(encoding="utf-8", errors="surrogateescape").split("\n")[:-1]
    if not lines or lines[0] != HEADER or any(line.count("\t") != 2 for line in lines):
        raise StageError(f"{path} is not a list of this script's making: move it away")
    rows = (line.split("\t") for line in lines[1:])
    return {(name, label, file) for file, label, name in rows}


def write_manifest(plan: dict[Place, Path], output: Path) -> None:
    prepare_folder(output)
    with atomic_file(output / MANIFEST) as file:
        rows = sorted("\t".join((file, label, name)) for name, label, file in plan)
        file.write("\n".join([HEADER, *rows, ""]).encode(errors="surrogateescape"))


def print_table(plan: dict[Place, Path], labels: list[str]) -> None:
    counts = {(name, label): 0 for name in SPLITS for label in labels}
    for name, label, _ in plan:
        counts[name, label] += 1
    print("\t".join(["", *SPLITS]))
    for label in labels:
        print("\t".join([label, *(str(counts[name, label]) for name in SPLITS)]))
    totals = (sum(counts[name, label] for label in labels) for name in SPLITS)
    print("\t".join(["all", *map(str, totals)]))


if __name__ == "__main__":
    cli.run(main)
