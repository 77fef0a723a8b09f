"""Head parameters, camera, Gaussians and bust."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from spatialavatar.errors import InputError
from spatialavatar.records.base import FrameIndex, Record, select_frames

_LEAST_BACK = 0.05  # share of a bust's Gaussians on each side, from which it has a back


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
        per_frame = {name: select_frames(getattr(self, name), index) for name in names}
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
        """A camera with the same field of view and another picture size."""
        scale = torch.tensor([[width / self.width], [height / self.height], [1.0]], dtype=self.intrinsics.dtype)
        return Camera(self.intrinsics * scale.to(self.intrinsics.device), self.world_to_camera, width, height)

    def window(self, x0: float, y0: float, x1: float, y1: float) -> Camera:
        """The camera of a window of the picture, pixels; the window may exceed the picture."""
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
        space: the space of means, quats and scales.
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
        """Check shapes and values.

        Raises:
            InputError: shapes disagree, or a value is not finite.
        """
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

    def joined(self, other: Gaussians) -> Gaussians:
        """These Gaussians, then the ``other`` ones, which have the same channels and space."""
        names = ("means", "quats", "scales", "opacities", "colors")
        return self.replace(**{name: torch.cat([getattr(self, name), getattr(other, name)]) for name in names})


@dataclass(frozen=True, eq=False)
class Bust(Record):
    """The torso below a head of N Gaussians: clothes, skin below the neck, and hair that falls on it.

    Attributes:
        gaussians: M Gaussians at rest in head space, metres (``space`` "world"). Where there is a back, third axes
            point out of the torso.
        head_share: (N,) in [0, 1], share of the opacity that each Gaussian of the head keeps beside the bust; less
            than 1 where the bust shows the same part of the picture.
        neck_weight: (M,) in [0, 1], skinning weight of the neck joint, which turns with the head; the rest is the root
            joint's. None: the root joint alone moves all.
    """

    gaussians: Gaussians
    head_share: Tensor
    neck_weight: Tensor | None = None

    @property
    def behind(self) -> Tensor:
        """(M,) bool, Gaussians whose third axis points to the back; none where the torso has a front alone."""
        w, x, y, z = self.gaussians.quats.unbind(1)
        forwards = w**2 - x**2 - y**2 + z**2
        # Without a back, all axes point more or less to one side: that of the camera, which need not be the front's.
        shares = [float(part.float().mean()) if len(part) else 0.0 for part in (forwards < -0.5, forwards > 0.5)]
        return (forwards < 0.0) & (min(shares) > _LEAST_BACK)

    def beside(self, head: Gaussians) -> Gaussians:
        """The N Gaussians of the head, without the parts that the bust replaces."""
        return head.replace(opacities=head.opacities * self.head_share)
