"""The records that carry everything from one room of the package to the next.

Frames of reference, used everywhere:

* *head space*: metres, right-handed, y up, the face looks along +z, +x is the subject's left.
* *world*: the space a posed head lives in; same handedness as head space.
* *camera*: OpenCV axes, x right, y down, z forward. Pixel (column i, row j) covers [i, i+1) x [j, j+1), so its centre
  is at (i + 0.5, j + 0.5).

Angles are axis-angle vectors in radians. Colours are sRGB-encoded in [0, 1]; no record holds premultiplied colour.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Final, Literal, TypeVar

import numpy as np
import torch
from torch import Tensor

from spatialavatar.errors import FormatError, InputError

_T = TypeVar("_T", bound="Record")

FrameIndex = int | slice | Tensor
"""Selects frames; an int keeps the frame axis, with length 1."""

FRAME_STATES: Final = ("ok", "profile", "held", "lost", "dark", "other_person")
"""States of a video frame; in the last four the parameters are copied from another frame."""

SEGMENT_CLASSES: Final = ("background", "hair", "body_skin", "face_skin", "clothes", "others")
"""Classes of a pixel, in the segmentation network's order."""
HAIR, BODY_SKIN, CLOTHES = (SEGMENT_CLASSES.index(name) for name in ("hair", "body_skin", "clothes"))


class Record:
    """Base of all records: device moves and replacing fields.

    Records hold tensors, so they compare by identity: declare subclasses with ``@dataclass(frozen=True, eq=False)``.
    """

    def to(self: _T, device: torch.device | str) -> _T:
        """Return a copy whose tensors (nested records included) are on ``device``."""
        moved = {}
        for field in dataclasses.fields(self):  # type: ignore[arg-type]
            value = getattr(self, field.name)
            if isinstance(value, (Tensor, Record)):
                moved[field.name] = value.to(device)
        return dataclasses.replace(self, **moved)  # type: ignore[type-var]

    def replace(self: _T, **changes: object) -> _T:
        """Return a copy with the named fields changed."""
        return dataclasses.replace(self, **changes)  # type: ignore[type-var]


@dataclass(frozen=True, eq=False)
class HeadParams(Record):
    """Parameters of a head model over T frames (method: beta, psi, theta).

    Attributes:
        shape: (S,) identity coefficients, shared by all frames.
        expression: (T, E) expression coefficients.
        rotation: (T, 3) global rotation, axis-angle, radians; head space to world.
        translation: (T, 3) global translation, metres, world.
        neck: (T, 3) neck joint, axis-angle, radians.
        jaw: (T, 3) jaw joint, axis-angle, radians.
        eyes: (T, 6) left then right eye joint, axis-angle, radians.
    """

    shape: Tensor
    expression: Tensor
    rotation: Tensor
    translation: Tensor
    neck: Tensor
    jaw: Tensor
    eyes: Tensor

    @classmethod
    def neutral(cls, shape_count: int, expression_count: int, frames: int = 1) -> HeadParams:
        """The mean head at rest at the origin, ``frames`` times."""

        def zeros(*size: int) -> Tensor:
            return torch.zeros(size, dtype=torch.float32)

        return cls(
            shape=zeros(shape_count),
            expression=zeros(frames, expression_count),
            rotation=zeros(frames, 3),
            translation=zeros(frames, 3),
            neck=zeros(frames, 3),
            jaw=zeros(frames, 3),
            eyes=zeros(frames, 6),
        )

    def __len__(self) -> int:
        return int(self.expression.shape[0])

    def __getitem__(self, index: FrameIndex) -> HeadParams:
        """Frames ``index`` (an int keeps the frame axis, with length 1)."""
        names = [f.name for f in dataclasses.fields(self) if f.name != "shape"]
        per_frame = {name: _frames(getattr(self, name), index) for name in names}
        return HeadParams(shape=self.shape, **per_frame)

    @staticmethod
    def cat(parts: list[HeadParams]) -> HeadParams:
        """Join frames; the shape is that of the first part."""
        names = [f.name for f in dataclasses.fields(HeadParams) if f.name != "shape"]
        return HeadParams(shape=parts[0].shape, **{n: torch.cat([getattr(p, n) for p in parts]) for n in names})


@dataclass(frozen=True, eq=False)
class Camera(Record):
    """A pinhole camera, OpenCV axes.

    Attributes:
        intrinsics: (3, 3), pixels.
        world_to_camera: (4, 4).
        width: image width, pixels.
        height: image height, pixels.
    """

    intrinsics: Tensor
    world_to_camera: Tensor
    width: int
    height: int

    @classmethod
    def frontal(cls, size: int = 512, focal: float = 900.0) -> Camera:
        """A square camera at the world origin that looks along -z, y up in the picture.

        Args:
            size: width and height, pixels.
            focal: focal length, pixels of a 512-pixel wide image (scaled with ``size``).
        """
        f = focal * size / 512.0
        intrinsics = torch.tensor([[f, 0.0, size / 2], [0.0, f, size / 2], [0.0, 0.0, 1.0]])
        return cls(intrinsics, torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0])), size, size)

    def resized(self, width: int, height: int) -> Camera:
        """The same camera with another pixel grid over the same field of view."""
        scale = torch.tensor([[width / self.width], [height / self.height], [1.0]], dtype=self.intrinsics.dtype)
        return Camera(self.intrinsics * scale.to(self.intrinsics.device), self.world_to_camera, width, height)

    def window(self, x0: float, y0: float, x1: float, y1: float) -> Camera:
        """The part of the camera that sees this window of its picture, pixels; it may reach beyond the picture."""
        shift = self.intrinsics.new_tensor([[0.0, 0.0, x0], [0.0, 0.0, y0], [0.0, 0.0, 0.0]])
        return Camera(self.intrinsics - shift, self.world_to_camera, round(x1 - x0), round(y1 - y0))

    def to_camera(self, points: Tensor) -> Tensor:
        """World points (..., 3) in camera axes, metres."""
        rotation, translation = self.world_to_camera[:3, :3], self.world_to_camera[:3, 3]
        return points @ rotation.T + translation

    def project(self, points: Tensor) -> Tensor:
        """World points (..., 3) to pixels (..., 2); points behind the camera give non-finite or mirrored values."""
        cam = self.to_camera(points)
        pixels = cam @ self.intrinsics.T
        return pixels[..., :2] / pixels[..., 2:]


@dataclass(frozen=True, eq=False)
class Gaussians(Record):
    """N 3D Gaussians, activated values (no logit, no log).

    Attributes:
        means: (N, 3). Local: offset from the anchor in triangle units; world: metres.
        quats: (N, 4), wxyz, unit.
        scales: (N, 3), standard deviations; local: triangle units, world: metres.
        opacities: (N,) in [0, 1].
        colors: (N, C); C = 3 is sRGB in [0, 1].
        space: which of the two the values are in.
    """

    means: Tensor
    quats: Tensor
    scales: Tensor
    opacities: Tensor
    colors: Tensor
    space: Literal["local", "world"] = "local"

    def __len__(self) -> int:
        return int(self.means.shape[0])

    def check(self) -> None:
        """Raise :class:`InputError` where shapes disagree or a value is not finite."""
        n = len(self)
        expected = {"means": (n, 3), "quats": (n, 4), "scales": (n, 3), "opacities": (n,)}
        for name, shape in expected.items():
            if tuple(getattr(self, name).shape) != shape:
                raise InputError(f"The Gaussians' {name} have shape {tuple(getattr(self, name).shape)}, not {shape}.")
        if self.colors.ndim != 2 or self.colors.shape[0] != n:
            raise InputError(f"The Gaussians' colors have shape {tuple(self.colors.shape)}, not ({n}, C).")
        for name in ("means", "quats", "scales", "opacities", "colors"):
            if not bool(torch.isfinite(getattr(self, name)).all()):
                raise InputError(f"The Gaussians' {name} hold values that are not finite; the file is damaged.")


@dataclass(frozen=True, eq=False)
class Neutral(Record):
    """Rest state of the person who moves; driving transfers only the differences from it.

    Attributes:
        expression: (E + 9,) expression coefficients, jaw (3) and eyes (6) at rest; None: all zero.
        rotation: (3,) head rotation that faces the viewer, axis-angle; None: the mean over the clip.
        translation: (3,) head position at rest, metres, world; None: the median over the clip.
    """

    expression: Tensor | None = None
    rotation: Tensor | None = None
    translation: Tensor | None = None


@dataclass(frozen=True, eq=False)
class HeadMotion(Record):
    """T frames of motion of one head model: all that driving an avatar needs.

    :class:`spatialavatar.motion.Motion` is its counterpart in ARKit weights, which belong to no head model.

    Attributes:
        params: head parameters, T frames, one shape.
        fps: frames per second; 0 for a photo.
        head_id: id of the head model that the parameters belong to.
        confidence: (T,) in [0, 1]; 0 marks a frame without a usable face, whose parameters are copied from another
            frame.
        neutral: rest state of the person.
    """

    params: HeadParams
    fps: float
    head_id: str
    confidence: Tensor
    neutral: Neutral = Neutral()

    def __len__(self) -> int:
        return len(self.params)

    def __getitem__(self, index: FrameIndex) -> HeadMotion:
        """Frames ``index`` with the same neutral."""
        return self.replace(params=self.params[index], confidence=_frames(self.confidence, index))


@dataclass(frozen=True, eq=False)
class FrameQuality(Record):
    """Tracking quality of each of T frames; :mod:`spatialavatar.tracking.quality` summarises it.

    Attributes:
        state: (T,) uint8, index into ``FRAME_STATES``.
        error: (T,) mean distance between fitted and detected landmarks, as a fraction of the distance between the outer
            eye corners; NaN where nothing was fitted.
        presence: (T,) face score of the landmark network, in [0, 1]; 0 where it found no face.
        yaw: (T,) degrees, positive to the subject's left; NaN where nothing was fitted.
        luma: (T,) mean luma of the face in [0, 1]; of the whole picture where there is no face.
        shot: (T,) int32, number of the shot, from 0.
        jitter: (2,) of the fitted head and of the detected landmarks on the stillest frames, in the unit of ``error``;
            NaN where the clip is too short.
    """

    state: Tensor
    error: Tensor
    presence: Tensor
    yaw: Tensor
    luma: Tensor
    shot: Tensor
    jitter: Tensor

    @property
    def tracked(self) -> Tensor:
        """(T,) bool: frames whose parameters were fitted, not copied."""
        return self.state <= FRAME_STATES.index("profile")


@dataclass(frozen=True, eq=False)
class Evidence(Record):
    """What the networks measured in T frames; the fit explains it.

    Attributes:
        landmarks: (T, L, 2) float32 crop pixels as detected, L = 478 or 68; None where the scores are a capture's own.
        blendshapes: (T, 52) ARKit-52 scores in the order of ``ARKIT_52``: of the landmark network, or of a capture.
        quality: tracking quality of each frame of a video; None for photos and motion files.
    """

    landmarks: Tensor | None
    blendshapes: Tensor
    quality: FrameQuality | None = None

    def __getitem__(self, index: FrameIndex) -> Evidence:
        """Frames ``index`` without their quality, which describes the clip as a whole."""
        landmarks = None if self.landmarks is None else _frames(self.landmarks, index)
        return Evidence(landmarks, _frames(self.blendshapes, index))

    def require_landmarks(self) -> Tensor:
        """The (T, L, 2) landmarks.

        Raises:
            InputError: there are none: the track was read from a motion file.
        """
        if self.landmarks is None:
            raise InputError("The track has no landmarks because it was read from a motion file; track a video.")
        return self.landmarks


@dataclass(frozen=True, eq=False)
class Pictures(Record):
    """Pixels of T frames, cut to the crop that the track's camera describes.

    Attributes:
        images: (T, H, W, 3) uint8 sRGB.
        mattes: (T, H, W) uint8, 255 = person.
        segments: (T, H, W) uint8, index into ``SEGMENT_CLASSES``; None where they were not computed.
    """

    images: Tensor
    mattes: Tensor
    segments: Tensor | None = None

    def __len__(self) -> int:
        return int(self.images.shape[0])

    def __getitem__(self, index: FrameIndex) -> Pictures:
        """Frames ``index``."""
        segments = None if self.segments is None else _frames(self.segments, index)
        return Pictures(_frames(self.images, index), _frames(self.mattes, index), segments)

    def require_segments(self) -> Tensor:
        """The (T, H, W) classes.

        Raises:
            InputError: they were not computed.
        """
        if self.segments is None:
            raise InputError("The track has no segmentation; track the input again with this release.")
        return self.segments


@dataclass(frozen=True, eq=False)
class Track(Record):
    """T frames of one person: the output of the tracker and the input of everything after it.

    A photo is a Track of one frame with pictures. A motion file is a Track without pictures, crop and landmarks.
    Pixel coordinates refer to the crop that ``camera`` describes.

    Attributes:
        motion: head parameters over time, and the person's rest state.
        camera: one camera for all frames (the head moves, the camera does not).
        crop: (T, 4) x0, y0, x1, y1 of the crop in source pixels; None without a source picture. It is here and not in
            ``pictures``, because tracks without pictures need it to cut frames from their video later.
        evidence: landmarks, scores and quality; None where nothing was detected.
        pictures: pixels of the frames; None where they were not kept.
        warnings: sentences about this input, for people.
    """

    motion: HeadMotion
    camera: Camera
    crop: Tensor | None = None
    evidence: Evidence | None = None
    pictures: Pictures | None = None
    warnings: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.motion)

    def __getitem__(self, index: FrameIndex) -> Track:
        """Frames ``index`` of all parts; quality is left out, for it describes the clip as a whole."""
        return self.replace(
            motion=self.motion[index],
            crop=None if self.crop is None else _frames(self.crop, index),
            evidence=None if self.evidence is None else self.evidence[index],
            pictures=None if self.pictures is None else self.pictures[index],
        )

    @property
    def params(self) -> HeadParams:
        """Head parameters, T frames."""
        return self.motion.params

    @property
    def fps(self) -> float:
        """Frames per second; 0 for a photo."""
        return self.motion.fps

    @property
    def head_id(self) -> str:
        """Id of the head model that the parameters belong to."""
        return self.motion.head_id

    @property
    def confidence(self) -> Tensor:
        """(T,) in [0, 1]; 0 marks a frame without a usable face."""
        return self.motion.confidence

    @property
    def neutral(self) -> Neutral:
        """Rest state of the person."""
        return self.motion.neutral

    @property
    def quality(self) -> FrameQuality | None:
        """Tracking quality of a video's frames; None for photos and motion files."""
        return None if self.evidence is None else self.evidence.quality

    def with_motion(self, **changes: object) -> Track:
        """Return a copy with the named fields of ``motion`` changed."""
        return self.replace(motion=self.motion.replace(**changes))

    def without_pictures(self) -> Track:
        """Return a copy without pixels, for saving or driving."""
        return self.replace(pictures=None)

    def require_pictures(self) -> Pictures:
        """The pictures.

        Raises:
            InputError: the track has none.
        """
        if self.pictures is None:
            raise InputError("The track holds no pictures; track the photo or video itself, with its images kept.")
        return self.pictures

    def require_evidence(self) -> Evidence:
        """The landmarks and scores.

        Raises:
            InputError: the track has none.
        """
        if self.evidence is None:
            raise InputError("The track holds no landmarks and no blendshape scores; track the photo or video again.")
        return self.evidence

    def require_quality(self) -> FrameQuality:
        """The tracking quality of each frame.

        Raises:
            InputError: the track is no video's, or was made by an older release.
        """
        if self.quality is None:
            raise InputError("This track carries no quality record; track the video again with this release.")
        return self.quality

    def require_crop(self) -> Tensor:
        """The (T, 4) place of the crop in the source picture, pixels.

        Raises:
            InputError: the track has no source picture.
        """
        if self.crop is None:
            raise InputError("The track does not state where its frames lie in the source; track the video again.")
        return self.crop

    def require_head(self, head_id: str) -> None:
        """Check that the parameters belong to the head model ``head_id``.

        Raises:
            FormatError: they belong to another one.
        """
        if self.head_id != head_id:
            raise FormatError(
                f"The photo or video was tracked with the head model {self.head_id!r}, but {head_id!r} is needed; "
                "track it again with that head model."
            )


def _frames(values: Tensor, index: FrameIndex) -> Tensor:
    """Rows ``index`` of per-frame values (T, ...); an int keeps the frame axis."""
    if isinstance(index, int):
        length = len(values)
        if not -length <= index < length:
            raise IndexError(f"frame {index} of {length}")
        index = slice(index % length, index % length + 1)
    return values[index]


def as_float_image(image: Tensor | np.ndarray) -> Tensor:
    """(..., H, W, C) uint8 to float32 in [0, 1]; float input is passed through."""
    tensor = torch.as_tensor(image)
    return tensor.float() / 255.0 if tensor.dtype == torch.uint8 else tensor.float()


def as_uint8_image(image: Tensor) -> np.ndarray:
    """The way back: (..., H, W, C) float, on any device, to uint8; what is beyond [0, 1] is cut off."""
    return (image.detach().clamp(0.0, 1.0) * 255.0 + 0.5).to(torch.uint8).cpu().numpy()
