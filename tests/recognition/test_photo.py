"""A photo on its way: read, its faces cut out and classified in batches, and saved with marks."""

from __future__ import annotations

import errno
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import models
from tests.helpers import jpeg
from tests.photos import ASTRONAUT, FACE, two_faces
from tests.turned import FORMATS, write_turned
from utils.data.dataset import load_dataset
from utils.data.image_folder import make_samples, scan_class_folders
from utils.imaging.geometry import Box, FaceGeometry, iou
from utils.imaging.image_io import ImageError
from utils.imaging.preprocess import Preprocess
from utils.inference.checkpoint import Checkpoint
from utils.inference.face_classifier import FaceClassifier, load_model
from utils.inference.predict import predict_log_probs
from utils.recognition import photo as photo_module
from utils.recognition.face_detection import DetectionOptions, FaceFinder
from utils.recognition.faces import DetectedFace
from utils.recognition.inputs import ImageSource, expand_inputs
from utils.recognition.photo import (
    InputMaker,
    RecognizedPhoto,
    classify_photos,
    read_photo,
    read_photos,
)
from utils.recognition.tracking import Track
from utils.recognition.video import classify_tracks

PREPROCESS = Preprocess(48, 1)
WHOLE = InputMaker(PREPROCESS, FaceGeometry(), None)


@pytest.fixture(scope="module")
def detection():
    return InputMaker(PREPROCESS, FaceGeometry(), FaceFinder(DetectionOptions()))


@pytest.fixture
def checkpoint():
    weights = models.create("emotionnet", 3, 1, 48).state_dict()
    return Checkpoint("emotionnet", ["a", "b", "c"], PREPROCESS.to_dict(), 1, 0.5, weights)


def source(path: Path) -> ImageSource:
    return ImageSource(str(path), path.name)


def photos_with(*face_counts: int) -> list[RecognizedPhoto]:
    """Return photos with so many faces, each of which holds its number."""
    numbers = iter(range(99))
    return [
        RecognizedPhoto(
            ImageSource(f"{i}.jpg", f"{i}.jpg"),
            faces=[np.full((1, 2, 2), next(numbers), np.uint8) for _ in range(count)],
        )
        for i, count in enumerate(face_counts)
    ]


def test_read_photo_without_detection_takes_the_whole_photo(tmp_path):
    picture = Image.fromarray(ASTRONAUT[:100, :200])
    picture.save(tmp_path / "x.png")
    photo = read_photo(source(tmp_path / "x.png"), WHOLE, keep_picture=False)
    assert photo.found is None and photo.picture is None and not photo.error
    assert np.array_equal(photo.faces[0], PREPROCESS(picture))
    kept = read_photo(source(tmp_path / "x.png"), WHOLE, keep_picture=True)
    assert kept.picture.size == (200, 100)


def test_read_photo_finds_and_cuts_out_the_faces(tmp_path, detection):
    Image.fromarray(ASTRONAUT).save(tmp_path / "x.png")
    photo = read_photo(source(tmp_path / "x.png"), detection, keep_picture=False)
    [box] = photo.boxes
    assert iou(box, Box.from_xywh(*FACE)) > 0.5
    assert np.array_equal(photo.faces[0], PREPROCESS(Image.fromarray(ASTRONAUT).crop(box)))


def test_read_photo_cuts_out_what_the_geometry_says_and_tells_the_face(tmp_path, detection):
    two_faces().save(tmp_path / "x.png")
    wide = InputMaker(PREPROCESS, FaceGeometry("square", 0.2), detection.finder)
    plain, square = (
        read_photo(source(tmp_path / "x.png"), inputs, False) for inputs in (detection, wide)
    )
    assert square.boxes == plain.boxes
    for box, face in zip(square.boxes, square.faces, strict=True):
        half, x, y = (
            0.7 * max(box.width, box.height),
            box.left + box.width / 2,
            box.top + box.height / 2,
        )
        region = [round(value) for value in (x - half, y - half, x + half, y + half)]
        expected = PREPROCESS(two_faces().crop(region)).astype(int)
        assert np.abs(face - expected).mean() < 3


def test_input_maker_takes_the_geometry_of_the_model_or_a_margin(checkpoint):
    inputs = InputMaker.of(checkpoint.info(), None)
    assert inputs.geometry == FaceGeometry() and inputs.preprocess == PREPROCESS
    square = replace(checkpoint, face=FaceGeometry("square", 0.1).to_dict()).info()
    assert InputMaker.of(square, None).geometry == FaceGeometry("square", 0.1)
    given = InputMaker.of(square, None, 0.3)
    assert (given.geometry, given.margin) == (FaceGeometry("square", 0.0), 0.3)


def test_the_users_margin_is_part_of_the_face(tmp_path, detection):
    two_faces().save(tmp_path / "x.png")
    wide = replace(detection, margin=0.2)
    plain, photo = (
        read_photo(source(tmp_path / "x.png"), inputs, False) for inputs in (detection, wide)
    )
    for box, other, face in zip(plain.boxes, photo.boxes, photo.faces, strict=True):
        x, y, w, h = box.xywh
        expected = (x - 0.2 * w, y - 0.2 * h, 1.4 * w, 1.4 * h)
        assert other.xywh == pytest.approx(expected, abs=2)
        assert np.array_equal(face, PREPROCESS(two_faces().crop(other)))
    frame = np.ascontiguousarray(np.asarray(two_faces())[:, :, ::-1])
    assert np.array_equal(wide.cut_bgr(frame, plain.found[0]), photo.faces[0])


def test_read_photo_without_a_face_takes_the_whole_photo(tmp_path, detection):
    (tmp_path / "x.jpg").write_bytes(jpeg((123, 77)))
    photo = read_photo(source(tmp_path / "x.jpg"), detection, keep_picture=False)
    assert photo.boxes == [Box(0, 0, 123, 77)] and len(photo.faces) == 1
    photo.set_answers([{"label": "기쁨", "probs": [100.0]}])
    whole = {"rect": "(0, 0, 123, 77)", "label": "기쁨", "probs": [100.0], "detected": False}
    assert photo.answers == [whole]


@pytest.fixture(scope="module")
def wide_photo() -> tuple[Image.Image, Box]:
    """A face on one side of a photo, and its box."""
    x, y, w, h = FACE
    face = Image.fromarray(ASTRONAUT).crop((x - 40, y - 40, x + w + 40, y + h + 40))
    picture = Image.new("RGB", (300, 450), (90, 110, 130))
    picture.paste(face.resize((150, 150)), (100, 50))
    [face] = FaceFinder(DetectionOptions())(picture)
    return picture, face.box


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_read_photo_stored_turned_finds_the_face_where_it_is_displayed(
    tmp_path, wide_photo, detection, name, orientation
):
    picture, box = wide_photo
    path = write_turned(tmp_path / "x", picture, name, orientation)
    photo = read_photo(source(path), detection, keep_picture=True)
    assert len(photo.boxes) == 1 and iou(photo.boxes[0], box) > 0.9
    assert photo.picture.size == picture.size


def test_read_photo_of_a_large_jpeg_answers_in_its_own_pixels(tmp_path, detection, monkeypatch):
    small = two_faces()
    small.save(tmp_path / "small.png")
    small.resize((6000, 3600)).save(tmp_path / "large.jpg", quality=90)
    searched = []
    finder = FaceFinder.__call__
    monkeypatch.setattr(
        FaceFinder, "__call__", lambda *args: searched.append(args[1].size) or finder(*args)
    )
    expected, photo = (
        read_photo(source(tmp_path / name), detection, keep_picture=True)
        for name in ("small.png", "large.jpg")
    )
    assert searched[1][1] < 3600, "decoded at full size"
    assert photo.picture.size == (6000, 3600)
    for box, other in zip(photo.boxes, expected.boxes, strict=True):
        assert iou(box, other.scaled(4)) > 0.7


@pytest.mark.parametrize(
    ("content", "error"),
    [(b"<html>", "an HTML page, not an image"), (None, "No such file or directory")],
)
def test_read_photo_that_cannot_be_read_has_an_error(tmp_path, detection, content, error):
    if content:
        (tmp_path / "x.jpg").write_bytes(content)
    for inputs in (WHOLE, detection):
        photo = read_photo(source(tmp_path / "x.jpg"), inputs, keep_picture=True)
        assert error in photo.error and photo.faces == []


def test_read_photos_keeps_the_order(tmp_path):
    names = [f"{i}.png" for i in range(30)]
    for i, name in enumerate(names):
        Image.new("L", (48 + 10 * (30 - i), 48), i).save(tmp_path / name)
    sources = [source(tmp_path / name) for name in names]
    photos = list(read_photos(sources, WHOLE, keep_pictures=False))
    assert [photo.source.output_name for photo in photos] == names
    assert [int(photo.faces[0].max()) for photo in photos] == list(range(30))


@pytest.mark.parametrize(
    ("batch_size", "expected"), [(1, [2, 1, 3]), (2, [2, 4]), (3, [3, 3]), (100, [6])]
)
def test_classify_photos_batches_the_faces_of_several_photos(batch_size, expected):
    batches = []

    def classify(faces: list[np.ndarray]) -> list[dict]:
        batches.append(len(faces))
        return [{"label": int(face[0, 0, 0]), "probs": []} for face in faces]

    photos = photos_with(2, 0, 1, 3, 0)
    results = list(classify_photos(photos, classify, batch_size))
    assert results == photos and batches == expected
    labels = [[answer["label"] for answer in photo.answers] for photo in results]
    assert labels == [[0, 1], [], [2], [3, 4, 5], []]
    assert all(photo.faces == [] for photo in results)


def test_set_answers_adds_the_rect_of_a_detected_face():
    [photo] = photos_with(1)
    photo.set_answers([{"label": "a"}])
    assert photo.answers == [{"label": "a"}]
    [photo] = photos_with(1)
    photo.found = [DetectedFace(Box(1, 2, 11, 22), 0.98765)]
    photo.set_answers([{"label": "a"}])
    assert photo.answers == [{"rect": "(1, 2, 10, 20)", "label": "a"}]


def test_full_answers_add_box_score_and_whether_a_face_was_found():
    [photo] = photos_with(1)
    photo.set_answers([{"label": "a"}])
    assert photo.full_answers() == [{"label": "a"}]
    [photo] = photos_with(1)
    photo.found = [DetectedFace(Box(1, 2, 11, 22), 0.98765)]
    photo.set_answers([{"label": "a"}])
    rest = {"box": [1, 2, 10, 20], "score": 0.9877, "detected": True}
    assert photo.full_answers() == [{"rect": "(1, 2, 10, 20)", "label": "a"} | rest]
    [photo] = photos_with(1)
    photo.found, photo.size = [], (30, 40)
    photo.set_answers([{"label": "a"}])
    rest = {"box": [0, 0, 30, 40], "score": None, "detected": False}
    assert photo.full_answers() == [{"rect": "(0, 0, 30, 40)", "label": "a"} | rest]


def make_recognized(size: tuple[int, int], name: str = "x.png") -> RecognizedPhoto:
    photo = RecognizedPhoto(ImageSource(name, name), size=size, picture=Image.new("L", size, 90))
    photo.answers = [{"label": "기쁨", "probs": [91.5]}]
    return photo


def test_save_marks_the_faces_in_the_pixels_of_the_photo(tmp_path):
    photo = make_recognized((400, 300), "a/x.png")
    photo.found = [DetectedFace(Box(50, 100, 150, 200))]
    photo.save(tmp_path)
    with Image.open(tmp_path / "a/x.png") as marked:
        pixels = np.asarray(marked).astype(int)
    assert pixels.shape == (300, 400, 3)
    green = (pixels[:, :, 1] - pixels[:, :, 0] > 60)[120:180]  # beside the label
    assert green[:, 48:54].any(1).all() and not green[:, 70:130].any()


def test_save_enlarges_a_photo_that_is_too_small_for_a_label(tmp_path):
    make_recognized((60, 40)).save(tmp_path)
    with Image.open(tmp_path / "x.png") as marked:
        assert marked.size == (240, 160)


def test_save_refuses_a_photo_that_its_format_cannot_hold(tmp_path):
    with pytest.raises(ImageError, match=r"x\.webp cannot be written"):
        make_recognized((17000, 200), "x.webp").save(tmp_path)


def test_save_on_a_full_disk_is_an_error_of_its_own(tmp_path, monkeypatch):
    def fail(*args: object, **options: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "x.png")

    monkeypatch.setattr(photo_module, "save_image", fail)
    with pytest.raises(OSError, match="No space left"):
        make_recognized((400, 300)).save(tmp_path)


def test_a_face_is_the_same_in_training_testing_photos_and_videos(tmp_path):
    """In the cache of a training, in memory, in a photo with and without detection, in a frame."""
    torch.manual_seed(0)
    model = models.create("emotionnet", 3, 1, 48)
    weights, preprocess = model.state_dict(), PREPROCESS.to_dict()
    classes = ["기쁨", "분노", "중립"]
    Checkpoint("emotionnet", classes, preprocess, 1, 0.5, weights).save(tmp_path / "model.pt")
    classifier = FaceClassifier(load_model(tmp_path / "model.pt"))
    picture = Image.fromarray(ASTRONAUT[60:190, 170:280])
    for suffix in ("png", "jpg"):
        folder = tmp_path / suffix / "기쁨"
        folder.mkdir(parents=True)
        picture.save(folder / f"x.{suffix}", quality=95)
        samples = make_samples(scan_class_folders(tmp_path / suffix), classes)
        inputs = {
            "cache": load_dataset(samples, PREPROCESS, "train", tmp_path / "cache").images,
            "memory": load_dataset(samples, PREPROCESS, "test", None).images,
        }
        [image], _ = expand_inputs([str(folder / f"x.{suffix}")])
        photo = read_photo(image, WHOLE, keep_picture=False)
        inputs["photo"] = torch.from_numpy(photo.faces[0].copy())[None]
        model.eval()
        probs = {name: predict_log_probs(model, [images]).exp() for name, images in inputs.items()}
        for name, found in probs.items():
            torch.testing.assert_close(found, probs["cache"], rtol=0, atol=1e-5, msg=name)
    # Cut out of a photo, and of a video's frame, which is BGR.
    frame = np.ascontiguousarray(ASTRONAUT[:, :, ::-1])
    [face] = classify_tracks(
        frame, [Track(1, DetectedFace(Box.from_xywh(*FACE)))], classifier, WHOLE, 0.5
    )
    cut = PREPROCESS(Image.fromarray(ASTRONAUT).crop((170, 60, 280, 190)))
    assert face.probs == pytest.approx(classifier.probabilities([cut])[0], abs=1e-5)
    assert face.probs == pytest.approx(probs["cache"][0].numpy(), abs=0.2)
