"""Polish: a short refinement on the one to four source photos alone.

One view of a texel does not separate its colour from its size and position, and every error of the fit is transferred
to the head. Without limits, the source view becomes a photograph and every other view gets worse. So a Gaussian moves
only as far as a photo shows it squarely, is pulled to its initial state, and stays in its surface. Lids and the parts
behind the lips do not move.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from spatialavatar.avatar import Avatar
from spatialavatar.head import BEHIND_LIPS, HeadModel, UVLayout
from spatialavatar.head.arkit import ARKIT_INDEX
from spatialavatar.progress import Progress
from spatialavatar.records import Camera, Gaussians, Track
from spatialavatar.refinement.attributes import MIN_OPACITY
from spatialavatar.refinement.constants import Constants, constant
from spatialavatar.refinement.deformation import Deformer, PosedHead
from spatialavatar.refinement.frame_views import FrameViews, View
from spatialavatar.refinement.losses import compare
from spatialavatar.refinement.visibility import matte_interior, smoothstep, visibility
from spatialavatar.render import render

_FAMILIES = ("position", "scale", "opacity", "color")
_LID_TRAVEL = 0.0015  # metres; vertices that a blink moves further are lids
_SOLID_ALPHA = 0.9  # of pixels whose brightness is compared
_TINY = 1e-6


@dataclass(frozen=True)
class PolishConfig(Constants):
    """Constants of the polish (ours; chosen on other frames of the same people, not on the source view).

    Attributes:
        iterations: steps; 0 switches the polish off.
        position_rate: Adam's learning rate of means, along the surface, in units of the Gaussian's own largest scale.
        scale_rate: learning rate of log scales.
        opacity_rate: learning rate of opacity logits.
        color_rate: learning rate of sRGB colours.
        max_growth: largest change of a log scale. Without it, Gaussians of the silhouette smear towards hair beyond the
            head.
        pull: weight of the mean squared change, each family in the unit of its learning rate.
        shown: shares of its footprint from which a Gaussian begins to move, and is free to move.
        facing: cosines of the angle to the viewer, likewise.
        neck: share of its change that the neck keeps; a free neck grows to cover shoulders.
        rim: pixels of 512 inside the matte's edge that do not count as showing a Gaussian.
        l1_weight: weight of L1, as in the refinement.
        ssim_weight: weight of 1 - SSIM, as in the refinement.
    """

    iterations: int = constant(80, 0, 100_000)
    position_rate: float = constant(8e-2, 0.0, 10.0)
    scale_rate: float = constant(3e-2, 0.0, 10.0)
    opacity_rate: float = constant(5e-2, 0.0, 10.0)
    color_rate: float = constant(2e-2, 0.0, 10.0)
    max_growth: float = constant(0.5, 1e-6, 50.0)
    pull: float = constant(0.02, 0.0, 100.0)
    shown: tuple[float, float] = constant((0.02, 0.1), 0.0, 1.0)
    facing: tuple[float, float] = constant((0.1, 0.4), -1.0, 1.0)
    neck: float = constant(0.3, 0.0, 1.0)
    rim: int = constant(4, 0, 256)
    l1_weight: float = constant(0.8, 0.0, 100.0)
    ssim_weight: float = constant(0.2, 0.0, 100.0)


@dataclass(frozen=True, eq=False)
class _Photo:
    """One source photo.

    Attributes:
        posed: the mesh in the photo.
        view: pixels of the window around the head.
        camera: of that window.
        counted: (H, W) in [0, 1], pixels that count as showing a Gaussian.
    """

    posed: PosedHead
    view: View
    camera: Camera
    counted: Tensor


def polish(
    avatar: Avatar,
    photos: Sequence[Track],
    config: PolishConfig | None = None,
    *,
    seed: int = 0,
    progress: Progress | None = None,
) -> Avatar:
    """Fit the parts of an avatar that the photos show to the photos that it was made from.

    Args:
        avatar: output of stage 1 for the photos; it is not changed.
        photos: one to four tracked photos with pictures and mattes.
        config: constants.
        seed: of the order of the photos and the backgrounds.
        progress: called with (fraction, message).

    Raises:
        FormatError: a photo was tracked with another head model.
        InputError: a track has no pictures.
    """
    config = config or PolishConfig()
    if config.iterations == 0:
        return avatar
    deformer = Deformer(avatar.head, avatar.layout, avatar.identity(), avatar.residual)
    sources = [_photo(avatar.head, track, deformer.pose(track.params[0], i), config) for i, track in enumerate(photos)]
    initial = avatar.gaussians
    shown = torch.stack([_visibility(initial, deformer, source, config) for source in sources]).amax(0)
    gate = (shown * _movable(avatar.head, avatar.layout, config.neck))[:, None]
    if len(sources) > 1:
        sources = [_with_avatar_exposure(initial, deformer, source) for source in sources]
    change = _Change(initial, gate, config.max_growth)
    optimiser = torch.optim.Adam(
        [{"params": [tensor], "lr": getattr(config, f"{name}_rate")} for name, tensor in change.tensors.items()]
    )
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, config.iterations)
    generator = torch.Generator().manual_seed(seed)
    for iteration in range(config.iterations):
        source = sources[int(torch.randint(len(sources), (), generator=generator))]
        view = source.view
        color, alpha = render(deformer.to_world(change.gaussians(), source.posed), source.camera)
        background = torch.rand(3, generator=generator).to(color.device)
        l1, ssim = compare(color, alpha, view.image, view.matte, view.weight, background)
        optimiser.zero_grad(set_to_none=True)
        (config.l1_weight * l1 + config.ssim_weight * ssim + config.pull * change.penalty()).backward()
        optimiser.step()
        cosine.step()
        if progress is not None:
            progress((iteration + 1) / config.iterations, f"Polishing, step {iteration + 1} of {config.iterations}")
    with torch.no_grad():
        gaussians = change.gaussians()
    gaussians.check()
    return replace(avatar, gaussians=gaussians, info={**avatar.info, "polished": config.iterations})


class _Change:
    """Changes of the Gaussians' attributes, each multiplied by a gate.

    Attributes:
        tensors: by family; zero at first.
    """

    def __init__(self, initial: Gaussians, gate: Tensor, max_growth: float) -> None:
        """Prepare.

        Args:
            initial: N local Gaussians.
            gate: (N, 1) in [0, 1], share of each Gaussian's change that is applied.
            max_growth: largest change of a log scale.
        """
        self._initial, self._gate, self._max_growth = initial, gate, max_growth
        # The direction across the surface is depth in a photo, which a photo hardly constrains.
        along = initial.means.new_tensor([1.0, 0.0, 1.0])
        self._unit = gate * initial.scales.amax(-1, keepdim=True) * along
        self._logit = initial.opacities.clamp(MIN_OPACITY, 1.0 - MIN_OPACITY).logit()
        likes = (initial.means, initial.scales, initial.opacities, initial.colors)
        self.tensors = {name: torch.zeros_like(like).requires_grad_() for name, like in zip(_FAMILIES, likes)}

    def gaussians(self) -> Gaussians:
        """The changed Gaussians, differentiable."""
        initial, gate, change, growth = self._initial, self._gate, self.tensors, self._max_growth
        opacities = (self._logit + gate[:, 0] * change["opacity"]).sigmoid()
        return initial.replace(
            means=initial.means + self._unit * change["position"],
            scales=initial.scales * (gate * growth * (change["scale"] / growth).tanh()).exp(),
            opacities=torch.where(gate[:, 0] > 0.0, opacities, initial.opacities),
            colors=(initial.colors + gate * change["color"]).clamp(0.0, 1.0),
        )

    def penalty(self) -> Tensor:
        """The sum of the families' mean squares."""
        return torch.stack([tensor.square().mean() for tensor in self.tensors.values()]).sum()


def _photo(head: HeadModel, track: Track, posed: PosedHead, config: PolishConfig) -> _Photo:
    """Cut the window around the head out of a tracked photo."""
    track.require_head(head.id)
    view = FrameViews(track, head).view(0, posed.vertices, track.camera.width)
    inside = matte_interior((view.matte * 255.0).round().byte(), config.rim * track.camera.width / 512)
    camera = view.window(track.camera.to(posed.vertices.device))
    return _Photo(posed, view, camera, inside.to(view.weight) * view.weight)


@torch.no_grad()
def _with_avatar_exposure(local: Gaussians, deformer: Deformer, photo: _Photo) -> _Photo:
    """The photo with a gain per channel that fits it to the avatar, so that photos do not disagree in brightness."""
    color, alpha = render(deformer.to_world(local, photo.posed), photo.camera)
    counted = (photo.counted * (alpha > _SOLID_ALPHA))[..., None]
    gain = ((color * counted).sum((0, 1)) + _TINY) / ((photo.view.image * counted).sum((0, 1)) + _TINY)
    return replace(photo, view=replace(photo.view, image=(photo.view.image * gain).clamp(0.0, 1.0)))


def _visibility(local: Gaussians, deformer: Deformer, photo: _Photo, config: PolishConfig) -> Tensor:
    """(N,) in [0, 1]: how clearly a photo shows each Gaussian."""
    world, normals = deformer.to_world(local, photo.posed), deformer.normals(photo.posed)
    return visibility(world, normals, photo.camera, photo.counted, config.shown, config.facing)


def _movable(head: HeadModel, layout: UVLayout, neck: float) -> Tensor:
    """(N,) 0 on lids and behind the lips, ``neck`` on the neck, 1 elsewhere."""
    lids = head.arkit_to_expression[[ARKIT_INDEX["eyeBlinkLeft"], ARKIT_INDEX["eyeBlinkRight"]]]
    travel = torch.tensordot(lids, head.expression_basis, 1).norm(dim=-1).amax(0)
    moved = (travel[head.faces[layout.faces]] * layout.bary).sum(-1)
    free = 1.0 - smoothstep(moved, 0.3 * _LID_TRAVEL, _LID_TRAVEL)
    for parts, share in ((BEHIND_LIPS, 0.0), (("neck",), neck)):
        free = torch.where(layout.mask(head, *head.available_parts(*parts)), share * free, free)
    return free
