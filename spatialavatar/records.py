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

from spatialavatar.errors import InputError

_T = TypeVar("_T", bound="_Record")

FRAME_STATES: Final = ("ok", "profile", "held", "lost", "dark", "other_person")
"""What a video's frame can be; of the last four the parameters are held from another frame."""

SEGMENT_CLASSES: Final = ("background", "hair", "body_skin", "face_skin", "clothes", "others")
"""What a pixel of a frame can be, in the segmenter's order."""
HAIR, BODY_SKIN, CLOTHES = (SEGMENT_CLASSES.index(name) for name in ("hair", "body_skin", "clothes"))


class _Record:
    """Shared behaviour of the records: device moves and replacing fields."""

    def to(self: _T, device: torch.device | str) -> _T:
        """Return a copy whose tensors (nested records included) are on ``device``."""
        moved = {}
        for field in dataclasses.fields(self):  # type: ignore[arg-type]
            value = getattr(self, field.name)
            if isinstance(value, (Tensor, _Record)):
                moved[field.name] = value.to(device)
        return dataclasses.replace(self, **moved)  # type: ignore[type-var]

    def replace(self: _T, **changes: object) -> _T:
        """Return a copy with the named fields changed."""
        return dataclasses.replace(self, **changes)  # type: ignore[type-var]


@dataclass(frozen=True)
class HeadParams(_Record):
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

    def __getitem__(self, index: int | slice | Tensor) -> HeadParams:
        """Frames ``index`` (an int keeps the frame axis, with length 1)."""
        if isinstance(index, int):
            length = len(self)
            if not -length <= index < length:
                raise IndexError(f"frame {index} of {length}")
            index = slice(index % length, index % length + 1)
        per_frame = {f.name: getattr(self, f.name)[index] for f in dataclasses.fields(self) if f.name != "shape"}
        return HeadParams(shape=self.shape, **per_frame)

    @staticmethod
    def cat(parts: list[HeadParams]) -> HeadParams:
        """Join frames; the shape is that of the first part."""
        names = [f.name for f in dataclasses.fields(HeadParams) if f.name != "shape"]
        return HeadParams(shape=parts[0].shape, **{n: torch.cat([getattr(p, n) for p in parts]) for n in names})


@dataclass(frozen=True)
class Camera(_Record):
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


@dataclass(frozen=True)
class Gaussians(_Record):
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


@dataclass(frozen=True)
class FrameQuality(_Record):
    """How well each of T frames was tracked; :mod:`spatialavatar.tracking.quality` sums it up.

    Attributes:
        state: (T,) uint8, index into ``FRAME_STATES``.
        error: (T,) mean distance of the fitted landmarks to the detected ones, as a share of the distance of the outer
            eye corners; NaN where nothing was fitted.
        presence: (T,) how sure the landmark network is of its face, in [0, 1]; 0 where it saw none.
        yaw: (T,) degrees, positive to the subject's left; NaN where nothing was fitted.
        luma: (T,) mean luma of the face in [0, 1]; of the whole picture where there is none.
        shot: (T,) int32, number of the shot, from 0.
        jitter: (2,) of the fitted head and of the detected landmarks on the stillest frames, same unit as ``error``;
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
        """(T,) bool: frames whose parameters are their own."""
        return self.state <= FRAME_STATES.index("profile")


@dataclass(frozen=True)
class Track(_Record):
    """T frames of one person: what the tracker emits and everything after it eats.

    A photo is a Track of one frame; a motion file is a Track without images. All pixel values refer to the crop that
    ``camera`` describes; ``crop`` says where that crop lies in the source picture.

    Attributes:
        params: head parameters, T frames, one shape.
        camera: one camera for all frames (the head moves, the camera stands).
        fps: frames per second (0 for photos).
        head_id: id of the head model the parameters belong to.
        confidence: (T,) in [0, 1]; 0 marks a frame in which nothing was found and whose parameters are held.
        images: (T, H, W, 3) uint8 sRGB crops, or None.
        mattes: (T, H, W) uint8, 255 = person, or None.
        segments: (T, H, W) uint8, index into ``SEGMENT_CLASSES``, or None.
        landmarks: (T, L, 2) float32 crop pixels as detected (478 points), or None.
        blendshapes: (T, 52) ARKit-52 scores of the landmark network in the order of ``ARKIT_52``, or None.
        crop: (T, 4) x0, y0, x1, y1 of the crop in source pixels, or None.
        neutral_expression: (E + 9,) the clip's own neutral: expression, jaw (3), eyes (6); or None.
        neutral_rotation: (3,) head rotation that counts as facing the viewer, axis-angle; or None for the clip's mean.
        neutral_translation: (3,) place that counts as the head's own, metres, world; or None for the clip's median.
        warnings: plain sentences about this input, for people.
        quality: how well each frame of a video was tracked, or None.
    """

    params: HeadParams
    camera: Camera
    fps: float
    head_id: str
    confidence: Tensor
    images: Tensor | None = None
    mattes: Tensor | None = None
    segments: Tensor | None = None
    landmarks: Tensor | None = None
    blendshapes: Tensor | None = None
    crop: Tensor | None = None
    neutral_expression: Tensor | None = None
    neutral_rotation: Tensor | None = None
    neutral_translation: Tensor | None = None
    warnings: tuple[str, ...] = ()
    quality: FrameQuality | None = None

    def __len__(self) -> int:
        return len(self.params)


def as_float_image(image: Tensor | np.ndarray) -> Tensor:
    """(..., H, W, C) uint8 to float32 in [0, 1]; float input is passed through."""
    tensor = torch.as_tensor(image)
    return tensor.float() / 255.0 if tensor.dtype == torch.uint8 else tensor.float()


def as_uint8_image(image: Tensor) -> np.ndarray:
    """The way back: (..., H, W, C) float, on any device, to uint8; what is beyond [0, 1] is cut off."""
    return (image.detach().clamp(0.0, 1.0) * 255.0 + 0.5).to(torch.uint8).cpu().numpy()
