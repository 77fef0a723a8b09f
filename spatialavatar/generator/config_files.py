"""Conversion of configuration tables of earlier releases to the current layout.

Before version 3 of ``config.json`` the base's constants were one flat table, here as in a training configuration's
``[base]``, and ``visibility_damping`` of the network was called ``restraint``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Final

from spatialavatar.generator.config import InteriorConfig

FLAT_KEYS: Final = {
    "zbuffer_scale": ("visibility", "zbuffer_scale"),
    "depth_tolerance": ("visibility", "depth_tolerance"),
    "grazing_tolerance": ("visibility", "grazing_tolerance"),
    "facing": ("visibility", "facing"),
    "hair_blur": ("visibility", "hair_blur"),
    "hair_facing": ("visibility", "hair_facing"),
    "matte_blur": ("visibility", "matte_blur"),
    "matte": ("visibility", "matte"),
    "border": ("visibility", "border"),
    "opening_margin": ("visibility", "opening_margin"),
    "carve_margin": ("carving", "margin"),
    "neighbours": ("graph", "neighbours"),
    "normal_length": ("graph", "normal_length"),
    "screening": ("fill", "screening"),
    "keep": ("fill", "keep"),
    "mirror_screening": ("light", "screening"),
    "mirror_clip": ("light", "limit"),
    "light_decay": ("light", "decay"),
    "mirror_confidence": ("mirror", "confidence"),
    "lid_darkness": ("fill", "lid_darkness"),
    "hair_pull": ("fill", "hair_pull"),
    "border_rounds": ("fill", "border_rounds"),
    "spacing_cap": ("surfels", "spacing_cap"),
    "smooth_spacing_cap": ("surfels", "smooth_spacing_cap"),
    "anisotropy": ("surfels", "anisotropy"),
    "neighbour_limit": ("surfels", "neighbour_limit"),
    "tangential": ("surfels", "tangential"),
    "thickness": ("surfels", "thickness"),
    "thickness_cap": ("surfels", "thickness_cap"),
    "opacity": ("surfels", "opacity"),
    "rim_fade": ("surfels", "rim_fade"),
    "silhouette_rounds": ("silhouette", "rounds"),
    "silhouette_facing": ("silhouette", "facing"),
    "silhouette_step": ("silhouette", "step"),
    "silhouette_reach": ("silhouette", "reach"),
    "silhouette_limits": ("silhouette", "limits"),
    "face_mask": ("silhouette", "face_mask"),
    "normal_smoothing": ("silhouette", "normal_smoothing"),
    "bending_length": ("silhouette", "bending_length"),
    "data_weight": ("silhouette", "data_weight"),
    "anchor_weight": ("silhouette", "anchor_weight"),
    "bare_anchor": ("silhouette", "bare_anchor"),
    "sharpening_rounds": ("sharpening", "rounds"),
    "sharpening_step": ("sharpening", "step"),
    "sharpening_limit": ("sharpening", "limit"),
}
"""Group and name in ``BaseConfig`` of each key of the flat table."""

_LATER: Final = {
    "visibility": {"occluder_margin": 0.0, "occluder_depth": (0.002, 0.006), "occluder_yaw": (12.0, 25.0)},
    "silhouette": {"symmetry": 0.0},
}
"""Constants added in version 3, with the values that reproduce earlier models."""

_AFTER_3: Final = {
    "visibility": {"rim_margin": 0.0},
    "mirror": {"facing": (-1.0, -0.9), "seam_rounds": 0, "seam": (0.3, 1.0)},
}
"""The same of constants that came after it."""

_NETWORK_KEYS: Final = {"restraint": "visibility_damping"}


def upgraded_base(values: Any) -> Any:
    """A table of the base's constants with the flat keys of earlier releases moved to their groups.

    Other keys, and what is not a table, are returned as they are for the reader to refuse.
    """
    if not isinstance(values, Mapping):
        return values
    upgraded = {key: dict(value) if isinstance(value, Mapping) else value for key, value in values.items()}
    for key in [key for key in values if key in FLAT_KEYS]:
        group, name = FLAT_KEYS[key]
        table = upgraded.setdefault(group, {})
        if isinstance(table, dict):
            table.setdefault(name, upgraded.pop(key))
    return upgraded


def completed_base(values: Any) -> Any:
    """A model's flat table as today's, with the constants that were not configurable when it was saved."""
    upgraded = upgraded_base(values)
    if isinstance(upgraded, dict):
        upgraded.setdefault("interior", asdict(InteriorConfig()))
    return with_later_constants(_with(upgraded, _LATER))


def with_later_constants(values: Any) -> Any:
    """A table of the base's constants with those that came after version 3; what is not a table is returned."""
    return _with(values, _AFTER_3)


def _with(values: Any, additions: Mapping[str, Mapping[str, Any]]) -> Any:
    """A table of groups with those additions that a group lacks."""
    if not isinstance(values, Mapping):
        return values
    return {
        name: {**additions.get(name, {}), **group} if isinstance(group, Mapping) else group
        for name, group in values.items()
    }


def upgraded_network(values: Any) -> Any:
    """A table of the network's sizes with the keys of earlier releases renamed; what is not a table is returned."""
    if not isinstance(values, Mapping):
        return values
    return {_NETWORK_KEYS.get(key, key): value for key, value in values.items()}
