"""The arguments of the backends: a checked scene of Gaussians and cameras, and the settings of the pictures."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor

from spatialavatar.errors import InputError


@dataclass(frozen=True, eq=False)
class Scene:
    """Gaussians and cameras; names and shapes as in :func:`spatialavatar.render.rasterize`."""

    means: Tensor
    quats: Tensor
    scales: Tensor
    opacities: Tensor
    colors: Tensor
    viewmats: Tensor
    Ks: Tensor

    def __iter__(self) -> Iterator[Tensor]:
        """Iterate over the tensors in the order of the fields."""
        return iter((self.means, self.quats, self.scales, self.opacities, self.colors, self.viewmats, self.Ks))

    def float(self) -> Scene:
        """Return a copy in float32."""
        return Scene(*(tensor.float() for tensor in self))

    @property
    def per_camera(self) -> bool:
        """Whether each camera has colours of its own, (..., C, N, D)."""
        return self.colors.ndim == self.means.ndim + 1

    def check(self, backgrounds: Tensor | None) -> None:
        """Compare the shapes.

        Args:
            backgrounds: (..., C, D), or None.

        Raises:
            InputError: two shapes disagree.
        """
        means, viewmats = self.means, self.viewmats
        if means.ndim < 2 or viewmats.ndim != means.ndim + 1:
            shapes = f"{tuple(means.shape)} and {tuple(viewmats.shape)}"
            raise InputError(f"means must be (..., N, 3) and viewmats (..., C, 4, 4), not {shapes}.")
        batch, n, cameras, channels = (
            tuple(means.shape[:-2]),
            means.shape[-2],
            viewmats.shape[-3],
            self.colors.shape[-1],
        )
        expected = {
            "means": (means, (*batch, n, 3)),
            "quats": (self.quats, (*batch, n, 4)),
            "scales": (self.scales, (*batch, n, 3)),
            "opacities": (self.opacities, (*batch, n)),
            "colors": (self.colors, (*batch, cameras, n, channels) if self.per_camera else (*batch, n, channels)),
            "viewmats": (viewmats, (*batch, cameras, 4, 4)),
            "Ks": (self.Ks, (*batch, cameras, 3, 3)),
        }
        if backgrounds is not None:
            expected["backgrounds"] = (backgrounds, (*batch, cameras, channels))
        for name, (tensor, shape) in expected.items():
            if tuple(tensor.shape) != shape:
                raise InputError(f"{name} has shape {tuple(tensor.shape)}, not {shape}.")


@dataclass(frozen=True)
class Settings:
    """All values of a picture that are not tensors; names as in :func:`spatialavatar.render.rasterize`."""

    width: int
    height: int
    near_plane: float = 0.01
    far_plane: float = 1e10
    eps2d: float = 0.3
    radius_clip: float = 0.0
