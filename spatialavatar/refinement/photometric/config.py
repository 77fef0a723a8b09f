"""Constants of the photometric pass."""

from __future__ import annotations

from dataclasses import dataclass

from spatialavatar.refinement.constants import Constants, constant


@dataclass(frozen=True)
class CorrectionScale(Constants):
    """One positive number for each kind of parameter in a correction.

    Attributes:
        rotation: of the head, radians.
        translation: of the head, metres.
        jaw: axis-angle, radians.
        unit: expression coefficient.
    """

    rotation: float = constant(0.1, 1e-9, 1e9)
    translation: float = constant(0.02, 1e-9, 1e9)
    jaw: float = constant(0.05, 1e-9, 1e9)
    unit: float = constant(0.15, 1e-9, 1e9)


@dataclass(frozen=True)
class PhotometricConfig(Constants):
    """Constants of the pass (ours).

    Attributes:
        sizes: width of the frame, pixels, in each Gauss-Newton step of a frame, coarse to fine. At 96 pixels a
            centimetre is two to three pixels, which a linear model of the picture still covers.
        units: names of the expression units that may change: those that move much skin and are visible in a picture.
        statistical_units: number of coefficients that may change on a head whose units have other names.
        evidence: number of independent pixels that the pixels of a face are worth; neighbours are correlated.
        robust_scale: difference, in standard deviations, at which a pixel has lost three quarters of its weight.
        landmark_evidence: number of independent landmarks that the landmark fit is worth.
        landmark_sigma: standard deviation of a landmark, as a share of the height of the face.
        sigma: standard deviation of the correction of a frame.
        drift: standard deviation of the change of a correction within 1/25 s.
    """

    sizes: tuple[int, ...] = constant((96, 192, 192), 16, 4096)
    units: tuple[str, ...] = (
        "browDownLeft",
        "browDownRight",
        "browInnerUp",
        "browOuterUpLeft",
        "browOuterUpRight",
        "mouthClose",
        "mouthFunnel",
        "mouthLeft",
        "mouthLowerDownLeft",
        "mouthLowerDownRight",
        "mouthPucker",
        "mouthRight",
        "mouthSmileLeft",
        "mouthSmileRight",
        "mouthUpperUpLeft",
        "mouthUpperUpRight",
    )
    statistical_units: int = constant(10, 0, 1000)
    evidence: float = constant(1000.0, 0.0, 1e9)
    robust_scale: float = constant(2.0, 1e-6, 1e6)
    landmark_evidence: float = constant(60.0, 0.0, 1e9)
    landmark_sigma: float = constant(0.005, 1e-9, 1.0)
    sigma: CorrectionScale = CorrectionScale()
    drift: CorrectionScale = CorrectionScale(rotation=0.003, translation=0.0005, jaw=0.01, unit=0.03)


@dataclass(frozen=True)
class WarmUp(Constants):
    """The short refinement before the alignment, which fits the avatar to the clip's light.

    Attributes:
        steps: 0 switches it off.
        size: of the pictures, pixels.
        holdout: share of the clip, at its end, that it does not use; the heads there are aligned all the same.
        seed: of the refinement.
    """

    steps: int = constant(150, 0, 100_000)
    size: int = 256
    holdout: float = 0.0
    seed: int = 0

    @classmethod
    def before(cls, iterations: int, holdout: float) -> WarmUp:
        """The warm-up before a refinement of ``iterations`` steps: never longer, and with the same held-out frames."""
        return cls(steps=min(cls.steps, iterations), holdout=holdout)
