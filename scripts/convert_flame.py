"""Convert a FLAME file of your own into a head folder that SpatialAvatar reads.

    python scripts/convert_flame.py generic_model.pkl --uv head_template.obj -o flame_head

Parts and the ARKit-52 map are transferred from the open head. The landmarks are detected in renderings of the head. The
result stays under FLAME's licence.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parent.parent)]

from open_head.landmarks import embed_landmarks  # noqa: E402

from spatialavatar.errors import OutputError, SpatialAvatarError  # noqa: E402
from spatialavatar.head import HeadModel, load_head  # noqa: E402
from spatialavatar.head.flame import load_flame  # noqa: E402
from spatialavatar.hub import asset  # noqa: E402
from spatialavatar.tracking.landmarker import FaceLandmarker  # noqa: E402


def convert(arguments: argparse.Namespace) -> HeadModel:
    """Convert the FLAME head with parts, ARKit-52 map and landmarks, and write it to the output folder."""
    head = load_flame(
        arguments.flame,
        uv=arguments.uv,
        reference=load_head(asset("head")),
        expressions=arguments.expressions,
        shape_count=arguments.shape_count,
    )
    head = HeadModel(head.tensors() | embed_landmarks(head, FaceLandmarker()), head.info)
    try:
        head.save(arguments.output)
    except OSError as error:
        raise OutputError(f"{arguments.output} cannot be written ({error.strerror}); choose another folder.") from error
    return head


def main() -> int:
    """Run the conversion; on failure print one sentence and return 1."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("flame", type=Path, help="FLAME 2020, 2023 or 2023 Open: .pkl, .npz, or smplx's folder")
    parser.add_argument("--uv", type=Path, required=True, help="head_template.obj or FLAME_texture.npz")
    parser.add_argument("--expressions", type=Path, help=".npz with arkit_to_expression (52, E) of your own")
    parser.add_argument("--shape-count", type=int, help="identity directions in a file that is not 300 + 100")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder to write head.safetensors into")
    arguments = parser.parse_args()
    try:
        head = convert(arguments)
    except SpatialAvatarError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(
        f"{arguments.output}: {head.id}, {len(head.template)} vertices, {len(head.faces)} faces, "
        f"{head.shape_count} shape and {head.expression_count} expression modes"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
