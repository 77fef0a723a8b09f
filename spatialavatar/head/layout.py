"""The UV layout: one Gaussian per valid texel, the same for every subject and frame (method section 1)."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from spatialavatar.errors import FormatError
from spatialavatar.head.model import HeadModel
from spatialavatar.records import Record
from spatialavatar.render.mesh import rasterize_uv


@dataclass(frozen=True)
class UVLayout(Record):
    """The binding of N Gaussians: a triangle and a point on it for each.

    Attributes:
        id: hash of everything below; an avatar is valid only with the layout of the same id.
        resolution: U, texels per side of the UV picture.
        texels: (N,) int64 index row * U + column, increasing.
        faces: (N,) int64 triangle of each Gaussian.
        bary: (N, 3) float32 barycentric weights of the texel centre on it.
        parts: (N,) int64 index into the head's part names.
    """

    id: str
    resolution: int
    texels: Tensor
    faces: Tensor
    bary: Tensor
    parts: Tensor

    def __len__(self) -> int:
        return int(self.texels.shape[0])

    def mask(self, head: HeadModel, *parts: str) -> Tensor:
        """(N,) bool: the Gaussians on any of the named parts."""
        return head.part_faces(*parts)[self.faces]

    def surface(self, head: HeadModel, vertices: Tensor) -> Tensor:
        """Points of the texels (..., N, 3) on vertices (..., V, 3)."""
        return (vertices[..., head.faces[self.faces], :] * self.bary[..., None]).sum(-2)

    def to_image(self, values: Tensor, fill: float = 0.0) -> Tensor:
        """Per-Gaussian values (N, C) as a UV picture (U, U, C)."""
        picture = values.new_full((self.resolution**2, values.shape[-1]), fill)
        picture.index_copy_(0, self.texels, values)  # an index in brackets takes half as long again
        return picture.unflatten(0, (self.resolution, self.resolution))

    def from_image(self, picture: Tensor) -> Tensor:
        """A UV picture (U, U, C) at the valid texels (N, C)."""
        return picture.flatten(0, 1).index_select(0, self.texels)


@lru_cache(maxsize=4)
def build_layout(head: HeadModel, resolution: int = 256) -> UVLayout:
    """Rasterise the head's UV atlas at ``resolution`` and keep the covered texels.

    Raises:
        FormatError: the head has no usable UVs.
    """
    face, bary = rasterize_uv(head.uv.cpu().numpy(), resolution)
    flat_face = torch.from_numpy(face).reshape(-1).long()
    texels = (flat_face >= 0).nonzero().squeeze(-1)
    if len(texels) == 0:
        raise FormatError(f"The head {head.id} has no UV coordinates, so no Gaussian can be placed; add a UV template.")
    faces = flat_face[texels]
    weights = torch.from_numpy(bary).reshape(-1, 3)[texels].float()
    digest = hashlib.sha256(f"{head.id}:{resolution}:".encode())
    digest.update(texels.numpy().tobytes())
    digest.update(faces.numpy().tobytes())
    # Rounded, so that the last bit of a platform's arithmetic does not change the id.
    digest.update((weights * 1e3).round().to(torch.int16).numpy().tobytes())
    return UVLayout(
        id=digest.hexdigest()[:16],
        resolution=resolution,
        texels=texels,
        faces=faces,
        bary=weights,
        parts=head.face_parts.cpu()[faces],
    ).to(head.device)
