"""Facts about an installation and about an avatar file, for users and for bug reports."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

import torch

from spatialavatar import __version__
from spatialavatar.avatar import Avatar, default_head
from spatialavatar.errors import SpatialAvatarError
from spatialavatar.hub import weights_dir
from spatialavatar.render import why_unusable


def installation_facts() -> dict[str, Any]:
    """Return versions, device, renderers and the folder of the weights, JSON-ready.

    A missing part is described in a sentence and raises no error, because this also runs on broken installations.
    """
    facts: dict[str, Any] = {
        "version": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(terse=True),
        "torch": torch.__version__,
        "cpu_cores": os.cpu_count(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
        "renderers": {
            "cpu": "usable",
            "gsplat": why_unusable("gsplat") or "usable, for avatars on the GPU",
            "triton": why_unusable("triton") or "usable, for avatars on a GPU where gsplat is not",
        },
    }
    try:
        facts["weights"] = str(weights_dir())
        head = default_head()
        facts["head"] = {
            "id": head.id,
            "vertices": len(head.template),
            "shape_coefficients": head.shape_count,
            "expression_units": head.expression_count,
            "licence": str(head.info.get("licence", "")),
        }
    except SpatialAvatarError as error:
        facts["weights"] = str(error)
    return facts


def avatar_facts(path: str | Path) -> dict[str, Any]:
    """Return facts of an avatar file, JSON-ready.

    Raises:
        MissingAssetError: the file does not exist.
        FormatError: the file is not an avatar, or belongs to another head model.
    """
    path = Path(path)
    avatar = Avatar.load(path)
    facts: dict[str, Any] = {
        "avatar": path.name,
        "bytes": path.stat().st_size,
        "head": avatar.head.id,
        "layout": avatar.layout.id,
        "gaussians": len(avatar.gaussians),
        "camera": [avatar.camera.width, avatar.camera.height],
    }
    return with_info(facts, avatar)


def with_info(facts: dict[str, Any], avatar: Avatar) -> dict[str, Any]:
    """Append the entries of an avatar's ``info`` to facts; they are untrusted, so they replace none."""
    return facts | {key: value for key, value in avatar.info.items() if value is not None and key not in facts}
