"""The mesh z-buffer: who is seen at a pixel, and where on the triangle."""

from __future__ import annotations

import numpy as np
import pytest

from spatialavatar.errors import InputError
from spatialavatar.render.mesh import rasterize_mesh, rasterize_uv, vertex_normals

K = np.array([[100.0, 0.0, 32.0], [0.0, 100.0, 24.0], [0.0, 0.0, 1.0]])
WIDTH, HEIGHT = 64, 48


def ball(rings: int = 24, radius: float = 0.1, distance: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """A closed ball in camera axes, counter-clockwise from outside."""
    theta = np.linspace(0, np.pi, rings)
    phi = np.linspace(0, 2 * np.pi, 2 * rings, endpoint=False)
    theta, phi = np.meshgrid(theta, phi, indexing="ij")
    points = np.stack([np.sin(theta) * np.sin(phi), -np.cos(theta), -np.sin(theta) * np.cos(phi)], -1)
    here = np.arange(2 * rings)
    right = np.roll(here, -1)
    faces = []
    for ring in range(rings - 1):
        top, bottom = ring * 2 * rings, (ring + 1) * 2 * rings
        faces.append(np.stack([top + here, bottom + here, top + right], -1))
        faces.append(np.stack([top + right, bottom + here, bottom + right], -1))
    return points.reshape(-1, 3) * radius + [0, 0, distance], np.concatenate(faces)


def square(z: float, half: float = 10.0) -> tuple[np.ndarray, np.ndarray]:
    """A square across the view at depth z, made of two triangles that face the camera."""
    corners = np.array([[-half, -half, z], [half, -half, z], [half, half, z], [-half, half, z]])
    return corners, np.array([[0, 2, 1], [0, 3, 2]])


def pixel_centres() -> np.ndarray:
    """(H, W, 2) centres of the pixels, x then y."""
    row, column = np.mgrid[:HEIGHT, :WIDTH]
    return np.stack([column, row], -1) + 0.5


def test_barycentric_weights_give_back_the_pixel_and_the_depth():
    vertices, faces = ball()
    seen = rasterize_mesh(vertices, faces, K, WIDTH, HEIGHT)
    hit = seen.face >= 0
    points = (vertices[faces[seen.face[hit]]] * seen.bary[hit][..., None]).sum(-2)
    pixels = points[:, :2] / points[:, 2:] * 100.0 + [32.0, 24.0]
    assert hit.sum() > 250
    np.testing.assert_allclose(pixels, pixel_centres()[hit], atol=1e-4)
    np.testing.assert_allclose(points[:, 2], seen.depth[hit], rtol=1e-6)
    np.testing.assert_allclose(seen.bary[hit].sum(-1), 1.0, atol=1e-6)


def test_the_silhouette_of_a_ball_has_the_size_perspective_gives():
    seen = rasterize_mesh(*ball(rings=80, distance=0.6), K, WIDTH, HEIGHT)
    assert (seen.face >= 0).sum() == pytest.approx(np.pi * (100 * np.tan(np.arcsin(1 / 6))) ** 2, rel=0.02)


def test_pixels_without_a_triangle_say_so():
    seen = rasterize_mesh(*ball(), K, WIDTH, HEIGHT)
    assert seen.face[0, 0] == -1
    assert seen.depth[0, 0] == np.inf
    assert (seen.bary[0, 0] == 0).all()
    assert (seen.face.dtype, seen.bary.dtype, seen.depth.dtype) == (np.int32, np.float32, np.float32)


def test_a_shared_edge_leaves_no_hole():
    # The diagonal runs through pixel centres.
    vertices = np.array([[-0.32, -0.24, 1.0], [0.32, -0.24, 1.0], [0.32, 0.24, 1.0], [-0.32, 0.24, 1.0]])
    seen = rasterize_mesh(vertices, [[0, 2, 1], [0, 3, 2]], K, WIDTH, HEIGHT)
    assert (seen.face >= 0).all()


def test_the_nearer_triangle_is_seen_whatever_the_order():
    near, faces = square(1.0)
    far, _ = square(2.0)
    vertices = np.concatenate([far, near])
    both = np.concatenate([faces, faces + 4])
    assert (rasterize_mesh(vertices, both, K, WIDTH, HEIGHT).face >= 2).all()
    assert (rasterize_mesh(vertices, both[::-1], K, WIDTH, HEIGHT).face < 2).all()


def test_of_two_equal_triangles_the_first_is_seen():
    vertices, faces = square(1.0)
    seen = rasterize_mesh(vertices, np.concatenate([faces, faces]), K, WIDTH, HEIGHT)
    assert set(np.unique(seen.face)) == {0, 1}


def test_cull_back_keeps_the_outside_of_a_ball_and_drops_the_inside():
    vertices, faces = ball()
    outside = rasterize_mesh(vertices, faces, K, WIDTH, HEIGHT)
    culled = rasterize_mesh(vertices, faces, K, WIDTH, HEIGHT, cull_back=True)
    np.testing.assert_array_equal(outside.face, culled.face)
    inverted = rasterize_mesh(vertices, faces[:, ::-1], K, WIDTH, HEIGHT, cull_back=True)
    assert (inverted.depth[inverted.face >= 0] > 1.0).all()


def test_a_triangle_that_reaches_behind_the_camera_is_cut_not_dropped():
    floor = np.array([[-5.0, 1.0, -5.0], [5.0, 1.0, -5.0], [0.0, 1.0, 500.0]])
    seen = rasterize_mesh(floor, [[0, 1, 2]], K, WIDTH, HEIGHT)
    hit = seen.face >= 0
    assert hit[40:, 30:34].all()
    assert not hit[:24].any()
    np.testing.assert_allclose(seen.depth[hit], (100.0 / (pixel_centres()[..., 1] - 24.0))[hit], rtol=1e-5)


def test_what_lies_behind_the_camera_or_beside_the_picture_is_not_seen():
    for vertices, faces in (square(-1.0), (square(1.0, half=0.1)[0] + [9.0, 0, 0], square(1.0)[1])):
        assert (rasterize_mesh(vertices, faces, K, WIDTH, HEIGHT).face == -1).all()


def test_a_vertex_that_is_not_finite_costs_only_its_triangles():
    vertices, faces = square(1.0)
    vertices = np.concatenate([vertices, np.full((1, 3), np.nan), np.full((1, 3), np.inf)])
    faces = np.concatenate([[[4, 0, 1], [5, 1, 2]], faces])
    assert set(np.unique(rasterize_mesh(vertices, faces, K, WIDTH, HEIGHT).face)) == {2, 3}


def test_uv_texels_are_found_at_their_centres():
    resolution = 16
    uv = np.array([[[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]], [[1.0, 1.0], [0.0, 1.0], [1.0, 0.0]]])
    face, bary = rasterize_uv(uv, resolution)
    assert (face >= 0).all()
    centres = (np.arange(resolution) + 0.5) / resolution
    points = (uv[face] * bary[..., None]).sum(-2)
    np.testing.assert_allclose(points[..., 0], np.broadcast_to(centres, (resolution, resolution)), atol=1e-6)
    np.testing.assert_allclose(points[..., 1], np.broadcast_to(centres[:, None], (resolution, resolution)), atol=1e-6)


def test_overlapping_uv_faces_go_to_the_lower_index():
    generator = np.random.default_rng(0)
    lower = generator.random((40, 3, 2))
    alone, _ = rasterize_uv(lower, 64)
    stacked, _ = rasterize_uv(np.concatenate([lower, lower + 1e-3]), 64)
    np.testing.assert_array_equal(stacked[alone >= 0], alone[alone >= 0])
    single = [rasterize_uv(face[None], 64)[0] >= 0 for face in lower]
    np.testing.assert_array_equal(alone, np.where(np.any(single, 0), np.argmax(single, 0), -1))


def test_faces_without_uv_are_skipped():
    uv = np.array([[[-1.0, -1.0]] * 3, [[0.0, 0.0], [1.0, 0.0], [-1.0, 1.0]]])
    face, bary = rasterize_uv(uv, 8)
    assert (face == -1).all()
    assert (bary == 0).all()


def test_normals_of_a_ball_point_outwards():
    vertices, faces = ball()
    normals = vertex_normals(vertices, faces)
    inner = slice(48, -48)  # the rings at the poles are one point, repeated
    outwards = ((vertices - [0, 0, 1.0]) / 0.1)[inner]
    assert (np.sum(normals[inner] * outwards, -1) > 0.99).all()
    np.testing.assert_allclose(np.linalg.norm(normals[inner], axis=-1), 1.0, atol=1e-6)


def test_a_vertex_of_no_area_has_a_zero_normal():
    normals = vertex_normals([[0, 0, 0], [1, 0, 0], [2, 0, 0], [5, 5, 5]], [[0, 1, 2]])
    assert (normals == 0).all()


@pytest.mark.parametrize(
    ("vertices", "faces"),
    [(np.zeros((3, 2)), [[0, 1, 2]]), (np.zeros((3, 3)), [[0, 1, 3]]), (np.zeros((3, 3)), [[0, 1, -1]])],
)
def test_wrong_shapes_and_indices_are_refused(vertices: np.ndarray, faces: list[list[int]]):
    with pytest.raises(InputError):
        rasterize_mesh(vertices, faces, K, WIDTH, HEIGHT)


def test_an_empty_mesh_gives_an_empty_picture():
    seen = rasterize_mesh(np.zeros((0, 3)), np.zeros((0, 3), int), K, WIDTH, HEIGHT)
    assert (seen.face == -1).all()
    assert (rasterize_uv(np.zeros((0, 3, 2)), 8)[0] == -1).all()
