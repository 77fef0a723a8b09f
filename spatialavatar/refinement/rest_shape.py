"""Ours, beyond the paper: the rest head itself, refined smoothly at the start of a run, then frozen.

Landmarks say little about the crown, the ears and the neck, and a photo's silhouette says it from one side only. Single
Gaussians mend that only by leaving the surface, each alone. Here the rest vertices move together: what is optimised is
u in (I + l L) d = u, with L the mesh's Laplacian, so that steps of single vertices become smooth displacements d
(Nicolet et al., "Large steps in inverse rendering of geometry", 2021). Lids, lips, eyes and mouth stay where the
tracker fits them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from scipy.sparse.linalg import splu
from torch import Tensor

from spatialavatar.head import HeadModel
from spatialavatar.head.arkit import ARKIT_INDEX

_FIXED = ("lips", "mouth", "tongue", "teeth_upper", "teeth_lower", "eye_left", "eye_right")
_LID_TRAVEL = 0.0003  # metres; what a blink moves further stays


class RestShape:
    """Smooth displacements of the rest vertices.

    Attributes:
        tensors: {"u": (M, 3)} for the M movable vertices; zero at first.
    """

    def __init__(self, head: HeadModel, smoothness: float) -> None:
        """Factor the system for a head; ``smoothness`` is l, about the square of a length in edges."""
        movable = _movable(head)
        self._movable = torch.from_numpy(movable).to(head.device)
        self._count = len(head.template)
        laplacian = _laplacian(head.faces.cpu().numpy(), self._count)[movable][:, movable]
        factors = splu((sp.identity(len(movable), format="csc") + smoothness * laplacian).tocsc())
        self._solve: Callable[[np.ndarray], np.ndarray] = factors.solve
        self.tensors = {"u": torch.zeros(len(movable), 3, device=head.device).requires_grad_()}

    def displacement(self) -> Tensor:
        """(V, 3) metres, head space."""
        moved = _Solve.apply(self.tensors["u"], self._solve)
        still = torch.zeros(self._count, 3, device=moved.device)
        return still.index_copy(0, self._movable, moved)


class _Solve(torch.autograd.Function):
    """x with A x = u for a symmetric A, which is therefore its own transpose in the backward pass."""

    @staticmethod
    def forward(ctx: Any, u: Tensor, solve: Callable[[np.ndarray], np.ndarray]) -> Tensor:
        ctx.solve = solve
        return _apply(solve, u)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return _apply(ctx.solve, grad), None


def _apply(solve: Callable[[np.ndarray], np.ndarray], values: Tensor) -> Tensor:
    return torch.from_numpy(solve(values.detach().cpu().double().numpy())).to(values)


def _movable(head: HeadModel) -> np.ndarray:
    """Indices of the vertices that may move."""
    fixed = head.part_vertices(*head.having(*_FIXED))
    lids = head.arkit_to_expression[[ARKIT_INDEX["eyeBlinkLeft"], ARKIT_INDEX["eyeBlinkRight"]]]
    travel = torch.tensordot(lids, head.expression_basis, 1).norm(dim=-1).amax(0)
    return (~fixed & (travel < _LID_TRAVEL)).nonzero().squeeze(-1).cpu().numpy()


def _laplacian(faces: np.ndarray, count: int) -> sp.csr_matrix:
    """The graph Laplacian (V, V) of the mesh's edges, each row divided by the mean degree."""
    edges = np.unique(np.sort(np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]), axis=1), axis=0)
    both = np.concatenate([edges, edges[:, ::-1]])
    adjacency = sp.csr_matrix((np.ones(len(both)), (both[:, 0], both[:, 1])), shape=(count, count))
    return ((sp.diags(np.asarray(adjacency.sum(1)).ravel()) - adjacency) / 6.0).tocsr()
