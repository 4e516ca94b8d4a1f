"""The sound of a file in the recording of its frames: copied or encoded, in time with them."""

from __future__ import annotations

from contextlib import ExitStack, closing
from pathlib import Path

import av
import numpy as np
import pytest

from tests.films import cut, grey_frames, has_sound, noise_frames, read_beep, read_film, write_film
from utils.recognition.sound import open_sound
from utils.recognition.video_io import VideoReader, VideoWriter

BEEP = (1.0, 1.4)  # seconds


def record(source: Path, path: Path, frames: int = 1000) -> None:
    """Record the frames of a file, or the first few, with its sound, as video.py does."""
    with closing(VideoReader(str(source))) as reader, ExitStack() as stack:
        sound = open_sound(source, reader.start, stack)
        writer = stack.enter_context(VideoWriter(path, reader.size, reader.rate, sound))
        for frame in reader:
            writer.write(frame)
            if frame.number + 1 == frames:
                return
        writer.finish()


def sound_of(path: Path) -> tuple[str, list[bytes]]:
    """Return the codec of the sound, and its packets."""
    with av.open(str(path)) as film:
        [track] = film.streams.audio
        return track.codec_context.name, [bytes(p) for p in film.demux(track) if p.size]


def flash(count: int, rate: int) -> list[np.ndarray]:
    """Return frames that are white while it beeps, else black."""
    size = (48, 64, 3)
    return [
        np.full(size, 255 if BEEP[0] <= number / rate < BEEP[1] else 0, np.uint8)
        for number in range(count)
    ]


def check_sync(path: Path, tolerance: float = 0.03) -> None:
    """Check that the frames are white while it beeps."""
    times, brightness = read_film(path)
    white = [time for time, grey in zip(times, brightness, strict=True) if grey > 128]
    beep = read_beep(path)
    assert beep[0] == pytest.approx(white[0], abs=tolerance)
    assert beep[1] == pytest.approx(white[-1] + 0.04, abs=tolerance + 0.01)


@pytest.mark.parametrize("name", ["out.mp4", "out.mov", "out.mkv"])
@pytest.mark.parametrize(
    ("suffix", "codec", "sound", "expected"),
    [
        ("mp4", "libx264", "aac", "aac"),
        ("mkv", "libx264", "aac", "aac"),
        ("ts", "libx264", "aac", "aac"),  # with a header in each packet
        ("mkv", "libx264", "mp3", "mp3float"),
        ("mkv", "libx264", "libopus", "aac"),
        ("mov", "mjpeg", "pcm_s16le", "aac"),
        ("avi", "mpeg4", "mp3", "mp3float"),
        ("avi", "mjpeg", "pcm_s16le", "aac"),
        ("mpg", "mpeg1video", "mp2", "aac"),
        ("mkv", "libx264", "ac3", "aac"),
        ("flv", "flv", "aac", "aac"),
    ],
)
def test_sound_is_carried_over_in_time(tmp_path, suffix, codec, sound, expected, name):
    source = write_film(tmp_path / f"x.{suffix}", flash(50, 25), 25, codec, sound, BEEP)
    record(source, tmp_path / name)
    assert sound_of(tmp_path / name)[0] == expected
    check_sync(tmp_path / name, 0.05)
    with av.open(str(tmp_path / name)) as film:
        assert film.duration / 1e6 == pytest.approx(2, abs=0.1)


@pytest.mark.parametrize("sound", ["aac", "mp3"])
def test_sound_that_players_know_is_copied_bit_for_bit(tmp_path, sound):
    source = write_film(tmp_path / "x.mkv", flash(50, 25), 25, "libx264", sound, BEEP)
    record(source, tmp_path / "out.mp4")
    codec, packets = sound_of(source)
    copied_codec, copied = sound_of(tmp_path / "out.mp4")
    assert codec == copied_codec and copied == packets[-len(copied) :]
    assert len(copied) >= len(packets) - 3  # less those before the first frame


@pytest.mark.parametrize("sound", ["aac", "libopus"])
def test_sound_keeps_time_if_the_frames_begin_later(tmp_path, sound):
    times = [0.6 + number / 25 for number in range(50)]
    frames = [flash(100, 25)[round(time * 25)] for time in times]
    source = write_film(tmp_path / "x.mkv", frames, times, "libx264", sound, BEEP)
    record(source, tmp_path / "out.mp4")
    check_sync(tmp_path / "out.mp4")
    assert read_beep(tmp_path / "out.mp4")[0] == pytest.approx(0.4, abs=0.03)


@pytest.mark.parametrize("sound", ["aac", "libopus"])
def test_sound_keeps_time_if_it_begins_later(tmp_path, sound):
    source = write_film(
        tmp_path / "x.mkv", flash(50, 25), 25, "libx264", sound, BEEP, sound_from=0.7
    )
    record(source, tmp_path / "out.mp4")
    check_sync(tmp_path / "out.mp4")


def test_sound_keeps_time_with_frames_of_unequal_length(tmp_path):
    times = [0, 0.5, 0.9, 1.0, 1.02, 1.36, 1.4, 1.9]
    frames = [np.full((48, 64, 3), 255 * (1 <= time < 1.4), np.uint8) for time in times]
    source = write_film(tmp_path / "x.mp4", frames, times, "libx264", "aac", BEEP)
    record(source, tmp_path / "out.mp4")
    assert read_film(tmp_path / "out.mp4")[0] == pytest.approx(times, abs=0.001)
    check_sync(tmp_path / "out.mp4")


def test_sound_goes_on_where_files_were_joined(tmp_path):
    part = write_film(tmp_path / "x.ts", flash(50, 25), 25, "libx264", "aac", BEEP).read_bytes()
    (tmp_path / "x.ts").write_bytes(part + part)
    record(tmp_path / "x.ts", tmp_path / "out.mp4")
    times, brightness = read_film(tmp_path / "out.mp4")
    white = [time for time, grey in zip(times, brightness, strict=True) if grey > 128]
    assert len(times) == 100 and white[-1] - white[0] == pytest.approx(2.36, abs=0.05)
    first, last = read_beep(tmp_path / "out.mp4")
    assert first == pytest.approx(white[0], abs=0.1) and last == pytest.approx(white[-1], abs=0.2)


@pytest.mark.parametrize("sound", ["aac", "libopus"])
def test_sound_ends_with_a_recording_that_is_stopped(tmp_path, sound):
    source = write_film(tmp_path / "x.mkv", flash(100, 25), 25, "libx264", sound, BEEP)
    record(source, tmp_path / "out.mp4", frames=30)
    with av.open(str(tmp_path / "out.mp4")) as film:
        for stream in film.streams:
            assert float(stream.duration * stream.time_base) == pytest.approx(1.2, abs=0.06)


def test_sound_of_a_film_that_is_cut_ends_with_it(tmp_path):
    path = tmp_path / "x.avi"
    cut(write_film(path, noise_frames(50), 25, "mjpeg", "pcm_s16le", (0.2, 0.5)), 0.6)
    record(path, tmp_path / "out.mp4")
    assert read_beep(tmp_path / "out.mp4") == pytest.approx((0.2, 0.5), abs=0.04)


def test_a_silent_film_stays_silent(tmp_path):
    record(write_film(tmp_path / "x.mp4", grey_frames(5)), tmp_path / "out.mp4")
    assert not has_sound(tmp_path / "out.mp4")


def test_sound_of_an_unknown_codec_is_reported(tmp_path, capsys):
    source = write_film(tmp_path / "x.avi", grey_frames(10), 25, "mjpeg", "mp3", BEEP)
    content = source.read_bytes()
    at = content.index(b"auds", content.index(b"strf")) if b"auds" in content else 0
    tag = content.index(b"strf", at) + 8
    source.write_bytes(content[:tag] + b"\x99\x99" + content[tag + 2 :])
    record(source, tmp_path / "out.mp4")
    assert len(read_film(tmp_path / "out.mp4")[0]) == 10 and not has_sound(tmp_path / "out.mp4")
    assert (
        "x.avi: its sound has an unknown codec; the recording is silent" in capsys.readouterr().err
    )
