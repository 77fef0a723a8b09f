"""The avatar: a person's Gaussians on a head model's UV layout, ready to be posed, rendered, mailed and pushed."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from spatialavatar.errors import FormatError, InputError, MissingAssetError, OutputError
from spatialavatar.files import atomic_output
from spatialavatar.head import HeadModel, Identity, UVLayout, build_layout, load_head, to_world
from spatialavatar.records import Camera, Gaussians, HeadParams
from spatialavatar.render import Backend, render

AVATAR_FORMAT = "spatialavatar.avatar"
AVATAR_VERSION = 1
AVATAR_FILE = "avatar.safetensors"

_GAUSSIAN_TENSORS = ("means", "quats", "scales", "opacities", "colors")
_REFERENCE_TENSORS = tuple(f.name for f in fields(HeadParams) if f.name != "shape")


@dataclass(frozen=True)
class Avatar:
    """One person, animatable. Stage 1 emits it, stage 2 returns a better one of the same layout, drive renders it.

    Attributes:
        head: the head model the avatar stands on.
        layout: the binding of its N Gaussians; never changes from stage to stage.
        shape: (S,) identity coefficients.
        gaussians: N local Gaussians.
        reference: head parameters (one frame) of the first source view.
        camera: camera of the first source view; with ``reference`` it shows the avatar as that photo did.
        vertex_offsets: (V, 3) metres in head space, what the shape space cannot say (hair); or None.
        info: plain facts about how the avatar was made.
    """

    head: HeadModel
    layout: UVLayout
    shape: Tensor
    gaussians: Gaussians
    reference: HeadParams
    camera: Camera
    vertex_offsets: Tensor | None = None
    info: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.gaussians.space != "local":
            raise InputError("An avatar holds local Gaussians; convert them with to_local first.")
        if len(self.gaussians) != len(self.layout):
            raise InputError(
                f"The avatar has {len(self.gaussians)} Gaussians but its layout has {len(self.layout)}; "
                "use the head model and resolution that it was made with."
            )

    def identity(self) -> Identity:
        """The person's rest head, offsets included."""
        return self.head.identity(self.shape, self.vertex_offsets)

    def pose(self, params: HeadParams, identity: Identity | None = None) -> Gaussians:
        """World Gaussians for one frame of parameters; the avatar's own shape is used, not that of ``params``.

        Args:
            params: one frame.
            identity: what :meth:`identity` returned, to save recomputing it for every frame.
        """
        if len(params) != 1:
            raise InputError(f"An avatar is posed one frame at a time; got {len(params)} frames.")
        vertices = self.head.pose(identity or self.identity(), params)[0]
        return to_world(self.gaussians, self.head, self.layout, vertices)

    def render(
        self,
        params: HeadParams | None = None,
        camera: Camera | None = None,
        background: Tensor | None = None,
        backend: Backend = "auto",
    ) -> tuple[Tensor, Tensor]:
        """Image (H, W, 3) and alpha (H, W) of one frame; by default the first source view.

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
            info=self.info,
        )

    def save(self, path: str | Path) -> Path:
        """Write the avatar to one safetensors file; the file appears whole or not at all.

        The head model is named, not copied: it is the default head, or one that its owner's licence binds.

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
        header = {
            "format": AVATAR_FORMAT,
            "version": AVATAR_VERSION,
            "head": self.head.id,
            "layout": self.layout.id,
            "resolution": self.layout.resolution,
            "camera_size": [self.camera.width, self.camera.height],
            "info": dict(self.info),
        }
        stored = {name: tensor.detach().to("cpu", torch.float32).contiguous() for name, tensor in tensors.items()}
        with atomic_output(path) as temporary:
            try:
                save_file(stored, temporary, {"spatialavatar": json.dumps(header)})
            except SafetensorError as error:  # the library's name for a full disk
                raise OSError(str(error)) from error
        return path

    @classmethod
    def load(cls, path: str | Path, head: HeadModel | None = None) -> Avatar:
        """Read an avatar file.

        Args:
            path: what :meth:`save` wrote.
            head: the head model it was made with; by default the one that ships with the package.

        Raises:
            MissingAssetError: there is no such file.
            FormatError: it is no avatar, is damaged, or belongs to another head model.
        """
        path = Path(path)
        if not path.is_file():
            raise MissingAssetError(f"There is no avatar at {path}; make one with 'spatialavatar generate'.")
        try:
            with safe_open(path, framework="pt") as file:
                header = json.loads((file.metadata() or {}).get("spatialavatar", "{}"))
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
        except (SafetensorError, ValueError, OSError) as error:
            raise FormatError(f"{path.name} is not an avatar file or is damaged; make it again.") from error
        if header.get("format") != AVATAR_FORMAT:
            raise FormatError(f"{path.name} is a safetensors file but not an avatar; give one that 'generate' wrote.")
        if header.get("version") != AVATAR_VERSION:
            raise FormatError(
                f"{path.name} is an avatar of version {header.get('version')}, this release reads version "
                f"{AVATAR_VERSION}; update the package or make the avatar again."
            )
        return cls._from_file(path.name, header, tensors, head if head is not None else default_head())

    @classmethod
    def _from_file(cls, name: str, header: dict[str, Any], tensors: dict[str, Tensor], head: HeadModel) -> Avatar:
        if header.get("head") != head.id:
            raise FormatError(
                f"{name} was made with the head model {header.get('head')!r}, not {head.id!r}; load that head model "
                "and pass it along."
            )
        layout = build_layout(head, int(header.get("resolution", 256)))
        if header.get("layout") != layout.id:
            raise FormatError(f"{name} was made with another UV layout of the head {head.id}; make the avatar again.")
        wanted = {*_GAUSSIAN_TENSORS, "shape", "camera.intrinsics", "camera.world_to_camera"}
        wanted |= {f"reference.{field_name}" for field_name in _REFERENCE_TENSORS}
        if missing := sorted(wanted - set(tensors)):
            raise FormatError(f"{name} lacks {', '.join(missing)}; the file is damaged, make the avatar again.")
        gaussians = Gaussians(**{field_name: tensors[field_name] for field_name in _GAUSSIAN_TENSORS}, space="local")
        gaussians.check()
        reference = {field_name: tensors[f"reference.{field_name}"] for field_name in _REFERENCE_TENSORS}
        width, height = header["camera_size"]
        return cls(
            head=head,
            layout=layout,
            shape=tensors["shape"],
            gaussians=gaussians,
            reference=HeadParams(shape=tensors["shape"], **reference),
            camera=Camera(tensors["camera.intrinsics"], tensors["camera.world_to_camera"], int(width), int(height)),
            vertex_offsets=tensors.get("vertex_offsets"),
            info=header.get("info", {}),
        )

    def save_pretrained(self, folder: str | Path) -> Path:
        """Write the avatar into ``folder`` the way :meth:`from_pretrained` reads it."""
        folder = Path(folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"The folder {folder} cannot be made; choose another place.") from error
        self.save(folder / AVATAR_FILE)
        return folder

    @classmethod
    def from_pretrained(
        cls,
        repo_or_folder: str | Path,
        *,
        revision: str | None = None,
        token: str | bool | None = None,
        head: HeadModel | None = None,
    ) -> Avatar:
        """Load an avatar from a folder, an avatar file, or a Hub repository."""
        path = Path(repo_or_folder)
        if path.is_dir():
            return cls.load(path / AVATAR_FILE, head)
        if path.is_file():
            return cls.load(path, head)
        from spatialavatar.hub import download

        return cls.load(download(str(repo_or_folder), AVATAR_FILE, revision=revision, token=token), head)

    def push_to_hub(self, repo_id: str, *, private: bool = True, token: str | bool | None = None) -> str:
        """Upload the avatar to a model repository, private unless asked otherwise; returns the commit's address."""
        from huggingface_hub import HfApi

        api = HfApi(token=token)
        api.create_repo(repo_id, private=private, exist_ok=True)
        with tempfile.TemporaryDirectory() as folder:
            self.save_pretrained(folder)
            return str(api.upload_folder(repo_id=repo_id, folder_path=folder, commit_message="Upload an avatar"))


def default_head() -> HeadModel:
    """The open head that ships with the package."""
    from spatialavatar.hub import weights_dir

    return load_head(weights_dir() / "head")
