"""The prior's weights as one safetensors file; its header names the head model and layout they were trained for."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import torch

from spatialavatar.errors import FormatError
from spatialavatar.generator.prior.config import PriorConfig
from spatialavatar.generator.prior.head_prior import HeadPrior
from spatialavatar.generator.prior.network import PriorNetwork
from spatialavatar.generator.weight_files import ADVICE, WeightFormat, weight_schema
from spatialavatar.head import HeadModel, UVLayout

PRIOR_FILE: Final = "prior.safetensors"
PRIOR_FORMAT: Final = "spatialavatar.prior"
PRIOR_VERSION: Final = 1

_FORMAT: Final = WeightFormat("prior", PRIOR_FORMAT, PRIOR_VERSION)


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
    return _FORMAT.save(stored, path, {"head": head.id, "layout": layout.id})


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
    file = _FORMAT.open(path)
    if (file.header.get("head"), file.header.get("layout")) != (head.id, layout.id):
        raise FormatError(
            f"{Path(path).name} was trained on another head model or UV layout; use the one it was trained on."
        )
    with torch.device("meta"):
        own = PriorNetwork(config).state_dict()
    tensors = file.read(weight_schema(own), advice=ADVICE)
    network = PriorNetwork(config)
    network.load_state_dict({name: value.float() for name, value in tensors.items()})
    return HeadPrior(network, head, layout)
