"""A track: motion, camera, evidence and pictures of the frames of one person."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from torch import Tensor

from spatialavatar.errors import FormatError, InputError
from spatialavatar.records.base import FrameIndex, Record, select_frames
from spatialavatar.records.parts import Camera, HeadParams

FRAME_STATES: Final = ("ok", "profile", "held", "lost", "dark", "other_person")
"""States of a video frame; in the last four the parameters are copied from another frame."""

SEGMENT_CLASSES: Final = ("background", "hair", "body_skin", "face_skin", "clothes", "others")
"""Classes of a pixel, in the segmentation network's order."""
HAIR, BODY_SKIN, CLOTHES = (SEGMENT_CLASSES.index(name) for name in ("hair", "body_skin", "clothes"))


@dataclass(frozen=True, eq=False)
class Neutral(Record):
    """Rest state of the person who moves; driving transfers only the differences from it.

    Attributes:
        expression: (E + 9,) expression coefficients, jaw (3) and eyes (6) at rest; None: all zero.
        rotation: (3,) head rotation that faces the viewer, axis-angle; None: the mean over the clip.
        translation: (3,) head position at rest, metres, world; None: the median over the clip.
    """

    expression: Tensor | None = None
    rotation: Tensor | None = None
    translation: Tensor | None = None


@dataclass(frozen=True, eq=False)
class HeadMotion(Record):
    """T frames of motion of one head model: all that driving an avatar needs.

    :class:`spatialavatar.motion.Motion` is its counterpart in ARKit weights, which belong to no head model.

    Attributes:
        params: head parameters, T frames, one shape.
        fps: frames per second; 0 for a photo.
        head_id: id of the head model that the parameters belong to.
        confidence: (T,) in [0, 1]; 0 marks a frame without a usable face, whose parameters are copied from another
            frame.
        neutral: rest state of the person.
    """

    params: HeadParams
    fps: float
    head_id: str
    confidence: Tensor
    neutral: Neutral = Neutral()

    def __len__(self) -> int:
        return len(self.params)

    def __getitem__(self, index: FrameIndex) -> HeadMotion:
        """Frames ``index`` with the same neutral."""
        return self.replace(params=self.params[index], confidence=select_frames(self.confidence, index))


@dataclass(frozen=True, eq=False)
class FrameQuality(Record):
    """Tracking quality of each of T frames; :mod:`spatialavatar.tracking.quality` summarises it.

    Attributes:
        state: (T,) uint8, index into ``FRAME_STATES``.
        error: (T,) mean distance between fitted and detected landmarks, as a fraction of the distance between the outer
            eye corners; NaN where nothing was fitted.
        presence: (T,) face score of the landmark network, in [0, 1]; 0 where it found no face.
        yaw: (T,) degrees, positive to the subject's left; NaN where nothing was fitted.
        luma: (T,) mean luma of the face in [0, 1]; of the whole picture where there is no face.
        shot: (T,) int32, number of the shot, from 0.
        jitter: (2,) of the fitted head and of the detected landmarks on the stillest frames, in the unit of ``error``;
            NaN where the clip is too short.
    """

    state: Tensor
    error: Tensor
    presence: Tensor
    yaw: Tensor
    luma: Tensor
    shot: Tensor
    jitter: Tensor

    @property
    def tracked(self) -> Tensor:
        """(T,) bool: frames whose parameters were fitted, not copied."""
        return self.state <= FRAME_STATES.index("profile")


@dataclass(frozen=True, eq=False)
class Evidence(Record):
    """Detections of the networks in T frames, to which the head is fitted.

    Attributes:
        landmarks: (T, L, 2) float32 crop pixels as detected, L = 478 or 68; None where the scores are a capture's own.
        blendshapes: (T, 52) ARKit-52 scores in the order of ``ARKIT_52``: of the landmark network, or of a capture.
        quality: tracking quality of each frame of a video; None for photos and motion files.
    """

    landmarks: Tensor | None
    blendshapes: Tensor
    quality: FrameQuality | None = None

    def __getitem__(self, index: FrameIndex) -> Evidence:
        """Frames ``index`` without their quality, which describes the clip as a whole."""
        landmarks = None if self.landmarks is None else select_frames(self.landmarks, index)
        return Evidence(landmarks, select_frames(self.blendshapes, index))

    def require_landmarks(self) -> Tensor:
        """The (T, L, 2) landmarks.

        Raises:
            InputError: there are none: the track was read from a motion file.
        """
        if self.landmarks is None:
            raise InputError("The track has no landmarks because it was read from a motion file; track a video.")
        return self.landmarks


@dataclass(frozen=True, eq=False)
class Pictures(Record):
    """Pixels of T frames, cut to the crop that the track's camera describes.

    Attributes:
        images: (T, H, W, 3) uint8 sRGB.
        mattes: (T, H, W) uint8, 255 = person.
        segments: (T, H, W) uint8, index into ``SEGMENT_CLASSES``; None where they were not computed.
    """

    images: Tensor
    mattes: Tensor
    segments: Tensor | None = None

    def __len__(self) -> int:
        return int(self.images.shape[0])

    def __getitem__(self, index: FrameIndex) -> Pictures:
        """Frames ``index``."""
        segments = None if self.segments is None else select_frames(self.segments, index)
        return Pictures(select_frames(self.images, index), select_frames(self.mattes, index), segments)

    def require_segments(self) -> Tensor:
        """The (T, H, W) classes.

        Raises:
            InputError: they were not computed.
        """
        if self.segments is None:
            raise InputError("The track has no segmentation; track the input again with this release.")
        return self.segments


@dataclass(frozen=True, eq=False)
class Surroundings(Record):
    """A photo around the crop of its track, which shows more of the torso.

    Attributes:
        image: (H, W, 3) uint8 sRGB; every pixel lies inside the photo.
        matte: (H, W) uint8, 255 = person.
        segments: (H, W) uint8, index into ``SEGMENT_CLASSES``.
        camera: the camera of these pixels; the same as that of the crop, but of a wider window.
    """

    image: Tensor
    matte: Tensor
    segments: Tensor
    camera: Camera


@dataclass(frozen=True, eq=False)
class Track(Record):
    """T frames of one person: the output of the tracker and the input of everything after it.

    A photo is a Track of one frame with pictures. A motion file is a Track without pictures, crop and landmarks.
    Pixel coordinates refer to the crop that ``camera`` describes.

    Attributes:
        motion: head parameters over time, and the person's rest state.
        camera: one camera for all frames (the head moves, the camera does not).
        crop: (T, 4) x0, y0, x1, y1 of the crop in source pixels; None without a source picture. It is here and not in
            ``pictures``, because tracks without pictures need it to cut frames from their video later.
        evidence: landmarks, scores and quality; None where nothing was detected.
        pictures: pixels of the frames; None where they were not kept.
        surroundings: the photo around the crop; None for videos, and in files.
        warnings: sentences about this input, for people.
    """

    motion: HeadMotion
    camera: Camera
    crop: Tensor | None = None
    evidence: Evidence | None = None
    pictures: Pictures | None = None
    surroundings: Surroundings | None = None
    warnings: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.motion)

    def __getitem__(self, index: FrameIndex) -> Track:
        """Frames ``index`` of all parts; quality is left out, for it describes the clip as a whole."""
        return self.replace(
            motion=self.motion[index],
            crop=None if self.crop is None else select_frames(self.crop, index),
            evidence=None if self.evidence is None else self.evidence[index],
            pictures=None if self.pictures is None else self.pictures[index],
        )

    @property
    def params(self) -> HeadParams:
        """Head parameters, T frames."""
        return self.motion.params

    @property
    def fps(self) -> float:
        """Frames per second; 0 for a photo."""
        return self.motion.fps

    @property
    def head_id(self) -> str:
        """Id of the head model that the parameters belong to."""
        return self.motion.head_id

    @property
    def confidence(self) -> Tensor:
        """(T,) in [0, 1]; 0 marks a frame without a usable face."""
        return self.motion.confidence

    @property
    def neutral(self) -> Neutral:
        """Rest state of the person."""
        return self.motion.neutral

    @property
    def quality(self) -> FrameQuality | None:
        """Tracking quality of a video's frames; None for photos and motion files."""
        return None if self.evidence is None else self.evidence.quality

    def with_motion(self, **changes: object) -> Track:
        """Return a copy with the named fields of ``motion`` changed."""
        return self.replace(motion=self.motion.replace(**changes))

    def without_pictures(self) -> Track:
        """Return a copy without pixels, for saving or driving."""
        return self.replace(pictures=None, surroundings=None)

    def require_pictures(self) -> Pictures:
        """The pictures.

        Raises:
            InputError: the track has none.
        """
        if self.pictures is None:
            raise InputError("The track holds no pictures; track the photo or video itself, with its images kept.")
        return self.pictures

    def require_evidence(self) -> Evidence:
        """The landmarks and scores.

        Raises:
            InputError: the track has none.
        """
        if self.evidence is None:
            raise InputError("The track holds no landmarks and no blendshape scores; track the photo or video again.")
        return self.evidence

    def require_quality(self) -> FrameQuality:
        """The tracking quality of each frame.

        Raises:
            InputError: the track is not a video's, or was made by an older release.
        """
        if self.quality is None:
            raise InputError("This track carries no quality record; track the video again with this release.")
        return self.quality

    def require_crop(self) -> Tensor:
        """The (T, 4) place of the crop in the source picture, pixels.

        Raises:
            InputError: the track has no source picture.
        """
        if self.crop is None:
            raise InputError("The track does not state where its frames lie in the source; track the video again.")
        return self.crop

    def require_head(self, head_id: str) -> None:
        """Check that the parameters belong to the head model ``head_id``.

        Raises:
            FormatError: they belong to another one.
        """
        if self.head_id != head_id:
            raise FormatError(
                f"The photo or video was tracked with the head model {self.head_id!r}, but {head_id!r} is needed; "
                "track it again with that head model."
            )
