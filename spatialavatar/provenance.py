"""Marks of synthetic content: in the metadata of every file and, on request, in the picture.

Every format gets a sentence for people and the IPTC's digital source type for machines: in XMP where the format has a
place for that (PNG, mp4), as a line of its own elsewhere. Metadata are no protection: they can be removed.
"""

from __future__ import annotations

import json
import struct
import uuid
from functools import lru_cache
from pathlib import Path
from typing import IO, Final
from xml.sax.saxutils import escape

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo

from spatialavatar import __version__
from spatialavatar.files import atomic_output

SOFTWARE: Final = f"SpatialAvatar {__version__}"
STATEMENT: Final = f"Made by {SOFTWARE}: a synthetic head, not a recording of a person."
SOURCE_TYPE: Final = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
MARK: Final = "AI-generated"

_XMP_BOX: Final = uuid.UUID("be7acfcb-97a9-42e8-9c71-999491e3afac").bytes  # XMP specification part 3, for MPEG-4 files
_XMP_BOX_SUFFIXES: Final = (".mp4", ".m4v")


def safetensors_metadata() -> dict[str, str]:
    """Entries for the header of a safetensors file."""
    return {"provenance": STATEMENT, "digital_source_type": SOURCE_TYPE}


def ply_comments() -> list[str]:
    """Comment lines for the header of a PLY file, without the word "comment"."""
    return [STATEMENT, f"DigitalSourceType {SOURCE_TYPE}"]


def json_ld() -> str:
    """A record for a web page: JSON-LD in the vocabulary of schema.org, safe between script tags."""
    record = {
        "@context": "https://schema.org",
        "@type": "3DModel",
        "description": STATEMENT,
        "creator": {"@type": "SoftwareApplication", "name": "SpatialAvatar", "softwareVersion": __version__},
        "digitalSourceType": ["https://schema.org/TrainedAlgorithmicMediaDigitalSource", SOURCE_TYPE],
    }
    return json.dumps(record).replace("<", "\\u003c")


def ffmpeg_arguments() -> list[str]:
    """Output options for ffmpeg that write the tags of a video file."""
    return ["-metadata", f"comment={STATEMENT}", "-metadata", f"description=DigitalSourceType {SOURCE_TYPE}"]


def add_xmp(video: Path) -> None:
    """Append the XMP packet to a finished video, where its format has a box for it; ffmpeg cannot write that one."""
    if video.suffix.lower() not in _XMP_BOX_SUFFIXES:
        return
    payload = _XMP_BOX + _xmp().encode()
    with video.open("ab") as file:
        file.write(struct.pack(">I", len(payload) + 8) + b"uuid" + payload)


def save_png(path: str | Path, picture: np.ndarray) -> Path:
    """Write a rendered picture (H, W, 3 or 4) uint8 sRGB as a PNG marked as synthetic; it appears whole or not at all.

    Raises:
        OutputError: the file cannot be written.
    """
    path = Path(path)
    with atomic_output(path) as temporary, temporary.open("wb") as file:
        write_png(file, picture)
    return path


def write_png(file: IO[bytes], picture: np.ndarray, compression: int = 6) -> None:
    """Write a PNG as :func:`save_png` into an open file; ``compression`` is zlib's, 0 to 9."""
    notes = PngInfo()
    notes.add_text("Software", SOFTWARE)
    notes.add_text("Comment", STATEMENT)
    notes.add_itxt("XML:com.adobe.xmp", _xmp())
    Image.fromarray(picture).save(file, format="PNG", pnginfo=notes, compress_level=compression)


def marked(frame: np.ndarray) -> np.ndarray:
    """A copy of a frame (H, W, 3 or 4) uint8 sRGB with "AI-generated" small in its lower right corner.

    A fourth channel is straight alpha; it covers the mark too.
    """
    ink, cover = _stamp(*frame.shape[:2])
    height, width = cover.shape
    out = frame.copy()
    corner = out[-height:, -width:]
    share = cover[..., None]
    if frame.shape[2] == 4:
        alpha = corner[..., 3:] / 255.0
        whole = share + alpha * (1.0 - share)
        corner[..., 3:] = np.round(255.0 * whole)
        share = share / np.maximum(whole, 1e-6)
    corner[..., :3] = np.round(corner[..., :3] * (1.0 - share) + ink * share).astype(np.uint8)
    return out


@lru_cache(maxsize=4)
def _stamp(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """The mark for a frame of this size: colours (h, w, 3) in [0, 255] and coverage (h, w) in [0, 1]."""
    side = min(height, width)
    size = max(11.0, 0.026 * side)  # pixels; below eleven letters run into each other
    font = ImageFont.load_default(size)
    left, top, right, bottom = font.getbbox(MARK)
    gap, pad = round(0.5 * size), round(0.45 * size)
    box = round(right - left) + 2 * pad, round(bottom - top) + 2 * pad
    stamp = Image.new("RGBA", (min(box[0] + gap, width), min(box[1] + gap, height)), (0, 0, 0, 0))
    draw = ImageDraw.Draw(stamp)
    draw.rounded_rectangle((0, 0, box[0] - 1, box[1] - 1), radius=round(0.4 * size), fill=(0, 0, 0, 140))
    draw.text((pad - left, pad - top), MARK, font=font, fill=(255, 255, 255, 255))
    values = np.asarray(stamp, np.float32)
    return values[..., :3], values[..., 3] / 255.0


def _xmp() -> str:
    """An XMP packet with the source type, the software and the sentence."""
    return (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        '<rdf:Description rdf:about=""'
        ' xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"'
        ' xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmlns:dc="http://purl.org/dc/elements/1.1/">'
        f"<Iptc4xmpExt:DigitalSourceType>{SOURCE_TYPE}</Iptc4xmpExt:DigitalSourceType>"
        f"<xmp:CreatorTool>{escape(SOFTWARE)}</xmp:CreatorTool>"
        f'<dc:description><rdf:Alt><rdf:li xml:lang="x-default">{escape(STATEMENT)}</rdf:li></rdf:Alt></dc:description>'
        "</rdf:Description></rdf:RDF></x:xmpmeta>"
        '<?xpacket end="w"?>'
    )
