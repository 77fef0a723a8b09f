"""The head of an avatar over the photo it was made from: posed over the photo's own body, faded out in the neck."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import grid_sample

from spatialavatar.avatar import Avatar
from spatialavatar.easing import smoothstep_tensor
from spatialavatar.head import carried, moved_with_torso, root_motion
from spatialavatar.records import Bust, Camera, Gaussians, HeadParams
from spatialavatar.render import render

_FADE: Final = (0.25, 0.6)
"""Heights between the neck's lower end (0) and the chin (1) between which the rendered neck fades in."""
_CUT: Final = 0.65
"""Height at which the photo's own neck ends; above _FADE, so that the rendered neck is opaque there."""
_BUST_FADE: Final = (0.05, 0.25)
"""Weights of the neck joint between which a bust's Gaussians fade in over the photo's own body."""
BUST_CUT: Final = 0.3
"""Weight from which they replace it; above _BUST_FADE, so that the rendered ones are opaque there."""
_FACE_ALPHA: Final = 0.97
_FACE_RIM: Final = 0.02  # of the picture's longer side: eroded from the face before its colour is measured
_NECK_RIM: Final = 0.4  # of the neck from the chin to _CUT: how near to the outline a Gaussian of the neck ends
_SKIN_SPREAD: Final = 0.13  # distance in sRGB from the median colour of the neck, up to which a colour is the skin's
_GAINS: Final = (0.7, 1.4)  # of a colour channel


class HeadInPhoto:
    """Poses the head of an avatar in its photo, whose body stays still.

    The torso keeps the pose of the photo and the neck takes the whole rotation. A translation moves the head and, less
    and less towards its lower end, the neck. Of a bust, what moves with the neck is shown: hair below the head, and the
    sides of the neck.
    """

    def __init__(
        self,
        avatar: Avatar,
        tone: Tensor | None = None,
        camera: Camera | None = None,
        body: NDArray[np.float32] | None = None,
    ) -> None:
        """Prepare an avatar.

        Args:
            avatar: the avatar.
            tone: (3,) colour of the photo's face, to which the avatar's is matched; None leaves it.
            camera: of the whole photo; needed for ``tone`` and ``body``.
            body: (H, W) matte of the photo's body, outside of which its neck ends; None leaves the neck.
        """
        self._avatar = avatar
        self._identity = avatar.identity()
        self._keep = _neck_fade(avatar)[:, None]
        if body is not None and camera is not None:
            self._keep = self._keep * neck_in_body(avatar, camera, body)[:, None]
        self._still = avatar.head.skinning_weights[:, :1]
        self._bust, self._open = moving_bust(avatar), None
        if self._bust is not None:
            self._give_way(self._bust)
        self._gain = avatar.shape.new_ones(3)
        if tone is not None and camera is not None and float(tone.min()) > 0:
            self._gain = self._matching(tone.to(avatar.shape.device), camera)

    def gaussians(self, params: HeadParams) -> Gaussians:
        """World Gaussians of one frame; the colours (N, 4) are sRGB times the share of the head, and that share."""
        avatar, home = self._avatar, self._avatar.reference.translation
        vertices = avatar.head.pose(self._identity, params)[0] - self._still * (params.translation - home)
        world = carried(avatar.local(params), avatar.head, avatar.layout, vertices)
        colors = (world.colors[:, :3] * self._gain).clamp(0.0, 1.0)
        head = replace(world, colors=torch.cat([colors * self._keep, self._keep], -1))
        if self._open is not None:
            head = replace(head, opacities=head.opacities * self._open)
        return head if self._bust is None else head.joined(self._moved(self._bust, params))

    def _give_way(self, bust: Bust) -> None:
        """Let the neck fade out in front of the bust, instead of hiding it and the photo."""
        avatar = self._avatar
        with torch.inference_mode():
            _, alpha = render(moved_with_torso(bust, avatar.reference, self._identity), avatar.camera)
            pixels = avatar.camera.project(avatar.without_bust().pose(avatar.reference).means)
        places = 2.0 * pixels / pixels.new_tensor([avatar.camera.width, avatar.camera.height]) - 1.0
        cover = grid_sample(alpha[None, None], places[None, None], align_corners=False).reshape(-1, 1)
        self._open = (1.0 - cover * (1.0 - self._keep))[:, 0]
        self._keep = torch.maximum(self._keep, cover * (self._keep > 0.0))

    def _moved(self, bust: Bust, params: HeadParams) -> Gaussians:
        """The bust's part of :meth:`gaussians`."""
        moved = moved_with_torso(bust, params, self._identity)
        assert bust.neck_weight is not None, "moving_bust"
        weight = bust.neck_weight[:, None]
        share = smoothstep_tensor(weight, *_BUST_FADE)
        return moved.replace(
            means=moved.means - (1.0 - weight) * (params.translation - self._avatar.reference.translation),
            colors=torch.cat([moved.colors[:, :3] * share, share], -1),
        )

    def _matching(self, tone: Tensor, camera: Camera) -> Tensor:
        """(3,) factors of the colours that give the rendered face the colour ``tone``."""
        mask = face_pixels(self._avatar, camera)
        if not mask.any():
            return tone.new_ones(3)
        image, _ = render(self.gaussians(self._avatar.reference), camera)
        mean = image[torch.from_numpy(mask).to(image.device)][:, :3].mean(0)
        return (tone / mean.clamp_min(1e-3)).clamp(*_GAINS)


def moving_bust(avatar: Avatar, least: float | None = None) -> Bust | None:
    """The part of a bust's front that moves visibly with the neck; None where there is none.

    Args:
        avatar: the avatar.
        least: skinning weight of the neck joint from which a Gaussian belongs to it; by default what is rendered.
    """
    bust = avatar.bust
    if bust is None or bust.neck_weight is None:
        return None
    moves = (bust.neck_weight > (_BUST_FADE[0] if least is None else least)) & ~bust.behind
    if not bool(moves.any()):
        return None
    tensors = ("means", "quats", "scales", "opacities", "colors")
    part = bust.gaussians.replace(**{name: getattr(bust.gaussians, name)[moves] for name in tensors})
    return bust.replace(gaussians=part, neck_weight=bust.neck_weight[moves])


def face_pixels(avatar: Avatar, camera: Camera) -> NDArray[np.bool_]:
    """(H, W): pixels of the face, without its rim, in the reference view of the avatar.

    Args:
        avatar: the avatar.
        camera: sees the reference.
    """
    parts = avatar.head.available_parts("face")
    on_face = avatar.layout.mask(avatar.head, *parts).float()[:, None] if parts else avatar.gaussians.colors[:, :1] * 0
    with torch.inference_mode():
        world = avatar.pose(avatar.reference)
        means, quats, scales, opacities = (tensor[: len(on_face)] for tensor in _tensors(world))
        share, _ = render(Gaussians(means, quats, scales, opacities, on_face, "world"), camera)
    inner = (share[..., 0] > _FACE_ALPHA).cpu().numpy().astype(np.uint8)
    rim = 2 * max(1, round(_FACE_RIM * 0.25 * max(camera.width, camera.height))) + 1
    return cv2.erode(inner, np.ones((rim, rim), np.uint8)) > 0


def neck_in_body(avatar: Avatar, camera: Camera, matte: NDArray[np.float32]) -> Tensor:
    """(N,) share of each Gaussian of the neck that lies within the outline of the photo's neck; 1 of the others.

    A neck that is wider than the person's would stand out of the body.

    Args:
        avatar: the avatar.
        camera: of the photo, sees the reference.
        matte: (H, W) of the photo's body.
    """
    with torch.inference_mode():
        pixels = camera.project(avatar.pose(avatar.reference).means[: len(avatar.layout)])
        chin, end = neck_pixels(avatar, camera)
        axis = (end - chin) / (end - chin).norm().clamp_min(1.0)
        # Above its end, the photo's neck counts as wide as there.
        missing = (((1.1 + _NECK_RIM) * (end - chin) + chin - pixels) @ axis).clamp_min(0.0)
        above = ((chin - pixels) @ axis / (end - chin).norm().clamp_min(1.0)).clamp(0.0, 1.0)
        pixels = pixels + missing[:, None] * axis
        places = 2.0 * pixels / pixels.new_tensor([camera.width, camera.height]) - 1.0
        rim = 2 * max(1, round(_NECK_RIM * float((end - chin).norm()))) + 1  # a Gaussian reaches beyond its centre
        picture = torch.from_numpy(cv2.erode(matte, np.ones((rim, rim), np.uint8))).to(pixels)[None, None]
        inside = grid_sample(picture, places[None, None], padding_mode="border", align_corners=False).flatten()
    neck = _neck_heights(avatar) < torch.inf
    skin = neck & (inside > 0.9)
    if not bool(skin.any()):
        return torch.ones_like(inside)
    # Hair beside the neck is painted on it, too; it stays, because the body of the photo does not have it.
    colors = avatar.gaussians.colors
    unlike = (colors - colors[skin].median(0).values).norm(dim=-1) / _SKIN_SPREAD - 1.0
    share = torch.maximum((1.5 * inside - 0.25), torch.maximum(above, unlike)).clamp(0.0, 1.0)
    return torch.where(neck, share, torch.ones_like(share))


def neck_levels(avatar: Avatar) -> tuple[Tensor, Tensor]:
    """Points (3,) of the neck's axis at the chin, and where the photo's own neck ends; rest space, metres."""
    low, chin = _neck_ends(avatar)
    joints = avatar.identity().joints
    root, neck = joints[0], joints[1]

    def at(height: float) -> Tensor:
        share = (height - root[1]) / (neck[1] - root[1]).clamp_min(1e-4)
        point = root + share * (neck - root)
        return torch.stack([point[0], point.new_tensor(height), point[2]])

    return at(chin), at(low + _CUT * (chin - low))


def neck_pixels(avatar: Avatar, camera: Camera) -> Tensor:
    """(2, 2) pixels of the points of :func:`neck_levels`, where the torso carries them in the reference."""
    points = torch.stack(neck_levels(avatar))
    rotation, offset = (value[0] for value in root_motion(avatar.reference, avatar.identity()))
    return camera.project(points @ rotation.T + offset)


def _neck_fade(avatar: Avatar) -> Tensor:
    """(N,) share of each Gaussian that is rendered: 0 at the neck's lower end, 1 from its middle up."""
    return smoothstep_tensor(_neck_heights(avatar), *_FADE)


def _neck_heights(avatar: Avatar) -> Tensor:
    """(N,) heights of the Gaussians, 0 at the neck's lower end and 1 at the chin; infinite beside the neck."""
    head = avatar.head
    rest = avatar.layout.surface(head, avatar.identity().vertices)[:, 1]
    low, chin = _neck_ends(avatar)
    heights = (rest - low) / max(chin - low, 1e-4)
    parts = head.available_parts("neck")
    neck = avatar.layout.mask(head, *parts) if parts else torch.zeros_like(heights, dtype=torch.bool)
    return torch.where(neck, heights, torch.full_like(heights, torch.inf))


def _neck_ends(avatar: Avatar) -> tuple[float, float]:
    """Heights of the neck's lower end and of the chin, rest space, metres."""
    head, rest = avatar.head, avatar.identity().vertices
    necks, faces = head.available_parts("neck"), head.available_parts("face")
    low = rest[head.part_vertices(*necks)] if necks else rest
    face = rest[head.part_vertices(*faces)] if faces else rest
    return float(low[:, 1].min()), float(face[:, 1].min())


def _tensors(world: Gaussians) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return world.means, world.quats, world.scales, world.opacities
