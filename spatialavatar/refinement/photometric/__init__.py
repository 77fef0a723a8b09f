"""The photometric pass: aligns the heads of a track with the pictures, by comparing renders of the avatar with frames.

Landmarks locate a face to a hundredth of the distance between its eyes, with errors that are constant over frames. A
render of the person is more exact. Pose, jaw and a few expression units of each frame are moved until the render
matches the picture (``solve.py``). The landmark fit is the prior, with the information matrix of its own landmarks:
parameters that the landmarks determine well hardly change; those that they hardly determine (depth, a nod) follow the
picture. Afterwards the corrections are smoothed over neighbouring frames (``smooth.py``).
"""

from spatialavatar.refinement.photometric.config import CorrectionScale, PhotometricConfig, WarmUp
from spatialavatar.refinement.photometric.run import (
    Alignment,
    align,
    aligned_heads,
    aligned_heads_path,
    photometric_pass,
)
from spatialavatar.refinement.photometric.smooth import smooth_corrections

__all__ = [
    "Alignment",
    "CorrectionScale",
    "PhotometricConfig",
    "WarmUp",
    "align",
    "aligned_heads",
    "aligned_heads_path",
    "photometric_pass",
    "smooth_corrections",
]
