"""Motion over UDP: the published packets, the loop-back, damage and strangers, and driving with what arrives."""

from __future__ import annotations

import random
import socket
import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from spatialavatar.driving import DriveConfig, drive_frames
from spatialavatar.errors import FormatError, InputError
from spatialavatar.head.arkit import ARKIT_52, ARKIT_INDEX
from spatialavatar.live import CameraMotion, StreamPoses, drive_stream
from spatialavatar.media import VideoReader
from spatialavatar.motion import Motion, load_motion
from spatialavatar.streams import SCHEMES, MotionFrame, MotionReceiver, MotionSender, StreamAddress, file_frames
from spatialavatar.streams.livelink import ORDER
from spatialavatar.streams.osc import read_packet, write_message
from spatialavatar.tracking.live import LiveTracker

from .support.avatars import make_ball_avatar
from .support.ports import free_port
from .support.puppet_head import make_puppet_head
from .support.puppeteer import Puppeteer

pytestmark = pytest.mark.usefixtures("one_thread")

KINDS = sorted(SCHEMES)


def frame(**units: float) -> MotionFrame:
    """A smile or the like, aside and away."""
    weights = np.zeros(52, np.float32)
    for name, weight in units.items():
        weights[ARKIT_INDEX[name]] = weight
    rotation = Rotation.from_euler("YXZ", [0.3, -0.2, 0.1]).as_rotvec().astype(np.float32)
    return MotionFrame(weights, rotation, np.array([0.01, -0.02, 0.03], np.float32))


def assert_same(found: MotionFrame, expected: MotionFrame, kind: str = "osc", tolerance: float = 2e-5) -> None:
    np.testing.assert_allclose(found.weights, expected.weights, atol=tolerance)
    np.testing.assert_allclose(found.rotation, expected.rotation, atol=tolerance)
    if kind != "livelink":  # whose packets have no place
        np.testing.assert_allclose(found.translation, expected.translation, atol=tolerance)


def decoded(kind: str, packets: list[bytes]) -> list[MotionFrame]:
    decoder = SCHEMES[kind].decoder()
    return [found for packet in packets if (found := decoder.decode(packet)) is not None]


# -- the published layouts --------------------------------------------------------------------------------------------


def test_vmc_packets_are_those_of_the_specification() -> None:
    """Read by another OSC library: addresses, types and sizes of the specification's version 3.1."""
    osc = pytest.importorskip("pythonosc.osc_packet", reason="needs the extra 'dev'")
    packets = SCHEMES["osc"].encode(frame(jawOpen=0.5), 1.5)
    assert all(len(packet) <= 1500 for packet in packets)
    messages = [timed.message for packet in packets for timed in osc.OscPacket(packet).messages]
    assert [(m.address, [type(p) for p in m.params]) for m in messages[:4]] == [
        ("/VMC/Ext/OK", [int] * 4),
        ("/VMC/Ext/T", [float]),
        ("/VMC/Ext/Root/Pos", [str] + [float] * 7),
        ("/VMC/Ext/Bone/Pos", [str] + [float] * 7),
    ]
    assert messages[3].params[0] == "Head"
    values = {m.params[0]: m.params[1] for m in messages if m.address == "/VMC/Ext/Blend/Val"}
    assert values.keys() == {name[0].upper() + name[1:] for name in ARKIT_52}  # the case of Unity's ARKit package
    assert values["JawOpen"] == 0.5
    assert messages[-1].address == "/VMC/Ext/Blend/Apply"
    assert messages[-1].params == []


def test_a_vmc_head_that_turns_to_its_right_in_unity_turns_to_the_subjects_right() -> None:
    """Unity: left-handed, a positive angle about y turns a model to its right; head space: to the subject's left."""
    half = np.deg2rad(30.0) / 2
    head = write_message("/VMC/Ext/Bone/Pos", "Head", 0.0, 0.1, 0.0, 0.0, float(np.sin(half)), 0.0, float(np.cos(half)))
    (found,) = decoded("osc", [head, write_message("/VMC/Ext/Blend/Apply")])
    np.testing.assert_allclose(found.rotation, [0.0, -np.deg2rad(30.0), 0.0], atol=1e-6)


@pytest.mark.parametrize("bundled", [True, False])
def test_vmc_values_of_another_sender_apply_together(bundled: bool) -> None:
    builders = pytest.importorskip("pythonosc.osc_bundle_builder", reason="needs the extra 'dev'")
    from pythonosc.osc_message_builder import OscMessageBuilder

    def message(address: str, *arguments: str | float) -> object:
        builder = OscMessageBuilder(address)
        for argument in arguments:
            builder.add_arg(argument)
        return builder.build()

    messages = [
        message("/VMC/Ext/Blend/Val", "jawOpen", 0.25),
        message("/VMC/Ext/Blend/Val", "MOUTHSMILELEFT", 0.75),
        message("/VMC/Ext/Midi/CC/Val", 3, 0.5),  # not ours, to be ignored
        message("/VMC/Ext/Blend/Apply"),
    ]
    if bundled:
        bundle = builders.OscBundleBuilder(builders.IMMEDIATELY)
        for one in messages:
            bundle.add_content(one)
        packets = [bundle.build().dgram]
    else:
        packets = [one.dgram for one in messages]
    (found,) = decoded("osc", packets)
    assert found.weights[ARKIT_INDEX["jawOpen"]] == 0.25
    assert found.weights[ARKIT_INDEX["mouthSmileLeft"]] == 0.75


@pytest.mark.parametrize(("preset", "unit"), [("A", "jawOpen"), ("aa", "jawOpen"), ("Blink_L", "eyeBlinkLeft")])
def test_vmc_presets_stand_for_units_where_the_sender_has_no_others(preset: str, unit: str) -> None:
    apply = write_message("/VMC/Ext/Blend/Apply")
    shown = [write_message("/VMC/Ext/Blend/Val", preset, 1.0), apply]
    assert decoded("osc", shown)[0].weights[ARKIT_INDEX[unit]] >= 0.7
    with_units = [write_message("/VMC/Ext/Blend/Val", "cheekPuff", 0.5), *shown]
    assert decoded("osc", with_units)[0].weights[ARKIT_INDEX[unit]] == 0.0


def test_live_link_packets_have_unreals_layout() -> None:
    """Written field by field: the version, two texts with lengths, the time, 61 big-endian floats."""
    values = [index / 61 for index in range(52)] + [0.3, -0.2, 0.1] + [0.9] * 6
    device, subject = b"D" * 36, b"iPhone"
    packet = b"".join(
        [
            b"\x06",
            struct.pack(">i", 36) + device,
            struct.pack(">i", len(subject)) + subject,
            struct.pack(">ifii", 4711, 0.25, 60, 1),
            struct.pack(">B61f", 61, *values),
        ]
    )
    (found,) = decoded("livelink", [packet])
    for name, index in {"eyeBlinkLeft": 0, "jawOpen": 17, "browInnerUp": 43, "tongueOut": 51}.items():
        assert found.weights[ARKIT_INDEX[name]] == np.float32(index / 61)
    expected = Rotation.from_euler("YXZ", [0.3, -0.2, 0.1]).as_rotvec()
    np.testing.assert_allclose(found.rotation, expected, atol=1e-6)
    ours = SCHEMES["livelink"].encode(frame(tongueOut=1.0), 0.0)[0]
    assert ours[:5] == b"\x06\0\0\0\x24"  # a device id of 36 bytes, as PyLiveLinkFace assumes
    assert len(ours) == len(packet) - len(subject) + len(b"SpatialAvatar")
    assert sorted(ORDER) == sorted(ARKIT_52)


def test_a_live_link_packet_without_a_face_holds_the_last_one() -> None:
    seen, lost = frame(jawOpen=1.0), replace(frame(), seen=False)
    packets = [SCHEMES["livelink"].encode(one, 0.0)[0] for one in (seen, lost)]
    found = decoded("livelink", packets)
    assert [one.seen for one in found] == [True, False]
    assert_same(found[1], seen, "livelink")


@pytest.mark.parametrize("separator", ["-", "&"])
def test_ifacialmocap_packets_of_both_versions_are_read(separator: str) -> None:
    units = ["mouthSmile_R", "eyeLookOut_L", "mouthClose", "jawLeft", "eyeBlink_L", "browInnerUp", "cheekPuff"]
    units += ["mouthLeft", "tongueOut", "jawOpen"]
    parts = [f"{name}{separator}{10 * (index + 1)}" for index, name in enumerate(units)]
    text = "|".join([*parts, "=head#-20.0,30.0,-5.0,-0.03,-0.1,-0.65", "rightEye#6.0,2.4,0.2", "leftEye#6,-1,0", ""])
    (found,) = decoded("ifacialmocap", [text.encode()])
    for name, percent in {"mouthSmileRight": 10, "jawLeft": 40, "eyeBlinkLeft": 50, "jawOpen": 100}.items():
        assert found.weights[ARKIT_INDEX[name]] == np.float32(percent / 100)
    expected = Rotation.from_euler("YXZ", [30.0, -20.0, -5.0], degrees=True).as_rotvec()
    np.testing.assert_allclose(found.rotation, expected, atol=1e-6)
    np.testing.assert_allclose(found.translation, [-0.03, -0.1, -0.65], atol=1e-6)


# -- replay, loss, damage ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def take(examples: Path) -> Motion:
    return load_motion(examples / "motions" / "expressions.json")


def recorded(kind: str, take: Motion) -> list[bytes]:
    """The packets that a sender of the take leaves on the wire."""
    encode = SCHEMES[kind].encode
    return [packet for index, one in enumerate(file_frames(take)) for packet in encode(one, index / take.fps)]


@pytest.mark.parametrize("kind", KINDS)
def test_a_recorded_stream_replays_to_the_same_motion(kind: str, take: Motion) -> None:
    found = decoded(kind, recorded(kind, take))
    assert len(found) == len(take)
    for one, expected in zip(found, file_frames(take)):
        assert_same(one, expected, kind)


@pytest.mark.parametrize("kind", KINDS)
def test_loss_disorder_and_garbage_do_not_stop_a_stream(kind: str, take: Motion) -> None:
    chance = random.Random(5)
    decoder = SCHEMES[kind].decoder()
    packets = [packet for packet in recorded(kind, take) if chance.random() > 0.3]
    for at in range(0, len(packets), 5):
        part = packets[at : at + 5]
        chance.shuffle(part)
        packets[at : at + 5] = part
    frames, refused = 0, 0
    for packet in packets:
        damaged = bytearray(packet)
        for _ in range(chance.randrange(1, 6)):
            damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        garbage = chance.randbytes(chance.randrange(300))
        for one in (packet, garbage, bytes(damaged), packet[: chance.randrange(len(packet))]):
            try:
                found = decoder.decode(one)
            except FormatError:
                refused += 1
                continue
            if found is not None:
                frames += 1
                assert np.isfinite(found.weights).all()
                assert np.abs(found.weights).max() <= 2.0
                assert np.isfinite(found.rotation).all()
    assert frames > len(take) // 4
    assert refused > len(packets)
    last = frame(jawOpen=0.5)
    whole = [found for packet in SCHEMES[kind].encode(last, 9.0) if (found := decoder.decode(packet))]
    assert_same(whole[-1], last, kind)


@pytest.mark.parametrize("size", [-4, 0, 2**31 - 1])
def test_a_bundle_with_a_wrong_size_is_refused_at_once(size: int) -> None:
    packet = b"#bundle\0" + b"\0" * 8 + struct.pack(">i", size)
    with pytest.raises(FormatError):
        list(read_packet(packet))


def test_bundles_that_nest_without_end_are_refused() -> None:
    packet = write_message("/VMC/Ext/Blend/Apply")
    for _ in range(400):
        packet = b"#bundle\0" + b"\0" * 8 + len(packet).to_bytes(4, "big") + packet
    with pytest.raises(FormatError, match="nested"):
        list(read_packet(packet))


# -- the loop-back ----------------------------------------------------------------------------------------------------


def wait(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 30.0
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.fixture
def receiver(request: pytest.FixtureRequest) -> Iterator[MotionReceiver]:
    kind = getattr(request, "param", "livelink")
    with MotionReceiver(StreamAddress(kind, "127.0.0.1", free_port())) as receiver:
        yield receiver


@pytest.mark.parametrize("receiver", KINDS, indirect=True)
def test_a_frame_crosses_the_loop_back(receiver: MotionReceiver) -> None:
    sent = frame(jawOpen=0.25, eyeBlinkLeft=1.0)
    with MotionSender(receiver.address) as sender:
        sender.send(sent)
    arrival = receiver.newer(0, 30.0)
    assert arrival is not None
    assert_same(arrival.frame, sent, receiver.address.scheme)


def test_a_reader_that_is_slow_gets_the_newest_frame(receiver: MotionReceiver) -> None:
    with MotionSender(receiver.address) as sender:
        for weight in (0.1, 0.2, 0.3):
            sender.send(frame(jawOpen=weight))
        wait(lambda: receiver.counts.frames == 3)
    arrival = next(receiver.arrivals(1.0))
    assert arrival is not None
    assert arrival.frame.weights[ARKIT_INDEX["jawOpen"]] == np.float32(0.3)


def test_garbage_and_large_packets_are_counted_and_dropped(receiver: MotionReceiver) -> None:
    place = ("127.0.0.1", receiver.address.port)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        stranger.sendto(b"hello", place)
        stranger.sendto(b"\x06" * 20_000, place)
    wait(lambda: receiver.counts.damaged == 2)
    with MotionSender(receiver.address) as sender:
        sender.send(frame(jawOpen=0.5))
    assert receiver.newer(0, 30.0) is not None


def test_packets_beyond_the_largest_rate_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SCHEMES, "livelink", replace(SCHEMES["livelink"], packets=3))
    with (
        MotionReceiver(StreamAddress("livelink", "127.0.0.1", free_port())) as receiver,
        MotionSender(receiver.address) as sender,
    ):
        for _ in range(50):
            sender.send(frame())
        wait(lambda: receiver.counts.ignored + receiver.counts.packets >= 50)
        assert receiver.counts.ignored > 30


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="127.0.0.2 is an address of this machine on Linux only")
def test_while_one_sender_is_heard_another_machine_is_ignored() -> None:
    with MotionReceiver(StreamAddress("livelink", "127.0.0.1", free_port())) as receiver:
        with MotionSender(receiver.address) as sender:
            sender.send(frame(jawOpen=0.5))
        wait(lambda: receiver.counts.frames == 1)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
            try:
                other.bind(("127.0.0.2", 0))
            except OSError:
                pytest.skip("this machine has no second loop-back address")
            for packet in SCHEMES["livelink"].encode(frame(jawOpen=1.0), 0.0):
                other.sendto(packet, ("127.0.0.1", receiver.address.port))
        wait(lambda: receiver.counts.ignored == 1)
        assert receiver.counts.frames == 1


def test_a_port_in_use_is_named(receiver: MotionReceiver) -> None:
    with pytest.raises(InputError, match=rf"The port {receiver.address.port} is in use"):
        MotionReceiver(receiver.address)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("udp://:39539", "names no supported protocol"),
        ("osc://:0", "not an address of a motion stream"),
        ("osc://:99999", "not an address of a motion stream"),
        ("osc://host:39539/path", "not an address of a motion stream"),
        ("osc://a b:1:2", "not an address of a motion stream"),
    ],
)
def test_a_wrong_address_is_refused(text: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        StreamAddress.parse(text)


def test_an_address_without_a_host_is_the_loop_back() -> None:
    assert StreamAddress.parse("osc://:39600") == StreamAddress("osc", "127.0.0.1", 39600)
    assert StreamAddress.parse("livelink://") == StreamAddress("livelink", "127.0.0.1", 11111)
    assert StreamAddress.parse("osc://[::1]:5") == StreamAddress("osc", "::1", 5)


def test_an_unknown_host_is_refused_on_both_ends() -> None:
    address = StreamAddress("osc", "no-such-host.invalid", 39539)
    for end in (MotionReceiver, MotionSender):
        with pytest.raises(InputError, match=r"The host no-such-host\.invalid is unknown"):
            end(address)


def test_an_interface_of_another_machine_cannot_be_heard() -> None:
    with pytest.raises(InputError, match=r"no interface 192\.0\.2\.1"):
        MotionReceiver(StreamAddress("osc", "192.0.2.1", free_port()))


# -- driving ----------------------------------------------------------------------------------------------------------


def test_a_stream_drives_an_avatar_like_the_motion_file(take: Motion) -> None:
    avatar, config = make_ball_avatar(), DriveConfig(size=64, smoothing=0)
    poses = StreamPoses(avatar.head, from_camera=False)
    part = slice(0, None, 30)
    still = torch.zeros_like(take.translation[part])
    few = Motion(take.weights[part], take.rotation[part], still, fps=take.fps)
    expected = drive_frames(avatar, few.to_track(avatar.head), config)
    for index, (one, picture) in enumerate(zip(decoded("osc", recorded("osc", few)), expected, strict=True)):
        (found,) = drive_frames(avatar, poses.track(one, index / take.fps), config)
        assert np.abs(found.astype(int) - picture).max() <= 2


def test_the_pose_of_a_camera_is_relative_to_the_first_second() -> None:
    head = make_puppet_head()
    poses = StreamPoses(head, from_camera=True)
    aside = frame()
    for index in range(40):
        track = poses.track(aside, index / 25)
    assert track.neutral.rotation is not None
    assert track.neutral.translation is not None
    torch.testing.assert_close(track.neutral.rotation, torch.from_numpy(aside.rotation), atol=1e-5, rtol=0)
    torch.testing.assert_close(track.params.translation[0], track.neutral.translation, atol=1e-6, rtol=0)
    moved = replace(aside, translation=aside.translation + np.array([0.05, 0.0, 0.0], np.float32))
    away = poses.track(moved, 3.0).params.translation[0] - track.neutral.translation
    torch.testing.assert_close(away, torch.tensor([0.05, 0.0, 0.0]), atol=1e-6, rtol=0)


def test_a_drive_by_a_stream_writes_a_video_that_keeps_its_time(receiver: MotionReceiver, tmp_path: Path) -> None:
    with MotionSender(receiver.address) as sender:
        sender.send(frame(jawOpen=1.0))
        report = drive_stream(make_ball_avatar(), receiver, tmp_path / "out.mp4", DriveConfig(size=64), seconds=1.0)
    assert report.frames == 1
    assert report.counts.packets == 1
    video = VideoReader(tmp_path / "out.mp4")
    assert sum(1 for _ in video) / video.fps == pytest.approx(1.0, abs=0.15)


@pytest.mark.parametrize(
    ("packet", "words"), [(b"", "No motion came to livelink"), (b"noise", "none of which is Live")]
)
def test_a_stream_without_motion_leaves_no_video(
    receiver: MotionReceiver, tmp_path: Path, packet: bytes, words: str
) -> None:
    if packet:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            stranger.sendto(packet, ("127.0.0.1", receiver.address.port))
        wait(lambda: receiver.counts.damaged == 1)
    with pytest.raises(InputError, match=words):
        drive_stream(make_ball_avatar(), receiver, tmp_path / "out.mp4", DriveConfig(size=64), seconds=0.2)
    assert list(tmp_path.iterdir()) == []


# -- our tracker as a sender ------------------------------------------------------------------------------------------


def test_the_tracker_sends_changes_from_the_resting_face() -> None:
    head = make_puppet_head()
    jaw = torch.cat([torch.full((45,), 0.2), torch.full((10,), 0.8)])
    smile = torch.full((55,), 0.5)
    follower = CameraMotion(LiveTracker(head, 25, networks=Puppeteer(head, jaw, smile)))
    picture = np.zeros((512, 512, 3), np.uint8)
    frames = [follower.update(picture, index / 25)[1] for index in range(55)]
    rest, talking = frames[44], frames[54]
    assert rest.weights.max() < 0.05
    assert np.abs(rest.rotation).max() < 0.02
    assert np.abs(rest.translation).max() < 0.005
    assert talking.weights[ARKIT_INDEX["jawOpen"]] > 0.4
    assert talking.weights[ARKIT_INDEX["mouthSmileLeft"]] < 0.05


def test_a_camera_is_tracked_and_sent_over_the_loop_back(
    receiver: MotionReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    from spatialavatar import webcam

    head = make_puppet_head()
    jaw = torch.cat([torch.zeros(40), torch.ones(8)])
    puppet = LiveTracker(head, 25, networks=Puppeteer(head, jaw))
    monkeypatch.setattr(webcam, "LiveTracker", lambda _: puppet)
    camera = [(index / 25, np.zeros((512, 512, 3), np.uint8)) for index in range(48)]
    with MotionSender(receiver.address) as sender:
        report = webcam.send_live(head, camera, sender)
    wait(lambda: receiver.counts.frames == sender.frames)
    assert (report.frames, report.lost) == (48, 0)
    assert 15 < sender.frames < 30  # what follows the first second
    arrival = receiver.newer(0, 1.0)
    assert arrival is not None
    assert arrival.frame.weights[ARKIT_INDEX["jawOpen"]] > 0.5


def test_a_face_that_is_lost_is_sent_as_unseen() -> None:
    head = make_puppet_head()
    follower = CameraMotion(LiveTracker(head, 25, networks=Puppeteer(head, torch.zeros(45), hidden=range(40, 45))))
    picture = np.zeros((512, 512, 3), np.uint8)
    frames: list[MotionFrame] = [follower.update(picture, index / 25)[1] for index in range(45)]
    assert frames[39].seen
    assert not frames[44].seen
    assert_same(frames[44], frames[39])
