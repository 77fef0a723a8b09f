"""What a media file contains: the one place that reads ffmpeg's description of its input.

ffmpeg's own lines are parsed instead of linking its libraries through PyAV: a damaged or hostile file is then opened in
a process of its own that can be stopped, PyAV's wheels (which need Python 3.11) link GPL encoders into ours, and the
ffmpeg that encodes is needed in any case.
"""

from __future__ import annotations

import re
import tempfile
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Final

from spatialavatar.errors import InputError
from spatialavatar.media.ffmpeg import Watchdog, ffmpeg_output, input_arguments, run_ffmpeg
from spatialavatar.media.limits import MAX_VIDEO_PIXELS, PROBE_SECONDS

UNKNOWN: Final = "unknown"
"""Value of a colour tag that a stream lacks."""

# In "yuv420p10le(tv, bt2020nc/bt2020/arib-std-b67, top coded first (swapped)), 1920x1080".
_PICTURE: Final = re.compile(r", (\w+)(?:\(((?:[^()]|\([^()]*\))*)\))?, (\d+)x(\d+)")
_STREAM: Final = re.compile(r"^  Stream #0:(\d+)[^\n]*?: (Video|Audio): ([^\n]*)\n((?:^    [^\n]*\n)*)", re.MULTILINE)
_STILL: Final = re.compile(r"\((attached pic|still image|timed thumbnails)\)")
_NO_TIME: Final = -(1 << 63)  # ffmpeg's AV_NOPTS_VALUE
_ALPHA: Final = re.compile(r"^(yuva|gbra|rgba|bgra|argb|abgr|ya8|ya16|pal8|ayuv|vuya)")


@dataclass(frozen=True)
class ColourTags:
    """How a stream's numbers stand for colours, in ffmpeg's names; :data:`UNKNOWN` where the file does not state it.

    Attributes:
        matrix: from YUV to RGB, for instance "bt709".
        primaries: of RGB.
        transfer: from numbers to light.
        range: "tv" (16 to 235) or "pc" (0 to 255).
    """

    matrix: str = UNKNOWN
    primaries: str = UNKNOWN
    transfer: str = UNKNOWN
    range: str = UNKNOWN


@dataclass(frozen=True)
class VideoStream:
    """The pictures of a file.

    Attributes:
        index: of the stream in the file.
        codec: ffmpeg's name of the decoder.
        pixel_format: ffmpeg's name.
        size: width, height as stored, before rotation; pixels.
        rate: mean frames per second.
        colour: colour tags.
        interlaced: whether the stream declares two fields a frame.
        has_alpha: whether the stream has transparency.
        dolby_vision: profile of its Dolby Vision record; None without one.
    """

    index: int
    codec: str
    pixel_format: str
    size: tuple[int, int]
    rate: Fraction
    colour: ColourTags
    interlaced: bool
    has_alpha: bool
    dolby_vision: int | None


@dataclass(frozen=True)
class MediaFacts:
    """Facts from the header of a file.

    Attributes:
        video: the first stream of pictures that is not a cover; None without one.
        audio_index: index of the first sound stream; None without one.
        seconds: duration of the longest stream; 0 if the header does not state it.
    """

    video: VideoStream | None
    audio_index: int | None
    seconds: float


@dataclass(frozen=True)
class StreamLength:
    """Packets of one stream, counted.

    Attributes:
        packets: their number.
        start, end: times of the first and after the last, seconds from the file's start.
    """

    packets: int
    start: float
    end: float

    def video_seconds(self, video: VideoStream) -> float:
        """Duration of a video; raw streams, whose packets have no times, play at the rate that they declare."""
        return max(self.end - self.start, self.packets / float(video.rate))


def probe(path: Path) -> MediaFacts:
    """Read the header of a file; no frame is decoded, and nothing larger than the limits is allocated.

    Raises:
        InputError: the file is not a container of pictures or sound, or opening it takes too long.
    """
    result = run_ffmpeg(input_arguments("info"), path)
    if "Input #0" not in result.log:
        raise InputError(f"The file {path.name} {_what_else(path)}; give an MP4, MOV, MKV or WebM video.")
    return parse_facts(result.log)


def probe_video(path: Path) -> tuple[MediaFacts, VideoStream]:
    """As :func:`probe`, for a file that must contain a video within the limits.

    Raises:
        InputError: it contains none, or one that is too large or cannot be converted.
    """
    facts = probe(path)
    video = facts.video
    if video is None:
        kind = "holds sound but no pictures" if facts.audio_index is not None else "is not a video that can be read"
        raise InputError(f"The file {path.name} {kind}; give an MP4, MOV, MKV or WebM video.")
    width, height = video.size
    if width * height > MAX_VIDEO_PIXELS:
        raise InputError(
            f"The video {path.name} is {width} x {height} pixels, too large to be read; scale its frames down to "
            "33 megapixels (7680 x 4320) or less."
        )
    if video.dolby_vision == 5:  # not YUV: without the curves of its record faces come out purple and green
        raise InputError(
            f"The video {path.name} is Dolby Vision profile 5, which cannot be converted; export it as HDR10 or SDR."
        )
    return facts, video


def parse_facts(log: str) -> MediaFacts:
    """Read the lines that ffmpeg prints about its input. Metadata cannot imitate them: ffmpeg indents it further."""
    log = log[log.find("Input #0") :] + "\n"
    duration = re.search(r"^  Duration: (\d+):(\d+):(\d+(?:\.\d+)?)", log, re.MULTILINE)
    seconds = sum(float(v) * f for v, f in zip(duration.groups(), (3600, 60, 1))) if duration else 0.0
    video: VideoStream | None = None
    audio: int | None = None
    for match in _STREAM.finditer(log):
        index, kind, line, notes = int(match[1]), match[2], match[3], match[4]
        if kind == "Audio":
            audio = index if audio is None else audio
        elif video is None and not _STILL.search(line):
            video = _video_stream(index, line, notes)
    return MediaFacts(video, audio, seconds)


def count_packets(path: Path, streams: tuple[int, ...]) -> dict[int, StreamLength]:
    """Count the packets of some streams and their times by reading the whole file once; nothing is decoded.

    Args:
        path: the file.
        streams: indices of the streams.

    Returns:
        Per stream that has packets, its length.

    Raises:
        InputError: the time limit is exceeded.
    """
    maps = [argument for index in streams for argument in ("-map", f"0:{index}")]
    command = [*input_arguments(), *maps, "-c", "copy", "-f", "framecrc", "pipe:1"]
    units: dict[int, Fraction] = {}
    counts: dict[int, StreamLength] = {}
    with (
        tempfile.TemporaryFile() as log,
        ffmpeg_output(command, path, log) as process,
        Watchdog(process, PROBE_SECONDS) as watchdog,
        watchdog.limit(),
    ):
        assert process.stdout is not None  # stdout is a pipe
        for line in process.stdout:
            _add_packet(counts, units, line)
    if watchdog.expired:
        raise InputError(
            f"The file {path.name} takes longer than {PROBE_SECONDS:.0f} seconds to read; convert it to MP4 first."
        )
    return {streams[number]: length for number, length in counts.items()}


def first_frame_time(path: Path, video: VideoStream) -> float:
    """When the first frame that decodes is shown, in seconds of the file's own clock (ffmpeg's ``-copyts``).

    Times relative to the file's start will not do: in a transport stream, ffmpeg takes them relative to the start of
    those streams that a command happens to use.
    """
    command = [*input_arguments(), "-copyts", "-map", f"0:{video.index}", "-frames:v", "1", "-fps_mode", "passthrough"]
    result = run_ffmpeg([*command, "-vf", "scale=16:16", "-f", "framecrc", "pipe:1"], path)
    units: dict[int, Fraction] = {}
    counts: dict[int, StreamLength] = {}
    for line in result.output.splitlines():
        _add_packet(counts, units, line)
    return counts[0].start if counts else 0.0


def _add_packet(counts: dict[int, StreamLength], units: dict[int, Fraction], line: bytes) -> None:
    """Add one line of ffmpeg's "framecrc" format: "#tb 0: 1/90000", or stream, decoding time, time, duration, ..."""
    if line.startswith(b"#"):
        if line.startswith(b"#tb "):
            name, _, unit = line[4:].decode("ascii").partition(":")
            units[int(name)] = Fraction(unit.strip())
        return
    fields = line.split(b",")
    number, decoded, shown, duration = (int(field) for field in fields[:4])
    time = decoded if shown == _NO_TIME else shown
    start = float(time * units[number]) if time != _NO_TIME else 0.0
    end = start + float(max(0, duration) * units[number])
    before = counts.get(number)
    counts[number] = (
        StreamLength(1, start, end)
        if before is None
        else StreamLength(before.packets + 1, min(before.start, start), max(before.end, end))
    )


def _video_stream(index: int, line: str, notes: str) -> VideoStream | None:
    picture = _PICTURE.search(line)
    if picture is None:
        return None
    pixel_format, tags = picture[1], (picture[2] or "")
    # The mean rate first; "tbr" is the container's guess, the only one there is for some streams.
    found = re.search(r"([\d.]+)(k?) fps", line) or re.search(r"([\d.]+)(k?) tbr", line)
    rate = Fraction(25)
    if found is not None and float(found[1]) > 0:
        rate = _exact_rate(float(found[1]) * (1000 if found[2] else 1))
    dolby = re.search(r"DOVI configuration record:[^\n]*profile: (\d+)", notes)
    return VideoStream(
        index=index,
        codec=re.split(r"\W", line, maxsplit=1)[0],
        pixel_format=pixel_format,
        size=(int(picture[3]), int(picture[4])),
        rate=rate,
        colour=_colour_tags(tags),
        interlaced=re.search(r"\b(top|bottom) (coded )?first\b", tags) is not None,
        has_alpha=_ALPHA.match(pixel_format) is not None
        or re.search(r"^\s+alpha_mode\s*: 1$", notes, re.MULTILINE | re.IGNORECASE) is not None,
        dolby_vision=int(dolby[1]) if dolby else None,
    )


def _colour_tags(text: str) -> ColourTags:
    """Tags such as "tv, bt2020nc/bt2020/arib-std-b67, progressive" or "tv, bt709"."""
    found = {"matrix": UNKNOWN, "primaries": UNKNOWN, "transfer": UNKNOWN, "range": UNKNOWN}
    for tag in text.split(", "):
        if tag in ("tv", "pc"):
            found["range"] = tag
        elif tag and " " not in tag and tag != "progressive":
            names = tag.split("/")
            if len(names) == 1:
                names *= 3
            found["matrix"], found["primaries"], found["transfer"] = names[:3]
    return ColourTags(**found)


def _exact_rate(printed: float) -> Fraction:
    """The rate behind a printed one, which is rounded to two digits: 29.97 stands for 30000/1001."""
    whole = round(printed)
    for exact in (Fraction(whole), Fraction(whole * 1000, 1001)):
        if abs(float(exact) - printed) < 0.006:
            return exact
    return Fraction(printed).limit_denominator(1000)


def _what_else(path: Path) -> str:
    """Description of a file that no allowed container matches: the predicate of a sentence."""
    with path.open("rb") as file:
        head = file.read(2048)
    text = head.strip(b"\xef\xbb\xbf \r\n\t")
    if text.startswith((b"#EXTM3U", b"ffconcat", b"<?xml", b"<MPD", b"[playlist]", b"<smil", b"v=0", b"<asx")):
        return "is not a video that can be read, but a list that refers to other files"
    if text.startswith((b"WEBVTT", b"[Script Info]")) or re.match(rb"\d+\r?\n\d\d:\d\d:\d\d", text):
        return "is not a video that can be read, but subtitles"
    return "is not a video that can be read"
