"""AI-Hub's parts: the words that name them, and the manifest beside the crops."""

from __future__ import annotations

import unicodedata

import pytest

from utils.data.official import (
    PartsManifest,
    find_part,
    manifest_path,
    read_parts,
    write_parts,
)


@pytest.mark.parametrize(
    ("names", "part"),
    [
        (["img_emotion_training_data(기쁨).json"], "Training"),
        (["img_emotion_validation_data(기쁨).json"], "Validation"),
        (["[라벨]EMOIMG_기쁨_TRAIN.zip"], "Training"),
        (["EMOIMG_기쁨_VALID (1).zip"], "Validation"),
        (["EMOIMG_기쁨_TRAIN_01"], "Training"),
        (["val_anger.json"], "Validation"),
        (["a.json", "labels.zip", "2.Validation", "Training"], "Validation"),
        (["img_emotion_sample_data(기쁨).json", "New_sample"], None),
        (["train_or_valid.json", "x.zip", "1.Training"], "Training"),
        (["a.json", "my training of June"], None),
        (["constraint.json", "trainer.zip", "retraining.zip"], None),
        ([], None),
    ],
)
def test_part_is_the_nearest_word(names, part):
    assert find_part(names) == part


def test_manifests_of_several_runs_and_machines_become_one(tmp_path):
    crops = tmp_path / "my [crop]"
    assert read_parts(crops) == {}
    write_parts(crops, [])
    assert not manifest_path(crops).exists()
    write_parts(crops, [("b.jpg", "Training"), ("a.jpg", "Training")])
    write_parts(crops, [(unicodedata.normalize("NFD", "기쁨.jpg"), "Validation")])
    write_parts(crops, [("a.jpg", "Validation")])
    write_parts(crops, [("c.jpg", "Training")], shard="2-of-3")
    lines = manifest_path(crops).read_text(encoding="utf-8").splitlines()
    assert lines == ["file\tpart", "a.jpg\tValidation", "b.jpg\tTraining", "기쁨.jpg\tValidation"]
    assert manifest_path(crops, "2-of-3").name == "my [crop].parts.2-of-3.tsv"
    assert read_parts(crops) == {
        "a.jpg": "Validation",
        "b.jpg": "Training",
        "기쁨.jpg": "Validation",
        "c.jpg": "Training",
    }
    (tmp_path / "my [crop].parts.old.tsv").write_text("file\tpart\nz.jpg\tTraining\n")
    assert "z.jpg" not in read_parts(crops)


def test_manifest_of_an_interrupted_run_is_kept(tmp_path):
    crops = tmp_path / "crop"
    parts = PartsManifest(crops)
    with parts:
        parts.add("기쁨.jpg", "Training")
        parts.add("without a part.jpg", "")
    assert read_parts(crops) == {"기쁨.jpg": "Training"}
    parts = PartsManifest(crops).__enter__()
    parts.add("슬픔.jpg", "Validation")
    parts.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
    assert read_parts(crops) == {"기쁨.jpg": "Training", "슬픔.jpg": "Validation"}
