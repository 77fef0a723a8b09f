"""Polish: a short refinement on the one to four source photos alone.

With one view of a texel, its colour, size and place cannot be told apart, and whatever the fit has wrong is painted
onto the head: unchecked, the source view becomes a photograph and every other view worse. So a texel moves only as far
as it is clearly seen, stays near where stage 1 put it, and lids, the matte's rim and the dark behind the lips are left
alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from spatialavatar.avatar import Avatar
from spatialavatar.errors import FormatError, InputError
from spatialavatar.head import HeadModel, UVLayout
from spatialavatar.head.arkit import ARKIT_INDEX
from spatialavatar.progress import Progress
from spatialavatar.records import Gaussians, Track, as_float_image
from spatialavatar.refinement.deformation import Deformer
from spatialavatar.refinement.losses import l1_loss, ssim_loss
from spatialavatar.refinement.visibility import clearly_seen, smoothstep, solid
from spatialavatar.render import rasterize

_LID_TRAVEL = 0.0015  # metres; what a blink moves further is lid
_INSIDE = ("mouth", "tongue", "teeth_upper", "teeth_lower")


@dataclass(frozen=True)
class PolishConfig:
    """Constants of the polish (ours; chosen on other frames of the same people, not on the source view).

    Attributes:
        iterations: steps; 0 is none.
        color_rate: Adam's learning rate of the colours.
        scale_rate: of the log scales; 0 keeps them, since one view lets them shrink until holes show in others.
        position_rate: of the positions, in units of the Gaussian's own size.
        pull: weight of the squared change, each in the unit of its rate's parameter.
        seen: visibility below which a Gaussian is kept, and from which it is free.
        facing: cosine of the angle to the viewer, likewise.
        rim: pixels inside the matte's edge that are left out, of a 512-pixel picture.
        l1_weight, ssim_weight: as in refinement.
    """

    iterations: int = 60
    color_rate: float = 2e-2
    scale_rate: float = 0.0
    position_rate: float = 0.0
    pull: float = 0.02
    seen: tuple[float, float] = (0.2, 0.6)
    facing: tuple[float, float] = (0.25, 0.6)
    rim: int = 4
    l1_weight: float = 0.8
    ssim_weight: float = 0.2


@dataclass(frozen=True)
class _Photo:
    """One source: its pixels, which of them count, and the posed head."""

    track: Track
    image: Tensor
    inside: Tensor


def polish(
    avatar: Avatar,
    photos: Sequence[Track],
    config: PolishConfig | None = None,
    *,
    seed: int = 0,
    progress: Progress | None = None,
) -> Avatar:
    """The avatar with the clearly seen part of it brought nearer to the photos it was made from.

    Args:
        avatar: what stage 1 made of the photos.
        photos: one to four tracked photos with pictures and mattes.
        config: constants.
        seed: of the order of the photos.
        progress: called with (fraction, message).

    Raises:
        FormatError: a photo was tracked with another head model.
        InputError: a track holds no pictures.
    """
    config = config or PolishConfig()
    if config.iterations == 0:
        return avatar
    sources = [_photo(avatar, track, config) for track in photos]
    deformer = Deformer(avatar.head, avatar.layout, avatar.identity())
    gate = torch.stack([_seen_by(avatar, deformer, i, s, config) for i, s in enumerate(sources)]).amax(0)
    gate = (gate * _free(avatar.head, avatar.layout))[:, None]
    base = avatar.gaussians
    size = base.scales.amax(-1, keepdim=True)
    change = {name: torch.zeros_like(base.means).requires_grad_() for name in ("color", "scale", "position")}
    optimiser = torch.optim.Adam(
        [{"params": [tensor], "lr": getattr(config, f"{name}_rate")} for name, tensor in change.items()]
    )
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, config.iterations)
    generator = torch.Generator().manual_seed(seed)

    def polished() -> Gaussians:
        return base.replace(
            colors=(base.colors + gate * change["color"]).clamp(0.0, 1.0),
            scales=base.scales * (gate * change["scale"]).exp(),
            means=base.means + size * gate * change["position"],
        )

    for iteration in range(config.iterations):
        index = int(torch.randint(len(sources), (), generator=generator))
        source = sources[index]
        rendered, alpha = _render(polished(), deformer, index, source.track)
        # Over the photo itself, so that a colour does not make up for what its neighbours let through.
        rendered = rendered + (1.0 - alpha[..., None]) * source.image
        target = torch.where(source.inside[..., None], source.image, rendered.detach())
        rendered = torch.where(source.inside[..., None], rendered, rendered.detach())
        pull = torch.stack([tensor.square().mean() for tensor in change.values()]).sum()
        loss = config.l1_weight * l1_loss(rendered, target) + config.ssim_weight * ssim_loss(rendered, target)
        optimiser.zero_grad(set_to_none=True)
        (loss + config.pull * pull).backward()
        optimiser.step()
        cosine.step()
        if progress is not None:
            progress((iteration + 1) / config.iterations, f"Polishing, step {iteration + 1} of {config.iterations}")
    with torch.no_grad():
        gaussians = polished()
    gaussians.check()
    return replace(avatar, gaussians=gaussians, info={**avatar.info, "polished": config.iterations})


def _photo(avatar: Avatar, track: Track, config: PolishConfig) -> _Photo:
    if track.head_id != avatar.head.id:
        raise FormatError(
            f"The photo was tracked with the head model {track.head_id!r}, not {avatar.head.id!r}; track it again."
        )
    if track.images is None or track.mattes is None:
        raise InputError("The track holds no picture; polishing needs the tracked photos themselves.")
    device = avatar.gaussians.means.device
    inside = solid(track.mattes[0], config.rim * track.camera.width / 512)
    return _Photo(track, as_float_image(track.images[0]).to(device), inside.to(device))


def _render(local: Gaussians, deformer: Deformer, index: int, track: Track) -> tuple[Tensor, Tensor]:
    """Image (H, W, C), premultiplied, and alpha (H, W) in a photo's view."""
    world = deformer.carry(local, deformer.frame(track.params[0], index))
    camera = track.camera.to(world.means.device)
    image, alpha, _ = rasterize(
        world.means,
        world.quats,
        world.scales,
        world.opacities,
        world.colors,
        camera.world_to_camera[None],
        camera.intrinsics[None],
        camera.width,
        camera.height,
    )
    return image[0], alpha[0, ..., 0]


def _seen_by(avatar: Avatar, deformer: Deformer, index: int, source: _Photo, config: PolishConfig) -> Tensor:
    """(N,) in [0, 1]: how clearly a photo shows each Gaussian."""
    frame = deformer.frame(source.track.params[0], index)
    world, camera = deformer.carry(avatar.gaussians, frame), source.track.camera.to(source.image.device)
    normals = deformer.normals(frame)
    return clearly_seen(world, normals, camera, source.inside.float(), config.seen, config.facing)


def _free(head: HeadModel, layout: UVLayout) -> Tensor:
    """(N,) 0 on lids and behind the lips, 1 elsewhere."""
    lids = head.arkit_to_expression[[ARKIT_INDEX["eyeBlinkLeft"], ARKIT_INDEX["eyeBlinkRight"]]]
    travel = torch.tensordot(lids, head.expression_basis, 1).norm(dim=-1).amax(0)
    moved = (travel[head.faces[layout.faces]] * layout.bary).sum(-1)
    inside = layout.mask(head, *(part for part in _INSIDE if part in head.parts))
    return (1.0 - smoothstep(moved, 0.3 * _LID_TRAVEL, _LID_TRAVEL)) * ~inside
