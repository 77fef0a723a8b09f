"""The network's weights as one safetensors file; its header names the head model and layout they were trained for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from spatialavatar.errors import FormatError, InputError, MissingAssetError
from spatialavatar.generator.network.config import NetworkConfig
from spatialavatar.generator.network.model import CorrectionNetwork
from spatialavatar.head import HeadModel, UVLayout
from spatialavatar.tensor_files import Schema, TensorFile, bounded, listed, write_tensors

NETWORK_FILE = "network.safetensors"
NETWORK_FORMAT = "spatialavatar.network"
NETWORK_VERSION = 1

_ADVICE = "use the configuration it was trained with, or fetch it again"
_LARGEST = 6e4  # of a weight; what half precision can store


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
    broken = [name for name, value in stored.items() if not bool(torch.isfinite(value).all())]
    if broken:
        raise InputError(f"The network's {listed(broken)} hold values that are not finite; train it again.")
    header = {
        "format": NETWORK_FORMAT,
        "version": NETWORK_VERSION,
        "head": head.id,
        "expressions": head.expression_count,
        "layout": layout.id,
        "resolution": layout.resolution,
    }
    write_tensors(path, stored, header)
    return Path(path)


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
    path = Path(path)
    if not path.is_file():
        raise MissingAssetError(
            f"The model has a network by its configuration, but {path} is not there; fetch the model again."
        )
    file = TensorFile(path, f"{path.name} holds no weights or is damaged; fetch the model again.")
    _check_header(path.name, file.header, head, layout)
    if (
        config.encoder.kind == "pyramid"
    ):  # a network of this configuration can be larger than memory, and its file small
        with torch.device("meta"):
            file.check(_schema(_own(CorrectionNetwork(config, head, layout))), advice=_ADVICE)
    network = CorrectionNetwork(config, head, layout)
    own = _own(network)
    tensors = file.read(_schema(own), advice=_ADVICE)
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


def _check_header(name: str, header: dict[str, Any], head: HeadModel, layout: UVLayout) -> None:
    """Compare the file's metadata with the head model and layout in use.

    Raises:
        FormatError: it is not a network's, of an unsupported version, or does not fit head model or layout.
    """
    if header.get("format") != NETWORK_FORMAT:
        raise FormatError(f"{name} is a safetensors file but not a network's weights; fetch the model again.")
    if header.get("version") != NETWORK_VERSION:
        raise FormatError(
            f"{name} is of version {header.get('version')}, this release reads version {NETWORK_VERSION}; update the "
            "package."
        )
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


def _schema(own: dict[str, Tensor]) -> Schema:
    """The schema of the file of a network with these tensors."""
    return {name: bounded(_LARGEST, *value.shape) for name, value in own.items()}
