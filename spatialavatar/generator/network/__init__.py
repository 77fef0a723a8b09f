"""Stage 1's network, which corrects the base (method section 2).

Its last layers start at zero, so that an untrained network changes no bit of the base.
"""

from spatialavatar.generator.network.config import EncoderConfig, NetworkConfig
from spatialavatar.generator.network.corrections import Corrections, apply_corrections
from spatialavatar.generator.network.model import (
    CorrectionNetwork,
    NetworkInputs,
    NetworkOutput,
    UVFeature,
    network_inputs,
)
from spatialavatar.generator.network.weights import load_network, save_network

__all__ = [
    "CorrectionNetwork",
    "Corrections",
    "EncoderConfig",
    "NetworkConfig",
    "NetworkInputs",
    "NetworkOutput",
    "UVFeature",
    "apply_corrections",
    "load_network",
    "network_inputs",
    "save_network",
]
