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
from spatialavatar.generator.network.style_unet import LEAST_SQUARE, StyleUNet
from spatialavatar.generator.network.unwrapping import pool_seen, pool_sources, sample_at
from spatialavatar.head import HeadModel, UVLayout
from spatialavatar.records import Gaussians, _Record
from spatialavatar.residual import ExpressionResidual

if TYPE_CHECKING:  # the base's constants are stored with the network's, so that importing it here would be a circle
    from spatialavatar.generator.base import BaseResult

_KNOWN = 7
"""Channels that the base gives for each texel; the last is how well the sources show it."""


@dataclass(frozen=True)
class NetworkInputs(_Record):
    """B people of K sources each, on one layout of N texels.

    Attributes:
        images: (B, K, 3, S, S) sRGB in [0, 1].
        places: (B, K, N, 2) where each texel lies in each picture, as shares of its sides.
        weights: (B, K, N) in [0, 1], how well each picture shows each texel (depth test, facing, matte, openings).
        known: (B, N, 7) what the base knows of each texel: pooled source colour, completed colour, how well seen.
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
            raise InputError("A batch needs as many sources of every person, in pictures of one size.")
        return NetworkInputs(**{name: torch.cat([getattr(part, name) for part in parts]) for name in vars(parts[0])})


def network_inputs(base: BaseResult, size: int) -> NetworkInputs:
    """What the network reads of one person (B = 1); the pictures are brought to ``size`` pixels a side."""
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
class UVFeature(_Record):
    """What the network knows of B people before it is asked for a view or an expression.

    Attributes:
        values: (B, N, C) what the heads read.
        freedom: (B, N) in [0, 1], what their answers are multiplied by (``NetworkConfig.restraint``).
    """

    values: Tensor
    freedom: Tensor

    def split(self) -> list[UVFeature]:
        """The people one by one (B = 1)."""
        return [UVFeature(*pair) for pair in zip(self.values.split(1), self.freedom.split(1))]


@dataclass(frozen=True)
class NetworkOutput:
    """What one pass says.

    Attributes:
        corrections: everything, to be added to the base: ``view_part`` with ``residual`` on top.
        view_part: of it, what the five heads say; the view-invariance penalty acts on it.
        residual: of it, what the expression adds, by attribute (B, N, ...); empty without an expression.
    """

    corrections: Corrections
    view_part: Corrections
    residual: dict[str, Tensor]


class CorrectionNetwork(nn.Module):
    """Encoder, DPT head, warp, pool, StyleUNet, five heads and the residual head; untrained, it corrects nothing."""

    def __init__(self, config: NetworkConfig, head: HeadModel, layout: UVLayout) -> None:
        """Start from random weights but for the last layers, which are zero; a transformer's come from the Hub.

        Args:
            config: sizes.
            head: the head model in use; the residual head is conditioned on its expressions.
            layout: where the Gaussians lie.

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
        # (N, 3): the axes of its triangle along which a Gaussian may move; the second one is the normal.
        free = torch.ones(len(layout), 3, device=layout.texels.device)
        free[layout.mask(head, *head.having(*config.along_normal))] = free.new_tensor([0.0, 1.0, 0.0])
        self.register_buffer("axes", free, persistent=False)
        self.encoder = build_encoder(config.encoder)
        self.dense = DenseHead(self.encoder.widths, self.encoder.scaling, config.dense_channels)
        self.unet = StyleUNet(
            config.dense_channels + _KNOWN,
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
    def person(self, base: BaseResult) -> tuple[Gaussians, ExpressionResidual | None]:
        """What an avatar is made of: the corrected base, and what expressions add to it; None is nothing.

        An avatar's Gaussians do not change with the view, so the five heads are asked for a head that faces the camera.
        Of the colour's channels three are kept: they are the colour at test time (method section 2, step 5). The
        network may be on another device than the base; the result is where the base is.
        """
        feature = self.features(network_inputs(base, self.config.image_size).to(self.texels.device))
        said = self.decode(feature, harmonic_encoding(feature.values.new_tensor([FRONTAL]))).corrections[0]
        home = base.gaussians.means.device
        gaussians = apply_corrections(base.gaussians, said.replace(colors=said.colors[:, :3]).to(home))
        gaussians.check()
        if self.residual.silent():
            return gaussians, None
        return gaussians, self.residual.of_person(feature.values[0], feature.freedom[0]).to(home)

    def features(self, inputs: NetworkInputs) -> UVFeature:
        """The UV feature of people; it depends neither on the target's view nor on its expression."""
        people, count = inputs.images.shape[:2]
        encoded = self.encoder(inputs.images.flatten(0, 1))
        dense = self.dense(encoded.maps)
        sampled = sample_at(dense, inputs.places.flatten(0, 1)).unflatten(0, (people, count))
        pooled = pool_seen(sampled.transpose(0, 1), inputs.weights.transpose(0, 1))
        cls = pool_sources(encoded.cls.unflatten(0, (people, count)).transpose(0, 1))
        grid = self._to_grid(torch.cat([pooled, inputs.known], -1))
        values = self.unet(grid, cls).movedim(1, -1).flatten(1, 2)[:, self.texels]
        # Of one length, whatever the photos are: a photo like none before must not blow up what the heads say.
        values = functional.rms_norm(values.float(), values.shape[-1:], eps=LEAST_SQUARE)
        return UVFeature(values, 1.0 - self.config.restraint * inputs.known[..., -1])

    def decode(self, feature: UVFeature, view: Tensor, expression: Tensor | None = None) -> NetworkOutput:
        """Corrections for one target per person.

        Args:
            feature: of :meth:`features`.
            view: (B, 27) of ``heads.harmonic_encoding``.
            expression: (B, E + 12) of ``heads.expression_code``, or None for what holds for all expressions.
        """
        said = self.heads(feature.values, view)
        said = said.replace(positions=said.positions * self.axes)
        if expression is not None:
            said = said.replace(residual=self.residual(feature.values, expression))
        said = said.scaled(feature.freedom)
        return NetworkOutput(said, said.replace(residual={}), dict(said.residual))

    def forward(self, inputs: NetworkInputs, view: Tensor, expression: Tensor | None = None) -> NetworkOutput:
        """Features and corrections in one pass; see :meth:`features` and :meth:`decode`."""
        return self.decode(self.features(inputs), view, expression)

    def _to_grid(self, values: Tensor) -> Tensor:
        """Per-texel values (B, N, C) as UV pictures (B, C, U, U), zero where there is no texel.

        A texel's channels lie together in memory: convolutions on a CPU are faster so, and nothing is transposed.
        """
        grid = values.new_zeros(len(values), self._resolution**2, values.shape[-1])
        grid[:, self.texels] = values
        return grid.unflatten(1, (self._resolution, self._resolution)).movedim(-1, 1)
