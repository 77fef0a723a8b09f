"""The whole network: photos and base in, corrections of the base out (method section 2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from spatialavatar.errors import InputError
from spatialavatar.generator.network.config import NetworkConfig
from spatialavatar.generator.network.corrections import Corrections, apply_corrections
from spatialavatar.generator.network.dense import DenseHead
from spatialavatar.generator.network.encoders import build_encoder
from spatialavatar.generator.network.heads import FRONTAL, AttributeHeads, ResidualHead, harmonic_encoding
from spatialavatar.generator.network.style_unet import MIN_SQUARE, StyleUNet
from spatialavatar.generator.network.unwrapping import pool_seen, pool_sources, sample_at
from spatialavatar.head import HeadModel, UVLayout
from spatialavatar.head.binding import triangle_frames
from spatialavatar.records import Gaussians, Record
from spatialavatar.residual import ExpressionResidual

if TYPE_CHECKING:  # the base's constants are stored with the network's, so that importing it here would be a circle
    from spatialavatar.generator.base import BaseResult

_SHOWN = 0.5
"""Visibility from which a photo counts as showing a texel."""

_BEHIND = -0.35
"""Cosine between a texel's normal and the direction to the front below which the texel is on the back of the head."""

_KNOWN_CHANNELS = 7
"""Channels of ``NetworkInputs.known``; the last is the visibility."""


@dataclass(frozen=True)
class NetworkInputs(Record):
    """B people of K sources each, on one layout of N texels.

    Attributes:
        images: (B, K, 3, S, S) sRGB in [0, 1].
        places: (B, K, N, 2) where each texel lies in each picture, as shares of its sides.
        weights: (B, K, N) in [0, 1], how well each picture shows each texel (depth test, facing, matte, openings).
        known: (B, N, 7) from the base: pooled source colour, completed colour, visibility.
    """

    images: Tensor
    places: Tensor
    weights: Tensor
    known: Tensor

    @staticmethod
    def cat(parts: Sequence[NetworkInputs]) -> NetworkInputs:
        """Several people of equally many sources as one batch.

        Raises:
            InputError: the numbers of sources differ.
        """
        if len({part.images.shape[1:] for part in parts}) != 1:
            raise InputError("All people of a batch need the same number of sources, in pictures of one size.")
        return NetworkInputs(**{name: torch.cat([getattr(part, name) for part in parts]) for name in vars(parts[0])})


def network_inputs(base: BaseResult, size: int) -> NetworkInputs:
    """The network's inputs for one person (B = 1); the pictures are resized to ``size`` pixels a side."""
    pictures, places = [], []
    for source, pixels in zip(base.sources, base.pixels):
        picture = torch.from_numpy(source.image).movedim(-1, 0)[None]
        if picture.shape[-2:] != (size, size):
            picture = functional.interpolate(picture, (size, size), mode="bilinear", antialias=True)
        pictures.append(picture[0])
        places.append(pixels / pixels.new_tensor([source.camera.width, source.camera.height]))
    known = torch.cat([base.sampled, base.gaussians.colors, base.visibility[:, None]], -1)
    return NetworkInputs(torch.stack(pictures)[None], torch.stack(places)[None], base.weights[None], known[None])


@dataclass(frozen=True)
class UVFeature(Record):
    """Features of B people, independent of the target's view and expression.

    Attributes:
        values: (B, N, C) input of the heads.
        correction_weight: (B, N) in [0, 1], factor of the heads' outputs (``NetworkConfig.visibility_damping``).
        hidden: (B, N) bool, texels that no photo shows.
    """

    values: Tensor
    correction_weight: Tensor
    hidden: Tensor

    def split(self) -> list[UVFeature]:
        """The people one by one (B = 1)."""
        return [UVFeature(*parts) for parts in zip(*(tensor.split(1) for tensor in vars(self).values()))]


@dataclass(frozen=True, eq=False)
class NetworkOutput:
    """Corrections of one pass.

    Attributes:
        corrections: all of them, to be added to the base: ``view_part`` with ``residual`` on top.
        view_part: the part of the five heads; the view-invariance penalty acts on it.
        residual: the part of the residual head, by attribute (B, N, ...); empty without an expression.
    """

    corrections: Corrections
    view_part: Corrections
    residual: dict[str, Tensor]


class CorrectionNetwork(nn.Module):
    """Encoder, DPT head, warp, pool, StyleUNet, five heads and the residual head; untrained, all corrections are zero.

    Attributes:
        config: sizes.
        texels: (N,) index of each texel in the flattened UV grid.
        axes: (N, 3) 1 for the axes of its triangle along which the five heads may move a Gaussian; the second is the
            normal.
        behind: (N,) bool, texels of the mean head that face away from a camera in front of it.
    """

    texels: Tensor
    axes: Tensor
    behind: Tensor

    def __init__(self, config: NetworkConfig, head: HeadModel, layout: UVLayout) -> None:
        """Initialise with random weights and last layers of zero; a transformer's weights come from the Hub.

        Args:
            config: sizes.
            head: the head model; the residual head is conditioned on its expressions.
            layout: UV layout of the Gaussians.

        Raises:
            InputError: the layout cannot be halved as often as the U-Net needs.
            FormatError: there is no such encoder.
            MissingAssetError: the encoder's library or weights are missing.
        """
        super().__init__()
        halvings = len(config.unet_channels) - 1
        if layout.resolution % 2**halvings:
            raise InputError(
                f"A UV picture of {layout.resolution} texels a side cannot be halved {halvings} times; "
                "choose a multiple of that power of two or fewer levels."
            )
        self.config = config
        self._resolution = layout.resolution
        self.register_buffer("texels", layout.texels, persistent=False)
        free = torch.ones(len(layout), 3, device=layout.texels.device)
        free[layout.mask(head, *head.available_parts(*config.along_normal))] = free.new_tensor([0.0, 1.0, 0.0])
        self.register_buffer("axes", free, persistent=False)
        self.register_buffer("behind", _facing(head, layout) < _BEHIND, persistent=False)
        self.encoder = build_encoder(config.encoder)
        self.dense = DenseHead(self.encoder.widths, self.encoder.scaling, config.dense_channels)
        self.unet = StyleUNet(
            config.dense_channels + _KNOWN_CHANNELS,
            config.uv_channels,
            self.encoder.cls_channels,
            config.style_channels,
            config.unet_channels,
        )
        self.heads = AttributeHeads(
            config.uv_channels, config.hidden_channels, config.color_channels, config.opacity_gain
        )
        condition = head.expression_count + 12
        self.residual = ResidualHead(config.uv_channels, condition, config.hidden_channels, config.color_channels)

    @torch.no_grad()
    def gaussians_and_residual(self, base: BaseResult) -> tuple[Gaussians, ExpressionResidual | None]:
        """The corrected base and the residual of one person; a residual that is always zero is None.

        An avatar's Gaussians do not change with the view, so the five heads are evaluated for a head that faces the
        camera. Three channels of the colour are kept: the colour at test time (method section 2, step 5). The network
        may be on another device than the base; the result is on the base's.

        Raises:
            InputError: the corrected Gaussians are not finite.
        """
        feature = self.features(network_inputs(base, self.config.image_size).to(self.texels.device))
        view = harmonic_encoding(feature.values.new_tensor([FRONTAL]))
        corrections = self.decode(feature, view).corrections[0]
        device = base.gaussians.means.device
        gaussians = apply_corrections(base.gaussians, corrections.replace(colors=corrections.colors[:, :3]).to(device))
        gaussians.check()
        if self.residual.is_zero():
            return gaussians, None
        return gaussians, self.residual.of_person(feature.values[0], feature.correction_weight[0]).to(device)

    def features(self, inputs: NetworkInputs) -> UVFeature:
        """Features of the people; they depend neither on the target's view nor on its expression."""
        people, count = inputs.images.shape[:2]
        encoded = self.encoder(inputs.images.flatten(0, 1))
        dense = self.dense(encoded.maps)
        sampled = sample_at(dense, inputs.places.flatten(0, 1)).unflatten(0, (people, count))
        pooled = pool_seen(sampled.transpose(0, 1), inputs.weights.transpose(0, 1))
        cls = pool_sources(encoded.cls.unflatten(0, (people, count)).transpose(0, 1))
        grid = self._to_grid(torch.cat([pooled, inputs.known], -1))
        values = self.unet(grid, cls).movedim(1, -1).flatten(1, 2)[:, self.texels]
        # Of one length: an unusual photo must not blow up the heads' outputs.
        values = functional.rms_norm(values.float(), values.shape[-1:], eps=MIN_SQUARE)
        visibility = inputs.known[..., -1]
        return UVFeature(values, 1.0 - self.config.visibility_damping * visibility, visibility < _SHOWN)

    def decode(self, feature: UVFeature, view: Tensor, expression: Tensor | None = None) -> NetworkOutput:
        """Corrections for one target per person.

        Args:
            feature: of :meth:`features`.
            view: (B, 27) of ``heads.harmonic_encoding``.
            expression: (B, E + 12) of ``heads.expression_code``, or None to leave the residual out.
        """
        corrections = self.heads(feature.values, view)
        # Hair stretches the side of the scalp that no photo shows; a Gaussian that shrinks there leaves a hole.
        scales = torch.where(feature.hidden[..., None], corrections.scales.clamp_min(0.0), corrections.scales)
        # Neither the photo nor the training photos show the back: Gaussians that the heads move or turn there leave
        # gaps through which the face is visible from behind.
        kept = (~(feature.hidden & self.behind))[..., None].to(scales)
        corrections = corrections.replace(
            positions=corrections.positions * self.axes * kept,
            rotations=corrections.rotations * kept,
            scales=scales * kept,
        )
        if expression is not None:
            corrections = corrections.replace(residual=self.residual(feature.values, expression))
        corrections = corrections.scaled(feature.correction_weight)
        return NetworkOutput(corrections, corrections.replace(residual={}), dict(corrections.residual))

    def forward(self, inputs: NetworkInputs, view: Tensor, expression: Tensor | None = None) -> NetworkOutput:
        """Features and corrections in one pass; see :meth:`features` and :meth:`decode`."""
        return self.decode(self.features(inputs), view, expression)

    def _to_grid(self, values: Tensor) -> Tensor:
        """Per-texel values (B, N, C) as UV pictures (B, C, U, U), zero where there is no texel.

        A texel's channels are contiguous in memory (channels last), which is faster on a CPU and copies nothing.
        """
        grid = values.new_zeros(len(values), self._resolution**2, values.shape[-1])
        grid[:, self.texels] = values
        return grid.unflatten(1, (self._resolution, self._resolution)).movedim(-1, 1)


def _facing(head: HeadModel, layout: UVLayout) -> Tensor:
    """(N,) cosines between the normals of the template's texels and the direction to the front."""
    return triangle_frames(head.template[head.faces]).rotation[layout.faces, 2, 1]
