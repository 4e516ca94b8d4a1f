"""Short films, written by PyAV: with sound, turned, cut off, with frames of unequal length."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

MILLISECOND = Fraction(1, 1000)
HERTZ = 48_000  # samples of sound per second
BEEP = 880  # hertz

# Upper left 2 × 2 of a display matrix for the EXIF orientations 1 to 8.
MATRICES = {
    1: (1, 0, 0, 1), 2: (-1, 0, 0, 1), 3: (-1, 0, 0, -1), 4: (1, 0, 0, -1),
    5: (0, 1, 1, 0), 6: (0, 1, -1, 0), 7: (0, -1, -1, 0), 8: (0, -1, 1, 0),
}  # fmt: skip


def grey_frames(count: int, size: tuple[int, int] = (64, 48)) -> list[np.ndarray]:
    """Return frames, uint8 BGR, each brighter than the one before; `brightness` tells which."""
    return [np.full((size[1], size[0], 3), 20 + 200 * i // count, np.uint8) for i in range(count)]


def noise_frames(count: int, size: tuple[int, int] = (160, 120)) -> list[np.ndarray]:
    """Return frames that do not compress well: each takes its part of a file."""
    chance = np.random.default_rng(0)
    return [chance.integers(0, 256, (size[1], size[0], 3), np.uint8) for _ in range(count)]


def write_film(
    path: Path,
    frames: Sequence[np.ndarray],
    times: Sequence[float] | float = 25,
    codec: str = "libx264",
    sound: str = "",
    beep: tuple[float, float] = (0, 0),
    sound_from: float = 0,
    **options: str,
) -> Path:
    """Write frames, uint8 BGR, at their `times` in seconds, or at a rate. Return the path.

    `sound` is the codec of a sound that lasts as long as the frames and is silent but for a `beep`;
    it begins `sound_from` seconds after 0. `options` are those of the format.
    """
    rate = 25 if isinstance(times, Sequence) else times
    if not isinstance(times, Sequence):
        times = [number / rate for number in range(len(frames))]
    with av.open(str(path), "w", container_options=options) as film:
        stream = film.add_stream(codec, rate=rate)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        if codec == "libvpx":
            stream.options = {"deadline": "realtime", "cpu-used": "8", "g": "1"}
        if codec == "libx264":
            stream.options = {"crf": "10", "bf": "0"}
            stream.codec_context.time_base = MILLISECOND
        track = film.add_stream(sound, rate=HERTZ, layout="mono") if sound else None
        film.start_encoding()
        if track:
            film.mux(track.encode(_sound(sound_from, times[-1] + 1 / rate, beep)))
            film.mux(track.encode(None))
        for pixels, second in zip(frames, times, strict=True):
            frame = av.VideoFrame.from_ndarray(pixels, "bgr24")
            base = stream.codec_context.time_base
            frame.pts, frame.time_base = round(second / base), base
            film.mux(stream.encode(frame))
        film.mux(stream.encode(None))
    return path


def _sound(start: float, end: float, beep: tuple[float, float]) -> av.AudioFrame:
    seconds = np.arange(round(start * HERTZ), round(end * HERTZ)) / HERTZ
    tone = np.sin(2 * np.pi * BEEP * seconds) * ((seconds >= beep[0]) & (seconds < beep[1]))
    frame = av.AudioFrame.from_ndarray((20_000 * tone).astype(np.int16)[None], "s16", "mono")
    frame.sample_rate, frame.pts, frame.time_base = HERTZ, round(start * HERTZ), Fraction(1, HERTZ)
    return frame


def turn(path: Path, orientation: int) -> None:
    """Let an .mp4 say that it is to be displayed in one of the EXIF orientations."""
    content = bytearray(path.read_bytes())
    matrix = content.index(b"tkhd") + 44
    a, b, c, d = (number << 16 for number in MATRICES[orientation])
    content[matrix : matrix + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(content)


def cut(path: Path, share: float) -> Path:
    """Cut a file off, as a copy that was not finished. Return its path."""
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    return path


def read_film(path: Path) -> tuple[list[float], list[int]]:
    """Return the seconds of the frames, and how bright each is on average."""
    with av.open(str(path)) as film:
        frames = list(film.decode(video=0))
    brightness = [round(frame.to_ndarray(format="gray").mean()) for frame in frames]
    return [frame.time for frame in frames], brightness


def read_beep(path: Path) -> tuple[float, float]:
    """Return the seconds at which the sound becomes loud, and silent again."""
    converter = av.AudioResampler("s16", "mono", HERTZ)
    loud: list[float] = []
    with av.open(str(path)) as film:
        for frame in (part for whole in film.decode(audio=0) for part in converter.resample(whole)):
            samples = np.abs(frame.to_ndarray()[0].astype(int))
            loud += [frame.time + i / HERTZ for i in np.flatnonzero(samples > 8000)]
    return min(loud), max(loud)


def has_sound(path: Path) -> bool:
    with av.open(str(path)) as film:
        return bool(film.streams.audio)
