"""The photometric pass: the last pixels of a track's drift, taken out by comparing the avatar's render with the frames.

Landmarks tell where a face is to a hundredth of the distance of its eyes, with errors that stay the same from frame to
frame. A render of the person tells more. Each frame's pose, jaw and a few expression units are moved until the render
lies on the picture, by Gauss-Newton: how a pixel's colour answers to a parameter is the picture's gradient there times
how the surface under it moves on screen (Lucas and Kanade, "An iterative image registration technique", 1981; the
gradient is the mean of both pictures', as in Benhimane and Malis, "Real-time image-based tracking of planes using
efficient second-order minimization", 2004). No gradient of the rasteriser is needed, and a frame takes as many renders
as steps.

The landmark fit is the prior, with the information matrix of its own landmarks: what they know well stays, what they
hardly see (depth, a nod) is the picture's to say. Afterwards the corrections of neighbouring frames are drawn together,
each as far as its own picture leaves it open.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from scipy.linalg import solveh_banded
from torch import Tensor

from spatialavatar.avatar import Avatar
from spatialavatar.errors import FormatError, InputError
from spatialavatar.head import HeadModel
from spatialavatar.head.arkit import ARKIT_INDEX
from spatialavatar.head.rotations import axis_angle_to_matrix, matrix_to_axis_angle
from spatialavatar.progress import Progress, part, silent
from spatialavatar.records import BODY_SKIN, CLOTHES, Camera, HeadParams, Track
from spatialavatar.refinement.config import RefineConfig
from spatialavatar.refinement.deformation import Deformer, TriangleCarriers
from spatialavatar.refinement.loop import refine, screen_blur
from spatialavatar.render import rasterize_view
from spatialavatar.render.mesh import rasterize_mesh
from spatialavatar.threads import one_torch_thread
from spatialavatar.tracking.io import load_track, save_track

SHORT_REFINEMENT = 150
"""Steps in which an avatar gets used to a clip, before heads are aligned by it."""

_JAW = 3  # angles
_STEPS = {"jaw": 0.02, "unit": 0.1}  # of the differences that tell how the surface follows
_SOLID = 0.95  # matte and render cover a pixel that is compared at least so far
_FEWEST = 150  # compared pixels with fewer of which a frame says nothing
_LEAST_NOISE = 0.01  # standard deviation of a channel below which no render agrees with a frame
_SHORT_SIZE = 256  # pixels, of the short refinement
_BOUNDS = (0.0, 1.1)  # of named expression units, as in the landmark fit


@dataclass(frozen=True)
class PhotometricConfig:
    """Constants of the pass. Deviations are of a frame's correction, in the unit of what they belong to.

    Attributes:
        sizes: width of the frame, pixels, in each step of a frame, coarse to fine.
        units: expression units that may move, by name: those that move much skin and that a picture shows.
        statistical_units: how many coefficients may move on a head whose units have other names.
        evidence: how many independent pixels the correlated ones of a face count for.
        landmark_evidence: how many independent landmarks the landmark fit counts for.
        landmark_sigma: standard deviation of a landmark, as a part of the face's height.
        robust_scale: difference, in standard deviations, at which a pixel has lost three quarters of its weight.
        rotation_sigma, translation_sigma, jaw_sigma, unit_sigma: radians, metres, radians, expression weight.
        rotation_drift, translation_drift, jaw_drift, unit_drift: how much a correction changes within 1/25 s.
    """

    sizes: tuple[int, ...] = (96, 192, 192)
    units: tuple[str, ...] = (
        "browDownLeft",
        "browDownRight",
        "browInnerUp",
        "browOuterUpLeft",
        "browOuterUpRight",
        "mouthClose",
        "mouthFunnel",
        "mouthLeft",
        "mouthLowerDownLeft",
        "mouthLowerDownRight",
        "mouthPucker",
        "mouthRight",
        "mouthSmileLeft",
        "mouthSmileRight",
        "mouthUpperUpLeft",
        "mouthUpperUpRight",
    )
    statistical_units: int = 10
    evidence: float = 1000.0
    landmark_evidence: float = 60.0
    landmark_sigma: float = 0.005
    robust_scale: float = 2.0
    rotation_sigma: float = 0.1
    translation_sigma: float = 0.02
    jaw_sigma: float = 0.05
    unit_sigma: float = 0.15
    rotation_drift: float = 0.003
    translation_drift: float = 0.0005
    jaw_drift: float = 0.01
    unit_drift: float = 0.03


@dataclass(frozen=True)
class Alignment:
    """What the pass did.

    Attributes:
        track: the track with corrected parameters; frames without a face, or in which the correction made the render no
            more like the frame, are as they were.
        before: (T,) mean absolute difference of render and frame over the pixels compared, colours in [0, 1]; NaN where
            there was nothing to compare.
        after: (T,) the same, corrected.
    """

    track: Track
    before: Tensor
    after: Tensor

    def __str__(self) -> str:
        """For people: one sentence."""
        compared = ~self.before.isnan()
        if not bool(compared.any()):
            return "No frame shows enough of the head to be compared with a render; the track is as it was."
        moved = int((self.after < self.before).sum())
        before, after = (100.0 * float(values[compared].mean()) for values in (self.before, self.after))
        return (
            f"{moved} of {len(self.before)} frames were aligned; render and frame differ by {after:.2f} % of full "
            f"scale, {before:.2f} % before."
        )


def align(
    avatar: Avatar,
    track: Track,
    config: PhotometricConfig | None = None,
    *,
    seen: Tensor | None = None,
    progress: Progress | None = None,
) -> Alignment:
    """Move the head of each frame of a track onto its picture by means of an avatar of the person.

    Frames are independent but for the last, cheap step, so memory does not grow with them. Runs on the CPU.

    Args:
        avatar: of the person in the track; the more alike, the better. It is posed with the track's shape.
        track: with pictures and mattes, tracked with the avatar's head model.
        config: constants.
        seen: (H, W) bool, the pixels of the crop that may be looked at; all by default.
        progress: called with (fraction, message).

    Raises:
        FormatError: the track belongs to another head model.
        InputError: it holds no pictures, or ``seen`` is not of their size.
    """
    _check(avatar, track, seen)
    report = progress or silent
    aligner = _Aligner(avatar.to("cpu"), track.to("cpu"), config or PhotometricConfig(), seen)
    frames = (track.confidence > 0).nonzero().squeeze(1).tolist()
    fits: list[_Fit] = []
    with one_torch_thread():
        for number, frame in enumerate(frames, 1):
            fits.append(aligner.fit(frame))
            report(number / len(frames), f"Aligning frame {number} of {len(frames)}")
        return aligner.result(frames, fits)


def photometric_pass(
    avatar: Avatar,
    track: Track,
    config: PhotometricConfig | None = None,
    *,
    holdout: float = 0.0,
    steps: int = SHORT_REFINEMENT,
    seed: int = 0,
    progress: Progress | None = None,
) -> Alignment:
    """:func:`align` by means of the avatar as the clip shows it: after a short refinement on the same track.

    An avatar of a photo has that photo's light and one view's mistakes, which would pull at the head. A short
    refinement averages over what the track's drift blurs, and takes seconds.

    Args:
        avatar: of the person.
        track: as for :func:`align`, of a video.
        config: constants of the alignment.
        holdout: share of the clip, at its end, that the refinement does not learn from; its heads are aligned all the
            same.
        steps: of the refinement; 0 is none.
        seed: of the refinement.
        progress: called with (fraction, message).

    Raises:
        FormatError: the track belongs to another head model.
        InputError: it holds no pictures, too few frames, or shows nothing.
    """
    report = progress or silent
    if steps > 0:
        short = RefineConfig(iterations=steps, size=_SHORT_SIZE, holdout=holdout)
        for step in refine(avatar, track, short, seed=seed):
            report(0.2 * step.fraction, f"Fitting the avatar to the clip, step {step.iteration} of {steps}")
        avatar = step.avatar
    return align(avatar, track, config, progress=part(report, 0.2, 1.0))


def heads_beside(checkpoint: Path) -> Path:
    """Where the heads of the run lie that leaves ``checkpoint``."""
    return checkpoint.with_name(f"{checkpoint.name}.heads")


def aligned_heads(
    avatar: Avatar,
    track: Track,
    kept: Path | None,
    *,
    holdout: float = 0.0,
    steps: int = SHORT_REFINEMENT,
    seed: int = 0,
    progress: Progress | None = None,
) -> tuple[Track, list[str]]:
    """:func:`photometric_pass`, once: a refinement that goes on where it stopped has to go on with the same heads.

    Args:
        avatar: as for :func:`photometric_pass`.
        track: the same.
        kept: a file for the corrected parameters; where it exists, they are read from it. None keeps nothing.
        holdout: as for :func:`photometric_pass`.
        steps: of the refinement that follows; the short one of the pass is never longer.
        seed: as for :func:`photometric_pass`.
        progress: the same.

    Returns:
        The corrected track, and a sentence of what was done where it was done now.

    Raises:
        FormatError: the track belongs to another head model, or ``kept`` to another clip.
        InputError: as for :func:`photometric_pass`.
        OutputError: ``kept`` cannot be written.
    """
    if kept is not None and kept.exists():
        found = load_track(kept)
        if len(found) != len(track) or found.head_id != track.head_id:
            raise FormatError(f"{kept.name} belongs to another clip; delete it and start again.")
        return track.replace(params=found.params, neutral_expression=found.neutral_expression), []
    steps = min(SHORT_REFINEMENT, steps)
    aligned = photometric_pass(avatar, track, holdout=holdout, steps=steps, seed=seed, progress=progress)
    if kept is not None:
        save_track(aligned.track.replace(images=None, mattes=None, segments=None), kept)
    return aligned.track, [str(aligned)]


def _check(avatar: Avatar, track: Track, seen: Tensor | None) -> None:
    if track.head_id != avatar.head.id:
        raise FormatError(
            f"The video was tracked with the head model {track.head_id!r} but the avatar stands on {avatar.head.id!r}; "
            "track the video again with that head."
        )
    if track.images is None or track.mattes is None:
        raise InputError("The track holds no pictures to compare with; track the video itself, with its images kept.")
    if seen is not None and seen.shape != track.images.shape[1:3]:
        raise InputError(
            f"The mask of pixels to look at is {tuple(seen.shape)}, not {tuple(track.images.shape[1:3])} as the crop."
        )


@dataclass(frozen=True)
class _Fit:
    """One frame's correction, its information, and the differences without and with it."""

    change: Tensor  # (P,) float64
    information: Tensor  # (P, P) float64
    before: float
    after: float


@dataclass(frozen=True)
class _Target:
    """A frame at one size: its picture (H, W, 3) and which of its pixels are solid skin or hair of the head (H, W)."""

    image: Tensor
    usable: Tensor


@dataclass(frozen=True)
class _Comparison:
    """A render against a frame, at M pixels.

    Attributes:
        camera: of the picture.
        face: (M,) triangle under each pixel.
        bary: (M, 3) weights of its corners.
        difference: (M, 3) exposed render minus frame.
        gradient: (M, 3, 2) of the mean of both pictures, per pixel to the right and down.
    """

    camera: Camera
    face: Tensor
    bary: Tensor
    difference: Tensor
    gradient: Tensor

    @property
    def error(self) -> float:
        """Mean absolute difference; NaN where too few pixels are compared."""
        return float(self.difference.abs().mean()) if len(self.difference) >= _FEWEST else float("nan")


class _Aligner:
    """What all frames of a clip share.

    A correction is a vector of P: rotation about the face's centre (3), translation (3), jaw (3), expression units.
    """

    def __init__(self, avatar: Avatar, track: Track, config: PhotometricConfig, seen: Tensor | None) -> None:
        self._head, self._track, self._config, self._seen = avatar.head, track, config, seen
        self._gaussians = avatar.gaussians
        self._identity = avatar.head.identity(track.params.shape, avatar.vertex_offsets)
        self._deformer = Deformer(avatar.head, avatar.layout, self._identity, avatar.residual)
        self._faces = avatar.head.faces.numpy().astype(np.int32)
        # The neck bends where the track has none, and what hangs below it is no head.
        self._of_head = ~avatar.head.part_faces(*avatar.head.having("neck"))
        self._units = _units(avatar.head, config)
        self._marked = bool(avatar.head.landmark_embeddings)
        self._prior = self._by_kind("sigma").pow(-2)
        # A correction wanders: its variance grows with time.
        step = 25.0 / track.fps if track.fps > 0 else 1.0
        self._stiffness = self._by_kind("drift").pow(-2) / step

    def _by_kind(self, what: str) -> Tensor:
        """(P,) float64: a constant of the configuration for every entry of a correction."""
        counts = {"rotation": 3, "translation": 3, "jaw": _JAW, "unit": len(self._units)}
        values = [torch.full((n,), float(getattr(self._config, f"{kind}_{what}"))) for kind, n in counts.items()]
        return torch.cat(values).double()

    # -- one frame ----------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def fit(self, frame: int) -> _Fit:
        """The correction of one frame, as its picture and its landmark fit want it."""
        tracked = self._track.params[frame]
        vertices, directions = self._directions(tracked)
        centre = self._centre(vertices)
        prior = torch.diag(self._prior) + self._landmark_information(vertices, directions, centre)
        targets = {size: self._target(frame, size) for size in set(self._config.sizes)}
        change = torch.zeros(len(prior), dtype=torch.float64)
        information, before = prior, float("nan")
        for number, size in enumerate(self._config.sizes):
            carriers = self._deformer.frame(self.corrected(tracked, change, centre))
            compared = self._compare(carriers, targets[size])
            if number == 0:
                before = compared.error
            if not compared.error >= 0.0:
                return _Fit(torch.zeros_like(change), prior, before, before)
            hessian, gradient = self._normal_equations(compared, carriers.vertices, directions, centre)
            information = hessian + prior
            change = change - torch.linalg.solve(information, gradient + prior @ change)
        carriers = self._deformer.frame(self.corrected(tracked, change, centre))
        after = self._compare(carriers, targets[self._config.sizes[0]]).error
        if not after < before:
            return _Fit(torch.zeros_like(change), prior, before, before)
        return _Fit(change, information, before, after)

    def corrected(self, tracked: HeadParams, change: Tensor, centre: Tensor) -> HeadParams:
        """One frame's parameters with a correction (P,) applied; the rotation is about ``centre`` (3,), world."""
        rotation, translation, jaw, units = change.float().split([3, 3, _JAW, len(self._units)])
        turn = axis_angle_to_matrix(rotation)
        root = self._identity.joints[0]
        moved = turn @ (root + tracked.translation[0] - centre) + centre + translation - root
        expression = tracked.expression.clone()
        start = expression[0, self._units]
        low, high = start.clamp_max(_BOUNDS[0]), start.clamp_min(_BOUNDS[1])
        wanted = start + units
        named = torch.tensor(
            [self._head.expressions[int(unit)] in ARKIT_INDEX for unit in self._units], dtype=torch.bool
        )
        expression[0, self._units] = torch.where(named, wanted.clamp(low, high), wanted)
        return tracked.replace(
            rotation=matrix_to_axis_angle(turn @ axis_angle_to_matrix(tracked.rotation)),
            translation=moved[None],
            jaw=tracked.jaw + jaw,
            expression=expression,
        )

    def _directions(self, tracked: HeadParams) -> tuple[Tensor, Tensor]:
        """Posed vertices (V, 3) and their derivatives (P - 6, V, 3) by jaw and units, metres, world."""
        count = _JAW + len(self._units)
        steps = torch.tensor([_STEPS["jaw"]] * _JAW + [_STEPS["unit"]] * len(self._units))
        varied = tracked[torch.zeros(1 + count, dtype=torch.long)]
        jaw, expression = varied.jaw.clone(), varied.expression.clone()
        rows = torch.arange(count) + 1
        jaw[rows[:_JAW], torch.arange(_JAW)] += steps[:_JAW]
        expression[rows[_JAW:], self._units] += steps[_JAW:]
        vertices = self._head.pose(self._identity, varied.replace(jaw=jaw, expression=expression))
        return vertices[0], (vertices[1:] - vertices[0]) / steps[:, None, None]

    def _centre(self, vertices: Tensor) -> Tensor:
        """(3,) middle of the face, world; of the head where it has no landmarks."""
        return (self._landmarks(vertices) if self._marked else vertices).mean(0)

    def _landmarks(self, values: Tensor) -> Tensor:
        """Vertex values (V, 3) at the head's landmarks (L, 3)."""
        return self._head.landmarks(values, max(self._head.landmark_embeddings))

    def _landmark_information(self, vertices: Tensor, directions: Tensor, centre: Tensor) -> Tensor:
        """(P, P): how firmly the landmarks of a frame hold its parameters; 0 where the head has none."""
        if not self._marked:
            return torch.zeros(len(self._prior), len(self._prior), dtype=torch.float64)
        points = self._landmarks(vertices)
        moves = self._landmarks(_with_rigid(vertices, directions, centre))
        pixels = self._track.camera.project(points)
        rows = _on_screen(points, moves, self._track.camera).permute(1, 2, 0).flatten(0, 1).double()
        sigma = self._config.landmark_sigma * float((pixels.amax(0) - pixels.amin(0)).max())
        return rows.mT @ rows * (self._config.landmark_evidence / (len(points) * sigma**2))

    # -- render against frame -----------------------------------------------------------------------------------------

    def _target(self, frame: int, size: int) -> _Target:
        """A frame scaled to ``size``, and which pixels of it may be compared."""
        track = self._track
        assert track.images is not None
        assert track.mattes is not None
        usable = _scaled(track.mattes[frame], size) > _SOLID
        if track.segments is not None:
            classes = track.segments[frame]
            other = _scaled(((classes == BODY_SKIN) | (classes == CLOTHES)).byte() * 255, size)
            usable &= _grown(other) < 1.0 - _SOLID
        if self._seen is not None:
            # The gradient at a pixel looks at its neighbours: they must be ours to look at, too.
            usable &= _grown(1.0 - _scaled(self._seen.byte() * 255, size)) == 0.0
        return _Target(_scaled(track.images[frame], size), usable)

    def _compare(self, carriers: TriangleCarriers, target: _Target) -> _Comparison:
        """Render a posed head and lay it on a frame, at the frame's exposure."""
        size = len(target.image)
        camera = self._track.camera.resized(size, size)
        world = self._deformer.carry(self._gaussians, carriers)
        color, alpha, _ = rasterize_view(world, camera, eps2d=screen_blur(size / self._track.camera.width))
        image = color / alpha.clamp_min(0.5)
        mesh = rasterize_mesh(
            camera.to_camera(carriers.vertices).numpy(), self._faces, camera.intrinsics.numpy(), size, size
        )
        face = torch.from_numpy(mesh.face).long()
        chosen = target.usable & (alpha[..., 0] > _SOLID) & (face >= 0)
        chosen &= self._of_head[face.clamp_min(0)]
        gain = _exposure(image[chosen], target.image[chosen])
        gradient = _gradient(0.5 * (gain * image + target.image))
        return _Comparison(
            camera,
            face[chosen],
            torch.from_numpy(mesh.bary)[chosen],
            gain * image[chosen] - target.image[chosen],
            gradient[chosen],
        )

    def _normal_equations(
        self, compared: _Comparison, vertices: Tensor, directions: Tensor, centre: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The photometric part's matrix (P, P) and gradient (P,)."""
        size = compared.difference.square().mean(-1).sqrt()
        noise = (1.48 * size.median()).clamp_min(_LEAST_NOISE)  # the deviation of normal noise by its median
        weight = (1.0 + (size / (self._config.robust_scale * noise)).square()).pow(-2)  # Geman-McClure
        # A surface that moves to the right brings the colours from its left: hence the sign.
        slope = -compared.gradient
        stretch = (slope * weight[:, None, None]).mT @ slope
        pull = ((weight[:, None] * compared.difference)[:, None] @ slope)[:, 0]
        moves = _on_screen(vertices, _with_rigid(vertices, directions, centre), compared.camera)
        moves = moves.movedim(0, -1).flatten(1)  # (V, 2 P)
        corners = self._head.faces[compared.face]
        flow = sum(moves.index_select(0, corners[:, k]) * compared.bary[:, k : k + 1] for k in range(3))
        flow = flow.unflatten(1, (2, -1))  # type: ignore[union-attr]
        hessian = flow.flatten(0, 1).mT @ (stretch @ flow).flatten(0, 1)
        gradient = flow.flatten(0, 1).mT @ pull.flatten()
        share = self._config.evidence / (3.0 * noise**2 * weight.sum())
        return (share * hessian).double(), (share * gradient).double()

    # -- the clip -----------------------------------------------------------------------------------------------------

    def result(self, frames: Sequence[int], fits: Sequence[_Fit]) -> Alignment:
        """Draw neighbouring corrections together and apply them."""
        track = self._track
        before, after = torch.full((len(track),), torch.nan), torch.full((len(track),), torch.nan)
        if not frames:
            return Alignment(track, before, after)
        index = torch.tensor(frames)
        before[index] = torch.tensor([fit.before for fit in fits])
        after[index] = torch.tensor([fit.after for fit in fits])
        changes = drawn_together(
            torch.stack([fit.change for fit in fits]),
            torch.stack([fit.information for fit in fits]),
            self._stiffness,
            _linked(track, frames),
        )
        parts = [track.params[frame] for frame in range(len(track))]
        for frame, change in zip(frames, changes):
            centre = self._centre(self._head.pose(self._identity, parts[frame])[0])
            parts[frame] = self.corrected(parts[frame], change, centre)
        params = HeadParams.cat(parts)
        track = track.replace(params=params, neutral_expression=_moved_neutral(track, params, index))
        return Alignment(track, before, after)


def drawn_together(changes: Tensor, information: Tensor, stiffness: Tensor, linked: Sequence[bool]) -> Tensor:
    """Corrections (T, P) such that each keeps to its own and to its neighbours.

    The least of sum_t (x_t - c_t)' A_t (x_t - c_t) + sum_(t linked) (x_t - x_t-1)' diag(w) (x_t - x_t-1): what a Kalman
    smoother finds, as one banded system.

    Args:
        changes: (T, P) float64, c.
        information: (T, P, P) float64, A.
        stiffness: (P,) float64, w.
        linked: T flags, whether a frame goes on from the one before; that of the first is not looked at.
    """
    count, width = changes.shape
    blocks = information.clone()
    band = np.zeros((2 * width, count * width))  # row k holds the k-th diagonal below the main one
    for t in range(1, count):
        if linked[t]:
            blocks[t - 1 : t + 1].diagonal(dim1=1, dim2=2).add_(stiffness)
            band[width, (t - 1) * width : t * width] = -stiffness.numpy()
    for column in range(width):
        for row in range(column, width):
            band[row - column, column::width] = blocks[:, row, column].numpy()
    right = (information @ changes[..., None]).flatten().numpy()
    return torch.from_numpy(solveh_banded(band, right, lower=True)).reshape(count, width)


def _units(head: HeadModel, config: PhotometricConfig) -> Tensor:
    """Indices of the expression coefficients that may move."""
    named = [head.expressions.index(name) for name in config.units if name in head.expressions]
    return torch.tensor(named or list(range(min(config.statistical_units, head.expression_count))), dtype=torch.long)


def _linked(track: Track, frames: Sequence[int]) -> list[bool]:
    """Whether each of the frames goes on from the one before it in the list: neither a gap nor a cut between them."""
    shot = torch.zeros(len(track)) if track.quality is None else track.quality.shot
    return [False, *(b - a == 1 and bool(shot[a] == shot[b]) for a, b in pairwise(frames))]


def _moved_neutral(track: Track, params: HeadParams, frames: Tensor) -> Tensor | None:
    """The clip's neutral, moved as the corrections move the middle of the clip."""
    if track.neutral_expression is None:
        return None

    def middle(one: HeadParams) -> Tensor:
        return torch.cat([one.expression, one.jaw, one.eyes], 1)[frames].median(0).values

    return track.neutral_expression + middle(params) - middle(track.params)


def _with_rigid(vertices: Tensor, directions: Tensor, centre: Tensor) -> Tensor:
    """(P, V, 3): how points (V, 3) move with a rotation about ``centre``, a translation, and along ``directions``."""
    axes = torch.eye(3)[:, None].expand(3, len(vertices), 3)
    return torch.cat([torch.linalg.cross(axes, (vertices - centre).expand_as(axes)), axes, directions])


def _on_screen(points: Tensor, moves: Tensor, camera: Camera) -> Tensor:
    """Derivatives of pixels (P, N, 2) for points (N, 3) that move by (P, N, 3), world."""
    x, y, z = camera.to_camera(points).unbind(-1)
    dx, dy, dz = (moves @ camera.world_to_camera[:3, :3].T).unbind(-1)
    focal_x, focal_y = camera.intrinsics[0, 0] / z, camera.intrinsics[1, 1] / z
    return torch.stack([focal_x * (dx - x / z * dz), focal_y * (dy - y / z * dz)], -1)


def _exposure(rendered: Tensor, target: Tensor) -> Tensor:
    """(3,) gains by which rendered colours (M, 3) come nearest to the target's, with little regard for outliers."""
    gain = torch.ones(3)
    for _ in range(2):
        weight = 1.0 / ((gain * rendered - target).abs().mean(-1, keepdim=True) + 2.0 * _LEAST_NOISE)
        product = (weight * rendered * target).sum(0)
        gain = (product / (weight * rendered.square()).sum(0).clamp_min(1e-6)).clamp(0.5, 2.0)
    return gain


def _gradient(image: Tensor) -> Tensor:
    """Central differences (H, W, C, 2) of a picture (H, W, C), per pixel to the right and down; 0 on its border."""
    right, down = torch.zeros_like(image), torch.zeros_like(image)
    right[:, 1:-1] = 0.5 * (image[:, 2:] - image[:, :-2])
    down[1:-1] = 0.5 * (image[2:] - image[:-2])
    return torch.stack([right, down], -1)


def _scaled(pixels: Tensor, size: int) -> Tensor:
    """(H, W) or (H, W, C) uint8 as float in [0, 1], averaged down to a width and height of ``size``."""
    planes = pixels.reshape(*pixels.shape[:2], -1).movedim(-1, 0)[None].float()
    if size != pixels.shape[0]:
        planes = torch.nn.functional.interpolate(planes, (size, size), mode="area")
    return (planes[0].movedim(0, -1) / 255.0).reshape(size, size, *pixels.shape[2:])


def _grown(values: Tensor) -> Tensor:
    """(H, W): the largest value of each pixel and its eight neighbours."""
    return torch.nn.functional.max_pool2d(values[None, None], 3, 1, 1)[0, 0]
