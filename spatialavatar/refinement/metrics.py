"""How far renders are from frames: PSNR, SSIM and LPIPS over white, where the head can answer for the picture."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from spatialavatar.avatar import Avatar
from spatialavatar.metrics import lpips, psnr, ssim_map
from spatialavatar.records import Camera, HeadParams, Track
from spatialavatar.refinement.deformation import Deformer
from spatialavatar.refinement.frames import FrameSource, View, camera_of
from spatialavatar.refinement.losses import composite
from spatialavatar.refinement.shape_control import largest_aspect, projected_axes
from spatialavatar.render import rasterize_view, render

_POSE_SIGMA = {"rotation": 0.02, "neck": 0.02, "translation": 0.003}
"""What the alignment moves, and its first steps: a tenth of so many radians and metres."""


@dataclass(frozen=True)
class Score:
    """One frame's figures.

    Attributes:
        psnr: dB, over all pixels but those of torso and clothes.
        inner_psnr: dB, over the head's own pixels only, where the background cannot flatter.
        ssim: mean of the map, over the same pixels as ``psnr``.
        lpips: of the whole pictures, which are the same where the head cannot answer.
    """

    psnr: float
    inner_psnr: float
    ssim: float
    lpips: float


class Judge:
    """Compares one person's avatars with frames of a track; the pixels that count are the same for all of them."""

    def __init__(self, track: Track, avatar: Avatar, size: int = 512) -> None:
        """Use ``avatar``'s mesh, whichever avatars are compared, to tell the head's pixels from others."""
        self._track, self._size = track, size
        self._source = FrameSource(track, avatar.head)
        self._deformer = Deformer(avatar.head, avatar.layout, avatar.identity())

    def view(self, frame: int) -> View:
        """A frame's pixels."""
        return self._source.view(frame, self._vertices(frame), self._size, whole=True)

    def _vertices(self, frame: int) -> Tensor:
        return self._deformer.frame(self._track.params[frame], frame).vertices

    def aligned(self, avatar: Avatar, frame: int, steps: int = 40) -> HeadParams:
        """A frame's parameters with the head's and neck's pose fitted to the picture by means of ``avatar``.

        Tells an avatar's errors from the tracker's: compare with and without.
        """
        tracked = self._track.params[frame]
        size = min(self._size, 256)
        view, camera = self._source.view(frame, self._vertices(frame), size, whole=True), camera_of(self._track, size)
        white = torch.ones(3, device=view.image.device)
        target = composite(view.image, view.matte, white, premultiplied=False)
        off = {name: torch.zeros_like(getattr(tracked, name)).requires_grad_() for name in _POSE_SIGMA}
        optimiser = torch.optim.Adam(off.values(), lr=0.1)
        identity = avatar.identity()

        def corrected() -> HeadParams:
            return tracked.replace(**{n: getattr(tracked, n) + s * off[n] for n, s in _POSE_SIGMA.items()})

        best, least = tracked, math.inf
        for step in range(steps):
            params = corrected()
            image, _ = render(avatar.pose(params, identity), camera, white)
            loss = ((image - target).abs() * view.weight[..., None]).mean()
            if float(loss.detach()) < least:
                best, least = params, float(loss.detach())
            optimiser.param_groups[0]["lr"] = 0.1 * (1.0 - step / steps)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
        return best.replace(**{name: getattr(best, name).detach() for name in _POSE_SIGMA})

    @torch.no_grad()
    def compare(self, avatar: Avatar, frame: int, params: HeadParams | None = None) -> tuple[Tensor, Tensor, Score]:
        """Render and target (H, W, 3), both over white and equal where the head cannot answer, and the score.

        The avatar is posed as the tracker says, or by ``params``.
        """
        view = self.view(frame)
        white = torch.ones(3, device=view.image.device)
        posed = avatar.pose(self._track.params[frame] if params is None else params)
        image, _ = render(posed, camera_of(self._track, self._size), white)
        image = image.clamp(0.0, 1.0)
        target = torch.lerp(
            image, composite(view.image, view.matte, white, premultiplied=False), view.weight[..., None]
        )
        similarity = ssim_map(image, target).mean(-1)
        inner = view.weight * view.matte
        score = Score(
            psnr=psnr(image, target, view.weight),
            inner_psnr=psnr(image, target, inner),
            ssim=float((similarity * view.weight).sum() / view.weight.sum().clamp_min(1.0)),
            lpips=lpips(image.cpu(), target.cpu()),
        )
        return image, target, score


@torch.no_grad()
def screen_aspect(avatar: Avatar, params: HeadParams, camera: Camera) -> float:
    """The largest aspect ratio on screen of any Gaussian that is seen in one view."""
    world = avatar.pose(params)
    _, _, info = rasterize_view(world, camera)
    seen = (info["radii"][0] > 0).all(-1)
    return largest_aspect(projected_axes(world.means[seen], world.quats[seen], world.scales[seen], camera))


def mean_score(scores: list[Score]) -> Score:
    """The mean of each figure."""
    return Score(*(sum(values) / len(scores) for values in zip(*(dataclasses.astuple(score) for score in scores))))
