"""Sections of docs/results: each benchmark rewrites its own and leaves the others alone."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Sequence
from pathlib import Path

RESULTS = Path(__file__).resolve().parents[1] / "docs" / "results"
PAGES = {
    "pipeline": "speed.md",
    "drive": "speed.md",
    "rasterizer": "speed.md",
    "gpu": "speed.md",
    "webcam": "speed.md",
    "drive-memory": "speed.md",
    "base-heldout": "base.md",
    "base-portraits": "base.md",
    "refinement": "refinement.md",
    "refinement-ablation": "refinement.md",
    "photometric": "photometric.md",
    "photometric-refinement": "photometric.md",
    "tracking": "tracking.md",
    "tracking-memory": "tracking.md",
    "media": "media.md",
}
"""The page of each section."""


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A markdown table; the first column is text, the others are numbers."""
    lines = [f"| {' | '.join(header)} |", f"|---|{'---:|' * (len(header) - 1)}"]
    return "\n".join([*lines, *(f"| {' | '.join(str(cell) for cell in row)} |" for row in rows)])


def machine() -> str:
    """The processor and its cores, in words."""
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        name = next(
            (line.split(":")[1].strip() for line in info.read_text().splitlines() if "model name" in line), name
        )
    return f"{name}, {os.cpu_count()} cores, {platform.system()}"


def write_section(name: str, text: str) -> None:
    """Put ``text`` between the markers of section ``name`` in its page; at the page's end where it has no markers.

    Raises:
        KeyError: the section has no page.
        ValueError: the page has only one of the two markers.
    """
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    page = RESULTS / PAGES[name]
    report = page.read_text(encoding="utf-8")
    section = f"{begin}\n\n{text.strip()}\n\n{end}"
    if begin in report:
        before, rest = report.split(begin, 1)
        _, after = rest.split(end, 1)
        report = before + section + after
    else:
        report = f"{report.rstrip()}\n\n{section}\n"
    page.write_text(report, encoding="utf-8")
