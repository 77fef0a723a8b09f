"""How well the identity network tells people apart, on the London Set; docs/results/tracking.md has the figures.

PYTHONPATH=. python benchmarks/identity.py --photos ../shared/data/photos [--original sface.onnx]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from spatialavatar.media import read_image
from spatialavatar.tracking.identity import SAME_PERSON, IdentityEmbedder
from spatialavatar.tracking.networks import Networks
from spatialavatar.tracking.runtimes import OnnxNetwork


def embeddings(embedder: IdentityEmbedder, faces: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    return np.stack([embedder.embed(*face) for face in faces])


def rates(first: np.ndarray, second: np.ndarray) -> None:
    cosines = first @ second.T
    same, other = np.diag(cosines), cosines[~np.eye(len(cosines), dtype=bool)]
    print(f"same person, {len(same)} pairs: mean {same.mean():.4f}, least {same.min():.4f}")
    print(f"others, {len(other)} pairs: mean {other.mean():.4f}, largest {other.max():.4f}")
    print(f"rank 1: {(cosines.argmax(1) == np.arange(len(cosines))).mean():.4f}")
    for threshold in (0.3, 0.363, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, SAME_PERSON):
        missed, alarm = (other >= threshold).mean(), (same < threshold).mean()
        print(f"threshold {threshold:.3f}: others taken for one {missed:.5f}, one taken for two {alarm:.5f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--photos", type=Path, required=True, help="london_NNN_neutral.jpg and _smiling.jpg")
    parser.add_argument("--original", type=Path, help="the network in single precision, to compare with")
    options = parser.parse_args()
    networks = Networks(threads=2)
    faces = []
    for path in sorted(options.photos.glob("london_*_neutral.jpg")):
        pair = [read_image(path.with_name(path.name.replace("neutral", kind))) for kind in ("neutral", "smiling")]
        found = [networks.landmarker.locate(image) for image in pair]
        if any(face is None for face in found):
            print(f"{path.name}: no face")
            continue
        faces.append([(image, face.points) for image, face in zip(pair, found) if face is not None])
    first, second = (embeddings(networks.identity, [face[side] for face in faces]) for side in (0, 1))
    rates(first, second)
    if options.original:
        exact = IdentityEmbedder()
        exact._network = OnnxNetwork(options.original)
        cosines = (first * embeddings(exact, [face[0] for face in faces])).sum(1)
        print(f"half against single precision: least cosine {cosines.min():.6f}")


if __name__ == "__main__":
    main()
