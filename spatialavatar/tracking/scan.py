"""The first pass over a video: landmarks and scores of each frame, its shot, and the identity of its face.

Each frame is processed once and released; only its landmarks, its scores and a few numbers are kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, TypeAlias

import numpy as np

from spatialavatar.errors import NoFaceError
from spatialavatar.media import PictureSequence, VideoReader
from spatialavatar.progress import Progress
from spatialavatar.tracking.framing import landmark_box
from spatialavatar.tracking.landmarker import LANDMARK_COUNT, FaceLandmarker, FaceLandmarks
from spatialavatar.tracking.networks import Networks
from spatialavatar.tracking.shots import ShotCounter

Reader: TypeAlias = "VideoReader | PictureSequence"

_SAME_FACE: Final = 0.35
"""Lowest cosine of the mean embeddings of two stretches of one person; lower than for photos, as video is blurred."""
_RIVALS: Final = 4  # largest number of faces in a frame that are compared with the person's
_SAMPLE_EVERY: Final = 1.0  # seconds between two identity checks
_MIN_NOSE_SHARE: Final = 0.4  # shorter over longer distance from the nose to an eye; identity is not checked on faces
#                               that are turned further
_LEAP: Final = 0.5  # of the face's size: a face that moved further between two frames is detected again


@dataclass(frozen=True)
class Scan:
    """Detections in T frames.

    Attributes:
        points: (T, L, 2) float32 landmarks, pixels of the frames; 0 without a face.
        scores: (T, 52) float32 blendshape scores.
        presence: (T,) float32 face score in [0, 1]; 0 without a face.
        luma: (T,) float32 mean luma of the face in [0, 1]; of the whole picture without a face.
        shot: (T,) int32.
        other: (T,) bool, frames that show another person than the tracked one.
        fps: frames per second.
        warnings: sentences about the file, for people.
    """

    points: np.ndarray
    scores: np.ndarray
    presence: np.ndarray
    luma: np.ndarray
    shot: np.ndarray
    other: np.ndarray
    fps: float
    warnings: tuple[str, ...]

    @property
    def seen(self) -> np.ndarray:
        """(T,) bool: frames that show the tracked person."""
        return (self.presence > 0) & ~self.other


@dataclass
class _Stretch:
    """Consecutive frames with one face."""

    first: int
    last: int
    embeddings: list[np.ndarray] = field(default_factory=list)

    @property
    def face(self) -> np.ndarray | None:
        """The mean embedding, of length 1."""
        if not self.embeddings:
            return None
        mean = np.mean(self.embeddings, axis=0)
        return mean / max(float(np.linalg.norm(mean)), 1e-9)

    def __len__(self) -> int:
        return self.last - self.first + 1


def scan_video(reader: Reader, networks: Networks, max_frames: int | None, report: Progress) -> Scan:
    """Process every frame.

    Args:
        reader: the frames.
        networks: the landmarker and the identity network.
        max_frames: stop after this many.
        report: called with (fraction, message).

    Raises:
        NoFaceError: no frame shows a face.
        InputError: the video cannot be decoded.
    """
    expected = min(reader.frame_count_estimate, max_frames or reader.frame_count_estimate)
    scanner = _Scanner(networks, reader.fps, reader.path.name, expected)
    for count, frame in enumerate(first_frames(reader, max_frames), 1):
        scanner.look(frame)
        report(min(1.0, count / expected), f"Looking at frame {count} of {max(count, expected)}")
    return scanner.result(reader)


def first_frames(reader: Reader, count: int | None) -> Iterator[np.ndarray]:
    """The frames, at most ``count`` of them."""
    for index, frame in enumerate(reader):
        if count is not None and index >= count:
            return
        yield frame


class _Scanner:
    """Detections in the frames so far."""

    def __init__(self, networks: Networks, fps: float, name: str, expected: int) -> None:
        self._landmarker: FaceLandmarker = networks.landmarker
        self._networks = networks
        self._fps, self._name = fps, name
        self._shots = ShotCounter()
        self._points = _Rows(expected)
        self._scores = _Rows(expected)
        self._numbers = _Rows(expected)  # presence, luma, shot
        self._stretches: list[_Stretch] = []
        self._previous: FaceLandmarks | None = None
        self._company: list[str] = []

    def look(self, frame: np.ndarray) -> None:
        """Process the next frame."""
        index, shot = len(self._numbers), self._shots(frame)
        if index and shot != int(self._numbers[index - 1][2]):
            self._previous = None
        found = self._followed(frame)
        if found is None:
            found = self._acquired(frame)
            if found is not None:
                self._stretches.append(_Stretch(index, index))
                if len(self._stretches) == 1:
                    self._company = self._rivals(frame, found)
        if found is not None:
            self._stretches[-1].last = index
            self._identify(frame, found, self._stretches[-1])
        self._previous = found
        self._numbers.append(np.array([0.0 if found is None else found.presence, mean_luma(frame, found), shot]))
        self._points.append(None if found is None else found.points[:, :2])
        self._scores.append(None if found is None else found.blendshapes)

    def result(self, reader: Reader) -> Scan:
        """The detections in all frames.

        Raises:
            NoFaceError: no frame shows a face.
        """
        if not self._stretches:
            raise NoFaceError(f"No face was found in {self._name}; give a video that shows one face clearly.")
        presence, luma, shot = self._numbers.array().T
        other = np.zeros(len(presence), dtype=bool)
        for stretch in _strangers(self._stretches):
            other[stretch.first : stretch.last + 1] = True
        return Scan(
            points=self._points.array(),
            scores=self._scores.array(),
            presence=presence,
            luma=luma,
            shot=shot.astype(np.int32),
            other=other,
            fps=reader.fps,
            warnings=(*reader.warnings, *self._company),
        )

    def _followed(self, frame: np.ndarray) -> FaceLandmarks | None:
        """The face of the frame before, if it is still at the same place."""
        if self._previous is None:
            return None
        found = self._landmarker.follow(frame, self._previous)
        if found is None:
            return None
        (before, size), (now, _) = landmark_box(self._previous.points), landmark_box(found.points)
        return found if float(np.linalg.norm(now - before)) < _LEAP * size else None

    def _acquired(self, frame: np.ndarray) -> FaceLandmarks | None:
        """The face most similar to the one tracked for longest; the largest one if none is similar."""
        faces = list(self._landmarker.faces(frame, _RIVALS))
        longest = max(self._stretches, key=len, default=None)
        wanted = None if longest is None else longest.face
        if len(faces) < 2 or wanted is None:
            return faces[0] if faces else None
        cosines = [float(self._networks.identity.embed(frame, face.points) @ wanted) for face in faces]
        best = int(np.argmax(cosines))
        return faces[best if cosines[best] >= _SAME_FACE else 0]

    def _rivals(self, frame: np.ndarray, found: FaceLandmarks) -> list[str]:
        """A warning if the first frame with a face shows other faces of similar size."""
        size = landmark_box(found.points)[1]
        count = sum(detection.size > 0.3 * size for detection in self._landmarker.detect(frame))
        return [f"There are {count} faces in {self._name}; the largest one is followed."] if count > 1 else []

    def _identify(self, frame: np.ndarray, found: FaceLandmarks, stretch: _Stretch) -> None:
        """Embed the face at the start of a stretch and at regular intervals."""
        if len(found.points) != LANDMARK_COUNT:
            return
        age = stretch.last - stretch.first
        every = max(1, round(_SAMPLE_EVERY * self._fps))
        late = not stretch.embeddings and age == every // 4  # no frontal face so far; a turned one is better than none
        if late or (age % every in (0, every // 4) and _nose_share(found.points) > _MIN_NOSE_SHARE):
            stretch.embeddings.append(self._networks.identity.embed(frame, found.points))


class _Rows:
    """A growing array of rows; the first row that is not None sets their shape."""

    def __init__(self, expected: int) -> None:
        self._count, self._expected = 0, max(expected, 16)
        self._data = np.zeros(0, dtype=np.float32)

    def append(self, row: np.ndarray | None) -> None:
        """Append a row, or a row of zeros for None."""
        if row is not None and not len(self._data):
            self._data = np.zeros((max(self._expected, self._count + 16), *row.shape), dtype=np.float32)
        if len(self._data):
            if self._count >= len(self._data):
                grown = np.zeros((self._count * 5 // 4 + 16, *self._data.shape[1:]), dtype=np.float32)
                grown[: self._count] = self._data
                self._data = grown
            if row is not None:
                self._data[self._count] = row
        self._count += 1

    def array(self) -> np.ndarray:
        """(T, ...) float32; empty if all rows were None."""
        return self._data[: self._count]

    def __getitem__(self, index: int) -> np.ndarray:
        return self.array()[index]

    def __len__(self) -> int:
        return self._count


def mean_luma(frame: np.ndarray, found: FaceLandmarks | None) -> float:
    """Mean luma (Rec. 601) in [0, 1] of the face's box, or of the whole picture, from a sparse grid of its pixels."""
    part = frame
    if found is not None:
        low, high = found.points[:, :2].min(0).astype(int), np.ceil(found.points[:, :2].max(0)).astype(int)
        inside = frame[max(low[1], 0) : max(high[1], 0), max(low[0], 0) : max(high[0], 0)]
        part = inside if inside.size else frame
    step = max(1, min(part.shape[:2]) // 48)
    return float(part[::step, ::step].reshape(-1, 3).mean(0) @ np.array([0.299, 0.587, 0.114]) / 255.0)


def _strangers(stretches: list[_Stretch]) -> list[_Stretch]:
    """The stretches that do not show the person who is visible in most frames."""
    people: list[list[_Stretch]] = []
    unknown: list[_Stretch] = []
    for stretch in sorted(stretches, key=len, reverse=True):
        face = stretch.face
        if face is None:
            unknown.append(stretch)
            continue
        likeness = [max(float(face @ other.face) for other in person) for person in people]  # type: ignore[operator]
        best = int(np.argmax(likeness)) if likeness else -1
        if best >= 0 and likeness[best] >= _SAME_FACE:
            people[best].append(stretch)
        else:
            people.append([stretch])
    if not people:
        return []
    people.sort(key=lambda person: sum(map(len, person)), reverse=True)
    return [stretch for person in people[1:] for stretch in person]


def _nose_share(points: np.ndarray) -> float:
    """The shorter over the longer distance from the nose tip to an outer eye corner: 1 for a frontal face."""
    ways = [float(np.linalg.norm(points[1, :2] - points[corner, :2])) for corner in (33, 263)]
    return min(ways) / max(*ways, 1e-6)
