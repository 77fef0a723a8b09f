"""Polish: a short refinement on the one to four source photos alone.

One view of a texel does not separate its colour from its size and position, and every error of the fit is transferred
to the head. Without limits, the source view becomes a photograph and every other view gets worse. So a Gaussian moves
only as far as a photo shows it squarely, is pulled to its initial state, and stays in its surface. Lids and the parts
behind the lips do not move.

Only the Gaussians that a photo shows are posed and rendered.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from spatialavatar.avatar import Avatar
from spatialavatar.easing import smoothstep_tensor
from spatialavatar.head import BEHIND_LIPS, HeadModel, UVLayout
from spatialavatar.head.arkit import ARKIT_INDEX
from spatialavatar.progress import Progress
from spatialavatar.records import Camera, Gaussians, Track
from spatialavatar.refinement.attributes import MIN_OPACITY
from spatialavatar.refinement.constants import Constants, constant
from spatialavatar.refinement.deformation import Deformer, PosedHead
from spatialavatar.refinement.frame_views import FrameViews, View
from spatialavatar.refinement.losses import compare
from spatialavatar.refinement.visibility import footprint_shares, matte_interior, squareness
from spatialavatar.render import rasterize_view, render

_FAMILIES = ("position", "scale", "opacity", "color")
_LID_TRAVEL = 0.0015  # metres; vertices that a blink moves further are lids
_SOLID_ALPHA = 0.9  # of pixels whose brightness is compared
_MIN_SHARE = 1e-3  # of its footprint; a Gaussian that a photo shows less is not drawn
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
        max_color: largest change of a colour channel; larger differences are errors of the fit.
        opacity: share of its opacity's change that each Gaussian keeps.
        pull: weight of the mean squared change, each family in the unit of its learning rate.
        shown: shares of its footprint from which a Gaussian begins to move, and is free to move.
        facing: cosines of the angle to the viewer, likewise.
        seen: visibilities of stage 1, likewise. They include its tests of the matte, occlusion, clothes, and the
            openings of eyes and mouth.
        lips: share of its change that the lips keep; lips that are rolled in hide texels which then turn light.
        neck: share of its change that the neck keeps; a free neck grows to cover shoulders.
        rim: pixels of 512 inside the matte's edge that do not count as showing a Gaussian.
        l1_weight: weight of L1, as in the refinement.
        ssim_weight: weight of 1 - SSIM, as in the refinement.
    """

    iterations: int = constant(24, 0, 100_000)
    position_rate: float = constant(0.12, 0.0, 10.0)
    scale_rate: float = constant(4.5e-2, 0.0, 10.0)
    opacity_rate: float = constant(5e-2, 0.0, 10.0)
    color_rate: float = constant(3e-2, 0.0, 10.0)
    max_growth: float = constant(0.4, 1e-6, 50.0)
    max_color: float = constant(0.12, 1e-6, 1.0)
    opacity: float = constant(0.3, 0.0, 1.0)
    pull: float = constant(0.02, 0.0, 100.0)
    shown: tuple[float, float] = constant((0.02, 0.1), 0.0, 1.0)
    facing: tuple[float, float] = constant((0.2, 0.5), -1.0, 1.0)
    seen: tuple[float, float] = constant((0.2, 0.6), 0.0, 1.0)
    lips: float = constant(0.3, 0.0, 1.0)
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
    seen: Tensor | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Avatar:
    """Fit the parts of an avatar that the photos show to the photos that it was made from.

    Args:
        avatar: output of stage 1 for the photos; it is not changed.
        photos: one to four tracked photos with pictures and mattes.
        config: constants.
        seen: (N,) in [0, 1], how well stage 1 found the photos to show each texel; None counts all as well seen.
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
    whole = avatar.gaussians
    clear, drawn = _shown(whole, deformer, sources, config)
    gate = clear * _movable(avatar.head, avatar.layout, config)
    if seen is not None:
        gate = gate * smoothstep_tensor(seen.to(gate), *config.seen)
    rows = drawn.nonzero()[:, 0]
    deformer, initial = deformer.subset(rows), _rows(whole, rows)
    if len(sources) > 1:
        sources = [_with_avatar_exposure(initial, deformer, source) for source in sources]
    change = _Change(initial, gate[rows, None], config)
    optimiser = torch.optim.Adam(
        [{"params": [tensor], "lr": getattr(config, f"{name}_rate")} for name, tensor in change.tensors.items()]
    )
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, config.iterations)
    generator = torch.Generator().manual_seed(seed)
    for iteration in range(config.iterations):
        source = sources[int(torch.randint(len(sources), (), generator=generator))]
        loss = _difference(deformer.to_world(change.gaussians(), source.posed), source, config, generator)
        optimiser.zero_grad(set_to_none=True)
        (loss + config.pull * change.penalty()).backward()
        optimiser.step()
        cosine.step()
        if progress is not None:
            progress((iteration + 1) / config.iterations, f"Polishing, step {iteration + 1} of {config.iterations}")
    with torch.no_grad():
        gaussians = _with_rows(whole, rows, change.gaussians())
    gaussians.check()
    return replace(avatar, gaussians=gaussians, info={**avatar.info, "polished": config.iterations})


def _difference(world: Gaussians, photo: _Photo, config: PolishConfig, generator: torch.Generator) -> Tensor:
    """The loss of a render against a photo, over a random background."""
    color, alpha, _ = rasterize_view(world, photo.camera)
    view, background = photo.view, torch.rand(3, generator=generator).to(color.device)
    l1, ssim = compare(color, alpha[..., 0], view.image, view.matte, view.weight, background)
    return config.l1_weight * l1 + config.ssim_weight * ssim


def _rows(whole: Gaussians, rows: Tensor) -> Gaussians:
    """The Gaussians ``rows`` (n,) alone."""
    return whole.replace(
        **{name: getattr(whole, name)[rows] for name in ("means", "quats", "scales", "opacities", "colors")}
    )


def _with_rows(whole: Gaussians, rows: Tensor, part: Gaussians) -> Gaussians:
    """All Gaussians, those of ``rows`` (n,) replaced by the n of ``part``."""
    return whole.replace(
        **{
            name: getattr(whole, name).index_copy(0, rows, getattr(part, name))
            for name in ("means", "scales", "opacities", "colors")
        }
    )


class _Change:
    """Changes of the Gaussians' attributes, each multiplied by a gate.

    Attributes:
        tensors: by family; zero at first.
    """

    def __init__(self, initial: Gaussians, gate: Tensor, config: PolishConfig) -> None:
        """Prepare.

        Args:
            initial: N local Gaussians.
            gate: (N, 1) in [0, 1], share of each Gaussian's change that is applied.
            config: limits of the changes.
        """
        self._initial, self._gate, self._config = initial, gate, config
        # The direction across the surface is depth in a photo, which a photo hardly constrains.
        along = initial.means.new_tensor([1.0, 0.0, 1.0])
        self._unit = gate * initial.scales.amax(-1, keepdim=True) * along
        self._logit = initial.opacities.clamp(MIN_OPACITY, 1.0 - MIN_OPACITY).logit()
        likes = (initial.means, initial.scales, initial.opacities, initial.colors)
        self.tensors = {name: torch.zeros_like(like).requires_grad_() for name, like in zip(_FAMILIES, likes)}

    def gaussians(self) -> Gaussians:
        """The changed Gaussians, differentiable."""
        initial, gate, change = self._initial, self._gate, self.tensors
        growth, shift = self._config.max_growth, self._config.max_color
        opacities = (self._logit + self._config.opacity * gate[:, 0] * change["opacity"]).sigmoid()
        return initial.replace(
            means=initial.means + self._unit * change["position"],
            scales=initial.scales * (gate * growth * (change["scale"] / growth).tanh()).exp(),
            opacities=torch.where(gate[:, 0] > 0.0, opacities, initial.opacities),
            colors=(initial.colors + gate * shift * (change["color"] / shift).tanh()).clamp(0.0, 1.0),
        )

    def penalty(self) -> Tensor:
        """The sum of the families' mean squares."""
        return torch.stack([tensor.square().mean() for tensor in self.tensors.values()]).sum()


def _photo(head: HeadModel, track: Track, posed: PosedHead, config: PolishConfig) -> _Photo:
    """Cut the window around the head out of a tracked photo."""
    track.require_head(head.id)
    width = track.camera.width
    view = FrameViews(track, head).view(0, posed.vertices, width)
    camera = view.window(track.camera.to(posed.vertices.device))
    inside = matte_interior((view.matte * 255.0).round().byte(), config.rim * width / 512)
    return _Photo(posed, view, camera, inside.to(view.weight) * view.weight)


@torch.no_grad()
def _with_avatar_exposure(local: Gaussians, deformer: Deformer, photo: _Photo) -> _Photo:
    """The photo with a gain per channel that fits it to the avatar, so that photos do not disagree in brightness."""
    color, alpha = render(deformer.to_world(local, photo.posed), photo.camera)
    counted = (photo.counted * (alpha > _SOLID_ALPHA))[..., None]
    gain = ((color * counted).sum((0, 1)) + _TINY) / ((photo.view.image * counted).sum((0, 1)) + _TINY)
    return replace(photo, view=replace(photo.view, image=(photo.view.image * gain).clamp(0.0, 1.0)))


def _shown(
    local: Gaussians, deformer: Deformer, photos: Sequence[_Photo], config: PolishConfig
) -> tuple[Tensor, Tensor]:
    """How clearly the photo that shows it best shows each Gaussian, (N,) in [0, 1], and whether one shows it, (N,)."""
    clear, drawn = [], []
    for photo in photos:
        world, camera = deformer.to_world(local, photo.posed), photo.camera
        shares = footprint_shares(world, camera, torch.stack([photo.counted, torch.ones_like(photo.counted)], -1))
        square = squareness(world, deformer.normals(photo.posed), camera)
        clear.append(smoothstep_tensor(shares[:, 0], *config.shown) * smoothstep_tensor(square, *config.facing))
        drawn.append(shares[:, 1] > _MIN_SHARE)
    return torch.stack(clear).amax(0), torch.stack(drawn).any(0)


def _movable(head: HeadModel, layout: UVLayout, config: PolishConfig) -> Tensor:
    """(N,) 0 on lids and behind the lips, the configured shares on lips and neck, 1 elsewhere."""
    lids = head.arkit_to_expression[[ARKIT_INDEX["eyeBlinkLeft"], ARKIT_INDEX["eyeBlinkRight"]]]
    travel = torch.tensordot(lids, head.expression_basis, 1).norm(dim=-1).amax(0)
    moved = (travel[head.faces[layout.faces]] * layout.bary).sum(-1)
    free = 1.0 - smoothstep_tensor(moved, 0.3 * _LID_TRAVEL, _LID_TRAVEL)
    for parts, share in ((BEHIND_LIPS, 0.0), (("lips",), config.lips), (("neck",), config.neck)):
        free = torch.where(layout.mask(head, *head.available_parts(*parts)), share * free, free)
    return free
