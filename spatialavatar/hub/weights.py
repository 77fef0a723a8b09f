"""The location of the weights, and their licences.

A weights folder is searched in this order; nothing is fetched if it is found on disk:

1. the folder that the environment variable ``SPATIALAVATAR_WEIGHTS`` names;
2. the Hub repository that ``MODEL_ID`` names, at ``MODEL_REVISION``: for other weights than the shipped ones.
   If it cannot be fetched, the next ones are used, with a warning;
3. ``weights/`` next to the package (a clone of the repository);
4. ``_weights/`` inside the package (of an installed wheel);
5. the Hub: the default model at the revision that belongs to this release.
"""

from __future__ import annotations

import functools
import os
import warnings
from pathlib import Path
from typing import Any, Final

from spatialavatar.errors import FormatError, MissingAssetError
from spatialavatar.hub.constants import DEFAULT_MODEL_ID, DEFAULT_REVISION
from spatialavatar.hub.integrity import MANIFEST_NAME, read_manifest
from spatialavatar.hub.transfer import fetch

WEIGHTS_VARIABLE: Final = "SPATIALAVATAR_WEIGHTS"

_PACKAGE: Final = Path(__file__).resolve().parents[1]


def weights_dir() -> Path:
    """The folder that holds the default model, its head, its networks and their manifest.

    Raises:
        MissingAssetError: where the named folder is not there, or nothing is on disk and the Hub is out of reach.
        FormatError: the fetched files differ from their manifest.
    """
    named = os.environ.get(WEIGHTS_VARIABLE)
    if named:
        folder = Path(named).expanduser()
        if not folder.is_dir():
            raise MissingAssetError(f"{WEIGHTS_VARIABLE} names {folder}, which is not a folder; correct or unset it.")
        return folder
    shipped = _shipped()
    model_id = os.environ.get("MODEL_ID")
    if model_id:
        return _snapshot_or(shipped, model_id, os.environ.get("MODEL_REVISION"))
    try:
        return shipped or _snapshot(DEFAULT_MODEL_ID, DEFAULT_REVISION)
    except MissingAssetError as error:
        raise MissingAssetError(
            f"No weights are on disk and {DEFAULT_MODEL_ID} cannot be fetched; clone the repository with its weights "
            f"folder, or set {WEIGHTS_VARIABLE} to one."
        ) from error


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
        MissingAssetError: there is no manifest. FormatError: the manifest cannot be parsed.
    """
    return read_manifest(asset(MANIFEST_NAME))


def licences() -> list[dict[str, str]]:
    """Path, description, licence, licence text and source of each shipped file."""
    keys = ("path", "what", "licence", "licence_text", "source")
    return [{key: str(entry.get(key, "")) for key in keys} for entry in manifest()]


def _shipped() -> Path | None:
    """The weights next to or inside the package."""
    for folder in (_PACKAGE.parent / "weights", _PACKAGE / "_weights"):
        if (folder / MANIFEST_NAME).is_file():
            return folder
    return None


@functools.lru_cache(maxsize=4)
def _snapshot_or(shipped: Path | None, model_id: str, revision: str | None) -> Path:
    """The weights of the Hub, or else the shipped ones; cached until the process ends."""
    try:
        return _snapshot(model_id, revision)
    except (MissingAssetError, FormatError) as error:
        if shipped is None:
            raise
        warnings.warn(f"{error} The weights in {shipped} are used instead.", stacklevel=3)
        return shipped


@functools.lru_cache(maxsize=4)
def _snapshot(model_id: str, revision: str | None) -> Path:
    """Fetch (or find in the cache) the weights of one revision from the Hub; once per process."""
    folder = fetch(model_id, revision=revision)
    if not (folder / MANIFEST_NAME).is_file():
        raise MissingAssetError(
            f"{model_id} has no {MANIFEST_NAME}, so it is not a weights repository; give MODEL_ID another one, or set "
            f"{WEIGHTS_VARIABLE} to a folder."
        )
    return folder
