"""A clip's frames, each with the renders of one or several methods: figures, the worst frames, a side-by-side video."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from PIL import Image
from torch import Tensor

from spatialavatar.evaluation import metrics
from spatialavatar.evaluation.evaluator import Evaluator, Face, Target, as_pixels, codes
from spatialavatar.files import atomic_output
from spatialavatar.head import HeadModel
from spatialavatar.media import VideoWriter

_WORST: Final = 4
_ERROR_GAIN: Final = 4.0  # errors of a few grey levels are to be seen


@dataclass(frozen=True)
class ComparisonFiles:
    """The files of a comparison.

    Attributes:
        folder: where they go.
        name: of the clip: ``name``.mp4 and ``name``.png.
        fps: of the video; 0 makes none (photos).
    """

    folder: Path
    name: str
    fps: float


@dataclass(frozen=True, eq=False)
class RenderedFrame:
    """One method's render of a frame.

    Attributes:
        image: (512, 512, 3) float32 over white.
        alpha: (512, 512) float32; None where it is unknown (pictures of other programs).
        milliseconds: that the render took, or None.
        own_view: the camera is not the target's: the target's region is not applied, and codes are not compared.
    """

    image: Tensor
    alpha: Tensor | None = None
    milliseconds: float | None = None
    own_view: bool = False


@dataclass(frozen=True, eq=False)
class TargetFrame:
    """One frame that renders are compared with.

    Attributes:
        frame: its number, or a photo's name.
        target: prepared by the evaluator.
        shape: (S,) identity with which codes are fitted, in target and render alike.
        focal: of the camera, pixels of 512.
    """

    frame: int | str
    target: Target
    shape: Tensor
    focal: float


class Comparison:
    """Collects frames one by one; use it as a context manager, so that the video is finished or removed."""

    def __init__(
        self, evaluator: Evaluator, head: HeadModel, files: ComparisonFiles, identity: np.ndarray | None = None
    ) -> None:
        """Start a clip.

        Args:
            evaluator: compares pictures.
            head: the head model whose codes AED and APD compare.
            files: video and picture of the clip.
            identity: of the avatar's source, where targets show another person (cross-reenactment): the pictures are
                then not compared, and CSIM is that with the source.
        """
        self._evaluator, self._head = evaluator, head
        self._folder, self._name, self._fps = files.folder, files.name, files.fps
        self._identity = identity
        self._frames: dict[str, list[dict[str, Any]]] = defaultdict(list)
        self._rendered: dict[str, list[tuple[int | str, Face]]] = defaultdict(list)
        self._faces: dict[str, list[tuple[dict[str, Any], Face, Face, Tensor, float]]] = defaultdict(list)
        self._worst: list[tuple[float, int | str, np.ndarray]] = []
        self._stack = ExitStack()
        self._writer: VideoWriter | None = None
        self._files: list[str] = []

    def __enter__(self) -> Comparison:
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.__exit__(*error)

    def add(self, wanted: TargetFrame, renders: Mapping[str, RenderedFrame]) -> None:
        """Compare one frame with the renders of each method."""
        frame, target = wanted.frame, wanted.target
        row = [as_pixels(target.image)]
        shown, record = target.image, {}
        for method, render in renders.items():
            shown = render.image.clamp(0.0, 1.0) if render.own_view else target.masked(render.image)
            row.append(as_pixels(shown))
            record = self._compare(wanted, method, render, shown)
            self._frames[method].append(record)
        error = (_ERROR_GAIN * (shown - target.image).abs()).clamp(0.0, 1.0)
        badness = float((shown - target.image).abs().mean()) if self._identity is None else -record.get("csim", 0.0)
        self._keep_worst(badness, frame, np.concatenate([*row, as_pixels(error)], axis=1))
        if self._fps > 0:
            self._write(np.concatenate(row, axis=1))

    def faces(self, method: str) -> list[tuple[int | str, Face]]:
        """The frames in which a face was found in a method's render, and that face."""
        return self._rendered[method]

    def _compare(self, wanted: TargetFrame, method: str, render: RenderedFrame, shown: Tensor) -> dict[str, Any]:
        """The figures of one render, which is ``shown``."""
        target = wanted.target
        record: dict[str, Any] = {"frame": wanted.frame}
        if self._identity is None:
            record |= self._evaluator.pictures(shown, target)
            if render.alpha is not None:
                record |= metrics.silhouette(render.alpha, target.person, target.region)
        face = self._evaluator.face(shown)
        if face is not None:
            self._rendered[method].append((wanted.frame, face))
        if face is not None and (target.face is not None or render.own_view):
            reference = self._identity if self._identity is not None or target.face is None else target.face.identity
            if reference is not None:
                record["csim"] = metrics.csim(face.identity, reference)
        if face is not None and target.face is not None and not render.own_view:
            if self._identity is None:
                record["akd"] = metrics.keypoint_distance(face.points, target.face.points)
            self._faces[method].append((record, face, target.face, wanted.shape, wanted.focal))
        if render.milliseconds is not None:
            record["render_ms"] = render.milliseconds
        return record

    def finish(self, whole_clip: Mapping[str, Mapping[str, float]] | None = None) -> dict[str, Any]:
        """The results by method, JSON-ready; video and picture are complete afterwards.

        Args:
            whole_clip: figures of each method that belong to no frame (jitter, seconds, ...).
        """
        self._stack.close()
        if self._worst:
            path = self._folder / f"{self._name}.png"
            picture = np.concatenate([row[::2, ::2] for _, _, row in self._worst])
            with atomic_output(path) as temporary:
                Image.fromarray(np.ascontiguousarray(picture)).save(temporary)
            self._files.append(path.name)
        for pairs in self._faces.values():
            self._compare_codes(pairs)
        methods = {}
        for method, records in self._frames.items():
            means: dict[str, float] = {}
            for name in metrics.METRICS:
                values = [record[name] for record in records if name in record]
                if values:
                    means[name] = statistics.median(values) if name == "render_ms" else statistics.fmean(values)
            means |= (whole_clip or {}).get(method, {})
            lost = sum("csim" not in record for record in records)
            methods[method] = {
                "means": {name: round(value, 6) for name, value in means.items()},
                "renders_without_a_face": lost,
                "frames": [{k: round(v, 6) if isinstance(v, float) else v for k, v in r.items()} for r in records],
            }
        return {
            "methods": methods,
            "worst": [frame for _, frame, _ in self._worst],
            "files": self._files,
        }

    def _compare_codes(self, pairs: list[tuple[dict[str, Any], Face, Face, Tensor, float]]) -> None:
        """Fill in AED and APD; frames of one shape are fitted together."""
        shapes = {id(shape): shape for *_, shape, _ in pairs}
        for key, shape in shapes.items():
            chosen = [pair for pair in pairs if id(pair[3]) == key]
            focal = [pair[4] for pair in chosen]
            rendered = codes(self._head, [pair[1] for pair in chosen], shape, focal)
            wanted = codes(self._head, [pair[2] for pair in chosen], shape, focal)
            aed, apd = metrics.expression_distance(rendered, wanted), metrics.pose_distance(rendered, wanted)
            for (record, *_), expression, pose in zip(chosen, aed.tolist(), apd.tolist()):
                record["aed"], record["apd"] = expression, pose

    def _keep_worst(self, badness: float, frame: int | str, row: np.ndarray) -> None:
        self._worst.append((badness, frame, row))
        self._worst = sorted(self._worst, key=lambda item: -item[0])[:_WORST]

    def _write(self, row: np.ndarray) -> None:
        if self._writer is None:
            path = self._folder / f"{self._name}.mp4"
            self._writer = self._stack.enter_context(VideoWriter(path, (row.shape[1], row.shape[0]), self._fps, crf=23))
            self._files.append(path.name)
        self._writer.write(row)
