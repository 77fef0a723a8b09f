"""The report page: it is self-contained, starts with the verdict, and marks faults at their frames."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from spatialavatar.errors import InputError, OutputError
from spatialavatar.head import HeadModel
from spatialavatar.records import Evidence, HeadParams, Track
from spatialavatar.tracking.report import write_track_report

from .support.puppet_head import make_puppet_head
from .support.tracks import FRAMES, a_track
from .support.videos import make_video


@pytest.fixture(scope="module")
def puppet() -> HeadModel:
    return make_puppet_head()


@pytest.fixture
def track(puppet: HeadModel) -> Track:
    """Fifty frames, of which ten are lost and three profile, after a cut at 20; frame 5 fits best, 8 worst."""
    made = a_track(
        {"lost": slice(30, 40), "profile": slice(44, 47)},
        error=torch.full((FRAMES,), 0.02).index_copy(0, torch.tensor([5, 8]), torch.tensor([0.005, 0.06])),
        shot=(torch.arange(FRAMES) >= 20).int(),
    )
    params = puppet.neutral(FRAMES).replace(translation=torch.tensor([[0.0, 0.0, -0.7]]).repeat(FRAMES, 1))
    return made.with_motion(params=params).replace(crop=torch.tensor([[-16.0, -8.0, 112.0, 120.0]]).repeat(FRAMES, 1))


class Page(HTMLParser):
    """Tags with their attributes, and the balance of opened and closed ones."""

    EMPTY = ("meta", "img", "path", "br")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.EMPTY:
            assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def test_the_page_is_whole_and_asks_nothing_of_anybody(track: Track, puppet: HeadModel, tmp_path: Path) -> None:
    write_track_report(tmp_path, track, puppet, make_video(tmp_path / "clip.mp4", seconds=2.0, rate=25))
    text = (tmp_path / "index.html").read_text()
    page = Page(text)
    assert page.open == []
    assert not re.search(r"https?://|//cdn|<script|<link|\$\w", text)
    assert all((tmp_path / str(image["src"])).is_file() for image in page.all("img"))


def test_the_verdict_comes_first_then_what_is_wrong(track: Track, puppet: HeadModel, tmp_path: Path) -> None:
    write_track_report(tmp_path, track.replace(warnings=("Mind the <gap>.",)), puppet)
    text = (tmp_path / "index.html").read_text()
    assert re.search(r"<h1>40 of 50 frames tracked, landmark error 2\.0 %", text)
    assert "Frames 30-39: no face, motion held." in text
    assert "Frame 20: cut to another shot." in text
    assert "Mind the &lt;gap&gt;." in text


def test_stretches_and_cuts_stand_behind_every_plot(track: Track, puppet: HeadModel, tmp_path: Path) -> None:
    write_track_report(tmp_path, track, puppet)
    page = Page((tmp_path / "index.html").read_text())
    plots = len(page.all("svg"))
    assert plots == 4
    lost = [rect for rect in page.all("rect") if rect["class"] == "lost"]
    assert [(rect["x"], rect["width"]) for rect in lost] == [("30", "10")] * plots
    cuts = [path for path in page.all("path") if path.get("class") == "cut"]
    assert [path["d"] for path in cuts] == ["M20 0V100"] * plots


def test_lines_break_where_nothing_was_fitted(track: Track, puppet: HeadModel, tmp_path: Path) -> None:
    nothing = track.quality.error.index_fill(0, torch.arange(30, 40), float("nan"))
    evidence = track.evidence.replace(quality=track.quality.replace(error=nothing))
    write_track_report(tmp_path, track.replace(evidence=evidence), puppet)
    error = next(path for path in Page((tmp_path / "index.html").read_text()).all("path") if "class" not in path)
    assert str(error["d"]).count("M") == 2


def test_a_long_clip_keeps_its_spikes_on_a_short_path(puppet: HeadModel, tmp_path: Path) -> None:
    made, count = a_track(), 20_000
    spread = {name: getattr(made.quality, name) for name in ("state", "error", "presence", "yaw", "luma", "shot")}
    spread = {name: value[:1].repeat(count) for name, value in spread.items()}
    spread["error"][12_345] = 0.08
    params = HeadParams.neutral(puppet.shape_count, puppet.expression_count, count)
    long = made.with_motion(params=params, confidence=torch.ones(count)).replace(
        evidence=Evidence(None, torch.zeros(count, 52), made.quality.replace(**spread))
    )
    write_track_report(tmp_path, long, puppet)
    text = (tmp_path / "index.html").read_text()
    assert "L12345.5 0.0" in text
    assert len(text) < 150_000


def test_pictures_show_the_best_the_worst_and_each_flagged_stretch(
    track: Track, puppet: HeadModel, tmp_path: Path
) -> None:
    files = write_track_report(tmp_path, track, puppet, make_video(tmp_path / "clip.mp4", seconds=2.0, rate=25))
    names = [path.name for path in files[2:]]
    assert names == [f"frame_{frame:06d}.jpg" for frame in (5, 8, 34, 45)]
    pictures = [np.asarray(Image.open(path)) for path in files[2:]]
    assert {picture.shape for picture in pictures} == {(512, 512, 3)}
    data = json.loads((tmp_path / "report.json").read_text())
    assert [picture["frame"] for picture in data["pictures"]] == [5, 8, 34, 45]
    assert data["clip"]["frames"] == FRAMES


def test_a_track_without_its_video_has_plots_only(track: Track, puppet: HeadModel, tmp_path: Path) -> None:
    files = write_track_report(tmp_path, track, puppet)
    assert [path.name for path in files] == ["index.html", "report.json"]


def test_what_cannot_be_reported_is_said(track: Track, puppet: HeadModel, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="photo"):
        write_track_report(tmp_path, track.with_motion(fps=0.0), puppet)
    with pytest.raises(InputError, match="no quality record"):
        write_track_report(tmp_path, track.replace(evidence=track.evidence.replace(quality=None)), puppet)
    (tmp_path / "file").touch()
    with pytest.raises(OutputError):
        write_track_report(tmp_path / "file" / "report", track, puppet)
