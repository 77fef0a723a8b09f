"""Constants of the bust."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class BustConfig:
    """How the bust is made from a photo; lengths in metres at the distance of the head.

    Attributes:
        least_area: square metres of visible torso below which there is no bust.
        padding: by which the torso continues beyond the photo, fading out.
        face_below: below the chin, to which pixels of the class face skin are the face's.
        hair_rise: above the chin, from which hair beside the head belongs to the torso.
        skin_rise: below the chin, over which skin beside the head mesh fades in.
        neck_fade: skinning weights of the root joint between which the torso's skin fades in on the neck.
        side_fade: the same beside the neck of the head mesh, where the person's neck is wider.
        flank_rise: above the chin, to which the person's neck reaches where it is wider than the mesh's.
        flank_slope: how far it exceeds the mesh's width, over the distance from its upper end.
        flank_tuck: by which that part continues behind the neck.
        wisp: half of the width of strips of the torso that are left out.
        strand: the same of strands of hair that hang beside the torso.
        share_fade: the same, between which the head's Gaussians fade out in front of the torso.
        clothes_fade: the same for Gaussians of the neck behind clothes.
        tuck: by which the torso continues behind the head.
        least_part: area of a separate part of the torso, as a share of the largest.
        roundness: how round the torso is; depth half-axis over width half-axis, squared, times two.
        rim: metres behind the root joint of the torso's outline.
        both_sides: area of the clothes on one side of the neck, as a share of the other side's, below which there is
            no back.
        back_roundness: the same of its back.
        back_fade: skinning weights of the root joint between which the back fades in on the nape.
        back_neckline: by which the back's collar lies above the highest clothes in the photo, and at most below the
            root joint.
        back_blur: standard deviation of the mean that takes the pattern of the front from the back's colours.
        collar: share of the pixels of the clothes that lie above their upper end.
        facing: cosines to the camera between which a part of the neck belongs to its front, which the torso replaces.
        clothes_lift: by which clothes lie in front of the neck.
        hair_lift: by which hair lies in front of the neck.
        skin_drop: by which the torso's skin lies behind the head's.
        detail: standard deviations of a colour in cells of 8 and of 4 pixels above which they are divided.
        most: Gaussians of the front, and of the back; a torso that would need more has less detail.
        sharpening: steps that fit the colours to the photo.
    """

    least_area: float = 0.004
    padding: float = 0.05
    face_below: float = 0.012
    hair_rise: float = 0.035
    skin_rise: float = 0.02
    neck_fade: tuple[float, float] = (0.3, 0.6)
    side_fade: tuple[float, float] = (0.5, 0.95)
    flank_rise: float = 0.004
    flank_slope: float = 0.35
    flank_tuck: float = 0.025
    wisp: float = 0.004
    strand: float = 0.01
    share_fade: tuple[float, float] = (0.6, 0.9)
    clothes_fade: tuple[float, float] = (0.02, 0.2)
    tuck: float = 0.035
    least_part: float = 0.05
    roundness: float = 0.6
    rim: float = 0.015
    both_sides: float = 0.25
    back_roundness: float = 0.5
    back_fade: tuple[float, float] = (0.3, 0.7)
    back_neckline: tuple[float, float] = (0.008, 0.005)
    back_blur: float = 0.015
    collar: float = 0.002
    facing: tuple[float, float] = (-0.4, -0.1)
    clothes_lift: float = 0.004
    hair_lift: float = 0.006
    skin_drop: float = 0.002
    detail: tuple[float, float] = (0.018, 0.03)
    most: int = 15_000
    sharpening: int = 4
