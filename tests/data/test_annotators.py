"""Labels by majority and by the annotators' confusion matrices, and the file that keeps them."""

from __future__ import annotations

import json
from collections import Counter
from itertools import product

import numpy as np
import pytest

from tests.helpers import name_of, row, write_table
from utils.data.annotations import Table
from utils.data.annotators import (
    FILE,
    THRESHOLD,
    Annotators,
    Labels,
    SavedAnnotators,
    count_answers,
    describe_changes,
    estimate,
)
from utils.emotions import EMOTIONS, NO_VOTE, UNKNOWN, majority_vote


def expert_and_two(rows: int = 40_000) -> Counter[tuple[str, ...]]:
    """Answers of an annotator who is right in 95 % of the cases, and of two in 55 %."""
    generator = np.random.default_rng(0)
    truth = generator.integers(0, 7, rows)
    columns = []
    for accuracy in (0.95, 0.55, 0.55):
        wrong = (truth + generator.integers(1, 7, rows)) % 7
        columns.append(np.where(generator.random(rows) < accuracy, truth, wrong))
    return Counter(tuple(EMOTIONS[i] for i in votes) for votes in zip(*columns, strict=True))


def test_the_expert_decides():
    patterns = expert_and_two()
    labels = Labels(estimate(patterns))
    assert labels.method == "dawid_skene"
    assert labels.of(["기쁨", "슬픔", "중립"]) == "기쁨"
    assert labels.of(["기쁨", "기쁨", "슬픔"]) == "기쁨"
    assert labels.others_of(["기쁨", "슬픔", "중립"]) == [UNKNOWN]
    assert labels.others_of(["기쁨", "기쁨", "기쁨"]) == []
    by_majority = Labels(None, labels.annotators)
    assert by_majority.method == "majority"
    assert by_majority.of(["기쁨", "슬픔", "중립"]) == UNKNOWN
    assert by_majority.others_of(["기쁨", "슬픔", "중립"]) == ["기쁨"]
    for answers in product(("기쁨", "슬픔", NO_VOTE), repeat=3):
        assert by_majority.of(answers) == majority_vote(answers)


def test_a_label_needs_a_vote_and_a_probability_above_the_threshold():
    annotators = estimate(expert_and_two())
    assert annotators.label((NO_VOTE, NO_VOTE, NO_VOTE)) == UNKNOWN
    for answers in product(EMOTIONS[:3], repeat=3):
        codes = [[EMOTIONS.index(answer) for answer in answers]]
        highest = annotators.model.probabilities(codes).max()
        assert (annotators.label(answers) != UNKNOWN) == (highest > THRESHOLD)
    equal = estimate(Counter({("기쁨", "슬픔", NO_VOTE): 50, ("슬픔", "기쁨", NO_VOTE): 50}))
    assert equal.label(("기쁨", "슬픔", NO_VOTE)) == UNKNOWN  # a tie


def test_the_model_of_a_retry_is_that_of_the_table(tmp_path):
    saved = SavedAnnotators("dawid_skene", estimate(expert_and_two()))
    saved.save(tmp_path)
    loaded = SavedAnnotators.load(tmp_path)
    assert loaded.method == "dawid_skene" and loaded.annotators.rows == 40_000
    before, after = saved.annotators.model, loaded.annotators.model
    assert (before.confusion == after.confusion).all() and (before.shares == after.shares).all()
    content = json.loads((tmp_path / FILE).read_text(encoding="utf-8"))
    assert content["classes"] == list(EMOTIONS) and content["rows"] == 40_000
    assert content["annotators"]["TaskA"]["accuracy"] == pytest.approx(0.95, abs=0.02)
    assert np.sum(content["annotators"]["TaskB"]["confusion"], axis=1) == pytest.approx([1] * 7)
    assert sum(content["shares"]) == pytest.approx(1)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda content: content.clear(),
        lambda content: content.update(labels="mine"),
        lambda content: content.update(classes=["a"]),
        lambda content: content["shares"].pop(),
        lambda content: content["shares"].__setitem__(0, 2.0),
        lambda content: content.update(shares="기쁨"),
        lambda content: content["annotators"]["TaskA"]["confusion"].pop(),
        lambda content: content["annotators"]["TaskB"]["confusion"][0].__setitem__(0, None),
        lambda content: content["annotators"]["TaskC"].update(confusion=[[0] * 7] * 7),
        lambda content: content.update(rows="many"),
    ],
)
def test_a_file_that_is_not_ours_counts_as_none(tmp_path, spoil):
    SavedAnnotators("majority", estimate(expert_and_two(50))).save(tmp_path)
    content = json.loads((tmp_path / FILE).read_text(encoding="utf-8"))
    assert SavedAnnotators.load(tmp_path)
    spoil(content)
    (tmp_path / FILE).write_text(json.dumps(content), encoding="utf-8")
    assert SavedAnnotators.load(tmp_path) is None


@pytest.mark.parametrize(
    "text", ["", "{", "[" * 100_000, "\0", "7", "\ud800".encode("utf-8", "surrogatepass")]
)
def test_a_broken_file_counts_as_none(tmp_path, text):
    path = tmp_path / FILE
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    assert SavedAnnotators.load(tmp_path) is None
    assert SavedAnnotators.load(tmp_path / "no folder") is None


def test_answers_of_a_table_are_counted_once_per_name(tmp_path):
    rows = [
        row(name_of("기쁨", 1), seen="기쁨 슬픔 슬픔"),
        row(name_of("기쁨", 1), seen="분노 분노 분노"),  # conflicts with the first
        row(name_of("기쁨", 2), seen="기쁨 알수없음 슬픔"),
        row(name_of("기쁨", 3), seen="기쁨 슬픔 모름"),  # invalid
        row(name_of("기쁨", 4), seen="기쁨 슬픔 슬픔"),
        row("../no_기쁨_.jpg", seen="기쁨 기쁨 기쁨"),
    ]
    table = Table(write_table(tmp_path / "t.tsv", rows), ())
    expected = {("기쁨", "슬픔", "슬픔"): 2, ("기쁨", NO_VOTE, "슬픔"): 1}
    assert count_answers(table) == expected


def test_changes_are_counted():
    patterns = expert_and_two()
    text = describe_changes(patterns, estimate(patterns))
    without = sum(n for answers, n in patterns.items() if majority_vote(answers) == UNKNOWN)
    labelled = sum(n for (a, b, c), n in patterns.items() if a != b != c != a)
    assert without == labelled and f" of {without:,} UNKNOWN get one" in text
    assert "of 40,000 labels differ from the majority's" in text


def test_a_class_that_is_called_by_another_is_named():
    patterns = Counter({(emotion,) * 3: 200 for emotion in EMOTIONS})
    assert estimate(patterns).mistaken() == []
    annotators = estimate(patterns)
    confusion = annotators.model.confusion.copy()
    confusion[:, 4] = confusion[:, 5]
    swapped = Annotators(1, type(annotators.model)(annotators.model.shares, confusion))
    assert swapped.mistaken() == [("상처", "슬픔")]


def test_no_rows_leave_the_answers_their_meaning():
    labels = Labels(estimate(Counter()))
    assert labels.of(["슬픔"] * 3) == "슬픔" and labels.of(["기쁨", "슬픔", "중립"]) == UNKNOWN
