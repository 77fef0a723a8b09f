"""Sizes of the network: the paper's, and small ones that run on a laptop."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

from spatialavatar.errors import InputError

# Limits of a configuration, which bound the memory that a configuration from a file can allocate.
_MAX_SIZE = 8192  # channels, or pixels a side
_MAX_BLOCKS = 64  # of the encoder, a level
_MAX_PICTURE = 2048  # pixels a side of the pictures that the encoder reads


@dataclass(frozen=True)
class EncoderConfig:
    """The image encoder.

    Attributes:
        kind: "pyramid", our own convolutional one, trained from scratch; or "transformers", a vision transformer.
        name: of the transformer on the Hub; "" for the pyramid.
        revision: branch, tag or commit of it; pin it to load the same weights every time.
        frozen: whether its weights stay as they are (method section 2, step 1; phase 2 trains them).
        widths: channels of the pyramid's four levels.
        depths: blocks of the pyramid's four levels.
    """

    kind: str = "pyramid"
    name: str = ""
    revision: str | None = None
    frozen: bool = False
    widths: tuple[int, int, int, int] = (48, 96, 192, 320)
    depths: tuple[int, int, int, int] = (2, 2, 4, 2)

    def __post_init__(self) -> None:
        _check_sizes(self, {"widths": 4, "depths": 4})
        if max(self.depths) > _MAX_BLOCKS:
            raise InputError(f"The encoder's depths are {self.depths!r}; give at most {_MAX_BLOCKS} blocks a level.")
        for name in ("kind", "name"):
            if not isinstance(getattr(self, name), str):
                raise InputError(f"The encoder's {name} is {getattr(self, name)!r}; give text.")
        if not isinstance(self.revision, (str, type(None))) or not isinstance(self.frozen, bool):
            raise InputError("The encoder's revision must be text or null, and frozen true or false.")


@dataclass(frozen=True)
class NetworkConfig:
    """The network of method section 2. Where the paper names no size, it is ours.

    Attributes:
        encoder: of the photos.
        image_size: pixels a side of the encoder's input.
        dense_channels: C, channels of the DPT head's dense features.
        style_channels: length of the style vector that the pooled CLS token becomes.
        unet_channels: of the UV generator's levels, from full resolution to the coarsest, each half the one before.
        uv_channels: of the UV feature that the heads read (paper: 32).
        hidden_channels: of the heads' hidden layers.
        color_channels: outputs of the colour head: the first three are sRGB, the others features for a decoder (paper:
            32 in training; at test time the 3-channel path).
        visibility_damping: d in [0, 1]. Corrections of a texel are multiplied by 1 - d * visibility: 1 does not
            correct texels that a photo shows well; 0 is the paper's.
        opacity_gain: in [0, 1], factor of the opacity head's output; 1 is the paper's. Trained on frontal photos, the
            head turns the sides of heads transparent; 0 prevents that.
        along_normal: parts of the head whose Gaussians the five heads move along the surface's normal only; () is the
            paper's. The tangential axes differ from triangle to triangle, and smooth skin cracked at their edges.
    """

    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    image_size: int = 512
    dense_channels: int = 32
    style_channels: int = 256
    unet_channels: tuple[int, ...] = (16, 48, 96, 192, 256)
    uv_channels: int = 32
    hidden_channels: int = 64
    color_channels: int = 3
    visibility_damping: float = 1.0
    opacity_gain: float = 0.0
    along_normal: tuple[str, ...] = ("face",)

    def __post_init__(self) -> None:
        _check_sizes(self, {})
        if not (isinstance(self.along_normal, tuple) and all(isinstance(part, str) for part in self.along_normal)):
            raise InputError(f"The network's along_normal is {self.along_normal!r}; give names of parts of the head.")
        for name in ("visibility_damping", "opacity_gain"):
            value = getattr(self, name)
            if not isinstance(value, (int, float)) or not 0.0 <= value <= 1.0:
                raise InputError(f"The network's {name} is {value!r}; give a number from 0 to 1.")
        if self.image_size > _MAX_PICTURE:
            raise InputError(f"The network's image_size is {self.image_size}; give at most {_MAX_PICTURE} pixels.")
        if self.color_channels < 3:
            raise InputError(f"The network has {self.color_channels} colour channels; give at least 3.")

    @classmethod
    def small(cls) -> NetworkConfig:
        """With a convolutional encoder; at most 20 million parameters, 40 MB in half precision."""
        return cls()

    @classmethod
    def paper(cls, encoder: str = "facebook/dinov3-vitb16-pretrain-lvd1689m") -> NetworkConfig:
        """With a frozen DINOv3 ViT-B/16, which is gated on the Hub; ``encoder`` may name another DINOv2 or DINOv3."""
        return cls(
            encoder=EncoderConfig(kind="transformers", name=encoder, frozen=True),
            dense_channels=128,
            style_channels=512,
            unet_channels=(64, 128, 256, 512, 512),
            hidden_channels=128,
            color_channels=32,
            visibility_damping=0.0,
            opacity_gain=1.0,
            along_normal=(),
        )


def _check_sizes(config: Any, lengths: dict[str, int]) -> None:
    """Check that sizes are whole numbers in range, and lists as long as ``lengths`` gives by name.

    Raises:
        InputError: a size is not.
    """
    for entry in fields(config):
        value = getattr(config, entry.name)
        alone = not isinstance(entry.default, tuple)
        defaults = entry.default if isinstance(entry.default, tuple) else (entry.default,)
        if any(type(size) is not int for size in defaults):
            continue
        sizes = (value,) if alone else value
        length = 1 if alone else lengths.get(entry.name)
        whole = isinstance(sizes, tuple) and all(type(size) is int and 1 <= size <= _MAX_SIZE for size in sizes)
        if not whole or not sizes or (length is not None and len(sizes) != length):
            wanted = "a whole number" if alone else f"{length or 'some'} whole numbers"
            raise InputError(f"The network's {entry.name} is {value!r}; give {wanted} from 1 to {_MAX_SIZE}.")
