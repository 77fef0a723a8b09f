"""``MANIFEST.json``: the files of a weights folder, with size, SHA-256, licence and source, and how to verify them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from typing import Any, Final

from spatialavatar.errors import FormatError
from spatialavatar.strict_json import parse_json

MANIFEST_NAME: Final = "MANIFEST.json"
_MAX_BYTES: Final = 16 << 20


def read_manifest(path: Path) -> list[dict[str, Any]]:
    """Read the entries of the manifest at ``path``.

    Raises:
        FormatError: it is not a manifest or is damaged.
    """
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise ValueError("it is too large")
        return [dict(entry) for entry in parse_json(path.read_bytes())["files"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise FormatError(f"The manifest {path} is damaged; fetch the weights folder again.") from error


def verify(folder: Path, name: str, patterns: Sequence[str] | None = None) -> None:
    """Compare the size and SHA-256 of every file in the folder's manifest; without a manifest, do nothing.

    Args:
        folder: contains the files and, optionally, a MANIFEST.json.
        name: the folder's name in error messages.
        patterns: only listed files that match one of these are compared, since only they were fetched; None for all.

    Raises:
        FormatError: a listed file is missing or differs, or the manifest cannot be read.
    """
    if not (folder / MANIFEST_NAME).is_file():
        return
    again = "fetch it again with force_download=True, or tell whoever published it."
    for entry in read_manifest(folder / MANIFEST_NAME):
        listed = PurePosixPath(str(entry.get("path", "")).removeprefix("weights/"))
        if listed.is_absolute() or ".." in listed.parts or "\0" in str(listed):
            raise FormatError(f"The manifest of {name} lists {listed}, which lies outside of it; do not use it.")
        if patterns is not None and not any(fnmatch(str(listed), pattern) for pattern in patterns):
            continue
        path = folder / listed
        if not path.is_file():
            raise FormatError(f"{name} lacks {listed}, which its manifest lists; {again}")
        if path.stat().st_size != entry.get("bytes") or sha256(path) != entry.get("sha256"):
            raise FormatError(f"{listed} of {name} is not the file that its manifest lists (size or SHA-256); {again}")


def sha256(path: Path) -> str:
    """The SHA-256 of a file, as hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
