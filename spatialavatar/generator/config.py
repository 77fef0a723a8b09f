"""Constants of the generator by stage; a saved model stores its own.

The values were chosen on held-out photos and by eye: the source view alone rewards overfitting. Lengths are metres on
the head; pixels are those of the tracker's crop (512 a side).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import PurePosixPath

from spatialavatar.errors import InputError
from spatialavatar.generator.network.config import NetworkConfig
from spatialavatar.generator.prior.config import PriorConfig
from spatialavatar.generator.settings import Checked, setting

_MAX_RESOLUTION = 1024  # texels a side, as in an avatar's file


@dataclass(frozen=True)
class VisibilityConfig(Checked):
    """How well a photo shows a texel (``visibility``, ``openings``).

    Attributes:
        zbuffer_scale: z-buffer pixels per crop pixel, along one side; 2 resolves lids and lips.
        depth_tolerance: metres by which a texel may lie behind the z-buffer and still count as visible; covers the
            depth range of a triangle within one z-buffer pixel.
        grazing_tolerance: metres added to it at right angles to the view, where half a pixel sideways is a large step
            in depth.
        occluder_margin: pixels beside a surface in front of them within which texels of the face get less weight; the
            fit is a few pixels off. 0 switches this off.
        occluder_depth: metres by which that surface must be in front: up to the first the weight is unchanged, from
            the second on it is 0.
        occluder_yaw: degrees of head turn: this rule and the next have no effect up to the first and full effect
            from the second on.
        rim_margin: pixels inside the matte's edge over which the weight of texels of a turned face rises. The fit's
            error brings the background and its light onto the far cheek. 0 switches this off.
        facing: cosines of the angle between normal and viewing ray: below the first a sample is smeared (weight 0),
            above the second it is as good as frontal (weight 1).
        hair_facing: the same for hair, whose smeared samples still look like hair.
        hair_blur: pixels, blur of the hair mask; a strand thinner than this does not count as hair.
        matte_blur: pixels, blur of the matte, so that a texel next to the rim, whose pixel mixes in background, gets
            weight 0.
        matte: blurred matte values of weight 0 and 1.
        border: pixels from the crop's border in which the weight fades.
        opening_margin: pixels by which the detected eye and mouth openings are widened before they exclude skin; the
            fitted lids and lips are a pixel or two off.
    """

    zbuffer_scale: int = setting(2, "1", 1, 4)
    depth_tolerance: float = setting(0.0015, "m", 0.0, 0.1)
    grazing_tolerance: float = setting(0.006, "m", 0.0, 0.1)
    occluder_margin: float = setting(5.0, "px", 0.0, 50.0)
    occluder_depth: tuple[float, float] = setting((0.002, 0.006), "m", 0.0, 1.0)
    occluder_yaw: tuple[float, float] = setting((12.0, 25.0), "degrees", 0.0, 180.0)
    rim_margin: float = setting(5.0, "px", 0.0, 50.0)
    facing: tuple[float, float] = setting((0.12, 0.45), "cosine", -1.0, 1.0)
    hair_facing: tuple[float, float] = setting((0.0, 0.1), "cosine", -1.0, 1.0)
    hair_blur: float = setting(3.5, "px", 0.1, 50.0)
    matte_blur: float = setting(1.5, "px", 0.1, 50.0)
    matte: tuple[float, float] = setting((0.80, 0.97), "1", 0.0, 1.0)
    border: float = setting(4.0, "px", 0.1, 100.0)
    opening_margin: float = setting(1.0, "px", 0.1, 50.0)


@dataclass(frozen=True)
class CarvingConfig(Checked):
    """Which texels lie outside the silhouettes and are not drawn (``carving``).

    Attributes:
        margin: pixels outside the matte up to which a texel is kept; fit and matte are a little off.
    """

    margin: float = setting(3.0, "px", 0.1, 50.0)


@dataclass(frozen=True)
class SilhouetteConfig(Checked):
    """Moving the mesh's outline out to the mattes' (``silhouette``).

    Attributes:
        rounds: alternations of measuring the gaps and solving for the heights; they converge within five.
        facing: |cosine| of the angle to the view below which a vertex may lie on the outline.
        step: share of a gap that one round closes; below 1 so that photos that disagree do not oscillate.
        reach: pixels inward (negative) and outward in which the person's rim is searched along each ray.
        limits: metres, least and greatest height over the mesh; hair rarely stands higher.
        face_mask: metres from the face's landmarks up to which no vertex moves, and from which all may move freely.
        normal_smoothing: metres over which the normals are smoothed into directions, so that neighbours do not cross.
        bending_length: metres over which heights vary at the quickest.
        data_weight: weight of a gap that lies exactly on the outline.
        anchor_weight: weight that holds vertices of the face at height 0.
        symmetry: weight of the difference between the heights of mirror twins, on a head with hair. A turned photo
            shows the outline of the near side at the back of the head and that of the far side at the temple; without
            this, hair grows on one side only.
        bare_anchor: the same for face and neck outside the face mask; only hair that hangs over them moves them.
    """

    rounds: int = setting(5, "1", 0, 50)
    facing: float = setting(0.45, "cosine", 0.0, 1.0)
    step: float = setting(0.8, "1", 0.0, 1.0)
    reach: tuple[float, float] = setting((-40.0, 130.0), "px", -2000.0, 2000.0)
    limits: tuple[float, float] = setting((-0.012, 0.070), "m", -0.5, 0.5)
    face_mask: tuple[float, float] = setting((0.006, 0.020), "m", 0.0, 0.5)
    normal_smoothing: float = setting(0.03, "m", 0.0, 0.5)
    bending_length: float = setting(0.012, "m", 1e-4, 0.5)
    data_weight: float = setting(10.0, "1", 0.0, 1e6)
    anchor_weight: float = setting(4e3, "1", 0.0, 1e9)
    symmetry: float = setting(4.0, "1", 0.0, 1e6)
    bare_anchor: float = setting(0.1, "1", 1e-6, 1e6)


@dataclass(frozen=True)
class GraphConfig(Checked):
    """The graph of texels along which colours spread (``texel_tables``).

    Attributes:
        neighbours: nearest texels that each texel is joined with.
        normal_length: metres that a unit of normal difference counts as, so that both sides of a fold stay apart.
    """

    neighbours: int = setting(8, "1", 4, 64)
    normal_length: float = setting(0.008, "m", 0.0, 1.0)


@dataclass(frozen=True)
class LightConfig(Checked):
    """Smooth fields of log brightness: between the sources, and between a texel and its mirror twin.

    Attributes:
        screening: how firmly the field meets the measured ratios; small, because single ratios are noisy.
        limit: greatest |log ratio| that counts as a difference of light.
        decay: how quickly the field falls to 0 away from where it was measured (0.003: within about 18 texels).
    """

    screening: float = setting(0.3, "1", 1e-4, 1e4)
    limit: float = setting(0.7, "log", 0.0, 5.0)
    decay: float = setting(0.003, "1", 1e-6, 1e3)


@dataclass(frozen=True)
class MirrorConfig(Checked):
    """Filling unseen texels from their mirror twins (``completion.mirror_fill``).

    Attributes:
        confidence: visibility that a mirrored colour counts as, relative to its twin's.
        facing: cosines of the angle to the viewer below which a sample of skin is replaced by its twin's, and above
            which it counts as frontal.
        seam_rounds: averaging rounds over which a texel's surroundings are measured: 20 reach about 5 mm of the face.
        seam: mean share of own samples around a texel of which it keeps nothing and all of its own.
    """

    confidence: float = setting(0.6, "1", 0.0, 1.0)
    facing: tuple[float, float] = setting((0.2, 0.6), "cosine", -1.0, 1.0)
    seam_rounds: int = setting(20, "1", 0, 100)
    seam: tuple[float, float] = setting((0.3, 1.0), "1", 0.0, 1.0)


@dataclass(frozen=True)
class FillConfig(Checked):
    """Smooth fill of what neither a photo nor a twin shows (``completion.smooth_fill``).

    Attributes:
        screening: how firmly the fill meets well-seen colours.
        keep: visibility from which a sample is mixed in, and from which it is kept unchanged.
        lid_darkness: brightness of a lid texel relative to the skin around, up to which it is replaced (lash, crease,
            eyeball) and from which it is kept.
        hair_pull: how strongly the scalp's unseen back tends to the median of the seen hair; the seen rim is lit by
            the background.
        border_rounds: averaging rounds that soften the line between scalp and skin.
    """

    screening: float = setting(20.0, "1", 1e-4, 1e6)
    keep: tuple[float, float] = setting((0.25, 0.75), "1", 0.0, 1.0)
    lid_darkness: tuple[float, float] = setting((0.65, 0.85), "1", 0.0, 5.0)
    hair_pull: float = setting(0.003, "1", 0.0, 1e3)
    border_rounds: int = setting(8, "1", 0, 100)


@dataclass(frozen=True)
class InteriorConfig(Checked):
    """Eyes and the inside of the mouth (``completion.eyes``, ``completion.mouth``). Anatomy is in those modules.

    Attributes:
        light: least and greatest gain of a photo's light over ordinary light.
        prior_texels: seen texels per ring of the eye that the prior colour weighs as much as.
        min_teeth_pixels: pixels of an open mouth that must look like teeth before their colour is used.
        groove_width: metres, half width of the shade between two teeth.
        groove_depth: how much darker that shade is.
        lingual_brightness: brightness of the side of the teeth that faces the tongue, relative to the front.
    """

    light: tuple[float, float] = setting((0.3, 1.2), "1", 0.01, 10.0)
    prior_texels: float = setting(0.5, "1", 1e-6, 1e3)
    min_teeth_pixels: int = setting(30, "px", 1, 100_000)
    groove_width: float = setting(0.00055, "m", 1e-6, 0.01)
    groove_depth: float = setting(0.35, "1", 0.0, 1.0)
    lingual_brightness: float = setting(0.4, "1", 0.0, 1.0)


@dataclass(frozen=True)
class SurfelConfig(Checked):
    """Sizes and opacities of the flat Gaussians (``surfels``).

    Attributes:
        spacing_cap: metres, greatest texel spacing that a Gaussian covers.
        smooth_spacing_cap: the same on scalp and neck, which have no folds and coarser texels.
        anisotropy: least and greatest length of an axis relative to the texel spacing.
        neighbour_limit: greatest axis relative to the distance of the four nearest texels; keeps stretched texels in
            the folds of lids and ears from covering what is in front of them.
        tangential: standard deviation along the surface relative to the axis; less opens holes, more blurs.
        thickness: standard deviation along the normal relative to the spacing; more spills over the outline.
        thickness_cap: metres, greatest spacing that counts for the thickness.
        opacity: of every Gaussian away from the neck's rim.
        rim_fade: metres from the neck's lower rim between which the opacity rises; the rim itself is ragged.
    """

    spacing_cap: float = setting(0.0045, "m", 1e-5, 0.1)
    smooth_spacing_cap: float = setting(0.008, "m", 1e-5, 0.1)
    anisotropy: tuple[float, float] = setting((0.4, 2.5), "1", 0.01, 100.0)
    neighbour_limit: float = setting(1.4, "1", 0.01, 100.0)
    tangential: float = setting(0.7, "1", 0.01, 10.0)
    thickness: float = setting(0.12, "1", 1e-3, 10.0)
    thickness_cap: float = setting(0.0015, "m", 1e-6, 0.1)
    opacity: float = setting(0.95, "1", 0.0, 1.0)
    rim_fade: tuple[float, float] = setting((0.003, 0.032), "m", 0.0, 1.0)


@dataclass(frozen=True)
class SharpeningConfig(Checked):
    """Adding the difference between photos and renders (``sharpening``).

    Attributes:
        rounds: renders of each source view.
        step: share of the difference that one round adds.
        limit: greatest change of a colour channel; larger differences are errors of the fit.
    """

    rounds: int = setting(3, "1", 0, 50)
    step: float = setting(0.9, "1", 0.0, 2.0)
    limit: float = setting(0.15, "1", 0.0, 1.0)


@dataclass(frozen=True)
class BaseConfig(Checked):
    """Constants of the base, which needs no training, by the stage that uses them, in the order of the work."""

    silhouette: SilhouetteConfig = field(default_factory=SilhouetteConfig)
    visibility: VisibilityConfig = field(default_factory=VisibilityConfig)
    graph: GraphConfig = field(default_factory=GraphConfig)
    light: LightConfig = field(default_factory=LightConfig)
    mirror: MirrorConfig = field(default_factory=MirrorConfig)
    fill: FillConfig = field(default_factory=FillConfig)
    interior: InteriorConfig = field(default_factory=InteriorConfig)
    surfels: SurfelConfig = field(default_factory=SurfelConfig)
    carving: CarvingConfig = field(default_factory=CarvingConfig)
    sharpening: SharpeningConfig = field(default_factory=SharpeningConfig)


@dataclass(frozen=True)
class GeneratorConfig:
    """Configuration of a saved generator.

    Attributes:
        resolution: U, texels per side of the UV layout.
        head: folder of the head model, relative to the configuration file.
        base: constants of the base.
        network: sizes of the network that corrects the base; None for the base alone.
        prior: sizes and constants of the prior of whole heads; None for rules alone.
    """

    resolution: int = 256
    head: str = "head"
    base: BaseConfig = field(default_factory=BaseConfig)
    network: NetworkConfig | None = None
    prior: PriorConfig | None = None

    def __post_init__(self) -> None:
        """Check the sizes and the path.

        Raises:
            InputError: the resolution is out of range, or the head lies outside of the model's folder.
        """
        if type(self.resolution) is not int or not 1 <= self.resolution <= _MAX_RESOLUTION:
            raise InputError(
                f"The UV layout has a resolution of {self.resolution!r}; give a whole number from 1 to "
                f"{_MAX_RESOLUTION}."
            )
        path = PurePosixPath(self.head) if isinstance(self.head, str) and "\0" not in self.head else None
        if path is None or path.is_absolute() or ".." in path.parts:
            raise InputError(f"The head is {self.head!r}; give a folder inside the model's own.")

    @property
    def encoder(self) -> str:
        """Name or kind of the network's image encoder, or "none"."""
        return "none" if self.network is None else self.network.encoder.name or self.network.encoder.kind
