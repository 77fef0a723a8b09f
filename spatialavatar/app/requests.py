"""The requests of the work behind the page and the endpoints: plain values, which cross processes on ZeroGPU."""

from __future__ import annotations

from dataclasses import dataclass, field

from spatialavatar.app.checks import MAX_REFINE_FRAMES
from spatialavatar.driving import HeadPose
from spatialavatar.part_strengths import PartStrengths
from spatialavatar.staging import SceneKind

EXPORTS = {
    "avatar": "avatar.safetensors",
    "ply": "avatar.ply",
    "splat": "avatar.splat",
    "spz": "avatar.spz",
    "glb": "avatar.glb",
    "html": "avatar.html",
    "speaking_html": "speaking.html",
    "view": "view.ply",
    "png": "avatar.png",
    "card": "README.md",
}
"""What an avatar can be saved as: the avatar file, Gaussians in metres (three forms), a mesh, a web page, one
that also speaks, Gaussians for gradio's Model3D, a picture, the text that goes with it."""


@dataclass(frozen=True)
class GenerateRequest:
    """Photos of one person to an avatar.

    Attributes:
        photos: paths of one to four.
        folder: where to write ``avatar.safetensors`` and ``preview.png``.
        scene: whether to keep the photo's background and body in the avatar.
        bust: whether to add the torso.
    """

    photos: tuple[str, ...]
    folder: str
    scene: bool = True
    bust: bool = True


@dataclass(frozen=True)
class RefineRequest:
    """An avatar and a video of the person to a better avatar.

    Attributes:
        avatar: an avatar file.
        video: a video of the same person.
        folder: where to write ``avatar.safetensors`` and ``preview.png``, and on the way ``preview_NNNNN.png``.
        iterations: steps.
        size: width and height of the pictures compared.
        frames: of the video, at most.
        minutes: for the steps, at most; None is no limit.
        checkpoint: file to which a stopped run is saved, and from which it resumes if it exists; None saves nothing.
    """

    avatar: str
    video: str
    folder: str
    iterations: int = 300
    size: int = 256
    frames: int = MAX_REFINE_FRAMES
    minutes: float | None = None
    checkpoint: str | None = None


@dataclass(frozen=True)
class Speech:
    """Speech of an avatar: a sound or a text.

    Attributes:
        audio: a sound file; None for the text.
        text: the words, if there is no sound.
        voice: for the text; None for the default.
        liveliness: amount of the motion of head, brows, lids and eyes, 0 (only lips) to 1.
    """

    audio: str | None = None
    text: str = ""
    voice: str | None = None
    liveliness: float = 1.0


@dataclass(frozen=True)
class DriveRequest:
    """An avatar and a motion or a speech to a video.

    Attributes:
        avatar: an avatar file.
        motion: a video, a motion file or a saved track; empty where there is a speech.
        folder: where to write ``driven.mp4``, or ``driven.webm`` with transparency.
        strength, relative, smoothing, head_pose, parts, scene: as in ``DriveConfig``.
        size: width and height in pixels; in the photo, its shorter side.
        background: a colour, "blur" or the path of a picture; empty for that of the scene.
        speech: in place of the motion.
        bust: whether to show the torso; in the photo it is the photo's own.
    """

    avatar: str
    motion: str
    folder: str
    strength: float = 1.0
    relative: bool = True
    smoothing: float = 1.0
    size: int = 512
    head_pose: HeadPose = "centred"
    parts: PartStrengths = field(default_factory=PartStrengths)
    scene: SceneKind = "plain"
    background: str = ""
    speech: Speech | None = None
    bust: bool = True


@dataclass(frozen=True)
class TrackRequest:
    """A photo or a video to its motion.

    Attributes:
        source: the photo or video.
        folder: where to write ``motion.json``, ``.csv`` or ``.safetensors``.
        form: which of the three.
    """

    source: str
    folder: str
    form: str = "json"


@dataclass(frozen=True)
class ExportRequest:
    """An avatar to files for other programs.

    Attributes:
        avatar: an avatar file.
        folder: where to write them.
        forms: keys of ``EXPORTS``.
    """

    avatar: str
    folder: str
    forms: tuple[str, ...] = ("ply",)
