"""The avatar: a person's Gaussians on a head model's UV layout, with methods to pose, render, save and publish it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spatialavatar.errors import FormatError, InputError, MissingAssetError
from spatialavatar.files import write_text
from spatialavatar.head import (
    HeadModel,
    Identity,
    UVLayout,
    build_layout,
    carried,
    load_head,
    moved_with_torso,
    turned_at_neck,
)
from spatialavatar.hub.cards import AvatarFacts, avatar_card
from spatialavatar.hub.constants import CONFIG_FILE, PREVIEW_FILE
from spatialavatar.hub.pretrained import Pretrained
from spatialavatar.hub.transfer import Token
from spatialavatar.photo_scene import MAX_SCENE_BYTES, SCENE_TENSORS, PhotoScene
from spatialavatar.provenance import safetensors_metadata, save_png
from spatialavatar.record_schemas import CAMERA_SCHEMA, MAX_COEFFICIENT, camera_faults, is_size, params_schema
from spatialavatar.records import Bust, Camera, Gaussians, HeadParams, as_uint8_image
from spatialavatar.render import Backend, render
from spatialavatar.residual import OF_TEXELS, ExpressionResidual, expression_code
from spatialavatar.tensor_files import Schema, TensorFile, TensorSpec, bounded, listed, write_tensors

AVATAR_FORMAT = "spatialavatar.avatar"
AVATAR_VERSION = 5
"""Version of files with a bust that the neck joint moves, too. Others with a scene are of version 4, with a bust of 3,
with a residual of 2, and the rest of 1."""

AVATAR_FILE = "avatar.safetensors"

NECK_SHARE = 0.7
"""Share of a turn of the skull that the neck takes against the bust."""

_MAX_RESOLUTION = 1024  # texels a side; limits the memory that a file can require
_MAX_TRIANGLES = 1e4  # lengths of local Gaussians, in units of their triangles
_MAX_FEATURE = 6e4  # colours and features; what half precision can store
_MAX_OFFSET = 10.0  # metres
_MAX_BUST = 1 << 18  # Gaussians
_GAUSSIAN_TENSORS = ("means", "quats", "scales", "opacities", "colors")
_REFERENCE_TENSORS = tuple(f.name for f in fields(HeadParams) if f.name != "shape")
_RESIDUAL_TENSORS = tuple(f.name for f in fields(ExpressionResidual))


@dataclass(frozen=True)
class Avatar(Pretrained):
    """An animatable head. Stage 1 creates it, stage 2 returns a refined one of the same layout, drive renders it.

    Attributes:
        head: the head model.
        layout: the binding of its N Gaussians to triangles; the same in every stage.
        shape: (S,) identity coefficients.
        gaussians: N local Gaussians.
        reference: head parameters (one frame) of the reference photo, the source photo nearest to a frontal pose with a
            closed mouth. Refinement replaces them by those of a video frame.
        camera: camera of the reference photo or, after refinement, of the video; with ``reference`` it shows the avatar
            as that picture did.
        vertex_offsets: (V, 3) metres in head space, geometry outside of the shape space (hair); or None.
        residual: changes of the Gaussians that depend on the expression, from a network; or None.
        bust: the torso below the head, or None.
        scene: the reference photo without its head, to put the driven head back into; or None.
        info: JSON-ready facts about how the avatar was made. Those of a loaded file come from its author and are not
            verified.
    """

    _files = (AVATAR_FILE, CONFIG_FILE)
    _private = True  # only the person shown decides on publishing a face

    head: HeadModel
    layout: UVLayout
    shape: Tensor
    gaussians: Gaussians
    reference: HeadParams
    camera: Camera
    vertex_offsets: Tensor | None = None
    residual: ExpressionResidual | None = None
    bust: Bust | None = None
    scene: PhotoScene | None = None
    info: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.gaussians.space != "local":
            raise InputError("An avatar holds local Gaussians; convert them with to_local first.")
        if len(self.gaussians) != len(self.layout):
            raise InputError(
                f"The avatar has {len(self.gaussians)} Gaussians but its layout has {len(self.layout)}; "
                "use the head model and resolution that it was made with."
            )
        if self.residual is not None:
            tensors = self.residual.tensors()
            shapes = self.residual.shapes(
                len(self.layout),
                self.head.expression_count,
                features=self.residual.features.shape[-1],
                hidden=self.residual.hidden_bias.shape[-1],
            )
            faults = _misshapen(tensors, shapes)
            if faults:
                raise InputError(f"The residual {', '.join(faults)}; use the network of this head model and layout.")
        if self.bust is not None:
            if (
                self.bust.gaussians.space != "world"
                or self.bust.gaussians.colors.shape[1] != self.gaussians.colors.shape[1]
            ):
                raise InputError("A bust holds Gaussians at rest in head space with the channels of the head's.")
            if tuple(self.bust.head_share.shape) != (len(self.layout),):
                raise InputError("The bust was made for another layout of the head; make the avatar again.")

    def identity(self) -> Identity:
        """The person's rest head, offsets included."""
        return self.head.identity(self.shape, self.vertex_offsets)

    def pose(self, params: HeadParams, identity: Identity | None = None) -> Gaussians:
        """World Gaussians of one frame of parameters, with the avatar's own shape instead of that of ``params``.

        Those of the head come first, in the order of the layout; the bust follows. :meth:`with_torso` divides a tracked
        rotation between the two.

        Args:
            params: one frame.
            identity: the result of :meth:`identity`, so that it is not computed again for every frame.
        """
        if len(params) != 1:
            raise InputError(f"An avatar is posed one frame at a time; got {len(params)} frames.")
        identity = identity or self.identity()
        vertices = self.head.pose(identity, params)[0]
        head = carried(self.local(params), self.head, self.layout, vertices)
        if self.bust is None:
            return head
        return self.bust.beside(head).joined(moved_with_torso(self.bust, params, identity))

    def with_torso(
        self,
        params: HeadParams,
        neck_share: float = NECK_SHARE,
        identity: Identity | None = None,
        sway: Tensor | None = None,
    ) -> HeadParams:
        """Parameters in which the head turns against the bust; unchanged for an avatar without one.

        Args:
            params: T frames; what matters is the rotation of the skull, not how root and neck divide it.
            neck_share: share in [0, 1] of the turn since the reference view that the neck takes.
            identity: as for :meth:`pose`.
            sway: (T, 3) further turn of the torso below the skull, axis-angle, radians.
        """
        if self.bust is None:
            return params
        return turned_at_neck(params, self.reference, identity or self.identity(), neck_share, sway)

    def without_scene(self) -> Avatar:
        """The avatar without the photo's background and body."""
        return self if self.scene is None else replace(self, scene=None)

    def without_bust(self) -> Avatar:
        """The head alone."""
        return self if self.bust is None else replace(self, bust=None)

    def local(self, params: HeadParams) -> Gaussians:
        """The local Gaussians of one frame: the avatar's own, changed by the residual of its expression."""
        return self.gaussians if self.residual is None else self.residual.at(self.gaussians, expression_code(params))

    def render(
        self,
        params: HeadParams | None = None,
        camera: Camera | None = None,
        background: Tensor | None = None,
        backend: Backend = "auto",
    ) -> tuple[Tensor, Tensor]:
        """Image (H, W, 3) and alpha (H, W) of one frame; by default ``reference`` seen by ``camera``.

        ``background`` (3,) is an sRGB colour composited behind; without it the image is premultiplied over black.
        """
        gaussians = self.pose(params if params is not None else self.reference)
        return render(gaussians, camera or self.camera, background=background, backend=backend)

    def to(self, device: torch.device | str) -> Avatar:
        """A copy of the avatar, head model included, on ``device``."""
        return Avatar(
            head=self.head.to(device),
            layout=self.layout.to(device),
            shape=self.shape.to(device),
            gaussians=self.gaussians.to(device),
            reference=self.reference.to(device),
            camera=self.camera.to(device),
            vertex_offsets=None if self.vertex_offsets is None else self.vertex_offsets.to(device),
            residual=None if self.residual is None else self.residual.to(device),
            bust=None if self.bust is None else self.bust.to(device),
            scene=self.scene,
            info=self.info,
        )

    def save(self, path: str | Path) -> Path:
        """Write the avatar to one safetensors file; the file appears whole or not at all.

        The head model is named, not copied: it is the default head, or one under a licence that forbids copying.

        Raises:
            OutputError: the file cannot be written.
        """
        path = Path(path)
        tensors = {name: getattr(self.gaussians, name) for name in _GAUSSIAN_TENSORS}
        tensors["shape"] = self.shape
        tensors |= {f"reference.{name}": getattr(self.reference, name) for name in _REFERENCE_TENSORS}
        tensors["camera.intrinsics"] = self.camera.intrinsics
        tensors["camera.world_to_camera"] = self.camera.world_to_camera
        if self.vertex_offsets is not None:
            tensors["vertex_offsets"] = self.vertex_offsets
        if self.residual is not None:
            tensors |= {f"residual.{name}": tensor for name, tensor in self.residual.tensors().items()}
        if self.bust is not None:
            tensors |= {f"bust.{name}": getattr(self.bust.gaussians, name) for name in _GAUSSIAN_TENSORS}
            tensors["bust.head_share"] = self.bust.head_share
            if self.bust.neck_weight is not None:
                tensors["bust.neck_weight"] = self.bust.neck_weight
        stored = {name: tensor.float() for name, tensor in tensors.items()}
        if self.residual is not None:
            stored |= {f"residual.{name}": stored[f"residual.{name}"].half() for name in OF_TEXELS}
        if self.scene is not None:
            stored |= {f"scene.{name}": tensor for name, tensor in self.scene.tensors().items()}
        write_tensors(path, stored, self._header(), safetensors_metadata())
        return path

    def _header(self) -> dict[str, Any]:
        """The JSON header of the file."""
        return {
            "format": AVATAR_FORMAT,
            "version": self._version(),
            "head": self.head.id,
            "layout": self.layout.id,
            "resolution": self.layout.resolution,
            "camera_size": [self.camera.width, self.camera.height],
            "info": dict(self.info),
        }

    def _version(self) -> int:
        """The version of the file: the first that can hold all that this avatar has."""
        bends = None if self.bust is None else self.bust.neck_weight
        parts = ((bends, AVATAR_VERSION), (self.scene, 4), (self.bust, 3), (self.residual, 2))
        return next((version for part, version in parts if part is not None), 1)

    @classmethod
    def load(cls, path: str | Path, head: HeadModel | None = None) -> Avatar:
        """Read an avatar file.

        Args:
            path: a file that :meth:`save` wrote.
            head: the head model it was made with; by default the one that ships with the package.

        Raises:
            MissingAssetError: there is no such file.
            FormatError: it is not an avatar, is damaged, or belongs to another head model.
        """
        path = Path(path)
        if not path.is_file():
            raise MissingAssetError(f"There is no avatar at {path}; make one with 'spatialavatar generate'.")
        file = TensorFile(path, f"{path.name} is not an avatar file or is damaged; make it again.")
        header = file.header
        if header.get("format") != AVATAR_FORMAT:
            raise FormatError(f"{path.name} is a safetensors file but not an avatar; give one that 'generate' wrote.")
        if header.get("version") not in range(1, AVATAR_VERSION + 1):
            raise FormatError(
                f"{path.name} is an avatar of version {str(header.get('version'))[:20]}, this release reads versions "
                f"up to {AVATAR_VERSION}; update the package or make the avatar again."
            )
        return cls._from_file(file, head if head is not None else default_head())

    @classmethod
    def _from_file(cls, file: TensorFile, head: HeadModel) -> Avatar:
        header, name = file.header, file.name
        if header.get("head") != head.id:
            raise FormatError(
                f"{name} was made with the head model {str(header.get('head'))[:80]!r}, not {head.id!r}; load that "
                "head model and pass it along."
            )
        resolution, size, info = header.get("resolution"), header.get("camera_size"), header.get("info")
        if type(resolution) is not int or not isinstance(size, list) or not isinstance(info, dict):
            raise FormatError(f"{name} has a damaged header; make the avatar again.")
        if not (1 <= resolution <= _MAX_RESOLUTION and len(size) == 2 and all(map(is_size, size))):
            raise FormatError(f"{name} has a header with impossible sizes; make the avatar again.")
        layout = build_layout(head, resolution)
        if header.get("layout") != layout.id:
            raise FormatError(f"{name} was made with another UV layout of the head {head.id}; make the avatar again.")
        schema, sizes = _schema(file, head, len(layout))
        advice = "the file is damaged, make the avatar again"
        read = file.read(schema, sizes, advice)
        tensors = {key: value.float() for key, value in read.items() if not key.startswith("scene.")}
        faults = camera_faults(tensors)
        scene = None
        if _has_scene(file):
            scene = PhotoScene(**{key: read[f"scene.{key}"] for key in SCENE_TENSORS})
            faults += scene.faults()
        if faults:
            raise FormatError(f"{name} {listed(faults)}; {advice}.")
        gaussians = Gaussians(**{field_name: tensors[field_name] for field_name in _GAUSSIAN_TENSORS}, space="local")
        gaussians.check()
        reference = {field_name: tensors[f"reference.{field_name}"] for field_name in _REFERENCE_TENSORS}
        residual = bust = None
        if _has_residual(file):
            residual = ExpressionResidual(**{key: tensors[f"residual.{key}"] for key in _RESIDUAL_TENSORS})
        if _has_bust(file):
            torso = Gaussians(**{key: tensors[f"bust.{key}"] for key in _GAUSSIAN_TENSORS}, space="world")
            bust = Bust(torso, tensors["bust.head_share"], tensors.get("bust.neck_weight"))
        return cls(
            head=head,
            layout=layout,
            shape=tensors["shape"],
            gaussians=gaussians,
            reference=HeadParams(shape=tensors["shape"], **reference),
            camera=Camera(tensors["camera.intrinsics"], tensors["camera.world_to_camera"], *size),
            vertex_offsets=tensors.get("vertex_offsets"),
            residual=residual,
            bust=bust,
            scene=scene,
            info=info,
        )

    def card(self, repo_id: str | None = None) -> str:
        """The card of the avatar's repository."""
        photos = self.info.get("photos")
        facts = AvatarFacts(
            head=self.head.id,
            gaussians=len(self.gaussians),
            resolution=self.layout.resolution,
            photos=photos if type(photos) is int else None,
            refined="refined" in self.info,
        )
        return avatar_card(facts, AVATAR_FILE, repo_id)

    def preview(self, size: int = 512) -> np.ndarray:
        """The default view of :meth:`render` on white: (size, size, 3) uint8 sRGB."""
        with torch.inference_mode():
            image, _ = self.render(camera=self.camera.resized(size, size), background=self.shape.new_ones(3))
        return as_uint8_image(image)

    @classmethod
    def from_pretrained(
        cls,
        repo_or_folder: str | Path,
        *,
        revision: str | None = None,
        token: Token = None,
        local_files_only: bool = False,
        cache_dir: str | Path | None = None,
        force_download: bool = False,
        head: HeadModel | None = None,
    ) -> Avatar:
        """Load an avatar from a folder, an avatar file, or the Hub.

        The arguments are those of :meth:`Pretrained.from_pretrained`; for a file, only ``head`` matters.

        Raises:
            MissingAssetError: there is nothing by that name, or it cannot be fetched.
            FormatError: a file is damaged, of an unsupported version, or differs from the repository's manifest.
        """
        path = Path(repo_or_folder)
        if path.is_file() or path.suffix == Path(AVATAR_FILE).suffix:
            return cls.load(repo_or_folder, head)
        return super().from_pretrained(
            repo_or_folder,
            revision=revision,
            token=token,
            local_files_only=local_files_only,
            cache_dir=cache_dir,
            force_download=force_download,
            head=head,
        )

    def _write_folder(self, folder: Path) -> None:
        # Warnings name the photos' files, and a scene shows where they were taken: more than a repository should tell.
        info = {key: value for key, value in self.info.items() if key != "warnings"}
        stored = replace(self, scene=None, info=info)
        stored.save(folder / AVATAR_FILE)
        write_text(folder / CONFIG_FILE, json.dumps(stored._header(), indent=2, ensure_ascii=False) + "\n")
        save_png(folder / PREVIEW_FILE, self.preview())

    @classmethod
    def _read_folder(cls, folder: Path, head: HeadModel | None) -> Avatar:
        return cls.load(folder / AVATAR_FILE, head)


def _schema(file: TensorFile, head: HeadModel, count: int) -> tuple[Schema, dict[str, int]]:
    """The schema of an avatar file of ``count`` Gaussians on a head, and the sizes that are known."""
    schema = {
        "means": TensorSpec(("N", 3), low=-_MAX_TRIANGLES, high=_MAX_TRIANGLES, finite=False),
        "quats": TensorSpec(("N", 4), low=-1e3, high=1e3, finite=False),
        "scales": TensorSpec(("N", 3), low=0.0, high=_MAX_TRIANGLES, finite=False),
        "opacities": TensorSpec(("N",), low=-1e-3, high=1.001, finite=False),
        "colors": TensorSpec(("N", 3), low=-_MAX_FEATURE, high=_MAX_FEATURE, finite=False),
        "shape": bounded(MAX_COEFFICIENT, "S"),
        "vertex_offsets": bounded(_MAX_OFFSET, "V", 3, optional=True),
        **params_schema("reference.", 1),
        **CAMERA_SCHEMA,
    }
    sizes = {"N": count, "S": head.shape_count, "E": head.expression_count, "V": len(head.template)}
    if _has_residual(file):
        shapes = ExpressionResidual.shapes(
            count,
            head.expression_count,
            features=file.size("residual.features", -1),
            hidden=file.size("residual.hidden_bias", -1),
        )
        schema |= {f"residual.{key}": bounded(_MAX_FEATURE, *shape) for key, shape in shapes.items()}
    if _has_bust(file):
        torso = {
            "means": bounded(_MAX_OFFSET, "M", 3),
            "quats": bounded(1e3, "M", 4),
            "scales": TensorSpec(("M", 3), low=0.0, high=_MAX_OFFSET),
            "opacities": TensorSpec(("M",), low=-1e-3, high=1.001),
            "colors": bounded(_MAX_FEATURE, "M", 3),
            "head_share": TensorSpec(("N",), low=0.0, high=1.001),
        }
        if file.header["version"] == AVATAR_VERSION:
            torso["neck_weight"] = TensorSpec(("M",), low=0.0, high=1.001)
        schema |= {f"bust.{key}": spec for key, spec in torso.items()}
        sizes["M"] = min(max(file.size("bust.means", 0), 1), _MAX_BUST)
    if _has_scene(file):
        schema |= PhotoScene.schema("scene.")
        for name in ("picture", "body"):
            sizes[f"scene.{name}"] = min(max(file.size(f"scene.{name}", 0), 1), MAX_SCENE_BYTES)
    return schema, sizes


def _has_residual(file: TensorFile) -> bool:
    """Whether a file of its version has a residual; it is optional beside a bust or a scene."""
    version = file.header["version"]
    return version == 2 or (version > 2 and "residual.features" in file.entries)


def _has_scene(file: TensorFile) -> bool:
    """Whether a file of its version has a scene; it is optional beside a bust that the neck joint moves, too."""
    version = file.header["version"]
    return version == 4 or (version > 4 and "scene.picture" in file.entries)


def _has_bust(file: TensorFile) -> bool:
    """Whether a file of its version has a bust; it is optional beside a scene."""
    version = file.header["version"]
    return version in (3, 5) or (version > 3 and "bust.means" in file.entries)


def _misshapen(tensors: Mapping[str, Tensor], shapes: Mapping[str, tuple[int, ...]]) -> list[str]:
    """Descriptions of tensors with wrong shapes or values that are not finite."""
    return [
        f"has {key} of shape {tuple(tensors[key].shape)} instead of finite values of {shape}"
        for key, shape in shapes.items()
        if tuple(tensors[key].shape) != shape or not bool(torch.isfinite(tensors[key]).all())
    ]


def default_head() -> HeadModel:
    """The open head that ships with the package."""
    from spatialavatar.hub import weights_dir

    return load_head(weights_dir() / "head")


def skull_box(avatar: Avatar) -> tuple[Tensor, Tensor]:
    """The lower and upper corner (3,) of the box around the resting skull, head space, metres."""
    parts = avatar.head.available_parts("face", "scalp", "ears")
    rest = avatar.identity().vertices
    skull = rest[avatar.head.part_vertices(*parts)] if parts else rest
    return skull.amin(0), skull.amax(0)
