"""Drive an avatar with a track: frames one by one in constant memory, or a video file with the driver's sound.

There are two ways to transfer a performance:

* *relative* (default): the change from the driver's neutral is added to the avatar's neutral, so the driver's identity
  does not leak into the avatar. The avatar faces the camera where the driver's head is at rest: in the clip's mean
  pose, or in the neutral of a motion file; with ``head_pose="as filmed"`` it keeps most of that pose. Torso and neck
  share head rotations.
* *absolute*: parameters are used unchanged and seen by the track's camera (self-reenactment).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Final, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from spatialavatar.avatar import NECK_SHARE, Avatar, skull_box
from spatialavatar.avatar_response import matched_gains, measured_gains
from spatialavatar.errors import FormatError, InputError
from spatialavatar.files import check_not_an_input
from spatialavatar.head import HeadModel, Identity
from spatialavatar.head.rotations import axis_angle_to_matrix, matrix_to_axis_angle, mean_rotation
from spatialavatar.lip_gap import jaw_for_gap, lip_gaps
from spatialavatar.media import (
    PictureWriter,
    VideoWriter,
    alpha_writer,
    check_alpha_name,
    check_writable,
    has_sound,
)
from spatialavatar.motion import is_motion_file, read_motion
from spatialavatar.part_strengths import PartStrengths
from spatialavatar.progress import Progress, no_progress, part
from spatialavatar.provenance import marked
from spatialavatar.records import Camera, HeadParams, Track, as_uint8_image
from spatialavatar.render import best_device, render
from spatialavatar.render.kernels import kernel_threads, thread_count
from spatialavatar.staging import (
    SCENES,
    WHITE,
    Background,
    PhotoStage,
    PlainStage,
    SceneKind,
    Stage,
    TransparentStage,
    check_background,
    is_background,
    photo_camera,
    require_scene,
)
from spatialavatar.threads import in_order, one_torch_thread
from spatialavatar.tracking.landmarker import LANDMARK_COUNT, FaceLandmarker
from spatialavatar.tracking.lids import BLINK_UNITS, lids_as_shut
from spatialavatar.tracking.photos import shared_networks
from spatialavatar.tracking.smoothing import one_euro, one_euro_rotations
from spatialavatar.transfer_gain import JAW_LIMITS, Gains, amplified_gaze, amplified_jaw, amplified_units

UNIT_LIMITS: Final = (-0.25, 1.25)
"""The range in which the shapes of named expression units are valid."""

HeadPose = Literal["centred", "as filmed"]
HEAD_POSES: Final[tuple[HeadPose, ...]] = get_args(HeadPose)

_BREATH: Final = ((0.012, 0.24), (0.005, 0.09))
"""Amplitude, radians, and rate, Hz, of the torso's nod and of its tilt."""
_SIDE: Final = 512
_PHOTO_SHIFT: Final = 0.02
"""Largest translation of the head over the still body of a photo, metres."""

_RESPONSE_SIZE: Final = 256  # pixels; the landmark network reads a face at this size
_RESPONSE_FRAMING: Final = 0.85  # a larger face is read with less noise than that of a portrait
_MANY_FRAMES: Final = 20  # a quantile of fewer frames is no resting value
_FILMED_SHARE: Final = 0.7
"""Share of the driver's resting turn that "as filmed" keeps: an avatar of one photo is weaker from the side."""


@dataclass(frozen=True)
class DriveConfig:
    """How a performance is transferred.

    Attributes:
        strength: scale of the expression relative to neutral, 0 (a still face) to 3; 1 is as performed.
        parts: further scales of pose, mouth, brows, lids and gaze.
        relative: transfer changes from the driver's neutral; False uses its parameters unchanged.
        smoothing: 0 is none, 1 the default one-euro filter, larger values smooth more; at most 10.
        size: width and height of the video, pixels, even; in the photo, its longer side. None is 512, and in the photo
            its own size, at most 2048.
        scene: "plain" shows the avatar on its own; "photo" its head in the photo it was made from, in the pose of the
            photo where the driver's head is at rest; "transparent" the avatar without a background.
        background: sRGB colour, each in [0, 1], the path of a picture, or "blur" for the photo's own background, out of
            focus. None is white, and in the photo its own.
        neck_share: share of a relative head rotation that the neck joint takes; the torso takes the rest. A bust also
            turns in this way where ``relative`` is False.
        framing: height of the head as a share of the picture's height, 0.1 to 1.
        max_shift: limit of relative head translation, metres, 0 to 1; it keeps a walking driver in the picture.
        head_pose: of relative driving: "centred" turns the resting head to the camera; "as filmed" keeps 70 % of the
            turn that the driver's head has at rest.
        mark: write "AI-generated" into a corner of the video; its metadata contain it in any case.
    """

    strength: float = 1.0
    relative: bool = True
    smoothing: float = 1.0
    size: int | None = None
    background: Background | None = None
    neck_share: float = NECK_SHARE
    framing: float = 0.62
    max_shift: float = 0.08
    mark: bool = False
    head_pose: HeadPose = "centred"
    parts: PartStrengths = field(default_factory=PartStrengths)
    scene: SceneKind = "plain"

    @property
    def side(self) -> int:
        """Width and height of a video of the avatar on its own, pixels."""
        return self.size or _SIDE

    def _check_scene(self) -> None:
        """Refuse an unknown scene, and settings that have no effect in it.

        Raises:
            InputError: there is one.
        """
        if self.scene not in SCENES:
            raise InputError(f"The scene is {self.scene!r}; give {' or '.join(map(repr, SCENES))}.")
        if self.scene == "photo" and not self.relative:
            raise InputError("In the photo the driver's change is added to the photo's pose; do not drive absolutely.")
        if self.scene == "photo" and self.head_pose != "centred":
            raise InputError("In the photo the head rests as it was photographed; leave the head_pose out.")
        if self.scene == "transparent" and self.background is not None:
            raise InputError("A transparent video has no background; leave the background out.")

    def __post_init__(self) -> None:
        if self.head_pose not in HEAD_POSES:
            raise InputError(f"The head_pose is {self.head_pose!r}; give {' or '.join(map(repr, HEAD_POSES))}.")
        if not 0.0 <= self.strength <= 3.0:
            raise InputError(f"The strength is {self.strength}; give a number from 0 to 3.")
        if not 0.0 <= self.smoothing <= 10.0:
            raise InputError(f"The smoothing is {self.smoothing}; give a number from 0 (none) to 10.")
        if self.size is not None and (not 64 <= self.size <= 2048 or self.size % 2):
            raise InputError(f"The video size is {self.size}; give an even number from 64 to 2048.")
        if self.background is not None and not is_background(self.background):
            raise InputError(
                'The background must be three numbers from 0 to 1 (red, green, blue), the path of a picture, or "blur".'
            )
        self._check_scene()
        for name, low, high in (("neck_share", 0.0, 1.0), ("framing", 0.1, 1.0), ("max_shift", 0.0, 1.0)):
            if not low <= getattr(self, name) <= high:
                raise InputError(f"The {name} is {getattr(self, name)}; give a number from {low:g} to {high:g}.")


@dataclass(frozen=True)
class DriveReport:
    """The result of a drive.

    Attributes:
        path: the video.
        frames: number of its frames.
        fps: frames per second.
        held: frames without a tracked driver, which repeat the motion of a neighbouring frame.
        warnings: sentences about the driver.
    """

    path: Path
    frames: int
    fps: float
    held: int
    warnings: tuple[str, ...]


def portrait_view(avatar: Avatar, size: int = 512, framing: float = 0.62) -> tuple[Camera, Tensor]:
    """A portrait of the avatar: the camera, and the (3,) head translation in world space, metres.

    Head and hair take ``framing`` of the picture's height; the middle of the face is a little above its centre.
    """
    low, high = skull_box(avatar)
    camera = Camera.frontal(size)
    focal = float(camera.intrinsics[1, 1])
    middle = 0.5 * (low + high)
    # The silhouette is about half-way back in the head, so the magnification is that of this depth.
    distance = focal * float(high[1] - low[1]) / (framing * size)
    drop = 0.03 * float(high[1] - low[1])
    return camera, torch.stack([-middle[0], -middle[1] + drop, -distance - middle[2]])


def avatar_gains(avatar: Avatar, track: Track | None = None, landmarker: FaceLandmarker | None = None) -> Gains | None:
    """Gains of the avatar's expression, measured on 13 renders of it, and about 20 of a tracked performance.

    Args:
        avatar: the avatar.
        track: the performance, whose amplitude the avatar's is to match; None: that of the expressions alone.
        landmarker: an opened landmark network to reuse.

    Returns:
        The gains, or None if the units of the avatar's head have no names, or the motion was not tracked.
    """
    if not avatar.head.has_named_units or (track is not None and not _is_tracked(track)):
        return None
    landmarker = landmarker or shared_networks().landmarker
    camera, home = portrait_view(avatar, _RESPONSE_SIZE, _RESPONSE_FRAMING)
    gains = measured_gains(avatar, camera, home, landmarker)
    if track is None or len(track) == 0:
        return gains
    moved, camera = retarget(track, avatar, DriveConfig(size=_RESPONSE_SIZE, framing=_RESPONSE_FRAMING), gains)
    return matched_gains(gains, avatar, track, moved, camera, landmarker)


@dataclass(frozen=True, eq=False)
class AtRest:
    """An avatar at rest before the camera of a relative drive: what is the same in all frames.

    Attributes:
        identity: the avatar's rest head.
        lip_gap: (1,) gap between its lips over the distance of the outer eye corners; None without their landmarks.
        camera: sees the avatar.
        home: (3,) translation of the head, metres.
    """

    identity: Identity
    lip_gap: Tensor | None
    camera: Camera
    home: Tensor

    @classmethod
    def of(cls, avatar: Avatar, config: DriveConfig) -> AtRest:
        """The rest of ``avatar`` with the framing of ``config``."""
        if config.scene == "photo":
            camera, home = photo_camera(avatar, config.size), avatar.reference.translation[0]
        else:
            camera, home = portrait_view(avatar, config.side, config.framing)
        identity = avatar.identity()
        return cls(identity, _resting_gap(avatar.head, identity), camera, home)


def _resting_gap(head: HeadModel, identity: Identity) -> Tensor | None:
    """(1,) gap between the lips of a person at rest; None where the head lacks their landmarks."""
    if LANDMARK_COUNT not in head.landmark_embeddings:
        return None
    like = identity.vertices
    return lip_gaps(head, identity, like.new_zeros(1, head.expression_count), like.new_zeros(1, 3))


@lru_cache(maxsize=8)  # live driving calls this in every frame
def _driver_at_rest(head: HeadModel, shape: tuple[float, ...]) -> tuple[Identity, Tensor | None]:
    """The rest head of a driver with the shape's coefficients, and the gap between its lips."""
    with torch.inference_mode(False), torch.no_grad():  # callers with gradients may follow
        identity = head.identity(torch.tensor(shape, device=head.device))
        return identity, _resting_gap(head, identity)


def retarget(
    track: Track, avatar: Avatar, config: DriveConfig, gains: Gains | None = None, rest: AtRest | None = None
) -> tuple[HeadParams, Camera]:
    """The avatar's parameters for every frame of ``track``, and the camera that sees them.

    Args:
        track: the performance.
        avatar: the avatar.
        config: how it is transferred.
        gains: result of :func:`avatar_gains`, used by relative driving of a tracked person; None: the usual ones.
        rest: the avatar at rest with these settings, so that it is not computed again for every frame.

    Raises:
        FormatError: the track belongs to another head model.
        InputError: the track has no frames.
    """
    track.require_head(avatar.head.id)
    if track.params.expression.shape[1] != avatar.head.expression_count:
        raise FormatError(
            f"The motion has {track.params.expression.shape[1]} expression coefficients and the avatar's head has "
            f"{avatar.head.expression_count}; track the motion again with that head."
        )
    if len(track) == 0:
        raise InputError("The motion has no frames; give a longer one.")
    track = track.without_pictures().to(avatar.shape.device)
    params = _smoothed(track.params, track.fps, config.smoothing, avatar.head.expressions)
    if not config.relative:
        absolute = avatar.with_torso(_absolute(params, avatar, config), config.neck_share)
        return absolute, track.camera.resized(config.side, config.side)
    rest = rest or AtRest.of(avatar, config)
    expression, jaw, eyes = _relative_expression(track, params, config)
    names = avatar.head.unit_names
    expression = config.parts.of_units(names, expression)
    if names is not None and _is_tracked(track):
        gains = gains or Gains()
        if LANDMARK_COUNT in avatar.head.landmark_embeddings:
            expression = lids_as_shut(avatar.head, expression, (params.shape, avatar.shape))
        expression = amplified_units(expression, names, UNIT_LIMITS, gains)
        jaw, eyes = amplified_jaw(jaw), amplified_gaze(eyes, gains.yaw)
        if rest.lip_gap is not None:
            gap = config.strength * config.parts.mouth * gains.lips * _opening(track, params, avatar.head)
            jaw = jaw_for_gap(avatar.head, rest.identity, expression, jaw, gap + rest.lip_gap, JAW_LIMITS)
    else:
        expression = _limited(expression, avatar.head)
    turned, shift = _relative_pose(track, params, config)
    if config.scene == "photo":
        rotation, neck = _turned_in_photo(turned, avatar)
        shift = shift.clamp(-_PHOTO_SHIFT, _PHOTO_SHIFT)
    else:
        rotation, neck = _divided(turned, config.neck_share)
    moved = HeadParams(
        shape=avatar.shape,
        expression=expression,
        rotation=rotation,
        translation=rest.home + shift,
        neck=neck,
        jaw=jaw,
        eyes=eyes,
    )
    if config.scene == "photo":
        return moved, rest.camera
    sway = _breathing(len(moved), track.fps, moved.rotation)
    return avatar.with_torso(moved, config.neck_share, rest.identity, sway), rest.camera


def drive_frames(
    avatar: Avatar, track: Track, config: DriveConfig | None = None, gains: Gains | None = None
) -> Generator[np.ndarray, None, None]:
    """Yield rendered frames, one per frame of ``track``: (H, W, 3) uint8; transparent: (H, W, 4) with straight alpha.

    Args:
        avatar: the avatar.
        track: the performance.
        config: how it is transferred.
        gains: result of :func:`avatar_gains`; None: the usual ones.

    Raises:
        FormatError: the track belongs to another head model.
        InputError: the track has no frames.
    """
    config = config or DriveConfig()
    params, camera = retarget(track, avatar, config, gains)
    stage = _stage(avatar, camera, config)

    def frame(index: int) -> np.ndarray:
        # Both settings belong to the thread, and must not be in force while the caller has the frame.
        with torch.inference_mode(), one_torch_thread():
            return stage.frame(params[index])

    # One thread for each frame scales better than several threads in one frame.
    yield from in_order(frame, len(params), thread_count() if avatar.shape.device.type == "cpu" else 1)


class FrameRenderer:
    """Renders frames of an avatar one by one; values that all frames share are prepared once."""

    def __init__(self, avatar: Avatar, config: DriveConfig, gains: Gains | None = None) -> None:
        self._avatar, self._config, self._gains = avatar, config, gains
        self._rest = AtRest.of(avatar, config) if config.relative else None
        self._stage: Stage | None = None
        self._threads = thread_count()

    def frame(self, track: Track) -> np.ndarray:
        """The first frame of ``track``, as :func:`drive_frames` yields it.

        Raises:
            FormatError: the track belongs to another head model.
            InputError: the track has no frames.
        """
        return self.drawn(*self.moved(track))

    def moved(self, track: Track) -> tuple[HeadParams, Camera]:
        """The avatar's parameters for ``track`` and the camera that sees them; another thread may draw meanwhile.

        Raises:
            FormatError: the track belongs to another head model.
            InputError: the track has no frames.
        """
        with one_torch_thread():
            return retarget(track, self._avatar, self._config, self._gains, self._rest)

    def drawn(self, params: HeadParams, camera: Camera) -> np.ndarray:
        """The picture (H, W, 3) of the first frame of :meth:`moved`."""
        # In absolute driving the camera is the track's.
        if self._stage is None or not self._config.relative:
            self._stage = _stage(self._avatar, camera, self._config)
        # One frame at a time: the kernels share it among the threads, of which a tracker may occupy one.
        with torch.inference_mode(), one_torch_thread(), kernel_threads(self._threads):
            return self._stage.frame(params[0])


def require_opaque(config: DriveConfig) -> None:
    """Refuse transparency, which a live drive has not.

    Raises:
        InputError: the frames would be transparent.
    """
    if config.scene == "transparent":
        raise InputError("A live drive has no transparency; give --scene plain, or drive with a recording.")


def drive_still(avatar: Avatar, track: Track, config: DriveConfig | None = None) -> np.ndarray:
    """The first frame of ``track``, for a page: (H, W, 3) uint8 in the photo, else (H, W, 4) with straight alpha.

    Raises:
        FormatError: the track belongs to another head model.
        InputError: the track has no frames.
    """
    config = config or DriveConfig()
    with torch.inference_mode(), one_torch_thread():
        params, camera = retarget(track, avatar, config)
        if config.scene == "photo":
            return _stage(avatar, camera, config).frame(params[0])
        image, alpha = render(avatar.pose(params[0]), camera)
        straight = image / alpha[..., None].clamp_min(1e-3)
        still = torch.cat([straight, alpha[..., None]], -1)
        return as_uint8_image(still)


def picture_size(avatar: Avatar, config: DriveConfig) -> tuple[int, int]:
    """Width and height of the frames that :func:`drive_frames` yields.

    Raises:
        InputError: the frames are those of the photo, which the avatar does not keep.
    """
    if config.scene != "photo":
        return config.side, config.side
    camera = photo_camera(avatar, config.size)
    return camera.width, camera.height


def _stage(avatar: Avatar, camera: Camera, config: DriveConfig) -> Stage:
    """The stage that the settings describe."""
    with torch.inference_mode(), one_torch_thread():
        if config.scene == "photo":
            return PhotoStage(avatar, camera, config.background)
        if config.scene == "transparent":
            return TransparentStage(avatar, camera)
        return PlainStage(avatar, camera, WHITE if config.background is None else config.background)


def drive(
    avatar: Avatar,
    motion: Track | str | Path,
    out: str | Path,
    config: DriveConfig | None = None,
    *,
    audio: str | Path | None = None,
    device: torch.device | str | None = None,
    progress: Progress | None = None,
    watch: Callable[[np.ndarray], None] | None = None,
) -> DriveReport:
    """Render ``avatar`` moving like ``motion`` into the video ``out``.

    Args:
        avatar: the avatar.
        motion: a Track, a motion file (docs/reference/motion.md), a saved track, or a video, whose sound is kept.
        out: the mp4 to write; it appears whole or not at all. A transparent video is written to a .webm (VP9), a .mov
            (ProRes 4444), a .zip of PNG pictures, or, without a suffix, a folder of them.
        config: how the performance is transferred.
        audio: a file with sound for the video; it replaces the driver's.
        device: where to render; by default a CUDA device if a renderer works on it, else the CPU.
        progress: called with (fraction, message).
        watch: called with every frame (H, W, 3) uint8 as it is written, for a preview.

    Raises:
        OutputError: ``out`` cannot be written; this is checked before the work starts.
        InputError: the motion cannot be used, or is a photo.
        FormatError: the motion belongs to another head model, or its file is damaged.
    """
    config = config or DriveConfig()
    out = Path(out)
    check_not_an_input(out, audio, None if isinstance(motion, Track) else motion)
    check_drive(avatar, config, out)
    report = progress or no_progress
    track = motion if isinstance(motion, Track) else motion_track(motion, avatar.head, part(report, 0.0, 0.5))
    if audio is None and not isinstance(motion, Track) and not (is_motion_file(motion) or _is_saved_track(motion)):
        audio = motion if has_sound(Path(motion)) else None
    if track.fps <= 0:
        raise InputError("The motion is the track of a photo, which has no frame rate; drive with a video or a motion.")
    start = 0.0 if isinstance(motion, Track) else 0.5
    rendering = part(report, start, 1.0)
    avatar = avatar.to(device or best_device())
    report(start, "Measuring the avatar's expressions")
    gains = avatar_gains(avatar, track) if config.relative else None
    frames = drive_frames(avatar, track, config, gains)
    with closing(frames), drive_writer(avatar, config, out, track.fps, audio) as writer:
        for count, frame in enumerate(frames, 1):
            shown = marked(frame) if config.mark else frame
            writer.write(shown)
            if watch is not None:
                watch(shown)
            rendering(count / len(track), f"Rendering frame {count} of {len(track)}")
    held = int((track.confidence <= 0).sum())
    return DriveReport(out, len(track), track.fps, held, (*track.warnings, *writer.warnings))


def check_drive(avatar: Avatar, config: DriveConfig, out: str | Path) -> None:
    """Refuse, before any work, an output that cannot be written and a scene that the avatar does not have.

    Raises:
        OutputError: ``out`` cannot be written, or not with transparency.
        InputError: the avatar keeps no photo, or the background is not a file.
    """
    (check_alpha_name if config.scene == "transparent" else check_writable)(out)
    if config.scene == "photo":
        require_scene(avatar)
    check_background(config.background, avatar)


def drive_writer(
    avatar: Avatar, config: DriveConfig, out: str | Path, fps: float, audio: str | Path | None
) -> VideoWriter | PictureWriter:
    """The writer of a drive's frames, marked as synthetic.

    Raises:
        OutputError: ``out`` cannot be written.
        InputError: ``audio`` cannot be read.
    """
    size = picture_size(avatar, config)
    if config.scene == "transparent":
        return alpha_writer(out, size, fps, audio)
    return VideoWriter(out, size, fps, audio_from=audio, synthetic=True)


def motion_track(path: str | Path, head: HeadModel, progress: Progress | None = None) -> Track:
    """The motion in a motion file (docs/reference/motion.md), a saved track (.safetensors), or a tracked video.

    Args:
        path: the file.
        head: the head model of the track.
        progress: called with (fraction, message).

    Raises:
        InputError: the file is missing or cannot be used.
        FormatError: the file is damaged, or its format does not fit ``head``.
    """
    path = Path(path)
    if is_motion_file(path):
        return read_motion(path, head)
    if _is_saved_track(path):
        from spatialavatar.tracking import load_track

        return load_track(path)
    from spatialavatar.tracking import track_video

    return track_video(path, head, progress=progress)


def _is_tracked(track: Track) -> bool:
    """Whether the motion was seen by the tracker; that of motion files is made for the head's own shapes."""
    return track.evidence is not None and track.evidence.landmarks is not None


def _is_saved_track(path: str | Path) -> bool:
    """Whether the file has the suffix of a saved track."""
    return Path(path).suffix.lower() == ".safetensors"


def _absolute(params: HeadParams, avatar: Avatar, config: DriveConfig) -> HeadParams:
    """The parameters of absolute driving, scaled by the strengths about rest and about the median position."""
    parts = config.parts
    place = params.translation.median(0).values
    return params.replace(
        expression=parts.of_units(avatar.head.unit_names, params.expression * config.strength),
        jaw=parts.mouth * params.jaw,
        eyes=parts.gaze * params.eyes,
        rotation=parts.pose * params.rotation,
        neck=parts.pose * params.neck,
        translation=params.translation if parts.pose == 1.0 else place + parts.pose * (params.translation - place),
        shape=avatar.shape,
    )


def _relative_expression(track: Track, params: HeadParams, config: DriveConfig) -> tuple[Tensor, Tensor, Tensor]:
    """Expression (units not yet scaled by part), jaw and eyes relative to the driver's neutral."""
    strength = config.strength
    count = params.expression.shape[1]
    neutral = track.neutral.expression
    if neutral is None:
        neutral = params.expression.new_zeros(count + 9)
    expression = strength * (params.expression - neutral[:count])
    jaw = config.parts.mouth * (strength * (params.jaw - neutral[count : count + 3]))
    return expression, jaw, config.parts.gaze * (params.eyes - neutral[count + 3 :])


def _opening(track: Track, params: HeadParams, head: HeadModel) -> Tensor:
    """(T,) gap between the driver's lips beyond that at rest, over the distance of the outer eye corners.

    The lips rest as in the neutral, or nearer to each other if they are so in a tenth of the frames.
    """
    identity, closed = _driver_at_rest(head, tuple(params.shape.tolist()))
    assert closed is not None  # the head has the landmarks
    gap = lip_gaps(head, identity, params.expression, params.jaw)
    neutral = track.neutral.expression
    if neutral is None:
        return gap - closed
    count = params.expression.shape[1]
    rest = lip_gaps(head, identity, neutral[None, :count], neutral[None, count : count + 3])
    if len(gap) >= _MANY_FRAMES:
        rest = torch.minimum(rest, torch.quantile(gap, 0.1))
    return torch.maximum(gap - rest.maximum(closed), (gap - closed).clamp_max(0.0))


def _relative_pose(track: Track, params: HeadParams, config: DriveConfig) -> tuple[Tensor, Tensor]:
    """Head rotations (T, 3, 3) and translations (T, 3) relative to the driver's resting pose."""
    seen = track.confidence > 0
    if not bool(seen.any()):
        seen = torch.ones_like(seen)
    matrices = axis_angle_to_matrix(params.rotation) @ axis_angle_to_matrix(params.neck)
    rest = track.neutral.rotation
    home = mean_rotation(matrices[seen]) if rest is None else axis_angle_to_matrix(rest)
    turned = matrices @ home.T
    if config.parts.pose != 1.0:
        turned = axis_angle_to_matrix(config.parts.pose * matrix_to_axis_angle(turned))
    if config.head_pose == "as filmed":
        turned = turned @ axis_angle_to_matrix(_FILMED_SHARE * matrix_to_axis_angle(home))
    place = track.neutral.translation
    shift = params.translation - (params.translation[seen].median(0).values if place is None else place)
    return turned, (config.parts.pose * shift).clamp(-config.max_shift, config.max_shift)


def _divided(turned: Tensor, neck_share: float) -> tuple[Tensor, Tensor]:
    """Axis-angles (T, 3) of torso and neck that together turn the head by (T, 3, 3)."""
    turn = matrix_to_axis_angle(turned)
    torso = axis_angle_to_matrix((1.0 - neck_share) * turn)
    return matrix_to_axis_angle(torso), matrix_to_axis_angle(torso.transpose(-1, -2) @ axis_angle_to_matrix(turn))


def _turned_in_photo(turned: Tensor, avatar: Avatar) -> tuple[Tensor, Tensor]:
    """Axis-angles (T, 3) of torso and neck: the torso as in the photo, and the head turned from there by (T, 3, 3)."""
    torso = axis_angle_to_matrix(avatar.reference.rotation)
    neck = torso.transpose(-1, -2) @ turned @ torso @ axis_angle_to_matrix(avatar.reference.neck)
    return avatar.reference.rotation.expand(len(turned), 3), matrix_to_axis_angle(neck)


def _breathing(frames: int, fps: float, like: Tensor) -> Tensor:
    """(T, 3) turn of the torso by breathing, axis-angle; zero in the first frame, the same in every call."""
    times = torch.arange(frames, device=like.device, dtype=like.dtype) / fps if fps > 0 else like.new_zeros(frames)
    waves = [amount * torch.sin(2.0 * math.pi * rate * times) for amount, rate in _BREATH]
    return torch.stack([waves[0], torch.zeros_like(times), waves[1]], 1)


def _limited(expression: Tensor, head: HeadModel) -> Tensor:
    """Clamp named expression units to ``UNIT_LIMITS``; statistical coefficients have no such range."""
    if not head.has_named_units:
        return expression
    return expression.clamp(*UNIT_LIMITS)


def _smoothed(params: HeadParams, fps: float, amount: float, names: Sequence[str]) -> HeadParams:
    """One-euro filtering of every channel but the lids; the cut-off of the face is higher: it moves fast."""
    if amount == 0.0 or len(params) < 3 or fps <= 0:
        return params
    # The whole clip is available, so the filter runs both ways and the motion does not lag behind the sound.
    face = {"fps": fps, "min_cutoff": 4.0 / amount, "zero_phase": True}
    head = {"fps": fps, "min_cutoff": 1.5 / amount, "zero_phase": True}
    expression = one_euro(params.expression, beta=8.0, **face)
    # The lids close and open within four frames, which a filter would leave half open.
    lids = [index for index, name in enumerate(names) if name in BLINK_UNITS]
    expression[:, lids] = params.expression[:, lids]
    return params.replace(
        expression=expression,
        rotation=one_euro_rotations(params.rotation, beta=6.0, **head),
        translation=one_euro(params.translation, beta=30.0, **head),
        neck=one_euro_rotations(params.neck, beta=6.0, **head),
        jaw=one_euro(params.jaw, beta=20.0, **face),
        eyes=one_euro(params.eyes, beta=10.0, **face),
    )
