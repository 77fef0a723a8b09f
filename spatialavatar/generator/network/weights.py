"""The network's weights as one safetensors file; its header names the head model and layout they were trained for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from spatialavatar.errors import FormatError
from spatialavatar.generator.network.config import NetworkConfig
from spatialavatar.generator.network.model import CorrectionNetwork
from spatialavatar.generator.weight_files import ADVICE, WeightFormat, weight_schema
from spatialavatar.head import HeadModel, UVLayout

NETWORK_FILE = "network.safetensors"
NETWORK_FORMAT = "spatialavatar.network"
NETWORK_VERSION = 1

_FORMAT = WeightFormat("network", NETWORK_FORMAT, NETWORK_VERSION)


def save_network(
    network: CorrectionNetwork, path: str | Path, head: HeadModel, layout: UVLayout, *, half: bool = True
) -> Path:
    """Write the weights; the file appears whole or not at all.

    A frozen transformer's stay out: they are its publisher's, and come from the Hub when the network is built.

    Args:
        network: whose weights.
        path: the file.
        head: the head model that the network was trained with.
        layout: the UV layout that it was trained with.
        half: in half precision, else in single.

    Raises:
        InputError: a weight is not finite, or too large for half precision.
        OutputError: the file cannot be written.
    """
    stored = {name: value.half() if half else value.float() for name, value in _own(network).items()}
    facts = {
        "head": head.id,
        "expressions": head.expression_count,
        "layout": layout.id,
        "resolution": layout.resolution,
    }
    return _FORMAT.save(stored, path, facts)


def load_network(path: str | Path, config: NetworkConfig, head: HeadModel, layout: UVLayout) -> CorrectionNetwork:
    """Build the network of a configuration with the weights of a file, ready to be used (not in training mode).

    Args:
        path: what :func:`save_network` wrote.
        config: of the network.
        head: the head model in use.
        layout: its UV layout.

    Raises:
        MissingAssetError: there is no such file, or the encoder's library or weights are missing.
        FormatError: it is damaged, of an unsupported version, or does not fit head model, layout or configuration.
    """
    file = _FORMAT.open(path)
    _check_training(Path(path).name, file.header, head, layout)
    if (
        config.encoder.kind == "pyramid"
    ):  # a network of this configuration can be larger than memory, and its file small
        with torch.device("meta"):
            file.check(weight_schema(_own(CorrectionNetwork(config, head, layout))), advice=ADVICE)
    network = CorrectionNetwork(config, head, layout)
    own = _own(network)
    tensors = file.read(weight_schema(own), advice=ADVICE)
    with torch.no_grad():
        for name, value in own.items():
            value.copy_(tensors[name])
    return network.eval()


def _own(network: CorrectionNetwork) -> dict[str, Tensor]:
    """The tensors that the file holds, by name, sharing their memory with the network."""
    encoder = network.config.encoder
    borrowed = encoder.kind == "transformers" and encoder.frozen
    return {
        name: value for name, value in network.state_dict().items() if not (borrowed and name.startswith("encoder."))
    }


def _check_training(name: str, header: dict[str, Any], head: HeadModel, layout: UVLayout) -> None:
    """Compare the head model and layout of the training with those in use.

    Raises:
        FormatError: the head model or the layout differs.
    """
    if (header.get("head"), header.get("expressions")) != (head.id, head.expression_count):
        raise FormatError(
            f"{name} was trained on the head model {header.get('head')!r} with {header.get('expressions')} "
            f"expressions, not on {head.id!r} with {head.expression_count}; use the head model it was trained on."
        )
    if header.get("layout") != layout.id:
        raise FormatError(
            f"{name} was trained on a UV layout of {header.get('resolution')} texels a side ({header.get('layout')}), "
            f"the model's has {layout.resolution} ({layout.id}); use the configuration it was trained with."
        )
