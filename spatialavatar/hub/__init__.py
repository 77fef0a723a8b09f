"""Everything that has to do with the Hugging Face Hub, and with where the weights lie.

``weights`` finds the shipped files and their licences, ``transfer`` fetches and pushes folders, ``pretrained`` gives
the model and the avatar their ``from_pretrained``, ``save_pretrained`` and ``push_to_hub``, ``cards`` writes their
cards, and ``papers`` goes from a paper to a model.
"""

from spatialavatar.hub.pretrained import Pretrained
from spatialavatar.hub.transfer import fetch, push, verify
from spatialavatar.hub.weights import (
    DEFAULT_MODEL_ID,
    DEFAULT_REVISION,
    MANIFEST_NAME,
    WEIGHTS_VARIABLE,
    asset,
    licences,
    manifest,
    read_manifest,
    weights_dir,
)

__all__ = [
    "DEFAULT_MODEL_ID",
    "DEFAULT_REVISION",
    "MANIFEST_NAME",
    "WEIGHTS_VARIABLE",
    "Pretrained",
    "asset",
    "fetch",
    "licences",
    "manifest",
    "push",
    "read_manifest",
    "verify",
    "weights_dir",
]
