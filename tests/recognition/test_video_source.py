"""Files and streams as FFmpeg reads them: names, times, turned, cut, damaged, refused, silent."""

from __future__ import annotations

import re
import socket
import sys
import threading
import time
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest
from PIL import Image

from tests.films import cut, grey_frames, noise_frames, turn, write_film
from utils.errors import StageError
from utils.recognition.video_io import Frame, VideoWriter
from utils.recognition.video_source import Clock, MediaSource, Picture, find_source


def read(path: Path | str) -> tuple[list[Picture], MediaSource]:
    """Read a source to its end. Return its pictures, and the source to ask about them."""
    open_source, _ = find_source(str(path), 5)
    source = open_source()
    pictures = list(source.pictures())
    source.close()
    return pictures, source


def seconds_of(path: Path) -> list[float]:
    return [round(picture.seconds, 3) for picture in read(path)[0]]


# --- names


ODD_NAMES = [
    "2021-03-04T10:22:11.mp4", "100%_smile %03d.mp4", "찍은 것 [1].mp4", "http:x.mp4", "-.mp4",
    "rtsp:__camera_1.mp4", "concat:a.mp4|b.mp4", "a#b?c=d&e.mp4", "*.mp4", "x.mp4 ", "7", "pipe:0",
]  # fmt: skip


@pytest.mark.parametrize("name", ODD_NAMES)
def test_find_source_takes_any_name_for_a_file(tmp_path, name):
    try:
        path = write_film(tmp_path / "x.mp4", grey_frames(3)).rename(tmp_path / name)
    except OSError:
        pytest.skip("this system has no such names")
    open_source, found = find_source(str(path), 5)
    assert found == path
    assert len(list(open_source().pictures())) == 3


def test_find_source_knows_a_file_by_its_relative_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_film(tmp_path / "x.mp4", grey_frames(3))
    for name in ("x.mp4", "./x.mp4"):
        assert len(read(name)[0]) == 3
    assert len(read((tmp_path / "x.mp4").as_uri())[0]) == 3


@pytest.mark.parametrize(("stored", "asked"), [("NFD", "NFC"), ("NFC", "NFD")])
def test_find_source_knows_a_name_in_both_forms_of_hangul(tmp_path, stored, asked):
    path = write_film(tmp_path / "x.mp4", grey_frames(3))
    path.rename(tmp_path / unicodedata.normalize(stored, "기쁨.mp4"))
    assert len(read(tmp_path / unicodedata.normalize(asked, "기쁨.mp4"))[0]) == 3


def test_find_source_takes_no_name_for_a_pattern(tmp_path):
    """FFmpeg would take %03d for the number of an image."""
    if sys.platform == "win32":
        pytest.skip("this system has no such names")
    for name in ("x%03d.jpg", "x001.jpg", "x002.jpg"):
        Image.new("RGB", (32, 32)).save(tmp_path / name)
    assert len(read(tmp_path / "x%03d.jpg")[0]) == 1


def test_find_source_reports_what_is_no_file(tmp_path):
    with pytest.raises(StageError, match=r"--source .*none\.mp4: no such file"):
        find_source(str(tmp_path / "none.mp4"), 5)
    with pytest.raises(StageError, match="is a folder, not a video"):
        find_source(str(tmp_path), 5)


# --- times


VARIABLE = [0, 0.04, 0.08, 0.5, 0.533, 2.0, 2.01]


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "mov"])
def test_pictures_have_the_times_of_the_file(tmp_path, suffix):
    path = write_film(tmp_path / f"x.{suffix}", grey_frames(len(VARIABLE)), VARIABLE)
    assert seconds_of(path) == VARIABLE


def test_pictures_have_times_from_the_first_one_on(tmp_path):
    path = write_film(tmp_path / "x.mkv", grey_frames(4), [5.0, 5.1, 5.5, 5.6])
    pictures, source = read(path)
    assert [round(picture.seconds, 3) for picture in pictures] == [0, 0.1, 0.5, 0.6]
    assert source.start == pytest.approx(5)


def test_pictures_go_on_in_time_where_files_were_joined(tmp_path):
    """As recorders join the parts of a film: the second part begins at its own 0."""
    part = write_film(tmp_path / "x.ts", grey_frames(25)).read_bytes()
    (tmp_path / "x.ts").write_bytes(part + part)
    assert seconds_of(tmp_path / "x.ts") == pytest.approx(np.arange(50) / 25, abs=0.002)


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        ([3, 3.1, 3.7], [0, 0.1, 0.7]),
        ([0, 0.1, 0.7, 0.7, 0, 0.9], [0, 0.1, 0.7, 0.7, 0.8, 0.9]),  # twice; a wrong one
        ([0, 0.1, 0.2, 0, 0.1, 0.5], [0, 0.1, 0.2, 0.3, 0.4, 0.8]),  # it begins anew
        ([None, None, None], [0, 0.1, 0.2]),
        ([0, 0, 0], [0, 0.1, 0.2]),  # a file without times
        ([0, None, 0.5], [0, 0.1, 0.5]),
    ],
)
def test_clock_never_goes_back(own, expected):
    clock = Clock(0.1)
    assert [clock.read(time) for time in own] == pytest.approx(expected)


# --- as filmed


@pytest.mark.parametrize(
    ("orientation", "upright"),
    [
        (1, lambda p: p),
        (2, np.fliplr),
        (3, lambda p: np.rot90(p, 2)),
        (4, np.flipud),
        (5, lambda p: p.transpose(1, 0, 2)),
        (6, lambda p: np.rot90(p, -1)),
        (7, lambda p: np.rot90(p, 2).transpose(1, 0, 2)),
        (8, lambda p: np.rot90(p, 1)),
    ],
)
def test_pictures_are_upright(tmp_path, orientation, upright):
    stored = np.zeros((48, 64, 3), np.uint8)
    stored[:16, :32] = 250
    stored[:32, :16] = 120
    path = write_film(tmp_path / "x.mp4", [stored] * 3)
    turn(path, orientation)
    for picture in read(path)[0]:
        expected = upright(stored)
        assert picture.pixels.shape == expected.shape and picture.pixels.flags.c_contiguous
        assert np.abs(picture.pixels.astype(int) - expected).mean() < 6


@pytest.mark.parametrize("size", [(64, 48), (1280, 720)])
@pytest.mark.parametrize(("matrix", "number"), [("ITU709", 1), ("ITU601", 6)])
@pytest.mark.parametrize(("range_name", "range_number"), [("MPEG", 1), ("JPEG", 2)])
def test_pictures_have_the_colours_of_the_film(
    tmp_path, size, matrix, number, range_name, range_number
):
    colours = [(0, 0, 250), (0, 250, 0), (250, 0, 0), (128, 128, 128)]
    bgr = np.zeros((size[1], size[0], 3), np.uint8)
    for i, colour in enumerate(colours):
        bgr[:, i * size[0] // 4 : (i + 1) * size[0] // 4] = colour
    with av.open(str(tmp_path / "x.mp4"), "w") as film:
        stream = film.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        stream.options = {"crf": "5"}
        stream.codec_context.colorspace = number
        stream.codec_context.color_range = range_number
        frame = av.VideoFrame.from_ndarray(bgr, "bgr24").reformat(
            format="yuv420p", dst_colorspace=matrix, src_color_range="JPEG",
            dst_color_range=range_name,
        )  # fmt: skip
        film.mux(stream.encode(frame))
        film.mux(stream.encode(None))
    [picture], _ = read(tmp_path / "x.mp4")
    middles = picture.pixels[size[1] // 2, size[0] // 8 :: size[0] // 4].astype(int)
    assert np.abs(middles - colours).max() < 12


def test_pictures_keep_the_first_size(tmp_path, capsys):
    path = tmp_path / "x.mjpeg"
    with path.open("wb") as file:
        for size in [(64, 48)] * 3 + [(24, 48)] * 2 + [(128, 96)] * 2:
            Image.new("RGB", size, "white").save(file, "JPEG")
    pictures, source = read(path)
    assert {picture.pixels.shape for picture in pictures} == {(48, 64, 3)} and len(pictures) == 7
    assert source.problem is None
    narrow = pictures[4].pixels[24].min(1)
    assert narrow[22:42].min() > 240 and narrow[:18].max() < 16 and narrow[46:].max() < 16
    assert pictures[6].pixels.min() > 240
    [line] = capsys.readouterr().err.splitlines()
    assert "changes from 64x48 to 24x48 pixels at frame 3" in line


def test_pictures_of_a_film_whose_texts_are_not_utf_8(tmp_path):
    path = write_film(tmp_path / "x.avi", grey_frames(3), codec="mjpeg")
    content = path.read_bytes()
    title = "기쁨".encode("cp949")
    chunk = b"INAM" + len(title).to_bytes(4, "little") + title
    info = b"LIST" + (4 + len(chunk)).to_bytes(4, "little") + b"INFO" + chunk
    at = content.index(b"LIST", content.index(b"strl"))
    path.write_bytes(content[:at] + info + content[at:])
    assert len(read(path)[0]) == 3


# --- less than announced


WHOLE = [
    ("mp4", "libx264"), ("mov", "mjpeg"), ("mkv", "libx264"), ("webm", "libvpx"), ("avi", "mjpeg"),
    ("avi", "mpeg4"), ("flv", "flv"), ("ts", "libx264"), ("mpg", "mpeg1video"), ("wmv", "wmv2"),
    ("mp4", "libx265"), ("webm", "libvpx-vp9"), ("mkv", "libsvtav1"),
]  # fmt: skip


@pytest.mark.parametrize(("suffix", "codec"), WHOLE)
@pytest.mark.parametrize("sound", ["", "mp2"])
def test_problem_is_none_of_a_whole_film(tmp_path, suffix, codec, sound):
    sound = {"flv": "aac", "webm": "libopus"}.get(suffix, sound) if sound else ""
    path = write_film(tmp_path / f"x.{suffix}", grey_frames(60), codec=codec, sound=sound)
    pictures, source = read(path)
    assert len(pictures) == 60 and source.problem is None
    if suffix not in ("mpg", "wmv"):  # whose length FFmpeg guesses
        assert source.total == pytest.approx(60, abs=2)


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
@pytest.mark.parametrize(
    ("suffix", "codec", "options"),
    [
        ("mp4", "libx264", {"movflags": "+faststart"}),
        ("mov", "mjpeg", {"movflags": "+faststart"}),
        ("avi", "mjpeg", {}),
        ("avi", "mpeg4", {}),
    ],
)
def test_problem_tells_how_many_frames_a_cut_film_lacks(tmp_path, suffix, codec, options, share):
    path = tmp_path / f"x.{suffix}"
    cut(write_film(path, noise_frames(60), codec=codec, **options), share)
    pictures, source = read(path)
    assert 60 * share - 8 < len(pictures) < 60 * share + 6
    assert source.total == 60
    assert source.problem == (
        f"{path}: only {len(pictures)} of 60 frames can be read; is it a partial copy, or damaged?"
    )


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
@pytest.mark.parametrize(
    ("suffix", "codec"), [("mkv", "libx264"), ("webm", "libvpx"), ("flv", "flv")]
)
def test_problem_tells_how_many_seconds_a_cut_film_lacks(tmp_path, suffix, codec, share):
    path = tmp_path / f"x.{suffix}"
    cut(write_film(path, noise_frames(50), codec=codec), share)
    pictures, source = read(path)
    assert 0 < len(pictures) < 50
    lasts = rf"after {len(pictures)} frames, [\d.]+ of 2\.0 seconds"
    ends = rf"{lasts}|in the middle of frame {len(pictures)}"
    message = rf"x\.{suffix} ends ({ends}); is it a partial copy, or damaged\?"
    assert re.search(message, source.problem), source.problem


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "mov", "avi"])
@pytest.mark.parametrize("times", [[0, 0.04, 0.08, 0.48, 0.52, 2.0, 2.04], [0, 0.04, 0.08, 3]])
def test_problem_is_none_of_frames_of_unequal_length(tmp_path, suffix, times):
    """An .avi has empty frames then, which it counts."""
    codec = "mpeg4" if suffix == "avi" else "libx264"
    path = write_film(tmp_path / f"x.{suffix}", grey_frames(len(times)), times, codec)
    assert seconds_of(path) == pytest.approx(times, abs=0.001)
    assert read(path)[1].problem is None


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "mov"])
def test_problem_is_none_of_a_last_frame_that_stays(tmp_path, suffix):
    path = tmp_path / f"x.{suffix}"
    with VideoWriter(path, (64, 48), 25) as writer:
        for number, pixels in enumerate(grey_frames(5)):
            writer.write(Frame(number, number / 25, pixels, 3))
    pictures, source = read(path)
    assert len(pictures) == 5 and source.problem is None


def test_problem_of_a_fragmented_film_that_is_cut(tmp_path):
    """As browsers and car cameras record: it does not say how long it is."""
    flags = {"movflags": "frag_keyframe+empty_moov"}
    path = cut(write_film(tmp_path / "x.mp4", noise_frames(60), **flags), 0.6)
    pictures, source = read(path)
    assert 20 < len(pictures) < 50
    # Versions of FFmpeg differ in how many frames they give up.
    told = r"x\.mp4( ends in the middle of frame|: only) \d+.*; is it a partial copy"
    assert re.search(told, source.problem), source.problem


@pytest.mark.parametrize(
    ("suffix", "codec"), [("avi", "mjpeg"), ("mov", "mjpeg"), ("avi", "mpeg4"), ("mp4", "libx264")]
)
def test_problem_of_a_film_with_a_hole(tmp_path, suffix, codec):
    path = write_film(tmp_path / f"x.{suffix}", noise_frames(60), codec=codec)
    content = bytearray(path.read_bytes())
    third = len(content) // 3
    content[third : third + len(content) // 10] = bytes(len(content) // 10)
    path.write_bytes(content)
    pictures, source = read(path)
    assert 45 < len(pictures) < 60 and f"only {len(pictures)} of 60 frames" in source.problem


def test_problem_of_a_film_on_a_disk_that_fails(tmp_path, monkeypatch):
    path = write_film(tmp_path / "x.ts", grey_frames(30))
    open_source, _ = find_source(str(path), 5)
    source = open_source()
    real = source._container

    def demux() -> Iterator[av.Packet]:
        for number, packet in enumerate(real.demux()):
            if number == 10:
                raise av.error.OSError(5, "Input/output error")
            yield packet

    monkeypatch.setattr(source, "_container", SimpleNamespace(demux=demux, **attributes(real)))
    assert len(list(source.pictures())) == 10
    assert source.problem == f"{path} ends after 10 frames: Input/output error"


def attributes(container: av.container.InputContainer) -> dict[str, object]:
    names = ("format", "duration", "start_time", "close")
    return {name: getattr(container, name) for name in names}


def test_problem_is_none_of_a_film_that_was_trimmed(tmp_path):
    """A phone trims a film by a list of edits: the frames outside stay in the file."""
    path = write_film(tmp_path / "x.mp4", grey_frames(100), use_editlist="1", bf="0")
    content = bytearray(path.read_bytes())
    at = content.index(b"elst") + 12
    content[at : at + 4] = (1000).to_bytes(4, "big")  # one second
    base = int.from_bytes(content[at + 4 : at + 8], "big")
    with av.open(str(path)) as film:
        scale = film.streams.video[0].time_base.denominator
    content[at + 4 : at + 8] = (base + 2 * scale).to_bytes(4, "big")  # from the third second on
    path.write_bytes(content)
    pictures, source = read(path)
    assert len(pictures) == 25 and source.problem is None
    assert pictures[0].pixels.mean() == pytest.approx(20 + 200 * 50 / 100, abs=6)


# --- not a video


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "an empty file, not a video"),
        (b"<!DOCTYPE html><html>not found</html>", "an HTML page, not a video"),
        (b"hello\n" * 100, "a text, not a video"),
        (bytes(5000), "nothing but zeros, not a video"),
        (np.random.default_rng(0).bytes(5000), "is it a partial copy, or another kind of file"),
    ],
)
def test_media_source_says_what_a_file_is(tmp_path, content, message):
    (tmp_path / "x.mp4").write_bytes(content)
    with pytest.raises(StageError, match=message):
        read(tmp_path / "x.mp4")


def test_media_source_refuses_a_film_without_its_index(tmp_path):
    path = cut(write_film(tmp_path / "x.mp4", noise_frames(20)), 0.6)
    with pytest.raises(StageError, match=r"x\.mp4: no video can be read from it; is it a partial"):
        read(path)


def test_media_source_refuses_a_sound_and_an_unknown_codec(tmp_path):
    with av.open(str(tmp_path / "x.mp4"), "w") as film:
        track = film.add_stream("aac", rate=16_000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 16_000), np.int16), "s16", "mono")
        frame.sample_rate = 16_000
        film.mux(track.encode(frame))
        film.mux(track.encode(None))
    with pytest.raises(StageError, match="there is no video in it"):
        read(tmp_path / "x.mp4")
    path = write_film(tmp_path / "x.avi", grey_frames(5), codec="mjpeg")
    path.write_bytes(path.read_bytes().replace(b"MJPG", b"ZZZZ"))
    with pytest.raises(StageError, match="its video has an unknown codec; convert it"):
        read(path)


# --- streams


class Peer:
    """A server on 127.0.0.1 that gives one answer to whatever it is asked; None: none at all."""

    def __init__(self, answer: bytes | None) -> None:
        self._answer, self._connections = answer, []
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.host = f"127.0.0.1:{self._socket.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            connection, _ = self._socket.accept()
            self._connections.append(connection)
            if self._answer is not None:
                connection.recv(4096)
                connection.sendall(self._answer)
                connection.shutdown(socket.SHUT_WR)


def http(status: str, body: bytes = b"") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def rtsp(status: str) -> bytes:
    return f"RTSP/1.0 {status}\r\nCSeq: 1\r\n\r\n".encode()


@pytest.mark.parametrize(
    ("scheme", "answer", "message"),
    [
        ("http", http("404 Not Found"), r"not found \(404\)"),
        ("rtsp", rtsp("404 Stream Not Found"), r"not found \(404\)"),
        ("http", http("401 Unauthorized"), r"it wants a name and a password \(401\)"),
        ("rtsp", rtsp("401 Unauthorized"), r"it wants a name and a password \(401\)"),
        ("http", http("403 Forbidden"), r"access is forbidden \(403\)"),
        ("http", http("410 Gone"), r"the server refuses the request \(4xx\)"),
        ("http", http("503 Busy"), r"the server has an error \(5xx\)"),
        ("http", http("200 OK", b"<!doctype html><html>hello"), "what it sends is not a video"),
        ("http", b"", "it sends nothing"),
        ("http", None, r"no picture in 0\.4 seconds; a longer --timeout waits longer"),
        ("rtsp", None, r"no picture in 0\.4 seconds"),
        ("rtmp", None, r"no picture in 0\.4 seconds"),
    ],
)
def test_a_stream_that_does_not_come_says_why(scheme, answer, message):
    address = f"{scheme}://{Peer(answer).host}/live"
    open_source, path = find_source(address, 0.4)
    started = time.monotonic()
    with pytest.raises(StageError, match=f"--source {address}: {message}"):
        open_source()
    assert path is None and time.monotonic() - started < 2


@pytest.mark.parametrize("scheme", ["http", "rtsp", "rtmp"])
def test_a_stream_that_is_refused_says_so(scheme):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        host = f"127.0.0.1:{closed.getsockname()[1]}"
    open_source, _ = find_source(f"{scheme}://{host}/live", 5)
    with pytest.raises(StageError, match="the connection was refused"):
        open_source()


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("rtsp://no-such-host.invalid/x", r"its host is not known \("),
        ("http://없는집.invalid/x", r"its host is not known \("),
        ("http://127.0.0.1:99999/x", "the port is not a number from 1 to 65535"),
        ("gopher-2://127.0.0.1/x", "not a kind of address that can be read"),
    ],
)
def test_an_address_that_leads_nowhere_says_so(address, message):
    open_source, _ = find_source(address, 5)
    with pytest.raises(StageError, match=message):
        open_source()


def test_a_stream_never_shows_its_password():
    open_source, _ = find_source(f"rtsp://me:secret@{Peer(rtsp('404 No')).host}/x", 5)
    with pytest.raises(StageError) as caught:
        open_source()
    assert "secret" not in str(caught.value)


def test_a_film_on_a_server_is_read_as_a_file(tmp_path):
    times = [0.1 * i for i in range(20)] + [3, 3.5]
    path = write_film(tmp_path / "x.mp4", grey_frames(22), times, movflags="+faststart")
    address = f"http://{Peer(http('200 OK', path.read_bytes())).host}/x.mp4"
    pictures, source = read(address)
    assert not source.is_live and source.total == 22 and source.problem is None
    assert [picture.seconds for picture in pictures] == pytest.approx(times)


def test_a_film_on_a_server_that_breaks_off_is_a_problem(tmp_path):
    path = write_film(tmp_path / "x.mp4", noise_frames(30), movflags="+faststart")
    whole = http("200 OK", path.read_bytes())
    pictures, source = read(f"http://{Peer(whole[: len(whole) // 2]).host}/x.mp4")
    assert 10 < len(pictures) < 20 and f"only {len(pictures)} of 30 frames" in source.problem
