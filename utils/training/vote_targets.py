"""Targets from annotators' votes: which images are learnt by them, by their label, or not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from utils.console import ProgressBar
from utils.data.agreement import FleissKappa
from utils.data.annotations import RowError
from utils.data.image_folder import Sample
from utils.data.name_index import NameIndex
from utils.data.votes import AnnotatorVotes, Votes, VotesTable
from utils.emotions import UNKNOWN
from utils.errors import StageError
from utils.training.targets import one_hot

NO_LABEL = -1  # of an image that is in no class
ANOTHER_CLASS = "whose majority is another class"


class VoteTargets(NamedTuple):
    """The training images of which a table holds votes, and what is learnt of each."""

    samples: list[Sample]  # to train on: without the images left out, with those of UNKNOWN
    shares: dict[Path, list[float]]  # of the images that are learnt by votes: a share per class
    lines: list[str]  # about them, to print

    def targets(self, samples: list[Sample], classes: list[str]) -> torch.Tensor:
        """Return float32 (N, classes): the shares of the votes, or else 1 at the sample's class."""
        targets = one_hot(samples, classes)
        learnt = [i for i, sample in enumerate(samples) if sample.path in self.shares]
        if learnt:  # an image that cannot be read is in no set
            targets[learnt] = torch.tensor([self.shares[samples[i].path] for i in learnt])
        return targets


def vote_targets(
    votes: Votes,
    samples: list[Sample],
    unknown: list[Path],
    classes: list[str],
    minimum: int = 1,
) -> VoteTargets:
    """Return what to learn of each image: the votes of the row with its file name, or its label.

    Its votes are learnt if no class has more than the sample's: a target is a class's share of the
    votes for `classes`, where a class with fewer than `minimum` votes has none. An image has its
    label alone if there is no such row, or if another class has more: then somebody has relabelled
    it. It is left out if the class with most votes is none of the training. `unknown` are images
    without a class, which are learnt by their votes only; their label is the class with most.

    In an annotation table a class leads if two of the three annotators saw it, and cropImages.py
    has sorted the images so: an image that lies elsewhere was put there by hand, or by `--labels
    dawid_skene`, which knows more than its votes. In a class folder it has its label, and in
    UNKNOWN it is left out.

    Raise StageError if the table holds no votes for any of the images, or most of it none, such as
    shares in place of counts.
    """
    candidates = [*samples, *(Sample(path, NO_LABEL) for path in unknown)]
    found = _Found.of(votes, [sample.path for sample in candidates])
    if not found.counts:
        raise StageError(_explain_no_votes(votes, candidates, found.invalid))
    if isinstance(votes, VotesTable) and len(found.invalid) > len(found.counts):
        raise StageError(f"{found.lines()[0]}: most of the table holds no counts of votes")
    kappa = FleissKappa()
    for counts in found.counts.values():
        kappa.add(counts)
    rule = _Rule(votes, classes, minimum)
    kept: list[Sample] = []
    shares: dict[Path, list[float]] = {}
    for i, sample in enumerate(candidates):
        share = rule.learn(sample, found.counts.get(i))
        if share:
            shares[sample.path] = share
        if share is not None:
            kept.append(sample if sample.label != NO_LABEL else _label(sample, share))
    if not shares:
        raise StageError(f"no image is learnt by its votes in {votes.path}: {rule.reasons()}")
    mean = kappa.votes / kappa.images
    lines = [
        f"{votes.path}: {len(shares)} of {len(candidates)} images are learnt by their votes "
        f"({mean:.1f} votes an image, Fleiss' kappa {kappa.value:.3f}){rule.reasons('; ')}"
    ]
    lines += [*found.lines(), *rule.lines()]
    if votes.problems:
        lines.append(
            f"{len(votes.problems)} problems in label files: {': '.join(votes.problems[0])}"
        )
    labels = {sample.label for sample in kept}
    if lost := [name for i, name in enumerate(classes) if i not in labels]:
        lines.append(f"no image of {' '.join(lost)} is left to learn from")
    return VoteTargets(kept, shares, lines)


class _Rule:
    """Decides what is learnt of an image, and counts the images that are not learnt by votes."""

    def __init__(self, votes: Votes, classes: list[str], minimum: int) -> None:
        self._votes, self._classes, self._minimum = votes, classes, minimum
        self.left_out: Counter[str] = Counter()  # images by reason
        self.by_label: Counter[str] = Counter()
        self.without_majority = 0  # images of `by_label` on which no two annotators agree

    def learn(self, sample: Sample, counts: dict[str, int] | None) -> list[float] | None:
        """Return each class's share of the votes, none for the label alone, None to leave out."""
        own = None if sample.label == NO_LABEL else self._classes[sample.label]
        share = self._share(counts or {})
        leaders = self._votes.leaders(counts or {}, self._minimum)
        by_label, left_out = self._judge(own, leaders, any((counts or {}).values()))
        if own is None and by_label:
            by_label, left_out = "", f"of {UNKNOWN} {by_label}"
        if left_out or not (by_label or share):
            self.left_out[left_out or "without a vote for a class of the training"] += 1
            return None
        if by_label:
            self.by_label[by_label] += 1
            self.without_majority += by_label == ANOTHER_CLASS and not leaders
            return []
        return share

    def _judge(self, own: str | None, leaders: set[str], has_votes: bool) -> tuple[str, str]:
        """Return why an image of the class `own` has its label alone, and why it is left out.

        Both are empty for an image that is learnt by its votes.
        """
        if isinstance(self._votes, AnnotatorVotes) and has_votes:  # cropImages.py has sorted them
            return ("", "") if leaders == ({own} if own else set()) else (ANOTHER_CLASS, "")
        if not leaders:  # or none with enough votes
            return "without votes", ""
        if not leaders.intersection(self._classes):
            return "", f"whose majority is {' or '.join(sorted(leaders))}"
        return ("", "") if own is None or own in leaders else (ANOTHER_CLASS, "")

    def lines(self) -> list[str]:
        """Return what to say about images that cropImages.py has not sorted by the majority."""
        if not self.without_majority:
            return []
        return [
            f"{self.without_majority} of the images with their label alone have no majority: it "
            f"was chosen by cropImages.py --labels dawid_skene, or by hand"
        ]

    def reasons(self, before: str = "") -> str:
        """Return how many images are left out, and how many have their label alone, and why."""
        texts = []
        for title, reasons in (("left out", self.left_out), ("with their label", self.by_label)):
            if reasons:
                counts = ", ".join(f"{count} {why}" for why, count in reasons.most_common())
                texts.append(f"{title}: {counts}")
        return before * bool(texts) + "; ".join(texts)

    def _share(self, counts: dict[str, int]) -> list[float]:
        """Return each class's share of the votes, or nothing if there is no vote for them."""
        votes = [counts.get(name, 0) for name in self._classes]
        votes = [count if count >= self._minimum else 0 for count in votes]
        total = sum(votes)
        return [count / total for count in votes] if total else []


class _Found(NamedTuple):
    """The rows of a table that are about the images."""

    counts: dict[int, dict[str, int]]  # position of an image → its votes
    invalid: list[str]  # rows, with the reason
    repeated: list[str]  # rows with other votes than an earlier row of the image

    @classmethod
    def of(cls, votes: Votes, paths: Sequence[Path]) -> _Found:
        """Read the table. The first valid row of a name counts, as in cropImages.py."""
        index, found = NameIndex(paths), cls({}, [], [])
        certainties: dict[int, int] = {}
        with ProgressBar(votes.count(), "annotations", "row") as bar:
            for row in votes:
                bar.update()
                matches = [(i, c) for i, c in index.find(row.name) if c >= certainties.get(i, 0)]
                if not matches:
                    continue
                try:
                    counts = row.counts()
                except RowError as error:
                    found.invalid.append(f"{row.where}: {error}")
                    continue
                if any(c == certainties.get(i) and counts != found.counts[i] for i, c in matches):
                    found.repeated.append(row.where)
                for i, certainty in matches:
                    if certainty > certainties.get(i, 0):
                        found.counts[i], certainties[i] = counts, certainty
        return found

    def lines(self) -> list[str]:
        """Return what to say about rows that are not used."""
        invalid, repeated = self.invalid, self.repeated
        return [
            *([f"{len(invalid)} rows are invalid, the first in {invalid[0]}"] if invalid else []),
            *(
                [f"{len(repeated)} rows repeat a name with other votes: the first row counts, not "
                 f"{repeated[0]}"]
                if repeated
                else []
            ),
        ]  # fmt: skip


def _label(sample: Sample, share: list[float]) -> Sample:
    """Return a sample of no class with the label of the class with most votes."""
    return sample._replace(label=share.index(max(share)))


def _explain_no_votes(votes: Votes, samples: list[Sample], invalid: list[str]) -> str:
    """Return the message for a table that has no votes for any of the images."""
    total = len(samples)
    if invalid:
        return f"0 of {total} images have votes: {invalid[0]}"
    first = next((row.name for row in votes if row.name), None)
    names = f"; it begins with {first!r}, the images with {samples[0].path.name!r}" * bool(first)
    return f"0 of {total} images have votes: {votes.path} has no row for any of them{names}"
