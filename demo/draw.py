"""Paints photos of cartoon faces that show one of the seven emotions, more or less clearly."""

from __future__ import annotations

import math
import random

from PIL import Image, ImageDraw, ImageFilter

from utils.imaging.geometry import Box

PHOTO = (400, 300)  # width, height in pixels

# What each emotion does to a face, each from -1 to 1 or 0 to 1. Every photo shows it at a strength
# of its own, between nearly neutral and fully: the weak ones are what makes the task hard.
#            mouth:  curve  open  width  wave   brows: raise  tilt   eyes: open  tear  cheeks
SHAPES = {
    "기쁨": (+1.0, 0.35, +0.5, 0.0, +0.2, 0.0, -0.4, 0.0, 1.0),
    "당황": (+0.0, 1.00, -0.7, 0.0, +1.0, 0.0, +1.0, 0.0, 0.3),
    "분노": (-0.4, 0.30, +0.3, 0.0, -0.6, +1.0, -0.1, 0.0, 0.0),
    "불안": (-0.1, 0.00, +0.3, 1.0, +0.4, -0.5, +0.6, 0.0, 0.0),
    "상처": (-0.6, 0.00, -0.5, 0.0, -0.1, -0.4, -1.0, 0.0, 0.0),
    "슬픔": (-1.0, 0.00, +0.0, 0.0, +0.1, -1.0, -0.4, 1.0, 0.0),
    "중립": (+0.0, 0.00, +0.0, 0.0, +0.0, 0.0, +0.0, 0.0, 0.0),
}


def draw_photo(emotion: str, chance: random.Random) -> tuple[Image.Image, Box]:
    """A photo with one face in it, and the face's true box in pixels."""
    width, height = PHOTO
    photo = Image.new("RGB", PHOTO, _colour(chance, 60, 230))
    paint = ImageDraw.Draw(photo)
    for _ in range(6):  # whatever stands in the background
        x, y, size = chance.randrange(width), chance.randrange(height), chance.randrange(30, 120)
        shape = chance.choice((paint.ellipse, paint.rectangle))
        shape((x, y, x + size, y + size), fill=_colour(chance, 40, 240))

    radius = chance.uniform(45, 85)
    x = chance.uniform(radius * 1.2, width - radius * 1.2)
    y = chance.uniform(radius * 1.35, height - radius * 1.35)
    face = _draw_face(emotion, chance).rotate(chance.uniform(-12, 12), Image.Resampling.BICUBIC)
    side = round(radius * 2.6)
    face = face.resize((side, side), Image.Resampling.LANCZOS)
    photo.paste(face, (round(x - side / 2), round(y - side / 2)), face)

    photo = photo.filter(ImageFilter.GaussianBlur(chance.uniform(0, 1.5)))
    noise = Image.effect_noise(PHOTO, chance.uniform(10, 60)).convert("RGB")
    photo = Image.blend(photo, noise, 0.12).point(_contrast(chance))
    return photo, Box(x - radius, y - radius * 1.15, x + radius, y + radius * 1.15)


def _draw_face(emotion: str, chance: random.Random) -> Image.Image:
    """A face on a transparent square of 520 pixels; its radius is 200."""
    strength = chance.uniform(0.35, 1.0)
    curve, opened, wide, wave, lift, tilt, eyes, tear, cheeks = (
        value * strength + chance.gauss(0, 0.08) for value in SHAPES[emotion]
    )
    image = Image.new("RGBA", (520, 520))
    paint = ImageDraw.Draw(image)
    skin = chance.choice(((245, 214, 186), (224, 180, 140), (190, 138, 100), (140, 96, 70)))
    hair = chance.choice(((30, 25, 25), (70, 45, 30), (150, 110, 60), (120, 120, 125)))
    dark = (45, 30, 30)

    top = chance.uniform(0, 40)
    paint.ellipse((48, 12 - top / 4, 472, 380), fill=hair)
    stretch = chance.uniform(-12, 12)
    paint.ellipse((60 + stretch, 30 + top, 460 - stretch, 490), fill=skin)
    for side in (-1, 1):
        x, y = 260 + side * (85 + chance.uniform(-6, 6)), 225
        # An eye: white, iris, and as much of lid as it is closed.
        open_by = max(4.0, 26 * (1 + eyes) / 1.3)
        paint.ellipse(
            (x - 36, y - open_by, x + 36, y + open_by), fill="white", outline=dark, width=6
        )
        iris = min(16.0, open_by - 1)
        paint.ellipse((x - iris, y - iris, x + iris, y + iris), fill=dark)
        # A brow: raised as a whole, tilted towards the nose (down when angry, up when sad).
        inner, outer = y - 62 - 28 * lift + 26 * tilt, y - 62 - 28 * lift - 18 * tilt
        paint.line((x - side * 42, inner, x + side * 44, outer), fill=hair, width=14)
        if tear > 0.3:
            paint.ellipse((x - 12, y + 34, x + 12, y + 34 + 70 * tear), fill=(120, 180, 240))
        if cheeks > 0.3:
            paint.ellipse((x - 30, 285, x + 30, 320), fill=_mix(skin, (235, 110, 110), cheeks / 2))
    paint.line((260, 250, 248, 300, 266, 304), fill=_mix(skin, dark, 0.5), width=7)
    if chance.random() < 0.25:  # glasses
        for x in (175, 345):
            paint.ellipse((x - 56, 172, x + 56, 280), outline=(20, 20, 60), width=8)
        paint.line((231, 222, 289, 222), fill=(20, 20, 60), width=8)

    half = 75 * (1 + 0.45 * wide)
    upper = [_mouth(t / 20, half, curve, wave, -30 * max(opened, 0)) for t in range(21)]
    lower = [_mouth(t / 20, half, curve, wave, 38 * max(opened, 0)) for t in range(21)]
    paint.polygon(upper + lower[::-1], fill=(120, 30, 40))
    paint.line(upper, fill=(110, 40, 45), width=11, joint="curve")
    paint.line(lower, fill=(110, 40, 45), width=11, joint="curve")
    return image


def _mouth(t: float, half: float, curve: float, wave: float, open_by: float) -> tuple[float, float]:
    """A point of a lip, from the left corner (t = 0) to the right one (1)."""
    arch = 1 - (2 * t - 1) ** 2
    y = 385 + 40 * curve * (arch - 0.5) + 16 * wave * math.sin(t * 6 * math.pi) + open_by * arch
    return 260 + half * (2 * t - 1), y


def _contrast(chance: random.Random) -> list[int]:
    gain, shift = chance.uniform(0.6, 1.2), chance.uniform(-30, 40)
    return [max(0, min(255, round((v - 128) * gain + 128 + shift))) for v in range(256)] * 3


def _colour(chance: random.Random, low: int, high: int) -> tuple[int, int, int]:
    return chance.randrange(low, high), chance.randrange(low, high), chance.randrange(low, high)


def _mix(a: tuple, b: tuple, share: float) -> tuple[int, ...]:
    share = max(0.0, min(1.0, share))
    return tuple(round(x * (1 - share) + y * share) for x, y in zip(a, b, strict=True))
