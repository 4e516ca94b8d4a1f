"""Paint photos of cartoon faces that show one of the seven emotions, more or less clearly."""

from __future__ import annotations

import math
import random
from typing import NamedTuple

from PIL import Image, ImageDraw, ImageFilter

from utils.imaging.geometry import Box

PHOTO_SIZE = (400, 300)  # width, height in pixels
FACE_SIDE = 520  # pixels of the square on which a face is painted
DARK, LIP, MOUTH = (45, 30, 30), (110, 40, 45), (120, 30, 40)
TEAR, BLUSH, GLASSES = (120, 180, 240), (235, 110, 110), (20, 20, 60)
SKINS = ((245, 214, 186), (224, 180, 140), (190, 138, 100), (140, 96, 70))
HAIRS = ((30, 25, 25), (70, 45, 30), (150, 110, 60), (120, 120, 125))

Colour = tuple[int, ...]  # RGB


class Expression(NamedTuple):
    """What an emotion does to a face, about -1 to 1 or 0 to 1 each; 0 is neutral."""

    mouth_curve: float  # up, down
    mouth_open: float
    mouth_width: float
    mouth_wave: float
    brow_raise: float
    brow_tilt: float  # inner ends down (anger), up (sadness)
    eyes_open: float
    tear: float
    cheeks: float  # redness


# A photo shows its emotion at a random strength between nearly neutral and full. The weak ones make
# the task hard.
#                       mouth: curve open width wave   brows: raise tilt  eyes: open tear cheeks
EXPRESSIONS = {
    "기쁨": Expression(+1.0, 0.35, +0.5, 0.0, +0.2, 0.0, -0.4, 0.0, 1.0),
    "당황": Expression(+0.0, 1.00, -0.7, 0.0, +1.0, 0.0, +1.0, 0.0, 0.3),
    "분노": Expression(-0.4, 0.30, +0.3, 0.0, -0.6, +1.0, -0.1, 0.0, 0.0),
    "불안": Expression(-0.1, 0.00, +0.3, 1.0, +0.4, -0.5, +0.6, 0.0, 0.0),
    "상처": Expression(-0.6, 0.00, -0.5, 0.0, -0.1, -0.4, -1.0, 0.0, 0.0),
    "슬픔": Expression(-1.0, 0.00, +0.0, 0.0, +0.1, -1.0, -0.4, 1.0, 0.0),
    "중립": Expression(+0.0, 0.00, +0.0, 0.0, +0.0, 0.0, +0.0, 0.0, 0.0),
}


def draw_photo(emotion: str, rng: random.Random) -> tuple[Image.Image, Box]:
    """Return a photo with one face, and the face's true box in pixels."""
    width, height = PHOTO_SIZE
    photo = Image.new("RGB", PHOTO_SIZE, _random_colour(rng, 60, 230))
    paint = ImageDraw.Draw(photo)
    for _ in range(6):  # shapes in the background
        left, top, size = rng.randrange(width), rng.randrange(height), rng.randrange(30, 120)
        shape = rng.choice((paint.ellipse, paint.rectangle))
        shape((left, top, left + size, top + size), fill=_random_colour(rng, 40, 240))

    radius = rng.uniform(45, 85)
    x = rng.uniform(radius * 1.2, width - radius * 1.2)
    y = rng.uniform(radius * 1.35, height - radius * 1.35)
    face = _draw_face(emotion, rng).rotate(rng.uniform(-12, 12), Image.Resampling.BICUBIC)
    side = round(radius * 2.6)
    face = face.resize((side, side), Image.Resampling.LANCZOS)
    photo.paste(face, (round(x - side / 2), round(y - side / 2)), face)

    photo = photo.filter(ImageFilter.GaussianBlur(rng.uniform(0, 1.5)))
    noise = Image.effect_noise(PHOTO_SIZE, rng.uniform(10, 60)).convert("RGB")
    photo = Image.blend(photo, noise, 0.12).point(_random_contrast(rng))
    return photo, Box(x - radius, y - radius * 1.15, x + radius, y + radius * 1.15)


def _draw_face(emotion: str, rng: random.Random) -> Image.Image:
    """Return a face with a radius of 200 pixels on a transparent square of FACE_SIDE pixels."""
    strength = rng.uniform(0.35, 1.0)
    expression = Expression(
        *(value * strength + rng.gauss(0, 0.08) for value in EXPRESSIONS[emotion])
    )
    image = Image.new("RGBA", (FACE_SIDE, FACE_SIDE))
    paint = ImageDraw.Draw(image)
    skin, hair = rng.choice(SKINS), rng.choice(HAIRS)
    hairline = rng.uniform(0, 40)
    paint.ellipse((48, 12 - hairline / 4, 472, 380), fill=hair)
    stretch = rng.uniform(-12, 12)
    paint.ellipse((60 + stretch, 30 + hairline, 460 - stretch, 490), fill=skin)
    for side in (-1, 1):
        x = FACE_SIDE / 2 + side * (85 + rng.uniform(-6, 6))
        _draw_eye(paint, x, side, expression, skin, hair)
    paint.line((260, 250, 248, 300, 266, 304), fill=_mix(skin, DARK, 0.5), width=7)  # nose
    if rng.random() < 0.25:
        for x in (175, 345):
            paint.ellipse((x - 56, 172, x + 56, 280), outline=GLASSES, width=8)
        paint.line((231, 222, 289, 222), fill=GLASSES, width=8)
    _draw_mouth(paint, expression)
    return image


def _draw_eye(
    paint: ImageDraw.ImageDraw,
    x: float,
    side: int,
    expression: Expression,
    skin: Colour,
    hair: Colour,
) -> None:
    """Draw an eye around x, its brow, tear and cheek. `side`: -1 left, 1 right."""
    y = 225
    opening = max(4.0, 26 * (1 + expression.eyes_open) / 1.3)
    paint.ellipse((x - 36, y - opening, x + 36, y + opening), fill="white", outline=DARK, width=6)
    iris = min(16.0, opening - 1)
    paint.ellipse((x - iris, y - iris, x + iris, y + iris), fill=DARK)
    brow = y - 62 - 28 * expression.brow_raise
    inner, outer = brow + 26 * expression.brow_tilt, brow - 18 * expression.brow_tilt
    paint.line((x - side * 42, inner, x + side * 44, outer), fill=hair, width=14)
    if expression.tear > 0.3:
        paint.ellipse((x - 12, y + 34, x + 12, y + 34 + 70 * expression.tear), fill=TEAR)
    if expression.cheeks > 0.3:
        paint.ellipse((x - 30, 285, x + 30, 320), fill=_mix(skin, BLUSH, expression.cheeks / 2))


def _draw_mouth(paint: ImageDraw.ImageDraw, expression: Expression) -> None:
    """Draw both lips and what is between them."""
    opening = max(expression.mouth_open, 0)
    upper = [_lip_point(t / 20, expression, -30 * opening) for t in range(21)]
    lower = [_lip_point(t / 20, expression, 38 * opening) for t in range(21)]
    paint.polygon(upper + lower[::-1], fill=MOUTH)
    for lip in (upper, lower):
        paint.line(lip, fill=LIP, width=11, joint="curve")


def _lip_point(t: float, expression: Expression, opening: float) -> tuple[float, float]:
    """Return a point of a lip, from the left corner (t = 0) to the right one (t = 1)."""
    half_width = 75 * (1 + 0.45 * expression.mouth_width)
    arch = 1 - (2 * t - 1) ** 2
    curve = 40 * expression.mouth_curve * (arch - 0.5)
    wave = 16 * expression.mouth_wave * math.sin(t * 6 * math.pi)
    return 260 + half_width * (2 * t - 1), 385 + curve + wave + opening * arch


def _random_contrast(rng: random.Random) -> list[int]:
    """Return a table for `Image.point` that changes contrast and brightness."""
    gain, shift = rng.uniform(0.6, 1.2), rng.uniform(-30, 40)
    return [max(0, min(255, round((v - 128) * gain + 128 + shift))) for v in range(256)] * 3


def _random_colour(rng: random.Random, low: int, high: int) -> tuple[int, int, int]:
    return rng.randrange(low, high), rng.randrange(low, high), rng.randrange(low, high)


def _mix(a: Colour, b: Colour, weight: float) -> Colour:
    """Return `weight` of b and the rest of a."""
    weight = max(0.0, min(1.0, weight))
    return tuple(round(x * (1 - weight) + y * weight) for x, y in zip(a, b, strict=True))
