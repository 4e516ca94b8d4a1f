"""The sound of a video file, for a recording of its frames."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from utils.console import note
from utils.recognition.pyav import import_av
from utils.recognition.video_source import Clock

if TYPE_CHECKING:
    from av import AudioStream, Packet
    from av.container import InputContainer, OutputContainer

COPIED_CODECS = ("aac", "mp3", "mp3float")  # what an .mp4 can hold and every player plays
RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)  # hertz, of AAC
DEFAULT_RATE = 48000  # hertz, for a file with another rate
AAC_FRAME = 1024  # samples in a packet


def open_sound(path: Path, start: float, stack: ExitStack) -> Sound | None:
    """Return the sound of a file from the time `start` on, or None if it has none.

    `start`: seconds on the file's clock, which become 0. `stack` closes the file at its end. Print
    a note if the sound has an unknown codec.
    """
    av = import_av()
    try:
        container = av.open(f"file:{path}", metadata_errors="replace")
    except av.error.FFmpegError:  # removed in the meantime, or no video: its reader reports it
        return None
    stream = container.streams.best("audio")
    if stream and stream.codec_context:
        return stack.enter_context(closing(Sound(container, stream, start, path.name)))
    if stream:
        note(f"{path.name}: its sound has an unknown codec; the recording is silent")
    container.close()
    return None


class Sound:
    """The sound of a file. It is copied, or encoded as AAC if few players know its codec."""

    def __init__(
        self, container: InputContainer, stream: AudioStream, start: float, name: str
    ) -> None:
        """See `open_sound`. `name` is for messages."""
        self._container, self._stream, self._name = container, stream, name
        self._error = import_av().error.FFmpegError
        self._clock = Clock(AAC_FRAME / (stream.sample_rate or DEFAULT_RATE), start)
        self._waiting: tuple[float, list[Packet]] | None = None
        self._failed = 0  # packets that cannot be decoded

    def add_to(self, output: OutputContainer) -> None:
        """Add a stream for the sound to a file that is to be written."""
        stream = self._stream
        if stream.codec_context.name in COPIED_CODECS:
            self._output = output.add_stream_from_template(stream)
            self._packets = self._copy()
        else:
            rate = stream.sample_rate if stream.sample_rate in RATES else DEFAULT_RATE
            self._output = output.add_stream("aac", rate=rate)
            self._output.layout = "mono" if stream.channels == 1 else "stereo"
            self._packets = self._encode()

    def packets(self, until: float = math.inf) -> Iterator[Packet]:
        """Yield the next packets, those that begin before `until`: seconds since `start`."""
        while True:
            if self._waiting is None:
                self._waiting = next(self._packets, None)
            if self._waiting is None or self._waiting[0] >= until:
                return
            yield from self._waiting[1]
            self._waiting = None

    def close(self) -> None:
        """Close the file. Print a note if parts of the sound could not be decoded."""
        self._container.close()
        if self._failed:
            note(f"{self._name}: {self._failed} damaged parts of its sound are left out")

    def _copy(self) -> Iterator[tuple[float, list[Packet]]]:
        """Yield the file's own packets, each with its seconds since the start."""
        last = -math.inf
        for packet in self._demux():
            own = packet.dts if packet.pts is None else packet.pts
            if own is None:
                continue
            seconds = self._clock.read(float(own * packet.time_base))
            packet.pts = packet.dts = round(seconds / packet.time_base)
            if packet.pts + (packet.duration or 0) > 0 and packet.dts > last:
                last = packet.dts
                packet.stream = self._output
                yield seconds, [packet]

    def _encode(self) -> Iterator[tuple[float, list[Packet]]]:
        """Yield packets of AAC, each with its seconds since the start."""
        for frame in self._decode():
            seconds = self._clock.read(frame.time)
            if seconds < 0:
                continue
            frame.pts = round(seconds / frame.time_base)
            try:
                yield seconds, self._output.encode(frame)
            except ValueError:  # the number of channels changes
                self._failed += 1
        yield self._clock.now, self._output.encode(None)

    def _decode(self) -> Iterator[Any]:
        """Yield frames of sound."""
        for packet in self._demux():
            try:
                frames = self._stream.decode(packet)
            except self._error:
                self._failed += 1
            else:
                yield from (frame for frame in frames if frame.pts is not None)

    def _demux(self) -> Iterator[Packet]:
        try:
            for packet in self._container.demux(self._stream):
                if packet.size:
                    yield packet
        except self._error:  # the reader of the frames reports it
            return
