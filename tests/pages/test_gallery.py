"""The data of a gallery."""

from __future__ import annotations

from utils.pages.gallery import Card, gallery_data


def test_a_card_has_its_prediction_and_the_places_of_its_groups():
    cards = [
        Card("슬픔/a.jpg", 0, [0.25, 0.75000004], "data:", "a.jpg", {"sex": "여", "age": "20"}),
        Card("b.jpg", 1, [0.9, 0.1], "", more={"suggested": 1}, groups={"sex": "남"}),
    ]
    data = gallery_data(("슬픔", "기쁨"), cards)
    assert data["groups"] == [
        {"name": "sex", "values": ["남", "여"]},
        {"name": "age", "values": ["20"]},
    ]
    first, second = data["items"]
    assert (first["prediction"], first["confidence"], first["probs"]) == (1, 0.75, [0.25, 0.75])
    assert (first["groups"], second["groups"]) == ([1, 0], [0, -1])
    assert second["suggested"] == 1 and second["image"] == ""


def test_a_probability_that_is_no_number_is_0():
    [item] = gallery_data(["a", "b"], [Card("a.jpg", 0, [float("nan"), 0.5], "")])["items"]
    assert item["probs"] == [0.0, 0.5]
