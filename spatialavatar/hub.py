"""Where the weights lie, how they are fetched, and under which licences they come.

A file is looked for in this order:

1. the folder that the environment variable ``SPATIALAVATAR_WEIGHTS`` names;
2. ``weights/`` beside the package (a clone of the repository);
3. ``_weights/`` inside the package (an installed wheel that carries them);
4. the Hub: a snapshot of ``MODEL_ID`` at ``MODEL_REVISION`` (both may be set in the environment).

The first of these that holds a manifest is used; nothing is fetched as long as one of the first three does.
"""

from __future__ import annotations

import functools
import json
import os
from pathlib import Path
from typing import Any, Final

from spatialavatar.errors import FormatError, MissingAssetError

WEIGHTS_VARIABLE: Final = "SPATIALAVATAR_WEIGHTS"
MANIFEST_NAME: Final = "MANIFEST.json"
DEFAULT_MODEL_ID: Final = "SpatialAvatar/SpatialAvatar-0"
DEFAULT_REVISION: Final = "v0.1.0"

_PACKAGE: Final = Path(__file__).resolve().parent


def weights_dir() -> Path:
    """The folder that holds the default model, its head, its networks and their manifest.

    Raises:
        MissingAssetError: where the named folder is not there, or nothing is on disk and the Hub is out of reach.
    """
    named = os.environ.get(WEIGHTS_VARIABLE)
    if named:
        folder = Path(named).expanduser()
        if not folder.is_dir():
            raise MissingAssetError(f"{WEIGHTS_VARIABLE} names {folder}, which is not a folder; correct or unset it.")
        return folder
    for folder in (_PACKAGE.parent / "weights", _PACKAGE / "_weights"):
        if (folder / MANIFEST_NAME).is_file():
            return folder
    model_id = os.environ.get("MODEL_ID", DEFAULT_MODEL_ID)
    return _snapshot(model_id, os.environ.get("MODEL_REVISION", DEFAULT_REVISION))


def asset(name: str) -> Path:
    """The path of one weight file.

    Args:
        name: path inside the weights folder, with forward slashes, for instance ``networks/modnet.onnx``.

    Raises:
        MissingAssetError: where the file is not there.
    """
    folder = weights_dir()
    path = folder / name
    if not path.exists():
        raise MissingAssetError(
            f"The weight file {name} is missing from {folder}; clone the repository again or point "
            f"{WEIGHTS_VARIABLE} to a complete weights folder."
        )
    return path


def manifest() -> list[dict[str, Any]]:
    """The entries of the manifest: one dict per shipped file, with path, SHA-256, bytes, licence and source.

    Raises:
        MissingAssetError: where there is no manifest.
        FormatError: where it is not readable as one.
    """
    path = asset(MANIFEST_NAME)
    try:
        files = json.loads(path.read_text(encoding="utf-8"))["files"]
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise FormatError(f"The manifest {path} is damaged; fetch the weights folder again.") from error
    return list(files)


def licences() -> list[dict[str, str]]:
    """What a person must know of each shipped file: path, what it is, licence, source and where the text lies."""
    keys = ("path", "what", "licence", "licence_text", "source")
    return [{key: str(entry.get(key, "")) for key in keys} for entry in manifest()]


def download(repo_id: str, filename: str, *, revision: str | None = None, token: str | bool | None = None) -> Path:
    """One file of a Hub repository, from the cache where it has been fetched before.

    Raises:
        MissingAssetError: where it cannot be fetched.
    """
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(repo_id, filename, revision=revision, token=token))
    except (OSError, ValueError) as error:  # the Hub's HTTP errors are OSErrors, a malformed id is a ValueError
        raise MissingAssetError(
            f"{repo_id} is neither a folder nor a Hub repository from which {filename} can be fetched; "
            "check the name and the connection."
        ) from error


@functools.lru_cache(maxsize=4)
def _snapshot(model_id: str, revision: str) -> Path:
    """Fetch (or find in the cache) the weights of one revision from the Hub."""
    advice = f"clone the repository with its weights folder, or set {WEIGHTS_VARIABLE} to one"
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise MissingAssetError(f"No weights are on disk and huggingface_hub is not installed; {advice}.") from error
    try:
        folder = Path(snapshot_download(model_id, revision=revision))
    except (OSError, ValueError) as error:  # the Hub's HTTP errors are OSErrors, a malformed id is a ValueError
        raise MissingAssetError(f"No weights are on disk and {model_id} cannot be fetched; {advice}.") from error
    if not (folder / MANIFEST_NAME).is_file():  # offline, a snapshot of which only some files were ever fetched
        raise MissingAssetError(f"The cached copy of {model_id} is incomplete; {advice}.")
    return folder
