"""The objective of one step: draw a frame, pose and render it, and compute the terms of the loss (method section 3)."""

from __future__ import annotations

import torch
from torch import Tensor

from spatialavatar.avatar import Avatar
from spatialavatar.records import Camera, Gaussians
from spatialavatar.refinement.anti_spike import aspect_penalty
from spatialavatar.refinement.attributes import Attributes
from spatialavatar.refinement.clip import Clip
from spatialavatar.refinement.config import RefineConfig
from spatialavatar.refinement.deformation import PosedHead
from spatialavatar.refinement.losses import compare
from spatialavatar.refinement.near_side import NearSide
from spatialavatar.refinement.turned_views import interior_difference, turned_camera


class Objective:
    """The terms of the loss for the frames of a clip.

    A new term is one entry in :meth:`terms` and one weight in :meth:`total`.
    """

    def __init__(
        self, clip: Clip, avatar: Avatar, training: Tensor, config: RefineConfig, generator: torch.Generator
    ) -> None:
        """Prepare a run.

        Args:
            clip: frames of the person.
            avatar: initial avatar; gives head and layout.
            training: (A,) indices of the frames to draw from.
            config: constants.
            generator: random generator of all draws.
        """
        self._clip, self._training, self._config, self._generator = clip, training, config, generator
        cosine = config.loss.near_side_cosine
        self._near_side = None if cosine is None else NearSide(avatar.head, avatar.layout, cosine)

    def terms(self, attributes: Attributes, iteration: int) -> dict[str, Tensor]:
        """Draw a frame and compute the terms of the loss on it, by name, before their weights.

        Args:
            attributes: current attributes.
            iteration: steps made.
        """
        config, clip = self._config, self._clip
        frame = self._draw_frame()
        posed = clip.pose(frame)
        view = clip.view(frame, posed, config.size)
        world = clip.to_world(attributes.gaussians(), posed)
        camera = view.window(clip.camera(config.size))
        color, alpha, info = clip.rasterize(self._near(world, posed, camera), camera, config.size)
        background = self._draw_background(color.device)
        l1, ssim = compare(color, alpha[..., 0], view.image, view.matte, view.weight, background)
        # Outside the window both sides are background: no difference. The means are over the whole frame.
        share = camera.width * camera.height / config.size**2
        terms = {"l1": share * l1, "ssim": share * ssim}
        spikes, turned = config.anti_spike, config.turned_views
        if spikes.aspect_weight > 0.0 and iteration >= config.scaled_start(spikes.aspect_start):
            visible = (info["radii"][0] > 0).all(-1).nonzero().squeeze(-1)
            terms["aspect"] = self._aspect(world, visible, camera)
        if turned.weight > 0.0 and iteration % turned.every == 0:
            terms["turned"] = self._turned(attributes, world, posed)
        return terms

    def total(self, terms: dict[str, Tensor]) -> Tensor:
        """The weighted sum of the terms."""
        config = self._config
        weights = {
            "l1": config.loss.l1_weight,
            "ssim": config.loss.ssim_weight,
            "aspect": config.anti_spike.aspect_weight,
            "turned": config.turned_views.weight,
        }
        return torch.stack([weights[name] * value for name, value in terms.items()]).sum()

    def _draw_frame(self) -> int:
        """One training frame, uniformly."""
        return int(self._training[torch.randint(len(self._training), (), generator=self._generator)])

    def _draw_background(self, device: torch.device) -> Tensor:
        """One colour (3,), over which both sides are composited."""
        if not self._config.loss.random_background:
            return torch.full((3,), 0.5, device=device)
        return torch.rand(3, generator=self._generator).to(device)

    def _near(self, world: Gaussians, posed: PosedHead, camera: Camera, *, mouth: bool = True) -> Gaussians:
        """The Gaussians with the far side hidden, where the configuration hides it."""
        return world if self._near_side is None else self._near_side(world, posed, camera, mouth=mouth)

    def _aspect(self, world: Gaussians, visible: Tensor, camera: Camera) -> Tensor:
        """The penalty on the aspect of a random share of the ``visible`` (M,) Gaussians."""
        spikes = self._config.anti_spike
        if spikes.aspect_share < 1.0:
            every = round(1.0 / spikes.aspect_share)
            visible = visible[int(torch.randint(every, (), generator=self._generator)) :: every]
        return aspect_penalty(world, visible, camera, spikes.aspect_limit)

    def _turned(self, attributes: Attributes, world: Gaussians, posed: PosedHead) -> Tensor:
        """The difference to the initial avatar from a random side, at half the size."""
        clip, size = self._clip, self._config.size // 2
        center = posed.vertices.detach().mean(0)
        camera = turned_camera(clip.camera(size), center, self._config.turned_views.reach, self._generator)
        with torch.no_grad():
            initial = clip.to_world(attributes.initial_shape(), posed, learned=False).replace(
                colors=world.colors.detach()
            )
            expected, cover, _ = clip.rasterize(self._near(initial, posed, camera, mouth=False), camera, size)
        color, alpha, _ = clip.rasterize(self._near(world, posed, camera), camera, size)
        return interior_difference(color, alpha, expected, cover)
