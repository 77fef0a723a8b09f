"""A small model to save, and the parts of a safetensors file."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from spatialavatar.generator import GeneratorConfig, SpatialAvatar
from spatialavatar.generator.network import NetworkConfig

from .ball_head import make_ball_head


def small_model() -> SpatialAvatar:
    network = replace(NetworkConfig.small(), unet_channels=(4, 8), image_size=64)
    return SpatialAvatar(GeneratorConfig(resolution=48, network=network), make_ball_head())


def taken_apart_bytes(data: bytes) -> tuple[dict[str, Any], dict[str, bytes]]:
    """The list of a file's content, and the content of each tensor."""
    length = int.from_bytes(data[:8], "little")
    listing, rest = json.loads(data[8 : 8 + length]), data[8 + length :]
    return listing, {
        name: rest[slice(*entry["data_offsets"])] for name, entry in listing.items() if name != "__metadata__"
    }
