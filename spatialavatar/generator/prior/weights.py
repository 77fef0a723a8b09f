"""The prior's weights as one safetensors file; its header names the head model and layout they were trained for."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import torch

from spatialavatar.errors import FormatError, InputError, MissingAssetError
from spatialavatar.generator.prior.config import PriorConfig
from spatialavatar.generator.prior.head_prior import HeadPrior
from spatialavatar.generator.prior.network import PriorNetwork
from spatialavatar.head import HeadModel, UVLayout
from spatialavatar.tensor_files import TensorFile, bounded, listed, write_tensors

PRIOR_FILE: Final = "prior.safetensors"
PRIOR_FORMAT: Final = "spatialavatar.prior"
PRIOR_VERSION: Final = 1

_ADVICE: Final = "use the configuration it was trained with, or fetch it again"
_LARGEST: Final = 6e4  # of a weight; what half precision can store


def save_prior(network: PriorNetwork, path: str | Path, head: HeadModel, layout: UVLayout) -> Path:
    """Write the weights in half precision; the file appears whole or not at all.

    Args:
        network: whose weights.
        path: the file.
        head: the head model that the network was trained with.
        layout: the UV layout that it was trained with.

    Raises:
        InputError: a weight is not finite, or too large for half precision.
        OutputError: the file cannot be written.
    """
    stored = {name: value.half() for name, value in network.state_dict().items()}
    broken = [name for name, value in stored.items() if not bool(torch.isfinite(value).all())]
    if broken:
        raise InputError(f"The prior's {listed(broken)} hold values that are not finite; train it again.")
    header = {"format": PRIOR_FORMAT, "version": PRIOR_VERSION, "head": head.id, "layout": layout.id}
    write_tensors(path, stored, header)
    return Path(path)


def load_prior(path: str | Path, config: PriorConfig, head: HeadModel, layout: UVLayout) -> HeadPrior:
    """Build the prior of a configuration with the weights of a file.

    Args:
        path: what :func:`save_prior` wrote.
        config: of the network.
        head: the head model in use.
        layout: its UV layout.

    Raises:
        MissingAssetError: there is no such file.
        FormatError: it is damaged, of an unsupported version, or does not fit head model, layout or configuration.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingAssetError(
            f"The model has a prior by its configuration, but {path} is not there; fetch the model again."
        )
    file = TensorFile(path, f"{path.name} holds no weights or is damaged; fetch the model again.")
    header = file.header
    if header.get("format") != PRIOR_FORMAT:
        raise FormatError(f"{path.name} is a safetensors file but not a prior's weights; fetch the model again.")
    if header.get("version") != PRIOR_VERSION:
        raise FormatError(
            f"{path.name} is of version {header.get('version')}, this release reads version {PRIOR_VERSION}; update "
            "the package."
        )
    if (header.get("head"), header.get("layout")) != (head.id, layout.id):
        raise FormatError(f"{path.name} was trained on another head model or UV layout; use the one it was trained on.")
    with torch.device("meta"):
        own = PriorNetwork(config).state_dict()
    tensors = file.read({name: bounded(_LARGEST, *value.shape) for name, value in own.items()}, advice=_ADVICE)
    network = PriorNetwork(config)
    network.load_state_dict({name: value.float() for name, value in tensors.items()})
    return HeadPrior(network, head, layout)
