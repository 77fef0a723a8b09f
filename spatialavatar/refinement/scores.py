"""Scores of avatars on frames of a track: PSNR, SSIM and LPIPS over white, on the pixels that the head can match."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from spatialavatar.avatar import Avatar
from spatialavatar.metrics import lpips, psnr, ssim_map
from spatialavatar.records import Camera, HeadParams, Track
from spatialavatar.refinement.anti_spike import largest_aspect, projected_axes
from spatialavatar.refinement.deformation import Deformer
from spatialavatar.refinement.frame_views import FrameViews, View
from spatialavatar.refinement.losses import composite
from spatialavatar.render import rasterize_view, render

_POSE_UNITS = {"rotation": 0.02, "neck": 0.02, "translation": 0.003}
"""Parameters that the alignment moves, and the units of its steps: radians and metres."""

_ALIGN_RATE = 0.1  # first step of the alignment, units
_ALIGN_SIZE = 256  # largest size of its pictures, pixels


@dataclass(frozen=True)
class Score:
    """Scores of one frame.

    Attributes:
        psnr: dB, over all pixels except torso and clothes.
        inner_psnr: dB, over the head's own pixels only, without the equal white background.
        ssim: mean of the SSIM map over the same pixels as ``psnr``.
        lpips: of the whole pictures, which are equal where the head has no surface.
    """

    psnr: float
    inner_psnr: float
    ssim: float
    lpips: float


class FrameScorer:
    """Scores one person's avatars on frames of a track, all on the same pixels."""

    def __init__(self, track: Track, avatar: Avatar, size: int = 512) -> None:
        """Prepare a track.

        Args:
            track: with pictures.
            avatar: its mesh selects the head's pixels, whichever avatars are scored.
            size: of the pictures, pixels.
        """
        self._track, self._size = track, size
        self._views = FrameViews(track, avatar.head)
        self._deformer = Deformer(avatar.head, avatar.layout, avatar.identity())

    def view(self, frame: int, size: int | None = None) -> View:
        """The pixels of a frame, at the scorer's size or another."""
        vertices = self._deformer.pose(self._track.params[frame], frame).vertices
        return self._views.view(frame, vertices, size or self._size, whole=True)

    def aligned(self, avatar: Avatar, frame: int, steps: int = 40) -> HeadParams:
        """Fit the pose of head and neck to a frame by gradients through the render of ``avatar``.

        The scores with and without it separate an avatar's errors from the tracker's.
        """
        avatar = avatar.without_bust()
        tracked = self._track.params[frame]
        size = min(self._size, _ALIGN_SIZE)
        view, camera = self.view(frame, size), self._track.camera.resized(size, size)
        white = torch.ones(3, device=view.image.device)
        target = composite(view.image, view.matte, white, premultiplied=False)
        offsets = {name: torch.zeros_like(getattr(tracked, name)).requires_grad_() for name in _POSE_UNITS}
        optimiser = torch.optim.Adam(offsets.values(), lr=_ALIGN_RATE)
        identity = avatar.identity()
        best, smallest = tracked, math.inf
        for step in range(steps):
            moved = {n: getattr(tracked, n) + unit * offsets[n] for n, unit in _POSE_UNITS.items()}
            params = tracked.replace(**moved)
            image, _ = render(avatar.pose(params, identity), camera, white)
            loss = ((image - target).abs() * view.weight[..., None]).mean()
            if float(loss.detach()) < smallest:
                best, smallest = params, float(loss.detach())
            optimiser.param_groups[0]["lr"] = _ALIGN_RATE * (1.0 - step / steps)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
        return best.replace(**{name: getattr(best, name).detach() for name in _POSE_UNITS})

    @torch.no_grad()
    def score(self, avatar: Avatar, frame: int, params: HeadParams | None = None) -> tuple[Tensor, Tensor, Score]:
        """Render an avatar in a frame and score it.

        Args:
            avatar: to score.
            frame: index.
            params: pose of the avatar; by default the track's.

        A bust, which refinement does not change, is left out.

        Returns:
            Render and target (H, W, 3), both over white and equal where the head has no surface, and the score.
        """
        view = self.view(frame)
        white = torch.ones(3, device=view.image.device)
        posed = avatar.without_bust().pose(self._track.params[frame] if params is None else params)
        image, _ = render(posed, self._track.camera.resized(self._size, self._size), white)
        image = image.clamp(0.0, 1.0)
        target = torch.lerp(
            image, composite(view.image, view.matte, white, premultiplied=False), view.weight[..., None]
        )
        similarity = ssim_map(image, target).mean(-1)
        score = Score(
            psnr=psnr(image, target, view.weight),
            inner_psnr=psnr(image, target, view.weight * view.matte),
            ssim=float((similarity * view.weight).sum() / view.weight.sum().clamp_min(1.0)),
            lpips=lpips(image.cpu(), target.cpu()),
        )
        return image, target, score


@torch.no_grad()
def screen_aspect(avatar: Avatar, params: HeadParams, camera: Camera) -> float:
    """The largest aspect ratio on screen of any Gaussian that is visible in one view."""
    world = avatar.without_bust().pose(params)
    _, _, info = rasterize_view(world, camera)
    visible = (info["radii"][0] > 0).all(-1)
    return largest_aspect(projected_axes(world.means[visible], world.quats[visible], world.scales[visible], camera))


def mean_score(scores: list[Score]) -> Score:
    """The mean of each figure."""
    return Score(*(sum(values) / len(scores) for values in zip(*(dataclasses.astuple(score) for score in scores))))
