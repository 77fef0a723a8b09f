"""Each metric agrees with a second implementation or a closed form, and reacts as it should."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from spatialavatar.evaluation.lpips import Lpips, shared_lpips
from spatialavatar.media import read_image


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
