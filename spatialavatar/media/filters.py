"""ffmpeg filters that turn any stream of pictures into 8-bit sRGB frames of a constant rate."""

from __future__ import annotations

from fractions import Fraction
from typing import Final

from spatialavatar.media.probe import UNKNOWN, ColourTags, VideoStream

_HDR: Final = ("smpte2084", "arib-std-b67")  # PQ and HLG
# Their numbers are shown on an sRGB screen as they are, as players do.
_SDR_TRANSFERS: Final = (
    *(UNKNOWN, "bt709", "smpte170m", "bt470m", "bt470bg", "iec61966-2-1", "bt2020-10", "bt2020-12", "reserved"),
    *("iec61966-2-4", "bt1361e", "smpte240m"),
)
# Close to those of sRGB: a conversion would change less than cameras differ.
_SDR_PRIMARIES: Final = (UNKNOWN, "bt709", "smpte170m", "bt470bg", "bt470m", "smpte240m", "reserved")

_WHITE: Final = 203.0  # cd/m2 of a white sheet of paper in HDR video: ITU-R BT.2408
_PEAK: Final = 1000.0  # cd/m2 of the brightest highlight that keeps its shading
_KNEE: Final = (
    0.6  # of paper white, linear: darker colours, faces among them, keep their values; brighter are compressed
)


def frame_filters(video: VideoStream, rate: Fraction | None, max_side: int | None) -> str:
    """The filter graph of a stream: deinterlacing, rate, square pixels, size, colours.

    Args:
        video: the stream.
        rate: frames per second to make; None keeps the stream's own times.
        max_side: larger frames are scaled down to this many pixels on the longer side; None keeps them.

    Returns:
        A graph with one input and one output for ffmpeg's ``-vf``; the output is packed 8-bit RGB.
    """
    filters = []
    if video.interlaced:  # only frames that are flagged so
        filters.append("bwdif=mode=send_frame:deint=interlaced")
    if rate is not None:
        filters.append(f"fps={rate.numerator}/{rate.denominator}")
    colour = _pinned(video)
    if colour.matrix != video.colour.matrix:
        filters.append(f"setparams=colorspace={colour.matrix}")
    if video.has_alpha:
        filters.append(
            "format=gbrap,split[over][under];[under]drawbox=c=white:t=fill:replace=1[white];[white][over]"
            "overlay=format=gbrp,format=gbrp"
        )
    filters += ["scale=round(iw*sar):ih:flags=bicubic+accurate_rnd+full_chroma_int", "setsar=1"]
    if max_side is not None:
        side = int(max_side)
        filters.append(f"scale='min(iw,{side})':'min(ih,{side})':force_original_aspect_ratio=decrease:flags=area")
    if needs_colour_management(colour):
        filters += _to_srgb(colour, video)
    filters.append("format=rgb24")
    return ",".join(filters)


def needs_colour_management(colour: ColourTags) -> bool:
    """Whether a stream's colours differ from sRGB by more than a matrix and a range."""
    return colour.transfer not in _SDR_TRANSFERS or colour.primaries not in _SDR_PRIMARIES


def _pinned(video: VideoStream) -> ColourTags:
    """A stream's tags, with the matrix that its size suggests where it has none: BT.709 is for HD, BT.601 below."""
    tags = video.colour
    if tags.matrix not in (UNKNOWN, "reserved") or _is_rgb(video):
        return tags
    width, height = video.size
    matrix = "bt709" if max(width, height) >= 1280 or min(width, height) >= 720 else tags.matrix
    return ColourTags(matrix, tags.primaries, tags.transfer, tags.range)


def _is_rgb(video: VideoStream) -> bool:
    return video.pixel_format.startswith(
        ("rgb", "bgr", "gbr", "argb", "abgr", "pal8", "x2rgb", "x2bgr", "0rgb", "0bgr")
    )


def _to_srgb(colour: ColourTags, video: VideoStream) -> list[str]:
    """Convert primaries and transfer to sRGB, through linear light; HDR is tone-mapped."""
    hdr = colour.transfer in _HDR
    matrix = "gbr" if _is_rgb(video) or video.has_alpha else _or(colour.matrix, "bt2020nc" if hdr else "bt709")
    primaries = _or(colour.primaries, "bt2020" if hdr else "bt709")
    transfer = _or(colour.transfer, "bt709")
    full = colour.range == "pc" or matrix == "gbr"
    source = f"matrixin={matrix}:primariesin={primaries}:transferin={transfer}:rangein={'pc' if full else 'tv'}"
    if not hdr:
        # With the transfer of the source, the conversion keeps the brightness of grey.
        target = transfer if transfer in _SDR_TRANSFERS else "iec61966-2-1"
        return [f"zscale={source}:matrix=gbr:primaries=bt709:transfer={target}:range=pc", "format=gbrp"]
    return [
        f"zscale={source}:matrix=gbr:primaries=bt709:transfer=linear:range=pc:npl={_WHITE:g}:agamma=false",
        "format=gbrpf32le",
        f"tonemap=tonemap=mobius:param={_KNEE}:peak={_PEAK / _WHITE:.4f}:desat=0",
        "zscale=transferin=linear:matrixin=gbr:transfer=iec61966-2-1:matrix=gbr:rangein=pc:range=pc",
        "format=gbrp",
    ]


def _or(tag: str, default: str) -> str:
    return default if tag in (UNKNOWN, "reserved") else tag
