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
from spatialavatar.tensor_files import read_tensors, write_tensors

NETWORK_FILE = "network.safetensors"
NETWORK_FORMAT = "spatialavatar.network"
NETWORK_VERSION = 1

_NAMED = 3
"""How many of a file's faults a sentence names."""


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
        raise InputError(f"The network's {_listed(broken)} hold values that are not finite; train it again.")
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
        FormatError: it is damaged, of another version, or does not fit the head model, layout or configuration.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingAssetError(
            f"The model has a network by its configuration, but {path} is not there; fetch the model again."
        )
    tensors, header = read_tensors(path, f"{path.name} holds no weights or is damaged; fetch the model again.")
    _check_header(path.name, header, head, layout)
    network = CorrectionNetwork(config, head, layout)
    own = _own(network)
    _check_tensors(path.name, tensors, own)
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
    """Hold what the file says of itself against the head model and layout in use.

    Raises:
        FormatError: it is no network's, of another version, or was trained for others.
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


def _check_tensors(name: str, tensors: dict[str, Tensor], own: dict[str, Tensor]) -> None:
    """Hold the file's tensors against the network's.

    Raises:
        FormatError: one is missing, unknown, of another shape, or not finite.
    """
    faults = [f"lacks {key}" for key in own if key not in tensors]
    faults += [f"has the unknown {key}" for key in tensors if key not in own]
    for key, value in own.items():
        if key in tensors and tensors[key].shape != value.shape:
            faults.append(f"has {key} of shape {tuple(tensors[key].shape)} instead of {tuple(value.shape)}")
        elif key in tensors and not bool(torch.isfinite(tensors[key]).all()):
            faults.append(f"has values in {key} that are not finite")
    if faults:
        raise FormatError(f"{name} {_listed(faults)}; use the configuration it was trained with, or fetch it again.")


def _listed(names: list[str]) -> str:
    """The first few, and how many more."""
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")
