"""Image encoders behind one interface: a small convolutional pyramid, or a vision transformer of the Hub."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from spatialavatar.errors import FormatError, MissingAssetError, missing_extra
from spatialavatar.generator.network.config import EncoderConfig

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Mean and standard deviation of ImageNet's colours, which normalise every encoder's input."""

TRANSFORMERS = ("dinov2", "dinov2_with_registers", "dinov3_vit")
"""Supported architectures of ``transformers``: their tokens are one CLS token, then registers, then patches."""


@dataclass(frozen=True)
class EncodedImages:
    """Features of B pictures.

    Attributes:
        maps: four maps (B, width, h, w), from early to late.
        cls: (B, D), one vector per picture.
    """

    maps: tuple[Tensor, Tensor, Tensor, Tensor]
    cls: Tensor


class Encoder(nn.Module, ABC):
    """Interface of the encoders.

    Attributes:
        widths: channels of the four maps.
        cls_channels: D.
        scaling: factors by which the DPT head enlarges the maps to reach strides of about 4, 8, 16 and 32.
    """

    widths: tuple[int, int, int, int]
    cls_channels: int
    scaling: tuple[float, float, float, float]

    @abstractmethod
    def forward(self, images: Tensor) -> EncodedImages:
        """Encode pictures (B, 3, H, W), float sRGB in [0, 1]."""

    @abstractmethod
    def layers(self) -> list[nn.Module]:
        """All layers from input to output, for learning rates that decay by layer."""


def build_encoder(config: EncoderConfig) -> Encoder:
    """The encoder that a configuration names.

    Raises:
        FormatError: no encoder is of that kind.
        MissingAssetError: the library or the weights are missing.
    """
    if config.kind == "pyramid":
        encoder: Encoder = ConvPyramid(config.widths, config.depths)
    elif config.kind == "transformers":
        encoder = TransformerEncoder(load_transformer(config.name, config.revision))
    else:
        raise FormatError(f"There is no encoder {config.kind!r}; give pyramid or transformers.")
    if config.frozen:
        encoder.requires_grad_(False)
    return encoder


class ConvPyramid(Encoder):
    """Four levels of depthwise-separable residual blocks at strides 4, 8, 16 and 32; CLS is the mean of the last."""

    scaling = (1.0, 1.0, 1.0, 1.0)

    def __init__(self, widths: Sequence[int], depths: Sequence[int]) -> None:
        """Initialise with random weights; ``widths`` and ``depths`` are channels and blocks of the four levels."""
        super().__init__()
        first, second, third, fourth = widths
        self.widths, self.cls_channels = (first, second, third, fourth), fourth
        self.levels = nn.ModuleList()
        previous = 3
        for level, (width, depth) in enumerate(zip(widths, depths)):
            stride = 4 if level == 0 else 2
            reduce = nn.Conv2d(previous, width, kernel_size=stride + 1, stride=stride, padding=stride // 2)
            self.levels.append(nn.Sequential(reduce, *[_Block(width) for _ in range(depth)]))
            previous = width
        self.norm = nn.LayerNorm(fourth)

    def forward(self, images: Tensor) -> EncodedImages:
        """Encode pictures (B, 3, H, W) of any size."""
        x, maps = _normalised(images), []
        for level in self.levels:
            x = level(x)
            maps.append(x)
        return EncodedImages((maps[0], maps[1], maps[2], maps[3]), self.norm(x.mean((2, 3))))

    def layers(self) -> list[nn.Module]:
        """The four levels, then the normalisation."""
        return [*self.levels, self.norm]


class _Block(nn.Module):
    """x + MLP(norm(depthwise 7 x 7 (x))), the block of ConvNeXt (Liu et al. 2022) with half its expansion."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.spatial = nn.Conv2d(width, width, kernel_size=7, padding=3, groups=width)
        self.norm = nn.GroupNorm(1, width)
        self.expand = nn.Conv2d(width, 2 * width, kernel_size=1)
        self.reduce = nn.Conv2d(2 * width, width, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.reduce(functional.gelu(self.expand(self.norm(self.spatial(x)))))


class TransformerEncoder(Encoder):
    """DINOv2 or DINOv3 as ``transformers`` builds them; four evenly spaced layers are read."""

    scaling = (4.0, 2.0, 1.0, 0.5)

    def __init__(self, vit: Any) -> None:
        """Wrap a model.

        Args:
            vit: a ``Dinov2Model``, ``Dinov2WithRegistersModel`` or ``DINOv3ViTModel``, of at least four layers.

        Raises:
            FormatError: the model is of a different class or has fewer layers.
        """
        super().__init__()
        config = vit.config
        if config.model_type not in TRANSFORMERS or config.num_hidden_layers < 4:
            raise FormatError(
                f"The encoder is a {config.model_type} of {config.num_hidden_layers} layers; name one of "
                f"{', '.join(TRANSFORMERS)} of at least four."
            )
        self.vit = vit
        self.widths = (config.hidden_size,) * 4
        self.cls_channels = config.hidden_size
        self._patch = int(config.patch_size)
        self._leading = 1 + int(getattr(config, "num_register_tokens", 0))
        self._taps = tuple(round(config.num_hidden_layers * quarter / 4) for quarter in (1, 2, 3, 4))

    def forward(self, images: Tensor) -> EncodedImages:
        """Encode pictures (B, 3, H, W); they are resized to whole patches."""
        rows, columns = (max(1, round(side / self._patch)) for side in images.shape[-2:])
        size = (rows * self._patch, columns * self._patch)
        pixels = _normalised(images)
        if size != tuple(images.shape[-2:]):
            pixels = functional.interpolate(pixels, size, mode="bilinear", align_corners=False, antialias=True)
        output = self.vit(pixels, output_hidden_states=True)
        # The last map is taken after the model's own normalisation, like the CLS token.
        states = [*output.hidden_states[:-1], output.last_hidden_state]
        maps = [states[tap][:, self._leading :].transpose(1, 2).unflatten(2, (rows, columns)) for tap in self._taps]
        return EncodedImages((maps[0], maps[1], maps[2], maps[3]), output.last_hidden_state[:, 0])

    def layers(self) -> list[nn.Module]:
        """Embeddings, blocks, and the last normalisation."""
        stack = self.vit.encoder if hasattr(self.vit, "encoder") else self.vit.model
        norm = self.vit.layernorm if hasattr(self.vit, "layernorm") else self.vit.norm
        return [self.vit.embeddings, *stack.layer, norm]


def load_transformer(name: str, revision: str | None = None) -> Any:
    """A vision transformer of the Hub, or of a folder, through ``transformers``.

    Raises:
        MissingAssetError: the library is not installed, or the weights cannot be fetched (DINOv3 is gated).
    """
    try:
        from transformers import AutoModel
    except ImportError as error:
        raise missing_extra("This encoder", "encoders") from error
    try:
        return AutoModel.from_pretrained(name, revision=revision or "main")
    except (OSError, ValueError) as error:
        raise MissingAssetError(
            f"The encoder {name} cannot be loaded; check its name and the connection, and for a gated one ask for "
            "access on its page on the Hub and run 'hf auth login'."
        ) from error


def _normalised(images: Tensor) -> Tensor:
    """Pictures (B, 3, H, W) in [0, 1], normalised by ImageNet's mean and standard deviation."""
    mean, std = (torch.tensor(v, dtype=images.dtype, device=images.device)[:, None, None] for v in (_MEAN, _STD))
    return (images - mean) / std
