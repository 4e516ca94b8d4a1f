"""The section of report.html about groups."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.browser import needs_chromium, open_browser
from tests.evaluation.test_group_report import CLASSES, evaluated
from utils.data.image_groups import FILE_NAMES, Attribute, ImageGroups
from utils.evaluation.group_page import Axis, group_name, make_section
from utils.pages.page import render_page


def render(section, **more: object) -> str:
    """The section alone, in English."""
    return render_page("groups.html", "en", groups=section, classes=CLASSES, **more)


def test_the_section_shows_every_group_with_its_interval():
    section = make_section(evaluated(20, 5, people=True))
    [table] = section.tables
    assert (table.axis, section.has_people) == (Axis(70, 100), True)
    assert [row.group.shares[1][0] for row in table.rows] == [0.2, 0.05]
    html = render(section)
    assert '<th scope="row">a</th>' in html and "80.0 % <small>(71.1–86.7)</small>" in html
    assert 'style="left:33.33%"' in html  # 80 % on an axis from 70 to 100 %
    assert "0.889 <small>(0.8" in html and "It is larger than chance (p" in html
    assert "because several images of one person are not independent" in html
    assert "우연으로 보기 어려운 차이입니다" in html and "100명" in html


def test_small_groups_are_pale_and_nothing_is_tested():
    section = make_section(evaluated(5, 5, size=20))
    html = render(section)
    assert section.test is None and html.count('<tr class="faint">') == 4
    assert "No two groups have 30 images or more" in html and "by chance" not in html


def test_names_are_shown_in_both_languages_and_escaped():
    assert "20s</span>" in group_name("20s") and "20대</span>" in group_name("20s")
    assert "2 of 3</span>" in group_name("2 of 3") and "3명 중 2명</span>" in group_name("2 of 3")
    assert group_name("남") == "남"
    hostile = "</script><b>{x}"
    result = evaluated(20, 5, source=hostile, **{hostile: [hostile] * 100 + ["b"] * 100})
    html = render(make_section(result))
    assert "<b>{x}" not in html and html.count("&lt;/script&gt;&lt;b&gt;{x}") > 4
    names = [str(table.name) for table in make_section(result).tables]
    assert ">Sex</span>" in names[0] and ">성별</span>" in names[0] and names[1] == hostile
    source = str(make_section(evaluated(20, 5, source=FILE_NAMES)).tables[0].source)
    assert ">from the file names</span>" in source


def test_a_gap_beyond_chance_stands_beside_a_larger_one_and_images_without_group():
    names = ["x"] * 2000 + ["y"] * 2000
    names[3289:3321] = ["s"] * 32
    result = evaluated(200, 200, 300, 300, size=1000, kind=names)
    attribute = replace(result.attributes[1], without=7)
    section = make_section(replace(result, attributes=[attribute]))
    lines = [str(line) for line in section.tables[0].lines]
    assert "Largest gap: 14.4 points (s: 65.6 %, x: 80.0 %). It may be chance" in lines[0]
    assert "Largest gap beyond chance: 9.9 points (y: 70.1 %, x: 80.0 %; p &lt; 0.001)" in lines[1]
    assert "not known: 7." in lines[2]


@pytest.mark.parametrize(("wrong", "axis"), [(0, Axis(90, 100)), (100, Axis(0, 10))])
def test_an_axis_has_a_length(wrong, axis):
    assert make_section(evaluated(wrong, wrong)).tables[0].axis == axis
    assert axis.at(axis.low / 100) == "0.00" and axis.at(axis.high / 100) == "100.00"


def test_the_report_holds_the_section_and_filters_by_groups(tmp_path):
    from tests.evaluation.test_report_page import make_evaluation
    from utils.data.image_groups import find_groups
    from utils.evaluation.report_page import write_report_page

    root = tmp_path / "faces"
    paths = [root / f"기쁨/{i}.jpg" for i in range(3)]
    table = tmp_path / "t.csv"
    table.write_text("file,glasses\n0.jpg,yes\n1.jpg,no\n2.jpg,\n", encoding="utf-8")
    root.mkdir()
    evaluation = make_evaluation(root, paths, [0, 0, 0], [[0.1, 0.9, 0, 0]] * 3)
    groups = find_groups(paths, [table])
    columns = groups.columns(paths)
    assert columns == {"glasses": ["yes", "no", ""]}
    path = write_report_page(evaluation.by_groups(groups), tmp_path, "en", {}, columns)
    html = Path(path).read_text("utf-8")
    assert 'id="groups"' in html and '<a href="#groups">' in html
    assert '"groups":[{"name":"glasses","values":["no","yes"]}]' in html
    assert evaluation.by_groups(find_groups(paths)) is evaluation
    unread = find_groups([*paths, root / "3.jpg"], [table])
    unread.attributes[0].groups.clear()  # only an image that cannot be read has a group
    assert evaluation.by_groups(unread) is evaluation


@needs_chromium
@pytest.mark.slow
def test_the_section_in_a_browser(tmp_path):
    from tests.evaluation.test_report_page import make_evaluation
    from utils.evaluation.report_page import write_report_page

    paths = [tmp_path / f"faces/기쁨/{i}.jpg" for i in range(200)]
    paths[0].parent.mkdir(parents=True)
    wrong, right = [0.1, 0.9, 0, 0], [0.9, 0.1, 0, 0]
    probs = [wrong] * 40 + [right] * 160
    evaluation = make_evaluation(tmp_path / "faces", paths, [0] * 200, probs)
    places = ["교통&이동수단(엘리베이터 포함)", "<script>alert(1)</script>"]
    groups = ImageGroups(
        [
            Attribute("place", "t.csv", {path: places[i >= 180] for i, path in enumerate(paths)}),
            Attribute("age", FILE_NAMES, {path: f"{i // 50}0s" for i, path in enumerate(paths)}),
        ],
        {path: str(i // 2) for i, path in enumerate(paths)},
    )
    page = write_report_page(
        evaluation.by_groups(groups), tmp_path, "ko", {}, groups.columns(paths)
    )
    with open_browser() as browser:
        browser.open(page)
        assert browser.texts("#groups h3") == ["장소 t.csv 기준", "나이 파일 이름 기준"]
        assert browser.texts("#group-1 ~ .scroll tbody th")[:2] == [
            f"{places[1]} (이미지 적음)", places[0],
        ]  # fmt: skip
        assert "10대" in browser.texts("#groups tbody th")
        assert "가장 큰 격차" in browser.texts("#groups .verdict-line")[1]
        browser.resize(360)
        assert browser.overflow() <= 0
        assert browser.problems == [] and browser.loaded == []
