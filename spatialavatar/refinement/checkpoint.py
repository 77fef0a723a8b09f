"""Checkpoints: everything that a killed run needs to go on as if it had not been killed, in one safetensors file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from spatialavatar.avatar import Avatar
from spatialavatar.errors import FormatError
from spatialavatar.records import Track
from spatialavatar.refinement.config import RefineConfig
from spatialavatar.tensor_files import read_tensors, write_tensors

CHECKPOINT_FORMAT = "spatialavatar.refinement"
CHECKPOINT_VERSION = 2


def run_id(avatar: Avatar, track: Track, config: RefineConfig, seed: int) -> str:
    """Hash of all that determines a run; a checkpoint only continues the run of the same id."""
    digest = hashlib.sha256(json.dumps([avatar.layout.id, config.as_dict(), seed, len(track)]).encode())
    gaussians = avatar.gaussians
    tensors = [gaussians.means, gaussians.scales, gaussians.opacities, gaussians.colors, track.crop]
    if avatar.residual is not None:
        tensors += avatar.residual.tensors().values()
    if track.images is not None:
        tensors.append(track.images[:: max(1, len(track) // 16), ::8, ::8])
    for tensor in tensors:
        if tensor is not None:
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def save_checkpoint(path: str | Path, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    """Write ``tensors`` and JSON ``facts``; the file appears whole or not at all.

    Raises:
        OutputError: the place cannot be written, or the disk is full.
    """
    write_tensors(path, tensors, {"format": CHECKPOINT_FORMAT, "version": CHECKPOINT_VERSION, **facts})


def load_checkpoint(path: str | Path, run: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what :func:`save_checkpoint` wrote for the run of this id.

    Raises:
        FormatError: it is damaged, or of another run.
    """
    path = Path(path)
    damaged = f"The checkpoint {path.name} is damaged; delete it and refine again."
    tensors, facts = read_tensors(path, damaged)
    if facts.get("format") != CHECKPOINT_FORMAT or facts.get("version") != CHECKPOINT_VERSION:
        raise FormatError(f"{path.name} is no checkpoint of this release; delete it and refine again.")
    if facts.get("run") != run:
        raise FormatError(
            f"The checkpoint {path.name} belongs to another avatar, video or setting; give those of the run that it "
            "is to continue, or delete it."
        )
    return tensors, facts


def optimiser_tensors(prefix: str, optimiser: torch.optim.Optimizer, names: Sequence[str]) -> dict[str, Tensor]:
    """The moments and step counts of an optimiser whose groups hold one tensor each, called ``names``."""
    found = {}
    for name, group in zip(names, optimiser.param_groups):
        for key, value in optimiser.state.get(group["params"][0], {}).items():
            found[f"{prefix}.{name}.{key}"] = torch.as_tensor(value)
    return found


def restore_optimiser(
    prefix: str, optimiser: torch.optim.Optimizer, names: Sequence[str], tensors: Mapping[str, Tensor]
) -> None:
    """Put back what :func:`optimiser_tensors` took out."""
    for name, group in zip(names, optimiser.param_groups):
        parameter, start = group["params"][0], f"{prefix}.{name}."
        state = {key[len(start) :]: value for key, value in tensors.items() if key.startswith(start)}
        for key, value in state.items():
            counter = key == "step"
            if counter and isinstance(optimiser, torch.optim.SparseAdam):
                optimiser.state[parameter][key] = int(value)
            else:
                optimiser.state[parameter][key] = value.clone().to(parameter.device)
