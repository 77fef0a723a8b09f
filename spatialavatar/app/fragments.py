"""Small pieces of HTML for the page. Texts are escaped; pictures are embedded.

An embedded picture (a ``data:`` address) leaves no file on the server.
"""

from __future__ import annotations

import base64
import mimetypes
from collections.abc import Sequence
from html import escape
from pathlib import Path
from urllib.parse import quote

_CURVE_POINTS = 40

STATIC = Path(__file__).resolve().parent / "static"


def static_text(name: str) -> str:
    """The text of a file in ``static/``."""
    return (STATIC / name).read_text(encoding="utf-8")


def picture_address(picture: str | Path | bytes) -> str:
    """A ``data:`` address of a picture file, or of the bytes of a WebP."""
    if isinstance(picture, bytes):
        data, kind = picture, "image/webp"
    else:
        data = Path(picture).read_bytes()
        kind = mimetypes.guess_type(str(picture))[0] or "image/png"
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def empty_stage(text: str) -> str:
    """The placeholder of the avatar."""
    return f'<div class="sa-empty">{static_text("figure.svg")}<p>{escape(text)}</p></div>'


def portrait(picture: str | Path | bytes, alt: str, note: str = "") -> str:
    """A picture of the avatar with an optional caption."""
    caption = f"<figcaption>{escape(note)}</figcaption>" if note else ""
    address = picture_address(picture)
    return f'<figure class="sa-portrait"><img src="{address}" alt="{escape(alt)}">{caption}</figure>'


def film(path: str) -> str:
    """A video that plays in a loop; gradio serves the files of its own cache by their path."""
    address = escape(f"gradio_api/file={quote(path)}")
    return f'<video class="sa-film" src="{address}" controls autoplay loop playsinline aria-label="The video"></video>'


def contact(pictures: Sequence[str], alt: str, note: str) -> str:
    """Several pictures side by side on the stage."""
    cells = "".join(f'<img src="{picture_address(p)}" alt="{escape(alt)} {i}">' for i, p in enumerate(pictures, 1))
    caption = f"<figcaption>{escape(note)}</figcaption>"
    return f'<figure class="sa-contact" data-count="{len(pictures)}">{cells}{caption}</figure>'


def seen_photos(pictures: Sequence[str], warnings: Sequence[Sequence[str]]) -> str:
    """One card for each photo: the detected face, and the photo's faults."""
    cards = []
    for number, (picture, lines) in enumerate(zip(pictures, warnings, strict=True), 1):
        words = "".join(f'<p class="sa-warning">{escape(line)}</p>' for line in lines)
        words = words or '<p class="sa-good">The face is clearly visible.</p>'
        image = (
            f'<img src="{picture_address(picture)}" alt="Photo {number} with the outlines of the face that was found">'
        )
        cards.append(f"<li>{image}<div><strong>Photo {number}</strong>{words}</div></li>")
    return f'<ul class="sa-seen">{"".join(cards)}</ul>'


def progress_bar(fraction: float, message: str, left: str = "") -> str:
    """The progress of the work, for screens and screen readers."""
    percent = round(100 * min(1.0, max(0.0, fraction)))
    note = f'<span class="sa-left">{escape(left)}</span>' if left else ""
    return (
        f'<div class="sa-progress"><div role="progressbar" aria-label="Progress" aria-valuemin="0" aria-valuemax="100" '
        f'aria-valuenow="{percent}" aria-valuetext="{escape(message)}"><div style="width:{percent}%"></div></div>'
        f"<p><span>{escape(message)}</span>{note}</p></div>"
    )


def notice(message: str, kind: str = "good") -> str:
    """A sentence below a button: ``good``, ``stopped``, or ``problem``, which screen readers announce."""
    role = "alert" if kind == "problem" else "status"
    return f'<div class="sa-notice sa-{kind}" role="{role}">{escape(message)}</div>'


def curve(differences: Sequence[float]) -> str:
    """A curve of the difference to the video, earliest first; neighbours are averaged, since frames differ."""
    width = max(1, len(differences) // _CURVE_POINTS)
    starts = range(0, len(differences) - width + 1, width)
    means = [sum(differences[start : start + width]) / width for start in starts]
    if len(means) < 3:
        return ""
    span = (max(means) - min(means)) or 1.0
    across = 300 / (len(means) - 1)
    line = " ".join(f"{across * i:.1f},{6 + 68 * (max(means) - mean) / span:.1f}" for i, mean in enumerate(means))
    text = "Difference from your video: lower is more alike."
    return (
        f'<figure class="sa-curve"><svg viewBox="0 0 300 80" preserveAspectRatio="none" role="img" aria-label="{text}">'
        f'<polyline points="{line}" vector-effect="non-scaling-stroke"/></svg><figcaption>{text}</figcaption></figure>'
    )
