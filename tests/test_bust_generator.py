"""The bust that stage 1 makes from a photo's torso."""

from __future__ import annotations

import math
from functools import lru_cache

import cv2
import numpy as np
import pytest
import torch

from spatialavatar.avatar import Avatar
from spatialavatar.generator.bust import with_bust
from spatialavatar.generator.bust.config import BustConfig
from spatialavatar.generator.bust.picture import neck_weights
from spatialavatar.head.rotations import quat_to_matrix
from spatialavatar.records import BODY_SKIN, CLOTHES, HAIR, SEGMENT_CLASSES, Bust, HeadParams, Surroundings, Track
from spatialavatar.render import render

from .support.painted_torso import SHIRT, SIZE, make_torso_photo


@lru_cache(maxsize=1)
def made() -> tuple[Avatar, Track]:
    avatar, track = make_torso_photo()
    return with_bust(avatar, [track]), track


def test_the_shirt_has_the_outline_and_the_colour_that_it_has_in_the_photo():
    avatar, track = made()
    image, alpha = avatar.render()
    clothes = track.require_pictures().require_segments()[0] == CLOTHES
    shown = (alpha > 0.5) & (image[..., 2] - image[..., 0] > 0.2)
    assert (shown & clothes).sum() > 0.93 * (shown | clothes).sum()  # a rim of one pixel of 256 is 5 %
    assert (image[clothes] - torch.tensor(SHIRT) / 255.0).abs().mean() < 0.03


def test_the_head_of_an_avatar_stays_as_it_is():
    avatar, _ = made()
    bare, _ = make_torso_photo()
    assert torch.equal(avatar.gaussians.means, bare.gaussians.means)
    assert torch.equal(avatar.gaussians.opacities, bare.gaussians.opacities)


def test_the_neck_has_no_hole_where_the_head_turns_and_nods():
    avatar, _ = made()
    head, identity = avatar.head, avatar.identity()
    weight = head.skinning_weights[:, 0]
    ring = head.part_vertices("neck") & (weight > 0.1) & (weight < 0.95) & (head.template[:, 0].abs() < 0.03)
    ring &= head.template[:, 2] > 0.02
    for angles in ((0.26, 0.44, 0.0), (-0.26, -0.44, 0.0), (0.0, 0.0, 0.26)):
        params = avatar.with_torso(avatar.reference.replace(rotation=torch.tensor([angles])))
        _, alpha = render(avatar.pose(params, identity), avatar.camera)
        pixels = avatar.camera.project(head.pose(identity, params)[0, ring]).floor().long()
        inside = ((pixels >= 0) & (pixels < SIZE)).all(1)
        assert inside.sum() > 10
        assert alpha[pixels[inside, 1], pixels[inside, 0]].min() > 0.95


def neck_rows(track: Track) -> slice:
    """Rows between the chin and the shirt in which the photo shows the neck beside the chin."""
    classes = track.require_pictures().require_segments()[0]
    face = (classes == SEGMENT_CLASSES.index("face_skin")).nonzero()[:, 0].max()
    shirt = (classes == CLOTHES).nonzero()[:, 0].min()
    return slice(int(face) + 2, int(shirt) - 1)


def test_a_neck_that_is_wider_than_the_mesh_is_as_wide_as_in_the_photo():
    avatar, track = make_torso_photo(neck_side=20)
    _, alpha = with_bust(avatar, [track]).render()
    _, bare = avatar.render()
    rows = neck_rows(track)
    skin = track.require_pictures().require_segments()[0][rows] == BODY_SKIN
    beside = skin & (bare[rows] < 0.5)
    assert beside.sum() > 20
    assert alpha[rows][beside].mean() > 0.88


def test_a_neck_that_is_narrower_than_the_mesh_is_as_narrow_as_in_the_photo():
    avatar, track = make_torso_photo(neck_side=-12)
    _, alpha = with_bust(avatar, [track]).render()
    _, bare = avatar.render()
    rows = neck_rows(track)
    beside = (track.require_pictures().mattes[0][rows] == 0) & (bare[rows] > 0.5)
    assert beside.sum() > 20
    assert alpha[rows][beside].mean() < 0.5 * bare[rows][beside].mean()


def test_a_photo_that_ends_at_the_chin_gives_no_bust():
    avatar, _ = make_torso_photo()
    landmarks = avatar.head.landmarks(avatar.head.pose(avatar.identity(), avatar.reference)[0])
    chin = float(avatar.camera.project(landmarks)[152, 1])
    assert with_bust(*_listed(make_torso_photo(round(chin) + 2))).bust is None


def test_a_photo_without_segments_gives_no_bust():
    avatar, track = make_torso_photo()
    bare = track.replace(pictures=track.require_pictures().replace(segments=None))
    assert with_bust(avatar, [bare]).bust is None


def test_the_photo_with_the_most_torso_makes_the_bust():
    avatar, whole = make_torso_photo()
    _, cut = make_torso_photo(200)
    both = with_bust(avatar, [cut, whole]).bust
    assert both is not None
    assert torch.equal(both.gaussians.means, made()[0].bust.gaussians.means)


def test_the_bust_extends_into_the_photo_around_the_crop():
    avatar, track = make_torso_photo()
    pictures, camera = track.require_pictures(), track.camera
    below = torch.cat([pictures.images[0], pictures.images[0, -1:].expand(64, -1, -1)])
    matte = torch.cat([pictures.mattes[0], pictures.mattes[0, -1:].expand(64, -1)])
    classes = torch.cat([pictures.require_segments()[0], pictures.require_segments()[0, -1:].expand(64, -1)])
    around = Surroundings(below, matte, classes, camera.window(0, 0, SIZE, SIZE + 64))
    larger = with_bust(avatar, [track.replace(surroundings=around)]).bust
    low, lower = (float(bust.gaussians.means[:, 1].min()) for bust in (made()[0].bust, larger))
    assert lower < low - 0.1


def facing_front(bust: Bust) -> torch.Tensor:
    """(M,) cosine between the outward normal of a bust's Gaussians and the front."""
    return quat_to_matrix(bust.gaussians.quats)[:, 2, 2]


def turned(avatar: Avatar, yaw: float) -> HeadParams:
    """The reference view, the whole person turned by an angle in degrees."""
    return avatar.reference.replace(rotation=torch.tensor([[0.0, math.radians(yaw), 0.0]]))


def test_the_far_edge_of_the_front_fades_out():
    avatar, _ = made()
    front = facing_front(avatar.bust) > 0.5
    height, opacities = avatar.bust.gaussians.means[front, 1], avatar.bust.gaussians.opacities[front]
    assert opacities[height < height.min() + 0.01].max() < 0.5


@pytest.mark.parametrize("yaw", [0.0, 180.0])
def test_the_far_edge_of_the_bust_fades_out(yaw: float):
    avatar, _ = made()
    _, alpha = render(avatar.pose(turned(avatar, yaw)), avatar.camera.window(0, 0, SIZE, 2 * SIZE))
    middle = alpha[SIZE // 2 :, SIZE // 2]
    assert middle[0] > 0.95
    assert middle[-1] < 0.01
    assert (middle[:-1] - middle[1:]).max() < 0.2


@pytest.mark.parametrize("yaw", [90.0, 135.0, 180.0, -90.0])
def test_the_bust_is_closed_all_round(yaw: float):
    avatar, _ = made()
    camera = avatar.camera.window(-SIZE // 2, 0, SIZE + SIZE // 2, SIZE)
    _, alpha = render(avatar.pose(turned(avatar, yaw)), camera)
    shirt = alpha[round(0.8 * SIZE) : round(0.95 * SIZE)]
    solid = shirt > 0.5
    assert (solid.sum(1) > 0.25 * SIZE).all()
    for row, line in zip(solid, shirt):
        columns = row.nonzero().squeeze(1)
        inside = line[columns[0] + 3 : columns[-1] - 2]
        assert inside.min() > 0.9  # no slit between front and back


def test_the_back_has_the_colour_of_the_clothes_and_a_collar_at_the_nape():
    avatar, _ = made()
    image, alpha = render(avatar.pose(turned(avatar, 180.0)), avatar.camera)
    solid = alpha[round(0.75 * SIZE) :] > 0.95
    assert solid.any()
    shown = image[round(0.75 * SIZE) :][solid]
    assert (shown - torch.tensor(SHIRT) / 255.0).abs().mean() < 0.03
    neck = avatar.head.skinning_weights[:, 0]
    nape = avatar.head.part_vertices("neck") & (neck > 0.2) & (neck < 0.4) & (avatar.head.template[:, 0].abs() < 0.01)
    nape &= avatar.head.template[:, 2] < -0.03
    pixels = avatar.camera.project(avatar.head.pose(avatar.identity(), turned(avatar, 180.0))[0, nape]).floor().long()
    bare = image[pixels[:, 1], pixels[:, 0]]
    assert (bare[:, 2] - bare[:, 0] < 0.1).all()  # skin, not the shirt


def test_a_torso_of_which_the_photo_shows_one_side_has_no_back():
    avatar, track = make_torso_photo()
    pictures = track.require_pictures()
    half = torch.arange(SIZE) < round(0.45 * SIZE)
    classes = pictures.require_segments().clone()
    lost = half & (classes[0] == CLOTHES)
    classes[0, lost] = 0
    mattes = pictures.mattes.clone()
    mattes[0, lost] = 0
    bust = with_bust(avatar, [track.replace(pictures=pictures.replace(segments=classes, mattes=mattes))]).bust
    assert not bust.behind.any()
    assert made()[0].bust.behind.float().mean() > 0.2


def test_hair_hangs_from_the_head_and_lies_on_clothes():
    rows, columns = np.mgrid[:100, :60]
    head, clothes = rows < 30, rows >= 80
    neck = head & False
    hair = ~head & ~clothes & (columns < 20)
    weight = neck_weights(head, neck, np.full(head.shape, 0.4, np.float32), clothes, hair, 0.001, 95.0)
    down = weight[36:76, 10]
    assert down[0] > 0.8
    assert down[-1] < 0.12
    assert (np.diff(down) <= 1e-6).all()
    assert np.abs(weight[90:]).max() < 1e-3
    assert np.allclose(weight[50, 40:], 0.6, atol=1e-3)  # skin bends with the nearest point of the neck


def test_hair_that_is_left_out_leaves_no_dark_line_on_clothes():
    avatar, track = make_torso_photo()
    pictures = track.require_pictures()
    image, classes = pictures.images.clone(), pictures.require_segments().clone()
    shirt = (classes[0] == CLOTHES).numpy()
    outline = shirt & (cv2.erode(shirt.astype(np.uint8), np.ones((1, 5), np.uint8)) == 0)
    strand = torch.from_numpy(shirt & (cv2.erode(shirt.astype(np.uint8), np.ones((1, 3), np.uint8)) == 0))
    image[0, torch.from_numpy(outline)] = 0  # the strand, and a pixel of the shirt beside it
    classes[0, strand] = HAIR
    photo = track.replace(pictures=pictures.replace(images=image, segments=classes))
    bust = with_bust(avatar, [photo], BustConfig(sharpening=0)).bust
    blue = bust.gaussians.colors[bust.gaussians.opacities > 0.5, 2]
    assert float((blue < 0.9 * SHIRT[2] / 255.0).float().mean()) < 0.12


def _listed(photo: tuple[Avatar, Track]) -> tuple[Avatar, list[Track]]:
    return photo[0], [photo[1]]


def test_a_torso_of_much_detail_keeps_to_its_number_of_gaussians():
    avatar, track = make_torso_photo()
    pictures = track.require_pictures()
    noise = torch.randint(0, 255, pictures.images.shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    noisy = track.replace(pictures=pictures.replace(images=noise))
    few = BustConfig(most=2500, sharpening=0)
    facing = facing_front(with_bust(avatar, [noisy], few).bust)
    assert 500 < (facing > 0.1).sum() <= 2500
    assert (facing < -0.1).sum() <= 2500
