"""The page for the browser: its arithmetic is that of the toolkit, and so are its answers."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.client import HTTPConnection
from http.server import ThreadingHTTPServer
from pathlib import Path

import numpy as np
import onnx
import PIL
import pytest
from PIL import Image

from demo.web import serve
from tests.helpers import ROOT, one_line_error, run, run_module
from tests.photos import ASTRONAUT, two_faces
from utils.errors import StageError
from utils.imaging.geometry import Box, FaceGeometry, clip
from utils.inference.model_path import BUNDLED_MODEL, BUNDLED_ONNX
from utils.inference.onnx_model import METADATA_KEY
from utils.recognition import face_detection, retinaface
from utils.recognition.faces import DetectedFace, cut_out

TESTS = Path(__file__).resolve().parent
NODE = shutil.which("node")
CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), ""
)
MODULES = serve.PAGE / "node_modules"
HOW = "npm install --prefix demo/web, and a Chromium, for the test of the page"

# It resizes some pictures in another order, by which a value may differ by 1.
IS_OLD_PILLOW = int(PIL.__version__.split(".")[0]) < 13

needs_node = pytest.mark.skipif(not NODE, reason="Node.js is not installed")


def call(*calls: list) -> list:
    """Return what functions of the page return: each call is [module, function, arguments]."""
    done = subprocess.run(
        [NODE, TESTS / "pieces.mjs"], input=json.dumps(calls), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def to_js(picture: Image.Image) -> dict:
    pixels = np.asarray(picture)
    channels = 1 if pixels.ndim == 2 else pixels.shape[2]
    size = {"width": picture.width, "height": picture.height}
    return {**size, "channels": channels, "pixels": encode(pixels.tobytes())}


def encode(content: bytes) -> dict:
    return {"base64": base64.b64encode(content).decode()}


def largest_difference(result: dict, wanted: dict) -> int:
    """Return the largest difference of a value of two pictures of the same size and channels."""
    pixels = [
        np.frombuffer(base64.b64decode(picture.pop("pixels")["base64"]), np.uint8).astype(int)
        for picture in (result, wanted)
    ]
    assert result == wanted
    return np.abs(np.subtract(*pixels)).max()


def corners(box: Box) -> dict:
    return dict(zip(("left", "top", "right", "bottom"), box, strict=True))


def noise(width: int, height: int) -> Image.Image:
    pixels = np.random.default_rng(width).integers(0, 256, (height, width, 3), np.uint8)
    return Image.fromarray(pixels)


def resize_as_pillow_13(picture: Image.Image, size: tuple[int, int], method: Image.Resampling):
    """Resize in two steps: older versions of Pillow begin always with the width."""
    width, height = picture.size
    lost = height - size[1]
    between = (width, size[1]) if lost > max(0, 2 * (width - size[0])) else (size[0], height)
    resized = picture.resize(between, method).resize(size, method)
    assert resized == picture.resize(size, method) or IS_OLD_PILLOW
    return resized


@needs_node
def test_pictures_become_the_pixels_of_pillow():
    expected, calls = [], []

    def compare(name: str, arguments: list, picture: Image.Image) -> None:
        expected.append(to_js(picture))
        calls.append(["picture.js", name, arguments])

    for picture in (noise(37, 61), noise(90, 50).convert("L")):
        for size in ((48, 48), (7, 11), (90, 90), (37, 20)):
            for name in ("BOX", "BILINEAR", "BICUBIC"):
                resized = resize_as_pillow_13(picture, size, Image.Resampling[name])
                compare("resize", [to_js(picture), *size, name.lower()], resized)
        for factors in ((2, 2), (3, 4), (8, 1)):
            compare("reduce", [to_js(picture), *factors], picture.reduce(factors))
        compare("crop", [to_js(picture), corners(Box(3, 5, 20, 31))], picture.crop((3, 5, 20, 31)))
    compare("toGrey", [to_js(noise(200, 200))], noise(200, 200).convert("L"))
    for result, wanted in zip(call(*calls), expected, strict=True):
        assert result == wanted


@needs_node
@pytest.mark.parametrize("size", [(640, 480), (1100, 900), (301, 499), (90, 70), (240, 240)])
def test_faces_are_searched_in_the_same_copy(size, monkeypatch):
    copies = []

    class Detector:
        face_side, picture_side = (
            retinaface.RetinaFace.face_side,
            retinaface.RetinaFace.picture_side,
        )

        def __call__(self, picture: Image.Image, *args: float) -> list[DetectedFace]:
            copies.append(picture)
            return []

    monkeypatch.setattr(face_detection, "load_detector", lambda *args: Detector())
    picture = Image.fromarray(ASTRONAUT).resize(size)
    face_detection.FaceFinder(face_detection.DetectionOptions())(picture)
    [result] = call(["detector.js", "searchCopy", [to_js(picture)]])
    assert largest_difference(result, to_js(copies[0])) <= IS_OLD_PILLOW


@needs_node
def test_detected_faces_are_those_of_the_toolkit():
    # Outputs of the network, as if it had seen three faces. Anchors 1 and 3 are about the same one.
    width, height = 64, 40
    anchors = sum(2 * -(-width // step) * -(-height // step) for step, _ in retinaface.LEVELS)
    rng = np.random.default_rng(0)
    scores = np.full((1, anchors, 2), 0.01, np.float32)
    scores[0, [1, 3, 40, 41, 70], 1] = 0.9, 0.6, 0.7, 0.95, 0.4
    offsets, points = (rng.normal(0, 0.3, (1, anchors, n)).astype(np.float32) for n in (4, 10))

    class Session:
        def run(self, *args: object) -> list[np.ndarray]:
            return [offsets, scores, points]

    detector = object.__new__(retinaface.RetinaFace)
    detector._session = Session()
    expected = detector(Image.new("RGB", (width, height)), 0, face_detection.MIN_SCORE)
    arguments = [*(values.ravel().tolist() for values in (offsets, scores, points)), width, height]
    [faces] = call(["detector.js", "decode", arguments])
    assert len(faces) == len(expected) == 3
    for face, wanted in zip(faces, expected, strict=True):
        assert face["score"] == pytest.approx(wanted.score)
        assert face["box"] == pytest.approx(corners(wanted.box), abs=1e-3)
        marks = [(mark["x"], mark["y"]) for mark in face["landmarks"]]
        assert np.array(marks) == pytest.approx(np.array(wanted.landmarks), abs=1e-3)


@needs_node
def test_faces_are_cut_out_as_the_models_geometry_says():
    picture = Image.fromarray(ASTRONAUT)
    eyes = ((205.0, 110.0), (245.0, 100.0), (225.0, 125.0), (210.0, 145.0), (245.0, 140.0))
    faces = [
        DetectedFace(Box(180, 62, 273, 177), 0.9, eyes),
        DetectedFace(Box(1, 0, 6, 8), 1, eyes),
    ]
    boxes = [Box(-3, 1, 4.5, 9), Box(0.5, 1.5, 2.5, 99)]
    geometries = [FaceGeometry(), FaceGeometry("square", 0.25), FaceGeometry("square", 0.1, True)]
    pairs = [(face, geometry) for face in faces for geometry in geometries]
    calls = [["picture.js", "clip", [corners(box), {"width": 8, "height": 9}]] for box in boxes]
    for face, geometry in pairs:
        marks = [{"x": x, "y": y} for x, y in face.landmarks]
        js_face = {"box": corners(face.box), "landmarks": marks}
        calls.append(["model.js", "cutFace", [to_js(picture), js_face, geometry.to_dict()]])
    results = iter(call(*calls))
    for box in boxes:
        assert next(results) == corners(clip(box, 8, 9))
    for face, geometry in pairs:
        difference = largest_difference(next(results), to_js(cut_out(picture, face, geometry)))
        assert difference <= geometry.level  # a turned pixel may be rounded


@needs_node
def test_the_model_tells_what_it_is():
    content = BUNDLED_ONNX.read_bytes()
    nameless = onnx.load_from_string(content)
    del nameless.metadata_props[:]
    contents = [content, nameless.SerializeToString(), content[:-100], b"\xff" * 30, b"PK\3\4"]
    good, *bad = call(*(["model.js", "readDescription", [encode(value)]] for value in contents))
    metadata = {entry.key: entry.value for entry in onnx.load_from_string(content).metadata_props}
    assert good == json.loads(metadata[METADATA_KEY])
    for result, word in zip(bad, ("export.py", "cut off", "cut off", "not an ONNX"), strict=False):
        assert word in result["error"]
    assert all("error" in result for result in bad)


def test_constants_of_the_page_are_those_of_the_toolkit():
    text = (serve.PAGE / "detector.js").read_text(encoding="utf-8")
    values = {
        name: float(value) for name, value in re.findall(r"const ([A-Z_]+) = ([\d.]+);", text)
    }
    modules = [retinaface, face_detection]
    own = {name: getattr(module, name, None) for name in values for module in modules}
    own |= {
        name: value for module in modules for name, value in vars(module).items() if name in values
    }
    detector = retinaface.RetinaFace
    own |= {"FACE_SIDE": detector.face_side, "PICTURE_SIDE": detector.picture_side}
    assert values == {name: own[name] for name in values} and len(values) == 8


def test_page_has_all_words_in_both_languages():
    text = (serve.PAGE / "texts.js").read_text(encoding="utf-8")
    korean, english = (re.findall(r"^    (\w+):", part, re.M) for part in text.split("  en: {"))
    assert korean == english and len(korean) > 20
    used = "".join(
        (serve.PAGE / name).read_text(encoding="utf-8") for name in ("main.js", "index.html")
    )
    words = re.findall(r'data-text="(\w+)"|say\("(\w+)"|texts\.(?!js)(\w+)', used)
    assert {name for names in words for name in names if name} <= {*korean}


@pytest.mark.parametrize("page", ["docs/web.md", "docs/ko/web.md"])
def test_docs_name_every_flag(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    parser = serve.make_parser()
    flags = {name for action in parser._actions for name in action.option_strings if "--" in name}
    assert {*re.findall(r"^\| `(--\w+)", text, re.M)} == flags - {"--help"}


@pytest.fixture
def without_runtime(monkeypatch):
    monkeypatch.setattr(serve, "read_runtime", lambda name: name.encode())


@contextmanager
def served(files: dict[str, bytes]) -> Iterator[HTTPConnection]:
    with ThreadingHTTPServer((serve.HOST, 0), partial(serve.Handler, files)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        connection = HTTPConnection(serve.HOST, server.server_port)
        yield connection
        connection.close()
        server.shutdown()


def test_server_hands_out_the_page_and_nothing_else(without_runtime):
    files = serve.page_files(BUNDLED_ONNX)
    with served(files) as connection:

        def get(path: str, method: str = "GET") -> tuple[int, bytes, str]:
            connection.request(method, path)
            response = connection.getresponse()
            return response.status, response.read(), response.getheader("Content-Type", "")

        index = (serve.PAGE / "index.html").read_bytes()
        assert get("/") == get("/index.html?lang=en") == (200, index, "text/html; charset=utf-8")
        assert get("/", "HEAD")[:2] == (200, b"")
        assert get("/model.onnx")[1] == BUNDLED_ONNX.read_bytes()
        assert get("/detector.onnx")[1] == retinaface.read_weights()
        assert get("/ort/ort-wasm-simd-threaded.wasm")[2] == "application/wasm"
        for path in (
            "/serve.py",
            "/../serve.py",
            "/%2e%2e/serve.py",
            "//etc/passwd",
            "/package.json",
        ):
            assert get(path)[0] == 404


def test_page_names_what_it_cannot_use(monkeypatch, tmp_path):
    with pytest.raises(StageError, match=r"export\.py makes"):
        serve.page_files(BUNDLED_MODEL)
    monkeypatch.setattr(serve, "PAGE", tmp_path)
    with pytest.raises(StageError, match="npm install --prefix demo/web"):
        serve.page_files(BUNDLED_ONNX)


def test_page_as_a_folder_is_what_the_server_hands_out(without_runtime, tmp_path):
    files = serve.page_files(BUNDLED_ONNX)
    serve.write_files(files, tmp_path / "site")
    written = {path for path in (tmp_path / "site").rglob("*") if path.is_file()}
    assert {path.relative_to(tmp_path / "site").as_posix() for path in written} == {*files}
    assert (tmp_path / "site/model.onnx").read_bytes() == BUNDLED_ONNX.read_bytes()


def browse(address: str, **request: object) -> dict:
    """Return what `browse.mjs` sees."""
    request |= {"page": address, "chromium": CHROMIUM, "folder": str(serve.PAGE)}
    words = [NODE, TESTS / "browse.mjs", json.dumps(request)]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def save_photos(folder: Path) -> list[Path]:
    """Write photos that a browser might read in another way than Pillow."""
    photo = Image.fromarray(ASTRONAUT)
    turned = Image.Exif()
    turned[0x0112] = 6  # EXIF orientation
    photo.save(folder / "얼굴.png")
    photo.transpose(Image.Transpose.ROTATE_90).save(folder / "turned.jpg", quality=95, exif=turned)
    photo.resize((2048, 2048)).save(folder / "large.jpg", quality=90)  # decoded at reduced size
    two_faces().save(folder / "two.webp", lossless=True)
    photo.crop((300, 0, 512, 150)).convert("L").save(folder / "no face.png")
    return sorted(folder.iterdir())


def save_film(path: Path) -> Path:
    """Write a film of one still for the camera."""
    frame = io.BytesIO()
    Image.fromarray(ASTRONAUT).crop((0, 0, 512, 384)).resize((640, 480)).save(frame, "JPEG")
    path.write_bytes(10 * frame.getvalue())
    return path


def assert_alike(printed: str, expected: list[dict], difference: float) -> None:
    """Check that faces have the same labels, and nearly the same probabilities, in per cent."""
    faces = json.loads(printed)
    assert [face["label"] for face in faces] == [face["label"] for face in expected]
    assert [face.get("detected", True) for face in faces] == [face["detected"] for face in expected]
    for face, other in zip(faces, expected, strict=True):
        assert face["probs"] == pytest.approx(other["probs"], abs=difference)


@pytest.mark.slow
@pytest.mark.skipif(not (NODE and CHROMIUM and MODULES.is_dir()), reason=HOW)
def test_page_answers_as_emotion_py_and_sends_nothing(tmp_path):
    (tmp_path / "photos").mkdir()
    photos = save_photos(tmp_path / "photos")
    done = run("emotion.py", "--detect_face", *photos, cwd=tmp_path)
    expected = [json.loads(line)["faces"] for line in done.stdout.splitlines()]
    assert sorted(len(faces) for faces in expected) == [1, 1, 1, 1, 2]
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"\xff\xd8\xff no photo")
    with started_page(tmp_path) as address:
        seen = browse(
            address, photos=[*map(str, photos), str(broken)], dropped=str(photos[0]),
            camera=str(save_film(tmp_path / "film.mjpeg")),
        )  # fmt: skip
    assert seen["start"] == "준비되었습니다."
    *answers, refused = seen["answers"]
    for answer, faces, photo in zip(answers, expected, photos, strict=True):
        # Browsers decode a JPEG at full size, and not all in the same way.
        assert_alike(answer["printed"], faces, 1 if photo.suffix == ".jpg" else 0.1)
    assert "broken.jpg" in refused["status"]
    assert_alike(seen["dropped"]["printed"], expected[0], 1)
    [face] = json.loads(seen["camera"]["printed"])
    assert face["label"] == "기쁨" and seen["camera"]["button"] == "카메라 끄기"
    assert seen["stopped"] == "카메라 켜기" and seen["otherLanguage"]["lang"] == "en"
    assert seen["messages"] == []
    assert {line.split(" ")[0] for line in seen["addresses"]} == {"GET"}
    assert all(line.startswith(f"GET {address}") for line in seen["addresses"])


@contextmanager
def started_page(folder: Path) -> Iterator[str]:
    """Start the server as a user does. Yield its address."""
    words = [sys.executable, "-m", "demo.web", "--port", "0"]
    with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout
        yield server.stdout.readline().split(" ")[0]
        server.terminate()


@pytest.mark.slow
def test_command_line_of_the_page(tmp_path):
    done = run_module("demo.web", "--model_path", "no.onnx", cwd=tmp_path)
    one_line_error(done, "no.onnx")
