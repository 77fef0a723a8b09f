"""Long work as a stream of steps: its errors, its stop, its silence."""

from __future__ import annotations

import tempfile
import threading
import time

import pytest

pytest.importorskip("gradio", reason="the page needs the extra 'app': pip install -e '.[app]'")

import gradio as gr

from spatialavatar.app.steps import Report, steps_of, without_folders
from spatialavatar.errors import NoFaceError


def test_an_error_of_the_work_reaches_the_visitor_as_its_sentence() -> None:
    def work(report: Report) -> None:
        report(0.1, "Finding the face")
        raise NoFaceError("There is no face in a.jpg; give a portrait.")

    with pytest.raises(gr.Error, match="There is no face in"):
        list(steps_of(work))


def test_closing_the_steps_stops_the_work_at_its_next_report() -> None:
    reached: list[float] = []

    def work(report: Report) -> None:
        for count in range(1000):
            report(count / 1000, "Working")
            reached.append(count)
            time.sleep(0.005)

    steps = steps_of(work)
    next(steps)
    steps.close()
    stopped_at = len(reached)
    time.sleep(0.05)
    assert len(reached) == stopped_at < 100


def test_work_that_reports_nothing_is_stopped_too() -> None:
    ended = threading.Event()

    def work(report: Report) -> None:
        report(0.0, "Starting")
        try:
            while True:
                time.sleep(0.01)
        finally:
            ended.set()

    steps = steps_of(work)
    next(steps)
    steps.close()
    assert ended.is_set()


def test_a_stream_without_reports_repeats_its_last_step() -> None:
    def work(report: Report) -> None:
        report(0.3, "Fitting", {"preview": "a.png"}, frames=3)
        time.sleep(0.7)

    first, second = list(steps_of(work))[:2]
    assert (first.fraction, first.files, first.facts) == (0.3, {"preview": "a.png"}, {"frames": 3})
    assert (second.fraction, second.message, second.files, second.facts) == (0.3, "Fitting", {}, {})


def test_an_unforeseen_error_is_shown_without_details(caplog: pytest.LogCaptureFixture) -> None:
    def work(report: Report) -> None:
        raise KeyError("/home/secret/path")

    with pytest.raises(gr.Error, match="should not have") as caught:
        list(steps_of(work))
    assert "secret" not in caught.value.message
    assert "secret" in caplog.text


def test_names_of_files_cannot_bring_markup_into_a_message() -> None:
    def work(report: Report) -> None:
        raise NoFaceError("There is no face in <img src=x onerror=alert(1)>.jpg; give a portrait.")

    with pytest.raises(gr.Error) as caught:
        list(steps_of(work))
    assert not set("<>") & set(caught.value.message)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Cannot move /srv/app/private/a.mp4 now.", "Cannot move a.mp4 now."),
        ("ffmpeg: file:/srv/app/private/a.mp4 is damaged", "ffmpeg: file:a.mp4 is damaged"),
        (f"No space in {tempfile.gettempdir()}/my folder/a.mp4", "No space in my folder/a.mp4"),
        ("See https://example.org/a/b for more.", "See https://example.org/a/b for more."),
    ],
)
def test_messages_name_no_folder_of_the_server(text: str, shown: str) -> None:
    assert without_folders(text) == shown


def test_an_address_stays_whole_where_the_app_runs_in_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")
    assert without_folders("See https://example.org/a/b for more.") == "See https://example.org/a/b for more."
