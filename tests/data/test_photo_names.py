"""AI-Hub's file names: person, sex, age and place."""

from __future__ import annotations

import unicodedata

import pytest

from utils.data.photo_names import PhotoName, decade, parse_photo_name

HASH = "0a1b2c3d" * 8
STAMP = "20210102030405-006-007"


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_parse_photo_name_reads_every_part_in_any_unicode_form(form):
    name = f"{HASH}_여_20_기쁨_숙박 및 거주공간_{STAMP}.jpg"
    expected = PhotoName(HASH, "여", "20s", "숙박 및 거주공간")
    assert parse_photo_name(unicodedata.normalize(form, name)) == expected


@pytest.mark.parametrize("mark", ["&", "_"])
def test_parse_photo_name_takes_a_place_whose_ampersands_became_underscores(mark):
    place = "상업시설&점포&시장".replace("&", mark)
    parsed = parse_photo_name(f"{HASH}_남_60_상처_{place}_{STAMP}.JPEG")
    assert parsed == PhotoName(HASH, "남", "60s", "상업시설&점포&시장")


def test_parse_photo_name_takes_renamed_copies_and_short_subjects():
    name = f"_남_40_중립_교통&이동수단(엘리베이터 포함)_{STAMP}"
    for start in (HASH, "s01", f"part 1_{HASH}"):
        for end in (".jpg", "-2.jpg", " (1).png", ""):
            parsed = parse_photo_name(start + name + end)
            assert parsed and parsed.place == "교통&이동수단(엘리베이터 포함)"
            assert parsed.subject == start.rpartition("_")[2]


@pytest.mark.parametrize(
    "name",
    [
        "",
        "fer0000001.png",
        "IMG_0001.jpg",
        f"{HASH}_여_20_기쁨_{STAMP}.jpg",  # no place
        f"{HASH}_X_20_기쁨_도심 환경_{STAMP}.jpg",
        f"{HASH}_여_스물_기쁨_도심 환경_{STAMP}.jpg",
        f"{HASH}_여_20_기쁨_도심 환경_2021.jpg",
        f"_여_20_기쁨_도심 환경_{STAMP}.jpg",
    ],
)
def test_parse_photo_name_refuses_other_names(name):
    assert parse_photo_name(name) is None


def test_decade():
    assert [decade(age) for age in (0, 9, 10, 29, 60, 101)] == [
        "0s", "0s", "10s", "20s", "60s", "100s",
    ]  # fmt: skip
