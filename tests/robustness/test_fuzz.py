"""Any bytes at all as a table, any cells at all as a row: row errors, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import cropImages
import downloadImage
from tests.helpers import box_cell
from utils.data.aihub import LabelFile, LabelFiles
from utils.data.annotations import COLUMNS, Row, RowError, Table
from utils.data.annotators import Labels
from utils.data.boxes import consensus, parse_boxes
from utils.data.downloads import Downloads
from utils.data.error_log import ErrorLog
from utils.data.photo_source import PhotoSource
from utils.data.stage import Job
from utils.download import DownloadLimits
from utils.emotions import EMOTIONS
from utils.errors import StageError
from utils.imaging.geometry import Box, BoxError, to_pixels

pytestmark = pytest.mark.slow

thorough = settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)

numbers = st.one_of(
    st.floats(),
    st.integers(),
    st.integers(-10, 5000),
    st.text(max_size=8),
    st.integers(-10, 5000).map(str),
    st.none(),
)
boxes = st.lists(
    st.one_of(
        st.fixed_dictionaries(dict.fromkeys(("minX", "minY", "maxX", "maxY"), numbers)),
        st.recursive(numbers, lambda x: st.lists(x) | st.dictionaries(st.text(), x), max_leaves=5),
    ),
    max_size=4,
)
results = st.one_of(
    st.text(),
    boxes.map(json.dumps),
    boxes.map(lambda found: json.dumps({"boxes": found})),
    boxes.map(lambda found: '"' + json.dumps({"boxes": found}).replace('"', '""') + '"'),
    st.just(box_cell(1, 2, 30, 40)),
)
names = st.one_of(
    st.text(),
    st.builds("{}{}_{}_{}".format, st.sampled_from(["", "../", "/", "C:\\", "a/../../"]),
              st.text(max_size=10), st.sampled_from(EMOTIONS), st.sampled_from([".jpg", "..", ""])),
)  # fmt: skip
urls = st.one_of(st.text(), st.text().map("http://a/".__add__), st.text().map("http://".__add__))
emotions = st.one_of(st.sampled_from(EMOTIONS), st.text(max_size=5))
rows = st.tuples(
    names, urls, emotions, emotions, emotions, st.text(), st.text(), st.text(),
    results, results, results,
)  # fmt: skip


class Arguments:
    output, quality, max_size = Path("/o/crop"), 95, None


@thorough
@given(table=st.lists(rows, min_size=1, max_size=5), header=st.booleans())
@example(table=[("a_기쁨_\x00.jpg", "http://[", *EMOTIONS[:3], "", "", "", "[", "1e999", "NaN")],
         header=True)  # fmt: skip
def test_plan_gives_a_job_in_its_folders_or_a_row_error(tmp_path, table, header):
    lines = [COLUMNS, *table] if header else table
    path = tmp_path / "t.tsv"
    text = "\n".join("\t".join(cells) for cells in lines) + "\n"
    path.write_bytes(text.encode(errors="surrogatepass"))
    try:
        found = list(Table(path, ("name", "url")))
    except StageError:
        return
    photos = PhotoSource([tmp_path], Arguments.output)
    for row in found:
        for plan in (
            lambda row: downloadImage.plan(
                row, output=Path("/o/original"), limits=DownloadLimits()
            ),
            lambda row: cropImages.plan(row, Arguments, photos, Labels(None)),
        ):
            check_plan(plan, row)


def check_plan(plan: Callable[[Row], Job], row: Row) -> None:
    """Check that a plan raises RowError, or that its file lies in a class folder."""
    try:
        target = plan(row).target
    except RowError:
        return
    assert target.parent.parent in (Path("/o/original"), Path("/o/crop"))
    assert target.parent.name in (*EMOTIONS, "UNKNOWN")
    assert target.name == Path(target.name).name and target.name.isprintable()


anything = st.recursive(
    st.one_of(numbers, emotions, st.booleans()),
    lambda x: st.lists(x, max_size=4) | st.dictionaries(st.text(), x, max_size=4),
    max_leaves=8,
)
annotations = st.one_of(
    anything,
    st.fixed_dictionaries({"boxes": st.one_of(boxes, anything), "faceExp": emotions}),
)
records = st.fixed_dictionaries(
    {"filename": st.one_of(names, anything)},
    optional={f"{key}_{letter}": annotations for key in ("annot", "faceBB") for letter in "ABC"},
)


@thorough
@given(found=st.lists(st.one_of(records, anything), max_size=5), cut=st.integers(0, 30))
def test_records_of_any_content_give_a_job_or_a_row_error(tmp_path, found, cut):
    path = tmp_path / "labels.json"
    content = json.dumps(found, ensure_ascii=False).encode(errors="surrogatepass")
    path.write_bytes(content[: len(content) - cut])
    labels = LabelFiles(path, [LabelFile(path, "labels.json", "")])
    for photos in (
        PhotoSource([tmp_path], Arguments.output),
        PhotoSource([tmp_path], Arguments.output, Downloads([tmp_path])),
    ):
        log = ErrorLog(tmp_path / "x.error.log", labels)
        with log:
            for row in labels:
                check_plan(lambda row: cropImages.plan(row, Arguments, photos, Labels(None)), row)  # noqa: B023
                log.add(row, "a reason")
        if log.failures:
            assert Table(log.path, ()).columns == LabelFiles.columns
            assert all(row.error[0] == "a reason" for row in Table(log.path, ()))


@thorough
@given(content=st.binary(max_size=3000))
def test_table_of_any_bytes_raises_nothing_but_its_errors(tmp_path, content):
    path = tmp_path / "t.tsv"
    path.write_bytes(content)
    try:
        rows = list(Table(path, ("name",)))
    except StageError:
        return
    for row in rows:
        with suppress(RowError):
            assert "/" not in row.photo_name()


@thorough
@given(cells=st.lists(results, min_size=3, max_size=3), size=st.tuples(*[st.integers(1, 9999)] * 2))
def test_to_pixels_gives_a_region_inside_the_photo_or_a_box_error(cells, size):
    try:
        found = [parse_boxes(cell) for cell in cells]
        left, top, right, bottom = to_pixels(consensus(found), *size)
    except BoxError:
        return
    assert 0 <= left < right <= size[0] and 0 <= top < bottom <= size[1]


corners = st.tuples(*[st.floats(-1e6, 1e6)] * 4).map(lambda box: Box(*box))


@thorough
@given(annotators=st.lists(st.lists(corners, min_size=1, max_size=3), min_size=3, max_size=3))
def test_consensus_is_the_mean_of_two_annotators_boxes(annotators):
    means = [
        Box(*((a + b) / 2 for a, b in zip(one, other, strict=True)))
        for i in range(3)
        for j in range(i)
        for one in annotators[i]
        for other in annotators[j]
    ]
    result = consensus(annotators)
    assert any(result == pytest.approx(mean) for mean in means)
