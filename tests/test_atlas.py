"""The UV atlas of the shipped open head: what an atlas for Gaussians must keep."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file

from spatialavatar.render.mesh import rasterize_uv

GRID = 256


class Atlas(NamedTuple):
    """The shipped head's UVs: corners in texels, the part of each face, and the texels that they cover."""

    texels: NDArray[np.float64]  # (F, 3, 2) of the faces that have UVs
    parts: NDArray[np.str_]  # (F,)
    area_mm2: NDArray[np.float64]  # (F,) on the head
    owner: NDArray[np.int32]  # (GRID, GRID) face of each texel, -1 where none


@pytest.fixture(scope="module")
def atlas(repository: Path) -> Atlas:
    tensors = load_file(repository / "weights" / "head" / "head.safetensors")
    names = np.array(json.loads((repository / "weights" / "head" / "head.json").read_text())["parts"])
    present = (tensors["uv"] >= 0).all((1, 2))
    uv = tensors["uv"][present]
    a, b, c = np.moveaxis(tensors["template"].astype(float)[tensors["faces"][present]], 1, 0)
    area = 0.5e6 * np.linalg.norm(np.cross(b - a, c - a), axis=1)
    return Atlas(uv.astype(float) * GRID, names[tensors["face_parts"][present]], area, rasterize_uv(uv, GRID)[0])


def signed_area(triangles: NDArray[np.float64]) -> NDArray[np.float64]:
    """(F,) areas in texels, positive for the orientation that the surface has from outside (v runs down)."""
    u, v = triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0]
    return -0.5 * (u[:, 0] * v[:, 1] - u[:, 1] * v[:, 0])


def test_no_triangle_is_flipped_or_empty(atlas: Atlas) -> None:
    assert signed_area(atlas.texels).min() > 0


def test_no_point_is_covered_twice(atlas: Atlas) -> None:
    # With all triangles one way round, the union is smaller than the sum exactly where something overlaps.
    fine = 8
    covered = (rasterize_uv((atlas.texels / GRID).astype(np.float32), GRID * fine)[0] >= 0).sum() / fine**2
    assert covered == pytest.approx(signed_area(atlas.texels).sum(), rel=2e-3)


def test_islands_keep_a_gutter(atlas: Atlas) -> None:
    groups = [("face", "lips", "ears", "scalp", "neck"), ("eye_left",), ("eye_right",)]
    island = np.select([np.isin(atlas.parts, group) for group in groups], range(3), default=3)
    grid = np.where(atlas.owner >= 0, island[atlas.owner], -1)
    for step in ((0, 1), (1, 0)):
        other = np.roll(grid, step, (0, 1))
        touching = (grid >= 0) & (other >= 0) & (grid != other)
        assert not touching[1:, 1:].any()


def test_most_of_the_square_holds_a_gaussian(atlas: Atlas) -> None:
    assert 0.86 < (atlas.owner >= 0).mean() < 0.91


def test_the_face_has_most_texels(atlas: Atlas) -> None:
    part = atlas.parts[atlas.owner[atlas.owner >= 0]]
    count = {name: int((part == name).sum()) for name in np.unique(atlas.parts)}
    assert 40_000 < count["face"] + count["lips"] + count["ears"] < 45_000
    assert min(count["eye_left"], count["eye_right"]) > 650
    assert 900 < count["teeth_upper"] + count["teeth_lower"] < 1500


def test_lips_are_finer_than_the_face_and_the_face_than_the_scalp(atlas: Atlas) -> None:
    def millimetres_per_texel(name: str) -> float:
        chosen = atlas.parts == name
        return float(np.sqrt(atlas.area_mm2[chosen].sum() / signed_area(atlas.texels[chosen]).sum()))

    assert millimetres_per_texel("lips") < 0.9
    assert millimetres_per_texel("lips") < millimetres_per_texel("face") < 1.3
    assert 2.0 < millimetres_per_texel("scalp") < 3.2


def test_skin_texels_are_close_to_square_on_the_face(atlas: Atlas, repository: Path) -> None:
    tensors = load_file(repository / "weights" / "head" / "head.safetensors")
    present = (tensors["uv"] >= 0).all((1, 2))
    space = tensors["template"].astype(float)[tensors["faces"][present]]
    edges = np.stack([space[:, 1] - space[:, 0], space[:, 2] - space[:, 0]], axis=2)
    flat = np.stack([atlas.texels[:, 1] - atlas.texels[:, 0], atlas.texels[:, 2] - atlas.texels[:, 0]], axis=2)
    stretch = np.linalg.svd(edges @ np.linalg.inv(flat), compute_uv=False)
    aspect = stretch[:, 0] / stretch[:, 1]
    for names, median in ((("face", "lips"), 1.8), (("scalp", "neck"), 2.2)):
        of_texels = aspect[atlas.owner[atlas.owner >= 0]][np.isin(atlas.parts[atlas.owner[atlas.owner >= 0]], names)]
        assert np.median(of_texels) < median
        assert np.quantile(of_texels, 0.95) < 2.5 * median


def test_skin_island_is_its_own_mirror_image(atlas: Atlas) -> None:
    skin = np.isin(atlas.parts, ["face", "lips", "ears", "scalp", "neck"])
    mask = (atlas.owner >= 0) & skin[atlas.owner]
    np.testing.assert_array_equal(mask, mask[:, ::-1])
    part = np.where(mask, atlas.parts[atlas.owner], "")
    # A texel centre on a shared edge may fall to either side's part.
    assert (part != part[:, ::-1]).mean() < 1e-3
