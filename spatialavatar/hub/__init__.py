"""The Hugging Face Hub and the weights folder.

Modules, each of which imports only those above it:

* ``constants``: names and identifiers;
* ``integrity``: reads ``MANIFEST.json`` and verifies a folder against it;
* ``transfer``: fetches and pushes folders;
* ``weights``: finds the shipped files and their licences;
* ``pretrained``: ``from_pretrained``, ``save_pretrained`` and ``push_to_hub`` of the model and the avatar;
* ``cards``: the text of model and avatar cards;
* ``papers``: the Hub's links of a paper, and the models among them.
"""

from spatialavatar.hub.constants import DEFAULT_MODEL_ID, DEFAULT_REVISION
from spatialavatar.hub.integrity import MANIFEST_NAME, read_manifest, verify
from spatialavatar.hub.pretrained import Pretrained
from spatialavatar.hub.transfer import fetch, push
from spatialavatar.hub.weights import WEIGHTS_VARIABLE, asset, licences, manifest, weights_dir

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
