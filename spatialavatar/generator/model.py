"""``SpatialAvatar``: the generator as a Hub model."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from huggingface_hub import ModelCard, ModelHubMixin, snapshot_download

from spatialavatar.avatar import Avatar
from spatialavatar.errors import FormatError, InputError, MissingAssetError
from spatialavatar.generator.base import build_base
from spatialavatar.generator.card import model_card
from spatialavatar.generator.config import BaseConfig, GeneratorConfig
from spatialavatar.generator.sources import SourceView
from spatialavatar.head import HeadModel, build_layout
from spatialavatar.progress import Progress
from spatialavatar.records import Track

CONFIG_FILE = "config.json"
ENCODERS = ("none",)
"""Encoders this release can run; "none" leaves the base as it is."""


# The mixin's __init_subclass__ takes these arguments, which type checkers do not follow through its decorators.
class SpatialAvatar(ModelHubMixin, library_name="spatialavatar"):  # pyright: ignore[reportGeneralTypeIssues, reportCallIssue]
    """Stage 1: one to four photos of a person to an :class:`Avatar` (method section 2).

    The avatar is the base that the photos determine plus what the network's heads add to it; every head starts at zero,
    so that without a network, or with one of zero weights, the avatar is exactly the base.

    Attributes:
        config: what this model is.
        head: the head model.
        layout: the UV layout of the Gaussians.
    """

    def __init__(self, config: GeneratorConfig, head: HeadModel, folder: Path | None = None) -> None:
        """Assemble a model.

        Args:
            config: its configuration.
            head: the head model.
            folder: where it was loaded from; :meth:`save_pretrained` copies what else lies there (networks, licences).

        Raises:
            FormatError: the configuration asks for an encoder that this release does not have.
        """
        if config.encoder not in ENCODERS:
            raise FormatError(
                f"The model wants the encoder {config.encoder!r}, this release has {', '.join(ENCODERS)}; "
                "update the package."
            )
        self.config = config
        self.head = head
        self.layout = build_layout(head, config.resolution)
        self._folder = folder

    def generate(
        self, photos: Sequence[Track] | Sequence[np.ndarray] | Track | np.ndarray, progress: Progress | None = None
    ) -> Avatar:
        """One to four photos of one person to an avatar; their order changes nothing.

        Args:
            photos: tracked photos that share one shape, or (H, W, 3) uint8 sRGB pictures, which are tracked first.
            progress: called with (fraction, message).

        Raises:
            InputError: none or more than four photos, or tracks that do not fit each other or the head.
            NoFaceError: a picture shows no usable face.
        """
        given = [photos] if isinstance(photos, (Track, np.ndarray)) else list(photos)
        tracks = [item for item in given if isinstance(item, Track)]
        images = [item for item in given if not isinstance(item, Track)]
        if tracks and images:
            raise InputError("Give either tracks or pictures, not both, so that all photos share one fitted shape.")
        if images:
            from spatialavatar.tracking import track_photos

            tracks = track_photos(images, self.head)
        result = build_base(self.head, self.layout, tracks, self.config.base, progress)
        reference = min(result.sources, key=_restlessness)
        return Avatar(
            head=self.head,
            layout=self.layout,
            shape=reference.params.shape,
            gaussians=result.gaussians,
            reference=reference.params,
            camera=reference.camera,
            vertex_offsets=result.vertex_offsets,
            info={
                "photos": len(result.sources),
                "encoder": self.config.encoder,
                "seen": round(float((result.visibility > 0.5).float().mean()), 3),
                "warnings": list(dict.fromkeys(warning for track in tracks for warning in track.warnings)),
            },
        )

    def _save_pretrained(self, save_directory: Path) -> None:
        if self._folder is not None and self._folder.resolve() != Path(save_directory).resolve():
            shutil.copytree(
                self._folder, save_directory, dirs_exist_ok=True, ignore=shutil.ignore_patterns(CONFIG_FILE, ".*")
            )
        elif self._folder is None:
            self.head.save(Path(save_directory) / self.config.head)
        text = json.dumps(dataclasses.asdict(self.config), indent=2)
        (Path(save_directory) / CONFIG_FILE).write_text(text + "\n", encoding="utf-8")

    @classmethod
    def _from_pretrained(
        cls,
        *,
        model_id: str,
        revision: str | None,
        cache_dir: str | Path | None,
        force_download: bool,
        local_files_only: bool,
        token: str | bool | None,
        **model_kwargs: Any,
    ) -> SpatialAvatar:
        folder = Path(model_id)
        if not folder.is_dir():
            folder = Path(
                snapshot_download(
                    model_id,
                    revision=revision,
                    cache_dir=cache_dir,
                    force_download=force_download,
                    local_files_only=local_files_only,
                    token=token,
                )
            )
        config = read_config(folder / CONFIG_FILE)
        # The mixin forwards the configuration's entries, the name of the head's folder among them.
        given = model_kwargs.get("head")
        head = given if isinstance(given, HeadModel) else HeadModel.load(folder / config.head)
        return cls(config, head, folder)

    def generate_model_card(self, *args: Any, **kwargs: Any) -> ModelCard:
        """The card of this model, with the licences of the files it was loaded with."""
        return ModelCard(model_card(self.config, self.head, len(self.layout), self._folder))


def read_config(path: Path) -> GeneratorConfig:
    """Read a model's configuration, strictly: a key that this release does not know means that it is not ours to run.

    Raises:
        MissingAssetError: there is no such file.
        FormatError: it cannot be read, or holds unknown keys.
    """
    if not path.is_file():
        raise MissingAssetError(f"There is no model at {path.parent}: point to a folder that holds {path.name}.")
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        base = raw.pop("base", {})
        pairs: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in base.items()}
        return GeneratorConfig(**raw, base=BaseConfig(**pairs))
    except (ValueError, TypeError, AttributeError) as error:
        raise FormatError(f"{path.name} does not fit this release ({error}); update the package.") from error


def _restlessness(source: SourceView) -> float:
    """How far a photo is from a calm frontal look; the calmest one is the avatar's reference."""
    params = source.params
    return float(params.jaw.abs().sum() + params.rotation.norm() + params.neck.norm())
