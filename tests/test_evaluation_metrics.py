"""Each metric agrees with a second implementation or a closed form, and reacts as it should."""

from __future__ import annotations

import math
import sys

import cv2
import numpy as np
import pytest
import skimage.metrics
import torch
from scipy.spatial.transform import Rotation

from spatialavatar.errors import MissingAssetError
from spatialavatar.evaluation import metrics
from spatialavatar.media import read_image
from spatialavatar.metrics import Lpips, shared_lpips
from spatialavatar.records import HeadParams
from spatialavatar.tracking.networks import Networks


def cut(examples, name: str) -> torch.Tensor:
    """(512, 512, 3) float: the top left of an example photo."""
    return torch.from_numpy(np.ascontiguousarray(read_image(examples / "portraits" / name)[:512, :512])).float() / 255


# -- LPIPS ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "expected"), [(("astronaut.png", "lake.jpg"), 0.93300), (("lake.jpg", "street.jpg"), 0.79528)]
)
def test_lpips_agrees_with_the_authors_implementation(examples, names, expected):
    """Expected values: lpips==0.1.4 with net="alex" and the same convolutions in single precision."""
    assert shared_lpips()(*(cut(examples, name) for name in names)) == pytest.approx(expected, abs=1e-3)


def test_lpips_of_a_picture_and_itself_is_zero_and_does_not_depend_on_the_order(examples):
    lpips, first, second = Lpips(), cut(examples, "astronaut.png"), cut(examples, "lake.jpg")
    assert lpips(first, first) == 0.0
    assert lpips(first, second) == pytest.approx(lpips(second, first), rel=1e-5)


# -- pictures ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def face(examples) -> torch.Tensor:
    """(256, 256, 3): a face."""
    return cut(examples, "astronaut.png")[0:256, 96:352].contiguous()


def blurred(picture: torch.Tensor, sigma: float) -> torch.Tensor:
    return torch.from_numpy(cv2.GaussianBlur(picture.numpy(), (0, 0), sigma))


def shifted(picture: torch.Tensor, pixels: int) -> torch.Tensor:
    return picture.roll(pixels, 1)


def recoloured(picture: torch.Tensor, gain: float) -> torch.Tensor:
    return picture * torch.tensor([1.0, gain, 1.0])


def test_psnr_has_its_closed_form_and_agrees_with_scikit_image(face):
    assert metrics.psnr(torch.full((64, 64, 3), 0.5), torch.full((64, 64, 3), 0.6)) == pytest.approx(20.0, abs=1e-4)
    other = blurred(face, 2.0)
    expected = skimage.metrics.peak_signal_noise_ratio(face.numpy(), other.numpy(), data_range=1.0)
    assert metrics.psnr(other, face) == pytest.approx(expected, abs=1e-4)


def test_ssim_agrees_with_scikit_image(face):
    other = blurred(face, 1.5)
    expected = skimage.metrics.structural_similarity(
        face.numpy(),
        other.numpy(),
        channel_axis=2,
        data_range=1.0,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
    )
    assert metrics.ssim(other, face) == pytest.approx(expected, abs=1e-5)


def test_ms_ssim_agrees_with_the_paper_written_out(face):
    """Contrast and structure at five scales, luminance at the last: Wang et al. 2003, equation 7."""
    other = blurred(face, 1.0)
    assert metrics.ms_ssim(other, face) == pytest.approx(written_out_ms_ssim(face.numpy(), other.numpy()), abs=5e-4)


def written_out_ms_ssim(x: np.ndarray, y: np.ndarray) -> float:
    def window(values: np.ndarray) -> np.ndarray:
        return cv2.GaussianBlur(values, (11, 11), 1.5)[5:-5, 5:-5]

    product = 1.0
    weights = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
    for scale, weight in enumerate(weights):
        mx, my = window(x), window(y)
        vx, vy, cov = window(x * x) - mx * mx, window(y * y) - my * my, window(x * y) - mx * my
        term = (2 * cov + 0.03**2) / (vx + vy + 0.03**2)
        if scale == len(weights) - 1:
            term = term * (2 * mx * my + 0.01**2) / (mx * mx + my * my + 0.01**2)
        product *= float(term.mean()) ** weight
        x, y = (cv2.resize(v, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA) for v in (x, y))
    return product


@pytest.mark.parametrize("name", ["psnr", "ssim", "ms_ssim", "lpips"])
@pytest.mark.parametrize(
    "change",
    [
        lambda picture, much: blurred(picture, 3.0 if much else 1.0),
        lambda picture, much: shifted(picture, 6 if much else 2),
        lambda picture, much: recoloured(picture, 0.5 if much else 0.9),
    ],
    ids=["blur", "shift", "recolour"],
)
def test_more_of_a_fault_makes_every_picture_metric_worse(face, name, change):
    metric = getattr(metrics, name)
    values = [metric(face, face), metric(change(face, False), face), metric(change(face, True), face)]
    assert values == sorted(values, reverse=metrics.METRICS[name].better == "higher")
    assert len(set(values)) == 3


def test_only_the_pixels_of_the_region_count(face):
    spoiled, weight = face.clone(), torch.ones(256, 256)
    spoiled[:64], weight[:64] = 0.0, 0.0
    assert metrics.psnr(spoiled, face, weight) == pytest.approx(100.0, abs=0.1)
    weight[:70] = 0.0  # a window of eleven pixels reaches over the border
    assert metrics.ssim(spoiled, face, weight) == pytest.approx(1.0, abs=1e-5)


def test_without_torchmetrics_the_error_says_what_to_install(monkeypatch, face):
    metrics._multiscale.cache_clear()
    monkeypatch.setitem(sys.modules, "torchmetrics.functional.image", None)
    with pytest.raises(MissingAssetError, match=r"pip install -e '\.\[eval\]'"):
        metrics.ms_ssim(face, face)


# -- outlines ---------------------------------------------------------------------------------------------------------


def square(left: int, width: int = 20) -> torch.Tensor:
    """(64, 64): a square of ones of 20 x ``width`` pixels."""
    picture = torch.zeros(64, 64)
    picture[20:40, left : left + width] = 1.0
    return picture


def test_the_outline_of_a_perfect_render_neither_spills_nor_lacks_anything():
    soft = 0.5 * square(20) + 0.3 * square(25)
    assert metrics.silhouette(soft, soft, torch.ones(64, 64)) == {"spill": 0.0, "missing": 0.0}


def test_a_render_beside_the_person_spills_and_lacks_in_percent_of_the_person():
    everywhere = torch.ones(64, 64)
    assert metrics.silhouette(square(25), square(20), everywhere) == pytest.approx({"spill": 25.0, "missing": 25.0})
    assert metrics.silhouette(square(20, 30), square(20), everywhere) == pytest.approx({"spill": 50.0, "missing": 0.0})
    assert metrics.silhouette(torch.zeros(64, 64), square(20), everywhere)["missing"] == pytest.approx(100.0)


def test_what_spills_out_of_the_region_does_not_count():
    region = torch.ones(64, 64)
    region[:, 40:] = 0.0
    assert metrics.silhouette(square(20, 30), square(20), region)["spill"] == 0.0


# -- faces and motion -------------------------------------------------------------------------------------------------


def params(frames: int = 3) -> HeadParams:
    return HeadParams.neutral(10, 41, frames)


def test_csim_falls_with_an_identity_swap_and_hardly_with_blur(examples):
    networks = Networks(threads=2)

    def identity(picture: np.ndarray) -> np.ndarray:
        found = networks.landmarker.locate(picture)
        assert found is not None
        return networks.identity.embed(picture, found.points)

    lake, street = (read_image(examples / "portraits" / name) for name in ("lake.jpg", "street.jpg"))
    here = identity(lake)
    same = metrics.csim(here, identity(cv2.GaussianBlur(lake, (0, 0), 3.0)))
    assert same > 0.7 > 0.3 > metrics.csim(here, identity(street))
    assert metrics.csim(here, here) == pytest.approx(1.0, abs=1e-5)


def test_aed_is_the_length_of_the_codes_difference_and_sees_a_frozen_face():
    talking = params()
    talking.expression[:, 0] = torch.tensor([0.0, 0.3, 0.6])
    talking.jaw[:, 0] = torch.tensor([0.0, 0.4, 0.8])
    torch.testing.assert_close(metrics.expression_distance(params(), talking), torch.tensor([0.0, 0.5, 1.0]))
    assert metrics.expression_distance(talking, talking).max() == 0.0


@pytest.mark.parametrize("degrees", [0.01, 30.0, 150.0])
def test_apd_is_the_angle_between_the_rotations_however_torso_and_neck_share_it(degrees):
    turned = params(1)
    turned.rotation[0, 1] = math.radians(degrees) * 0.3
    turned.neck[0, 1] = math.radians(degrees) * 0.7
    assert float(metrics.pose_distance(turned, params(1))) == pytest.approx(degrees, rel=1e-3)


def test_apd_agrees_with_scipy():
    generator = torch.Generator().manual_seed(0)
    first, second = params(5), params(5)
    first.rotation.normal_(generator=generator)
    second.rotation.normal_(generator=generator)
    rotations = [Rotation.from_rotvec(one.rotation.numpy()) for one in (first, second)]
    expected = np.rad2deg((rotations[0].inv() * rotations[1]).magnitude())
    np.testing.assert_allclose(metrics.pose_distance(first, second).numpy(), expected, rtol=1e-4)


def test_akd_of_a_shift_is_its_length():
    points = np.random.default_rng(0).normal(size=(478, 3))
    assert metrics.keypoint_distance(points, points + np.array([3.0, 4.0, 100.0])) == pytest.approx(5.0)


def test_jitter_is_nothing_for_even_motion_and_four_amplitudes_for_a_tremor():
    time = torch.arange(20.0)
    even = torch.stack([3.0 * time, -time], -1)[:, None]
    tremor = even.clone()
    tremor[:, 0, 0] += 0.5 * (-1.0) ** time
    assert metrics.jitter(even) == pytest.approx(0.0, abs=1e-5)
    assert metrics.jitter(tremor) == pytest.approx(2.0, rel=1e-5)
    assert metrics.jitter(even[:2]) == 0.0
    cut_off = even.clone()
    cut_off[10:] += 100.0
    assert metrics.jitter(cut_off, torch.arange(20) != 10) == pytest.approx(0.0, abs=1e-5)
