"""A person's clip, ready for many steps: any frame posed, as a target, and rendered at any size."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from spatialavatar.avatar import Avatar
from spatialavatar.records import Camera, Gaussians, Track
from spatialavatar.refinement.deformation import Deformer, PosedHead
from spatialavatar.refinement.expression_bases import ExpressionBases
from spatialavatar.refinement.frame_views import FrameViews, View
from spatialavatar.refinement.visibility import matte_interior, visibility
from spatialavatar.render import Backend, rasterize_view
from spatialavatar.residual import ExpressionResidual

_GATE_FRAMES = 24  # frames, evenly spaced, in which the visibility for the colour gate is measured
_GATE_RIM = 3.0  # pixels of 512 inside the matte's edge that do not count for it
_GATE_SHOWN = (0.05, 0.3)  # shares of its footprint from which a Gaussian begins to count as shown, and is fully shown

_RASTER_BLUR = 0.3  # pixels squared, which the rasteriser adds to every projected covariance


def screen_blur(scale: float) -> float:
    """Variance, pixels squared, that the rasteriser adds on screen for frames at ``scale`` of their size.

    At full size it adds 0.3. Of a render that is scaled down with its frame, that leaves 0.3 scale^2, and the average
    over squares of pixels adds (1 - scale^2) / 12. With 0.3 at every size, Gaussians fitted at half the size would rely
    on a blur that full size does not have, and would be visible as dots and ragged silhouettes.
    """
    return _RASTER_BLUR * scale**2 + max(0.0, 1.0 - scale**2) / 12.0


class Clip:
    """Frames of one person with everything that does not change during a refinement."""

    def __init__(
        self, avatar: Avatar, track: Track, residual: ExpressionResidual | None = None, backend: Backend = "auto"
    ) -> None:
        """Prepare a clip.

        Args:
            avatar: gives head, layout and rest head.
            track: with pictures, on the avatar's head model.
            residual: changes of the Gaussians by expression; may take gradients.
            backend: of the rasteriser.
        """
        self._track = track
        self._backend: Backend = backend
        self._device = avatar.gaussians.means.device
        self._deformer = Deformer(avatar.head, avatar.layout, avatar.identity(), residual)
        self._views = FrameViews(track, avatar.head)
        self._cameras: dict[int, Camera] = {}

    def pose(self, frame: int) -> PosedHead:
        """The mesh of a frame, without gradient; cached."""
        return self._deformer.pose(self._track.params[frame], frame)

    def view(self, frame: int, posed: PosedHead, size: int, *, whole: bool = False) -> View:
        """A frame as a target of ``size`` pixels; the whole frame or the window around the head."""
        return self._views.view(frame, posed.vertices, size, whole=whole)

    def camera(self, size: int) -> Camera:
        """The clip's camera for pictures of ``size`` pixels."""
        if size not in self._cameras:
            self._cameras[size] = self._track.camera.resized(size, size).to(self._device)
        return self._cameras[size]

    def add_bases(self, bases: ExpressionBases) -> None:
        """Add the changes of ``bases`` to the Gaussians of each frame from now on."""
        self._deformer.bases = bases

    def to_world(self, local: Gaussians, posed: PosedHead, *, learned: bool = True) -> Gaussians:
        """The Gaussians of a frame, with or without the learned changes; differentiable in both."""
        return self._deformer.to_world(local, posed, learned=learned)

    def rasterize(self, world: Gaussians, camera: Camera, size: int) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Render a window of a picture of ``size`` pixels.

        Returns:
            Premultiplied colour (H, W, C), alpha (H, W, 1), and the rasteriser's by-products.
        """
        blur = screen_blur(size / self._track.camera.width)
        return rasterize_view(world, camera, eps2d=blur, backend=self._backend)

    @torch.no_grad()
    def color_gate(
        self, local: Gaussians, frames: Tensor, size: int, facing: tuple[float, float] | None
    ) -> Tensor | None:
        """How freely each colour may move: the visibility of each Gaussian in the frame that shows it best.

        Args:
            local: N local Gaussians.
            frames: (A,) indices of the frames that may be used; a few of them are.
            size: of the pictures, pixels.
            facing: cosines of the angle to the viewer at which a colour begins to be free, and is free.

        Returns:
            (N,) in [0, 1]; None where ``facing`` is None.
        """
        if facing is None:
            return None
        camera, gates = self.camera(size), []
        picks = torch.linspace(0, len(frames) - 1, min(_GATE_FRAMES, len(frames))).round().long()
        for frame in frames[picks].tolist():
            posed = self.pose(frame)
            view = self.view(frame, posed, size, whole=True)
            inside = matte_interior((view.matte * 255.0).round().byte(), _GATE_RIM * camera.width / 512)
            counted = inside.to(view.weight) * view.weight
            world, normals = self.to_world(local, posed), self._deformer.normals(posed)
            gates.append(visibility(world, normals, camera, counted, _GATE_SHOWN, facing))
        return torch.stack(gates).amax(0)

    def local_scale_bounds(self, avatar: Avatar, scale_range: tuple[float, float]) -> tuple[Tensor, Tensor]:
        """A range of scales, metres on the rest head, as log scales (N, 1) in the units of each triangle."""
        rest = self._deformer.pose(avatar.head.neutral())
        unit = rest.scale[avatar.layout.faces, None].clamp_min(1e-9).log()
        low, high = scale_range
        return math.log(low) - unit, math.log(high) - unit
