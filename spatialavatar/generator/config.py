"""Constants of the generator; a saved model carries its own."""

from __future__ import annotations

from dataclasses import dataclass, field

from spatialavatar.generator.network.config import NetworkConfig


@dataclass(frozen=True)
class BaseConfig:
    """Constants of the base that needs no training. Lengths are metres, pixels are those of the crop.

    The values were chosen on held-out photos and by eye: the source view alone rewards overfitting.
    """

    # Visibility: depth test against a z-buffer that is finer than the photo, so that lids and lips resolve.
    zbuffer_scale: int = 2
    depth_tolerance: float = 0.0015
    # Added at right angles to the view, where half a pixel sideways is a large step in depth.
    grazing_tolerance: float = 0.006
    # cos(angle to the viewer): below the first a sample is a smear, above the second it is as good as frontal.
    facing: tuple[float, float] = (0.12, 0.45)
    hair_blur: float = 3.5
    hair_facing: tuple[float, float] = (0.0, 0.1)
    # The matte is blurred first, so that a texel next to the rim, whose pixel mixes in background, counts as outside.
    matte_blur: float = 1.5
    matte: tuple[float, float] = (0.80, 0.97)
    border: float = 4.0
    # The detected eye and mouth openings, grown by this much, are closed to skin (the fit is some pixels off).
    opening_margin: float = 1.0

    # Texels further outside the person than this are not drawn; the fit and the matte are a little off.
    carve_margin: float = 3.0

    # Fill: k nearest neighbours in position and, times this length, normal, so that both sides of a fold stay apart.
    neighbours: int = 8
    normal_length: float = 0.008
    screening: float = 20.0
    # Visibility from which a sample is mixed in, and from which it is kept as it is.
    keep: tuple[float, float] = (0.25, 0.75)
    mirror_screening: float = 0.3
    mirror_clip: float = 0.7
    # How quickly a difference of light is forgotten away from where it was measured (0.003: within about 18 texels).
    light_decay: float = 0.003
    mirror_confidence: float = 0.6

    # Brightness relative to the skin around, up to which a lid texel is replaced, and from which it is kept.
    lid_darkness: tuple[float, float] = (0.65, 0.85)

    # How strongly the scalp's unseen back tends to the median of the seen hair, whose rim is lit by the background.
    hair_pull: float = 0.003
    border_rounds: int = 8

    # Surfels: texel spacing is capped, axes are kept near round, and no surfel outgrows its neighbours' distance.
    spacing_cap: float = 0.0045
    smooth_spacing_cap: float = 0.008
    anisotropy: tuple[float, float] = (0.4, 2.5)
    neighbour_limit: float = 1.4
    tangential: float = 0.7
    thickness: float = 0.12
    thickness_cap: float = 0.0015
    opacity: float = 0.95
    # The neck ends in a ragged rim: opacity rises over these distances from it.
    rim_fade: tuple[float, float] = (0.003, 0.032)

    # Silhouette: rounds of moving the outline's vertices to the matte's edge, and the limits of what hair may add.
    silhouette_rounds: int = 5
    silhouette_facing: float = 0.45
    silhouette_step: float = 0.8
    silhouette_reach: tuple[float, float] = (-40.0, 130.0)
    silhouette_limits: tuple[float, float] = (-0.012, 0.070)
    # From the face's landmarks: up to the first distance nothing moves, from the second on everything may.
    face_mask: tuple[float, float] = (0.006, 0.020)
    # Directions are the normals smoothed over this length; heights vary over the second one at the quickest.
    normal_smoothing: float = 0.03
    bending_length: float = 0.012
    data_weight: float = 10.0
    anchor_weight: float = 4e3
    # Face and neck keep their shape but for hair that hangs over them.
    bare_anchor: float = 0.1

    # Sharpening: rounds of adding back what the render misses of the photo, where the photo is clearly seen.
    sharpening_rounds: int = 3
    sharpening_step: float = 0.9
    sharpening_limit: float = 0.15


@dataclass(frozen=True)
class GeneratorConfig:
    """What a saved generator is.

    Attributes:
        resolution: U, texels per side of the UV layout.
        head: folder of the head model, relative to the configuration file.
        base: constants of the base.
        network: sizes of the network that corrects the base; None is the base alone.
    """

    resolution: int = 256
    head: str = "head"
    base: BaseConfig = field(default_factory=BaseConfig)
    network: NetworkConfig | None = None

    @property
    def encoder(self) -> str:
        """What looks at the photos: the network's encoder by name or kind, or "none"."""
        return "none" if self.network is None else self.network.encoder.name or self.network.encoder.kind
