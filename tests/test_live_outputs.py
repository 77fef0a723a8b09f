"""Where a live drive goes from the command line, and what is refused."""

from __future__ import annotations

import json
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from spatialavatar import cli
from spatialavatar.errors import InputError, OutputError
from spatialavatar.media import DeviceWriter, check_video_device, device
from spatialavatar.streams import MotionSender, StreamAddress
from spatialavatar.streams.frames import rest_frame

from .support.avatars import make_ball_avatar
from .support.ports import free_port


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (["drive", "me", "--motion", "clip.mp4", "--to", "/dev/video9"], "--to applies to a webcam"),
        (["drive", "me", "--motion", "osc://:1", "--audio", "a.wav"], "--audio has no effect"),
        (["drive", "me", "--motion", "osc://:1", "--fps", "30"], "--fps applies to motion files only"),
        (["drive", "me", "--motion", "vmc://:1"], "names no supported protocol"),
        (["drive", "me", "--motion", "webcam", "-o", "a.mp4", "--to", "/dev/video9"], "one output"),
        (["track", "clip.mp4", "--seconds", "3"], "--seconds applies to --send"),
        (["track", "clip.mp4", "--send", "osc://127.0.0.1:1"], "motion of a camera"),
        (["track", "webcam", "--send", "osc://0.0.0.0:1"], "names no host to send to"),
        (["track", "webcam", "--send", "127.0.0.1:39539"], "names no supported protocol"),
        (["track", "webcam", "--send", "osc://:1", "-o", "a.json"], "--output has no effect"),
    ],
)
def test_options_without_effect_and_wrong_addresses_are_refused(
    capsys: pytest.CaptureFixture[str], line: list[str], words: str
) -> None:
    assert cli.main(line) == 1
    assert words in capsys.readouterr().err


def test_a_stream_drives_from_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    avatar, address = make_ball_avatar(), StreamAddress("osc", "127.0.0.1", free_port())
    monkeypatch.setattr("spatialavatar.avatar.Avatar.from_pretrained", lambda *_, **__: avatar)
    ended = threading.Event()

    def play() -> None:
        with MotionSender(address) as sender:
            while not ended.wait(0.02):
                sender.send(rest_frame())

    player = threading.Thread(target=play)
    player.start()
    line = ["drive", "me", "--motion", str(address), "--seconds", "2", "--size", "64", "--json"]
    try:
        assert cli.main([*line, "-o", str(tmp_path / "out.mp4")]) == 0
    finally:
        ended.set()
        player.join()
    facts = json.loads(capsys.readouterr().out)
    assert facts["frames"] > 1
    assert facts["packets"] >= 2 * facts["frames"]  # a frame is two packets
    assert facts["damaged"] == 0
    assert (tmp_path / "out.mp4").stat().st_size > 0


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="virtual cameras are devices of Linux")
@pytest.mark.parametrize(
    ("path", "words"),
    [("/dev/null", "not a video device"), ("/dev/no-such-device", "There is no device"), ("{file}", "not a video")],
)
def test_what_is_no_virtual_camera_is_refused_and_kept(tmp_path: Path, path: str, words: str) -> None:
    file = tmp_path / "diary.txt"
    file.write_text("dear diary", encoding="utf-8")
    with pytest.raises(InputError, match=words):
        check_video_device(Path(path.format(file=file)))
    assert file.read_text(encoding="utf-8") == "dear diary"


def test_elsewhere_than_on_linux_a_virtual_camera_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(InputError, match="devices of Linux"):
        check_video_device(Path("/dev/video9"))


def test_pictures_reach_the_device_one_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a file in the place of the device, since the test machine has none."""
    path, command = tmp_path / "device", device.device_command

    def to_file(*arguments: object) -> list[str]:
        return [{"v4l2": "rawvideo", str(path): f"file:{path}"}.get(part, part) for part in command(*arguments)]

    monkeypatch.setattr(device, "device_command", to_file)
    with DeviceWriter(path, (64, 64), 25.0) as writer:
        for grey in (0, 128, 255):
            writer.write(np.full((64, 64, 3), grey, np.uint8))
    luma = np.frombuffer(path.read_bytes(), np.uint8).reshape(3, -1)[:, : 64 * 64].mean(1)
    np.testing.assert_allclose(luma, [16, 126, 235], atol=1)


def test_a_device_that_takes_nothing_is_named(tmp_path: Path) -> None:
    path = tmp_path / "nothing"

    def fill(writer: DeviceWriter) -> None:
        for _ in range(1000):
            writer.write(np.zeros((64, 64, 3), np.uint8))

    with DeviceWriter(path, (64, 64), 25.0) as writer, pytest.raises(OutputError, match=r"nothing accepts no pictures"):
        fill(writer)
