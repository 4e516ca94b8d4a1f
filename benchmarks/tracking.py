"""Follow six real faces through a film in which they cross, turn, leave and come back.

The film is made in memory: faces cut out of photos move over a moving background, one in front of
the other. They roll (turn in the picture), yaw (become narrow) and pass through light and shade;
two of them leave the picture at times. Where each face is, is known. Counted are:

own        share of the frames with a visible face in which it has its own number, the one that it
           has most often if each number belongs to one face
switches   times that a face gets another number than before
stolen     times that a number goes to another face than before
lost       times that a visible face is not tracked any more
numbers    numbers used, at best as many as faces
false      frames with a tracked box where no face is, or a second one on a face
CPU        milliseconds of processor time a frame, without and with the detection, on one thread

  python -m benchmarks.tracking --photos photos
  python -m benchmarks.tracking --photos photos --baseline ../other-checkout
"""

from __future__ import annotations

import importlib.util
import math
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import permutations
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from PIL import Image

from utils import cli
from utils.errors import StageError
from utils.imaging.geometry import Box, iou
from utils.imaging.image_io import open_image, to_channels
from utils.recognition import tracking
from utils.recognition.face_detection import DetectionOptions, FaceFinder
from utils.recognition.faces import DetectedFace

WIDTH, HEIGHT, RATE = 960, 540, 25  # pixels, frames per second
FACES = 6
VISIBLE = 0.5  # part of a face that can be seen: of less, nobody must find it
HIDDEN = 0.1  # part of a face below which nobody can find it
CLEAR_SCORE, CLEAR_MARGIN = 0.98, 0.06  # of a face that is cut out: hair and ears are with it
SAME = 0.4  # intersection over union of a face and a tracked box
BODY, BODY_DOWN = (2.2, 1.25), 2.5  # half width, half height, distance, in halves of the face's
MASK_SCALE = 4  # visibility is counted in a copy of this fraction


class Pose(NamedTuple):
    """Where a face is in one frame, and how it is turned."""

    x: float  # pixels
    y: float
    scale: float  # pixels of the film for one of the photo
    roll: float  # radians
    narrow: float  # width as a fraction of the width from the front
    light: float


class Truth(NamedTuple):
    """A face in one frame."""

    box: Box
    visible: float  # part of it that can be seen, from 0 to 1


class Actor:
    """A face cut out of a photo, and its way through the film."""

    def __init__(self, photo: Image.Image, face: Box, depth: int, random: np.random.Generator):
        """`depth`: from 0, the farthest and smallest face."""
        size = 100 + 14 * depth  # pixels of the face's height in the film
        factor = 1.2 * size / face.height  # no pixels that the film cannot show
        photo = photo.resize((round(photo.width * factor), round(photo.height * factor)))
        face = Box(*(value * factor for value in face))
        x, y = (face.left + face.right) / 2, (face.top + face.bottom) / 2
        pad = round(1.5 * face.height)  # room for the shoulders
        self.middle, self.half = (x + pad, y + pad), (face.width / 2, face.height / 2)
        self.head_half = (self.half[0] * 1.35, self.half[1] * 1.35)
        blank = cv2.BORDER_CONSTANT
        padded = cv2.copyMakeBorder(np.asarray(photo)[..., ::-1], pad, pad, pad, pad, blank)
        inside = np.zeros(padded.shape[:2], np.uint8)
        inside[pad:-pad, pad:-pad] = 255
        self.pixels = self._cut(padded, inside, random.integers(20, 200, 3).tolist())
        self._scale = size / face.height
        self._leaves = depth in (1, 4)
        self._phases = random.uniform(0, 2 * math.pi, 6)
        self._periods = RATE * random.uniform([13, 7, 6, 6, 5, 9], [22, 13, 10, 10, 9, 15])
        self._y = random.uniform(0.35, 0.65)

    def _cut(self, photo: np.ndarray, inside: np.ndarray, cloth: list[int]) -> np.ndarray:
        """Return blue, green, red times opacity, and the opacity, of a head above shoulders."""
        (x, y), (half_width, half_height) = self.middle, self.half
        head, body = np.zeros_like(inside), np.zeros_like(inside)
        picture = np.full_like(photo, cloth)
        skin = cv2.mean(photo[round(y) : round(y + half_height / 2), round(x) - 5 : round(x) + 5])
        shoulders = (BODY[0] * half_width, BODY[1] * half_height)
        for part, colour, place, half in (
            (body, cloth, (x, y + BODY_DOWN * half_height), shoulders),
            (body, skin[:3], (x, y + half_height), (0.6 * half_width, 0.6 * half_height)),
            (head, None, (x, y), self.head_half),
        ):
            centre, axes = (tuple(map(round, pair)) for pair in (place, half))
            cv2.ellipse(part, centre, axes, 0, 0, 360, 255, -1)
            if colour:
                cv2.ellipse(picture, centre, axes, 0, 0, 360, colour, -1)
        inner = cv2.GaussianBlur(np.minimum(head, inside), (0, 0), 1.5)
        shown = np.minimum(inner, inside)[..., None] / 255.0  # of the photo
        alpha = np.maximum(shown, cv2.GaussianBlur(body, (0, 0), 1.5)[..., None] / 255.0)
        mixed = photo * shown + picture * (alpha - shown)
        return np.concatenate([mixed, 255 * alpha], axis=2).astype(np.uint8)

    def pose(self, frame: int) -> Pose:
        """Return the face's pose in a frame."""
        x, y, roll, yaw, light, size = np.sin(
            2 * math.pi * frame / self._periods + self._phases
        ).tolist()
        reach = 0.68 if self._leaves else 0.4
        return Pose(
            WIDTH * (0.5 + reach * x),
            HEIGHT * (self._y + 0.2 * y),
            self._scale * (1 + 0.15 * size),
            math.radians(22) * roll,
            math.cos(math.radians(55) * yaw),
            0.95 + 0.3 * light,
        )

    def matrix(self, pose: Pose) -> np.ndarray:
        """Return the way of the photo's pixels into the film, (2, 3)."""
        cos, sin = math.cos(pose.roll) * pose.scale, math.sin(pose.roll) * pose.scale
        turn = np.array([[cos * pose.narrow, -sin], [sin * pose.narrow, cos]])
        shift = np.array([pose.x, pose.y]) - turn @ np.array(self.middle)
        return np.hstack([turn, shift[:, None]])

    def box(self, pose: Pose) -> Box:
        """Return the rectangle around the turned ellipse of the face."""
        a, b = self.half[0] * pose.scale * pose.narrow, self.half[1] * pose.scale
        cos, sin = math.cos(pose.roll), math.sin(pose.roll)
        x, y = math.hypot(a * cos, b * sin), math.hypot(a * sin, b * cos)
        return Box(pose.x - x, pose.y - y, pose.x + x, pose.y + y)


class Film:
    """Frames and the truth about them."""

    def __init__(self, photos: list[Path], finder: FaceFinder, seed: int) -> None:
        """Choose the faces and their ways by `seed`."""
        random = np.random.default_rng(seed)
        self.actors: list[Actor] = []
        people: set[str] = set()
        for i in random.permutation(len(photos)):
            person = photos[i].name.split("_")[0]
            face = None if person in people else clear_face(photos[i], finder)
            if face:
                people.add(person)
                self.actors.append(Actor(*face, len(self.actors), random))
            if len(self.actors) == FACES:
                break
        else:
            raise StageError(f"--photos: {FACES} photos with one clear face each are needed")
        noise = random.integers(0, 255, (2 * HEIGHT, 2 * WIDTH, 3), np.uint8)
        background = cv2.GaussianBlur(noise, (0, 0), 12).astype(np.float32)
        self._background = np.clip(110 + 10 * (background - 128), 0, 255).astype(np.uint8)
        self._noise = random.normal(0, 4, (HEIGHT, WIDTH, 3)).astype(np.int16)

    def frames(self, count: int) -> Iterator[tuple[np.ndarray, list[Truth]]]:
        """Yield frames, uint8 BGR, each with its faces."""
        for i in range(count):
            poses = [actor.pose(i) for actor in self.actors]
            left, top = round(WIDTH * (0.5 + 0.5 * math.sin(i / 80))), round(HEIGHT * 0.3)
            frame = self._background[top : top + HEIGHT, left : left + WIDTH].copy()
            for actor, pose in zip(self.actors, poses, strict=True):
                paint(frame, actor, pose)
            noisy = frame + np.roll(self._noise, (37 * i, 101 * i), (0, 1))
            yield np.clip(noisy, 0, 255).astype(np.uint8), self._truths(poses)

    def _truths(self, poses: list[Pose]) -> list[Truth]:
        """Return where the faces are and how much of them the nearer heads leave visible."""
        size = HEIGHT // MASK_SCALE, WIDTH // MASK_SCALE
        owner, areas = np.zeros(size, np.uint8), []
        for i, (actor, pose) in enumerate(zip(self.actors, poses, strict=True), 1):
            half_width, half_height = actor.half
            body = (BODY[0] * half_width, BODY[1] * half_height)
            draw_ellipse(owner, pose, body, 0, BODY_DOWN * half_height)
            draw_ellipse(owner, pose, actor.head_half, 0)
            draw_ellipse(owner, pose, actor.half, i)
            area = math.pi * half_width * half_height * pose.narrow * pose.scale**2
            areas.append(area / MASK_SCALE**2)
        counts = np.bincount(owner.ravel(), minlength=FACES + 1)[1:]
        return [
            Truth(actor.box(pose), min(1.0, count / area))
            for actor, pose, count, area in zip(self.actors, poses, counts, areas, strict=True)
        ]


def clear_face(path: Path, finder: FaceFinder) -> tuple[Image.Image, Box] | None:
    """Return a photo of one large, sure face, and the face; None if it shows another number."""
    photo = to_channels(open_image(path), 3)
    faces = finder(photo)
    if len(faces) != 1 or (faces[0].score or 0) < CLEAR_SCORE:
        return None
    left, top, right, _ = face = faces[0].box
    edge = min(left, top, photo.width - right)
    return (photo, face) if edge > CLEAR_MARGIN * face.height > 5 else None


def paint(frame: np.ndarray, actor: Actor, pose: Pose) -> None:
    """Paint a face into a frame, in place."""
    size = actor.half[1] * pose.scale
    left, top = max(0, round(pose.x - 3.4 * size)), max(0, round(pose.y - 3 * size))
    right = min(WIDTH, round(pose.x + 3.4 * size))
    bottom = min(HEIGHT, round(pose.y + 3.7 * size))
    if left >= right or top >= bottom:
        return
    matrix = actor.matrix(pose) - np.array([[0, 0, left], [0, 0, top]])
    layer = cv2.warpAffine(actor.pixels, matrix, (right - left, bottom - top))
    part = frame[top:bottom, left:right]
    opacity = layer[..., 3:] / 255.0
    part[:] = np.clip(part * (1 - opacity) + pose.light * layer[..., :3], 0, 255)


def draw_ellipse(
    mask: np.ndarray, pose: Pose, half: tuple[float, float], value: int, down: float = 0
) -> None:
    """Fill an ellipse with a value, in a reduced mask: a face's, or one `down` below its middle."""
    scale = pose.scale / MASK_SCALE
    x, y = pose.x - math.sin(pose.roll) * pose.scale * down, pose.y
    y += math.cos(pose.roll) * pose.scale * down
    centre = round(x / MASK_SCALE), round(y / MASK_SCALE)
    axes = max(1, round(half[0] * scale * pose.narrow)), max(1, round(half[1] * scale))
    cv2.ellipse(mask, centre, axes, math.degrees(pose.roll), 0, 360, value, -1)


@dataclass
class Score:
    """What a tracker did right and wrong in a film."""

    switches: int = 0
    stolen: int = 0
    lost: int = 0
    false: int = 0
    numbers: set[int] = field(default_factory=set)
    visible: Counter[int] = field(default_factory=Counter)  # face: frames
    together: Counter[tuple[int, int]] = field(default_factory=Counter)  # face, number: frames
    _last: dict[int, int] = field(default_factory=dict)  # face: its last number
    _owners: dict[int, int] = field(default_factory=dict)  # number: its last face
    _tracked: set[int] = field(default_factory=set)  # faces of the frame before

    def add(self, truths: list[Truth], boxes: dict[int, Box]) -> None:
        """Count a frame. `boxes`: number of a track: its box."""
        self.numbers |= set(boxes)
        matches = self._match(truths, boxes)
        for face, number in matches.items():
            self.switches += self._last.get(face, number) != number
            self.stolen += self._owners.get(number, face) != face
            self._last[face], self._owners[number] = number, face
        for face, truth in enumerate(truths):
            if truth.visible >= VISIBLE:
                self.visible[face] += 1
                if face in matches:
                    self.together[face, matches[face]] += 1
                self.lost += face in self._tracked and face not in matches
        self._tracked = set(matches)
        hidden = [truth.box for truth in truths if HIDDEN <= truth.visible < VISIBLE]
        for number, box in boxes.items():
            if number not in matches.values():
                self.false += not any(iou(box, other) >= SAME for other in hidden)

    def _match(self, truths: list[Truth], boxes: dict[int, Box]) -> dict[int, int]:
        """Return the number of each visible face: its last one if that is on it, or the best."""
        pairs = sorted(
            ((self._last.get(face) == number, iou(truth.box, box), face, number)
             for face, truth in enumerate(truths) if truth.visible >= VISIBLE
             for number, box in boxes.items() if iou(truth.box, box) >= SAME),
            reverse=True,
        )  # fmt: skip
        matches: dict[int, int] = {}
        for _, _, face, number in pairs:
            if face not in matches and number not in matches.values():
                matches[face] = number
        return matches

    @property
    def own(self) -> float:
        """Return the mean share of its visible frames in which a face has its own number."""
        shares: dict[tuple[int, int], float] = {
            pair: count / self.visible[pair[0]] for pair, count in self.together.items()
        }
        # Of each face only its most frequent numbers can matter.
        best = [number for (_, number), _ in self.together.most_common(8)]
        numbers = list(dict.fromkeys(best)) + [0] * FACES
        ways = permutations(numbers[: max(FACES, len(set(best)))], FACES)
        total = max(
            sum(shares.get((face, number), 0.0) for face, number in enumerate(way)) for way in ways
        )
        return total / FACES


class TimedFinder(FaceFinder):
    """A FaceFinder whose processor time is known."""

    def __init__(self, finder: FaceFinder) -> None:
        self._finder, self.seconds = finder, 0.0
        self.min_face, self.min_score = finder.min_face, finder.min_score

    def __call__(self, *args: Any, **options: Any) -> list[DetectedFace]:
        """Return the faces, see FaceFinder."""
        started = time.process_time()
        faces = self._finder(*args, **options)
        self.seconds += time.process_time() - started
        return faces


@dataclass
class Run:
    """A tracker on its way through a film."""

    name: str
    tracker: tracking.Tracker
    finder: TimedFinder
    score: Score = field(default_factory=Score)
    seconds: float = 0.0  # of processor time

    def step(self, frame: np.ndarray, truths: list[Truth]) -> None:
        """Track the faces of the next frame, and count."""
        started = time.process_time()
        tracks = self.tracker.update(frame)
        self.seconds += time.process_time() - started
        self.score.add(truths, {track.number: track.box for track in tracks})

    def line(self, seed: int, frames: int) -> str:
        """Return the result in one line."""
        score, total = self.score, 1000 * self.seconds / frames
        tracking_alone = total - 1000 * self.finder.seconds / frames
        return (
            f"{self.name:9} {seed:4}  {score.own:4.0%}  {score.switches:8} {score.stolen:7} "
            f"{score.lost:5} {len(score.numbers):8} {score.false:6} {tracking_alone:5.1f} "
            f"{total:15.1f}"
        )


def main() -> int:
    parser = cli.Parser(__doc__)
    flag = parser.flag
    photos_help = "folder of photos, one face each"
    flag("--photos", photos_help, None, cli.path, metavar="DIR", required=True)
    other = "another checkout of this project, whose tracker runs beside this one's"
    flag("--baseline", other, None, cli.path, metavar="DIR")
    flag("--seeds", "films", 3, cli.positive_int, metavar="N")
    flag("--frames", "frames of a film, 25 a second", 750, cli.positive_int, metavar="N")
    flag("--detect_every", "frames between detections", 5, cli.positive_int, metavar="N")
    args = parser.parse_args()
    photos = sorted(path for path in args.photos.rglob("*") if path.suffix.lower() == ".jpg")
    trackers = {"this": tracking.Tracker}
    if args.baseline:
        trackers["baseline"] = load_tracker(args.baseline)

    finder = FaceFinder(DetectionOptions())
    print("tracker   seed   own  switches  stolen  lost  numbers  false   CPU  with detection")
    for seed in range(args.seeds):
        film = Film(photos, finder, seed)
        runs = [
            Run(name, tracker(args.detect_every, timed := TimedFinder(finder)), timed)
            for name, tracker in trackers.items()
        ]
        for frame, truths in film.frames(args.frames):
            for run in runs:
                run.step(frame, truths)
        for run in runs:
            print(run.line(seed, args.frames), flush=True)
    return cli.OK


def load_tracker(checkout: Path) -> Any:
    """Return the class Tracker of another checkout; it works with this one's detector."""
    path = checkout / "utils" / "recognition" / "tracking.py"
    spec = importlib.util.spec_from_file_location("baseline_tracking", path)
    if not path.is_file() or not spec or not spec.loader:
        raise StageError(f"--baseline {checkout}: there is no {path.relative_to(checkout)}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module.Tracker


if __name__ == "__main__":
    cli.run(main)
