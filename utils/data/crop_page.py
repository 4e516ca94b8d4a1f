"""The page of a run of cropImages.py: what was cropped, by whom it is labelled, and what failed."""

from __future__ import annotations

import math
import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from utils.data.annotations import ANNOTATORS
from utils.data.annotators import DAWID_SKENE, FEW_ROWS, MAJORITY, THRESHOLD, Annotators
from utils.data.crop_survey import SAMPLES, SIDES, CropSurvey, Face
from utils.emotions import EMOTIONS, ENGLISH, NO_VOTE, UNKNOWN
from utils.pages.page import link_to, write_page
from utils.pages.thumbnails import thumbnail_uris

SHOWN_KINDS = 12  # reasons of each log
MANY_UNKNOWN = 0.05  # share of the faces from which on the page names the other labelling
IOU_BINS = 10
_ENGLISH = ENGLISH | {UNKNOWN: "", NO_VOTE: "no answer"}


@dataclass(frozen=True)
class FailedRows:
    """What an error log holds."""

    log: Path
    kinds: Counter[str]  # see `utils.data.error_log.kind_of`


@dataclass(frozen=True)
class CropResult:
    """What a page shows, besides the faces and rows that the survey counts."""

    crops: Path  # their folder
    table: Path
    counts: Counter[str]  # class → faces
    method: str  # of the labels, one of LABELINGS
    annotators: Annotators
    failures: Sequence[FailedRows]
    unread: int  # files and entries of archives that could not be read
    unread_log: Path
    photos: Sequence[Path]  # where they were looked for
    download: str  # downloadImage.py and its flags; empty if no photo is missing so


def write_crop_page(path: Path, language: str, result: CropResult, survey: CropSurvey) -> None:
    """Write the page. Faces that were deleted meanwhile are left out."""
    faces = result.counts.total()
    agreement = survey.agreement
    failures = [log for log in result.failures if log.kinds]
    write_page(
        path,
        "crop.html",
        language,
        folder=result.crops, table=result.table.name, faces=faces,
        labelled=faces - result.counts[UNKNOWN], largest=max(result.counts.values(), default=0),
        classes=[(label, result.counts[label]) for label in (*EMOTIONS, UNKNOWN)],
        method=result.method, threshold=THRESHOLD, unknown=UNKNOWN, english=_ENGLISH,
        emotions=EMOTIONS,
        samples=_samples(path.parent, survey, result.counts), most_samples=SAMPLES,
        letters=[who[-1] for who in ANNOTATORS],
        rows=agreement.rows, shares=agreement.shares, kappa=_figure(agreement.kappa, 3),
        iou=_figure(agreement.median_iou, 2),
        people=_people(result.annotators), known_rows=result.annotators.rows, few_rows=FEW_ROWS,
        mistaken=result.annotators.mistaken(), ious=_trimmed(_ious(agreement.iou_counts(IOU_BINS))),
        sides=_trimmed(_sides(survey.sides)), failed=sum(log.kinds.total() for log in failures),
        missing=survey.missing.total(), unread=result.unread, unread_log=result.unread_log.name,
        failures=[
            {
                "name": log.log.name, "total": log.kinds.total(),
                "reasons": _shortened(log.kinds.most_common()),
            }
            for log in failures
        ],
        steps=_next_steps(result, failures),
    )  # fmt: skip


def _samples(
    folder: Path, survey: CropSurvey, counts: Counter[str]
) -> list[tuple[str, int, list[dict[str, object]]]]:
    """Return each class that has faces, with their number and some of them."""
    chosen = [(label, survey.samples(label)) for label in (*EMOTIONS, UNKNOWN)]
    paths = [face.path for _, faces in chosen for face in faces]
    pictures = thumbnail_uris(paths, "page")
    samples = []
    for label, faces in chosen:
        cards = [_card(face, next(pictures), folder) for face in faces]
        if counts[label]:
            samples.append((label, counts[label], [card for card in cards if card["image"]]))
    return samples


def _card(face: Face, picture: str, folder: Path) -> dict[str, object]:
    href = link_to(face.path, folder)
    return {"name": face.name, "image": picture, "href": href, "answers": face.answers}


def _people(annotators: Annotators) -> list[dict[str, object]]:
    figures = zip(ANNOTATORS, annotators.accuracies, annotators.model.confusion, strict=True)
    return [
        {"name": who, "accuracy": accuracy, "confusion": matrix.tolist()}
        for who, accuracy, matrix in figures
    ]


def _ious(counts: Sequence[int]) -> list[tuple[str, int]]:
    """Return the bins of IoU, the best first."""
    names = [f"{i / IOU_BINS:.1f}–{(i + 1) / IOU_BINS:.1f}" for i in range(IOU_BINS)]
    return list(zip(names, counts, strict=True))[::-1]


def _sides(counts: Sequence[int]) -> list[tuple[str, int]]:
    """Return the bins of sizes in pixels, the largest first."""
    inner = [f"{low}–{high - 1}" for low, high in pairwise(SIDES)]
    names = [f"< {SIDES[0]}", *inner, f"≥ {SIDES[-1]}"]
    return list(zip(names, counts, strict=True))[::-1]


def _trimmed(bins: list[tuple[str, int]]) -> list[tuple[str, int]]:
    """Return the bins without the empty ones at both ends."""
    filled = [i for i, (_, number) in enumerate(bins) if number]
    return bins[filled[0] : filled[-1] + 1] if filled else bins[:1]


def _shortened(kinds: list[tuple[str, int]]) -> list[tuple[str, int]]:
    """Return the most frequent reasons, and the others as one."""
    shown, others = kinds[:SHOWN_KINDS], kinds[SHOWN_KINDS:]
    return shown + ([("…", sum(n for _, n in others))] if others else [])


def _next_steps(result: CropResult, failures: Sequence[FailedRows]) -> list[dict[str, object]]:
    """Return what to do next, as texts with their commands."""
    output = _flag("--output", [result.crops], [Path("crop")])
    photos = _flag("--original", result.photos, [Path("original")])
    steps = [
        ("prepare", ["dataPreparation.py" + _flag("--input", [result.crops], [Path("crop")])]),
        ("download", [result.download] if result.download else []),
        (
            "retry",
            [f"cropImages.py{_flag('--input', [log.log])}{photos}{output}" for log in failures],
        ),
    ]
    share = result.counts[UNKNOWN] / max(1, result.counts.total())
    if result.method == MAJORITY and share > MANY_UNKNOWN:
        table = _flag("--input", [result.table]) + photos + output
        steps.append(("labels", [f"cropImages.py{table} --labels {DAWID_SKENE}"]))
    return [
        {"key": f"crop.step.{key}", "commands": [f"python {command}" for command in commands]}
        for key, commands in steps
        if commands
    ]


def _flag(name: str, values: Sequence[Path], default: Sequence[Path] = ()) -> str:
    """Return a flag with its values as it stands in a command line; empty for the default."""
    words = shlex.join([name, *map(str, values)])
    return "" if list(values) == list(default) else f" {words}"


def _figure(value: float, digits: int) -> str:
    return "–" if math.isnan(value) else f"{value:.{digits}f}"
