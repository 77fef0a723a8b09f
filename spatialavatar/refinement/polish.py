"""Polish: a short refinement on the one to four source photos alone.

With one view of a texel, its colour, size and place cannot be told apart, and whatever the fit has wrong is painted
onto the head: unchecked, the source view becomes a photograph and every other view worse. So a texel moves only as far
as a photo shows it squarely, stays near where stage 1 put it and in its surface, and lids and what lies behind the lips
are left alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from spatialavatar.avatar import Avatar
from spatialavatar.errors import FormatError, InputError
from spatialavatar.head import BEHIND_LIPS, HeadModel, UVLayout
from spatialavatar.head.arkit import ARKIT_INDEX
from spatialavatar.progress import Progress
from spatialavatar.records import Camera, Gaussians, Track
from spatialavatar.refinement.deformation import Deformer, TriangleCarriers
from spatialavatar.refinement.frames import FrameSource, View
from spatialavatar.refinement.losses import compare
from spatialavatar.refinement.visibility import clearly_seen, smoothstep, solid
from spatialavatar.render import render

_FAMILIES = ("position", "scale", "opacity", "color")
_LEAST = 1e-4  # opacities are kept this far from 0 and 1, where a logit would be infinite
_TINY = 1e-6
_LID_TRAVEL = 0.0015  # metres; what a blink moves further is lid


@dataclass(frozen=True)
class PolishConfig:
    """Constants of the polish (ours; chosen on other frames of the same people, not on the source view).

    Attributes:
        iterations: steps; 0 is none.
        position_rate: Adam's learning rate of the positions along the surface, in units of the Gaussian's own size.
        scale_rate: of the log scales.
        opacity_rate: of the logits of the opacities.
        color_rate: of the colours.
        growth: the largest change of a log scale; without it the rim reaches in smears for hair beyond the head.
        pull: weight of the squared change, each in the unit of its rate's parameter.
        seen: visibility below which a Gaussian is kept, and from which it is free.
        facing: cosine of the angle to the viewer, likewise.
        neck: how free the neck is; all of it grows into shoulders.
        rim: pixels of 512 inside the matte's edge in which being seen does not count.
        l1_weight, ssim_weight: as in refinement.
    """

    iterations: int = 80
    position_rate: float = 8e-2
    scale_rate: float = 3e-2
    opacity_rate: float = 5e-2
    color_rate: float = 2e-2
    growth: float = 0.5
    pull: float = 0.02
    seen: tuple[float, float] = (0.02, 0.1)
    facing: tuple[float, float] = (0.1, 0.4)
    neck: float = 0.3
    rim: int = 4
    l1_weight: float = 0.8
    ssim_weight: float = 0.2

    def __post_init__(self) -> None:
        if self.iterations < 0:
            raise InputError(f"The number of polishing steps is {self.iterations}; give 0 for none, or more.")


@dataclass(frozen=True)
class _Photo:
    """One source: the pixels around the head, the camera that sees them, and (H, W) where being seen counts."""

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
    """The avatar with what the photos show of it brought nearer to the photos it was made from.

    Args:
        avatar: what stage 1 made of the photos.
        photos: one to four tracked photos with pictures and mattes.
        config: constants.
        seed: of the order of the photos and the backgrounds.
        progress: called with (fraction, message).

    Raises:
        FormatError: a photo was tracked with another head model.
        InputError: a track holds no pictures.
    """
    config = config or PolishConfig()
    if config.iterations == 0:
        return avatar
    deformer = Deformer(avatar.head, avatar.layout, avatar.identity(), avatar.residual)
    carriers = [deformer.frame(track.params[0], index) for index, track in enumerate(photos)]
    sources = [_photo(avatar.head, track, posed.vertices, config) for track, posed in zip(photos, carriers)]
    base = avatar.gaussians
    seen = torch.stack([_seen_by(base, deformer, p, s, config) for p, s in zip(carriers, sources)]).amax(0)
    gate = (seen * _free(avatar.head, avatar.layout, config.neck))[:, None]
    if len(sources) > 1:
        sources = [_balanced(base, deformer, p, s) for p, s in zip(carriers, sources)]
    change = _Change(base, gate, config.growth)
    optimiser = torch.optim.Adam(
        [{"params": [tensor], "lr": getattr(config, f"{name}_rate")} for name, tensor in change.tensors.items()]
    )
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, config.iterations)
    generator = torch.Generator().manual_seed(seed)
    for iteration in range(config.iterations):
        index = int(torch.randint(len(sources), (), generator=generator))
        view, camera = sources[index].view, sources[index].camera
        color, alpha = render(deformer.carry(change.gaussians(), carriers[index]), camera)
        background = torch.rand(3, generator=generator).to(color.device)
        l1, ssim = compare(color, alpha, view.image, view.matte, view.weight, background)
        optimiser.zero_grad(set_to_none=True)
        (config.l1_weight * l1 + config.ssim_weight * ssim + config.pull * change.size()).backward()
        optimiser.step()
        cosine.step()
        if progress is not None:
            progress((iteration + 1) / config.iterations, f"Polishing, step {iteration + 1} of {config.iterations}")
    with torch.no_grad():
        gaussians = change.gaussians()
    gaussians.check()
    return replace(avatar, gaussians=gaussians, info={**avatar.info, "polished": config.iterations})


class _Change:
    """What is added to the Gaussians' attributes, as far as each is free.

    Attributes:
        tensors: by family, zero at first.
    """

    def __init__(self, base: Gaussians, gate: Tensor, growth: float) -> None:
        """Start from ``base``; ``gate`` (N, 1) in [0, 1] is how free each Gaussian is, ``growth`` as configured."""
        self._base, self._gate, self._growth = base, gate, growth
        # What lies across the surface is depth to a photo: the little that it says of that is noise.
        along = base.means.new_tensor([1.0, 0.0, 1.0])
        self._unit = gate * base.scales.amax(-1, keepdim=True) * along
        self._logit = base.opacities.clamp(_LEAST, 1.0 - _LEAST).logit()
        shapes = (base.means, base.scales, base.opacities, base.colors)
        self.tensors = {name: torch.zeros_like(like).requires_grad_() for name, like in zip(_FAMILIES, shapes)}

    def gaussians(self) -> Gaussians:
        """The changed Gaussians, differentiable."""
        base, gate, change = self._base, self._gate, self.tensors
        opacities = (self._logit + gate[:, 0] * change["opacity"]).sigmoid()
        return base.replace(
            means=base.means + self._unit * change["position"],
            scales=base.scales * (gate * self._growth * (change["scale"] / self._growth).tanh()).exp(),
            opacities=torch.where(gate[:, 0] > 0.0, opacities, base.opacities),
            colors=(base.colors + gate * change["color"]).clamp(0.0, 1.0),
        )

    def size(self) -> Tensor:
        """The sum of the families' mean squares."""
        return torch.stack([tensor.square().mean() for tensor in self.tensors.values()]).sum()


def _photo(head: HeadModel, track: Track, vertices: Tensor, config: PolishConfig) -> _Photo:
    if track.head_id != head.id:
        raise FormatError(
            f"The photo was tracked with the head model {track.head_id!r}, not {head.id!r}; track it again."
        )
    if track.images is None or track.mattes is None:
        raise InputError("The track holds no picture; polishing needs the tracked photos themselves.")
    view = FrameSource(track, head).view(0, vertices, track.camera.width)
    inside = solid((view.matte * 255.0).round().byte(), config.rim * track.camera.width / 512)
    return _Photo(view, view.window(track.camera.to(vertices.device)), inside.to(view.weight) * view.weight)


@torch.no_grad()
def _balanced(local: Gaussians, deformer: Deformer, posed: TriangleCarriers, photo: _Photo) -> _Photo:
    """The photo in the light of the avatar: a gain per channel, so that photos do not pull the colours to and fro."""
    color, alpha = render(deformer.carry(local, posed), photo.camera)
    counted = (photo.counted * (alpha > 0.9))[..., None]
    gain = ((color * counted).sum((0, 1)) + _TINY) / ((photo.view.image * counted).sum((0, 1)) + _TINY)
    return replace(photo, view=replace(photo.view, image=(photo.view.image * gain).clamp(0.0, 1.0)))


def _seen_by(
    local: Gaussians, deformer: Deformer, posed: TriangleCarriers, photo: _Photo, config: PolishConfig
) -> Tensor:
    """(N,) in [0, 1]: how clearly a photo shows each Gaussian."""
    world, normals = deformer.carry(local, posed), deformer.normals(posed)
    return clearly_seen(world, normals, photo.camera, photo.counted, config.seen, config.facing)


def _free(head: HeadModel, layout: UVLayout, neck: float) -> Tensor:
    """(N,) 0 on lids and behind the lips, ``neck`` on the neck, 1 elsewhere."""
    lids = head.arkit_to_expression[[ARKIT_INDEX["eyeBlinkLeft"], ARKIT_INDEX["eyeBlinkRight"]]]
    travel = torch.tensordot(lids, head.expression_basis, 1).norm(dim=-1).amax(0)
    moved = (travel[head.faces[layout.faces]] * layout.bary).sum(-1)
    free = 1.0 - smoothstep(moved, 0.3 * _LID_TRAVEL, _LID_TRAVEL)
    for parts, share in ((BEHIND_LIPS, 0.0), (("neck",), neck)):
        free = torch.where(layout.mask(head, *head.having(*parts)), share * free, free)
    return free
