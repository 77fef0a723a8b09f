"""``SpatialAvatar``: the generator as a Hub model."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from torch import Tensor

from spatialavatar.avatar import Avatar
from spatialavatar.errors import FormatError, InputError, MissingAssetError, OutputError
from spatialavatar.files import write_text
from spatialavatar.generator.base import build_base
from spatialavatar.generator.bust import with_bust
from spatialavatar.generator.config import BaseConfig, GeneratorConfig
from spatialavatar.generator.config_files import completed_base, upgraded_network, with_later_constants
from spatialavatar.generator.network import CorrectionNetwork, EncoderConfig, NetworkConfig, load_network, save_network
from spatialavatar.generator.network.weights import NETWORK_FILE
from spatialavatar.generator.prior.config import PriorConfig
from spatialavatar.generator.prior.head_prior import HeadPrior
from spatialavatar.generator.prior.weights import PRIOR_FILE, load_prior, save_prior
from spatialavatar.generator.sources import SourceView
from spatialavatar.head import HeadModel, build_layout
from spatialavatar.hub.cards import ModelFacts, model_card
from spatialavatar.hub.constants import CARD_FILE, CONFIG_FILE, MODEL_FORMAT
from spatialavatar.hub.pretrained import Pretrained
from spatialavatar.progress import Progress, no_progress, part
from spatialavatar.records import Track
from spatialavatar.strict_json import parse_json
from spatialavatar.threads import one_torch_thread

_Config = TypeVar("_Config")
MODEL_VERSION = 4
_MAX_CONFIG_BYTES = 1 << 20
"""Of ``config.json``: 1 had the base alone, 2 a network, both with the base's constants as one flat table; 3 had no
prior."""

_BASE_SHARE = 0.85
"""Share of the progress that the base takes, where a network follows."""


class SpatialAvatar(Pretrained):
    """Stage 1: one to four photos of a person to an :class:`Avatar` (method section 2).

    The avatar is the base plus the network's corrections. The base is computed from the photos by fixed rules and by
    the prior, if the model has one. Without a network, or with an untrained one, the avatar is exactly the base.

    Attributes:
        config: configuration of the model.
        head: the head model.
        layout: UV layout of the Gaussians.
        network: corrects the base; None for the base alone.
        prior: completes unseen parts; None for rules alone.
    """

    def __init__(
        self,
        config: GeneratorConfig,
        head: HeadModel,
        folder: Path | None = None,
        network: CorrectionNetwork | None = None,
        prior: HeadPrior | None = None,
    ) -> None:
        """Assemble a model.

        Args:
            config: its configuration.
            head: the head model.
            folder: where it was loaded from; :meth:`save_pretrained` copies the other files in it (networks, licences).
            network: for this configuration, head model and layout; by default an untrained one where the configuration
                has one.
            prior: for this configuration, head model and layout.

        Raises:
            FormatError: no encoder is of the kind that the configuration names.
            InputError: the network's or the prior's configuration differs.
            MissingAssetError: the encoder's library or weights are missing.
        """
        self.config = config
        self.head = head
        self.layout = build_layout(head, config.resolution)
        self._folder = folder
        if network is None and config.network is not None:
            network = CorrectionNetwork(config.network, head, self.layout).eval()
        if network is not None and network.config != config.network:
            raise InputError(
                "The network's sizes are not those of the configuration; use GeneratorConfig(network=network.config)."
            )
        self.network = network
        if (None if prior is None else prior.config) != config.prior:
            raise InputError("The prior is not that of the configuration; use GeneratorConfig(prior=prior.config).")
        self.prior = prior

    def generate(
        self,
        photos: Sequence[Track] | Sequence[np.ndarray] | Track | np.ndarray,
        progress: Progress | None = None,
        *,
        polish: int | None = None,
        bust: bool = True,
    ) -> Avatar:
        """Make an avatar from one to four photos of one person; their order changes no bit.

        The result is that of :func:`spatialavatar.generate` with this model and ``scene=False``.

        Args:
            photos: tracked photos that share one shape, or (H, W, 3) uint8 sRGB pictures, which are tracked first.
            progress: called with (fraction, message).
            polish: steps of the polish, which fits the parts that the photos show to them; 0 gives the output of stage
                1 as it is, None the default of :class:`spatialavatar.refinement.polish.PolishConfig`.
            bust: add the torso, if a photo shows enough of it.

        Raises:
            InputError: no photo, more than four, or tracks of different shapes or of a different head.
            NoFaceError: a picture shows no usable face.
        """
        given = [photos] if isinstance(photos, (Track, np.ndarray)) else list(photos)
        tracks = [item for item in given if isinstance(item, Track)]
        images = [item for item in given if not isinstance(item, Track)]
        if tracks and images:
            raise InputError("Give either tracks or pictures, not both, so that all photos share one fitted shape.")
        report = progress or no_progress
        if images:
            from spatialavatar.tracking import track_photos

            with one_torch_thread():
                tracks = track_photos(images, self.head, around=bust, progress=part(report, 0.0, 0.4))
                avatar = self._polished(tracks, polish, part(report, 0.4, 1.0))
        else:
            avatar = self._polished(tracks, polish, report)
        return with_bust(avatar, tracks) if bust else avatar

    def _polished(self, tracks: Sequence[Track], steps: int | None, report: Progress) -> Avatar:
        """Stage 1 and the polish."""
        if steps == 0:
            return self._stage_one(tracks, report)[0]
        from spatialavatar.refinement.polish import PolishConfig, polish

        config = PolishConfig() if steps is None else PolishConfig(iterations=steps)
        avatar, visibility = self._stage_one(tracks, part(report, 0.0, 0.5))
        return polish(avatar, tracks, config, seen=visibility, progress=part(report, 0.5, 1.0))

    def _stage_one(self, tracks: Sequence[Track], report: Progress) -> tuple[Avatar, Tensor]:
        """The base, corrected by the network where there is one, and the base's visibility (N,) in [0, 1]."""
        share = 1.0 if self.network is None else _BASE_SHARE
        result = build_base(self.head, self.layout, tracks, self.config.base, part(report, 0.0, share), self.prior)
        gaussians, residual = result.gaussians, None
        if self.network is not None:
            report(share, "Correcting it with the network")
            gaussians, residual = self.network.gaussians_and_residual(result)
            report(1.0, "Corrected by the network")
        reference = min(result.sources, key=_distance_from_rest)
        avatar = Avatar(
            head=self.head,
            layout=self.layout,
            shape=reference.params.shape,
            gaussians=gaussians,
            reference=reference.params,
            camera=reference.camera,
            vertex_offsets=result.vertex_offsets,
            residual=residual,
            info={
                "photos": len(result.sources),
                "encoder": self.config.encoder,
                "seen": round(float((result.visibility > 0.5).float().mean()), 3),
                "warnings": list(dict.fromkeys(warning for track in tracks for warning in track.warnings)),
            },
        )
        return avatar, result.visibility

    def without_network(self) -> SpatialAvatar:
        """The same model without the network."""
        config = dataclasses.replace(self.config, network=None)
        return SpatialAvatar(config, self.head, self._folder, prior=self.prior)

    def with_prior(self, prior: HeadPrior | None) -> SpatialAvatar:
        """A copy of the model with ``prior``, which must be for its head and layout; None removes the prior."""
        config = dataclasses.replace(self.config, prior=None if prior is None else prior.config)
        return SpatialAvatar(config, self.head, self._folder, self.network, prior)

    def without_prior(self) -> SpatialAvatar:
        """The same model without the prior of whole heads: rules complete unseen parts."""
        return self.with_prior(None)

    def card(self, repo_id: str | None = None) -> str:
        """The card of this model, with the licences of the files it was loaded with."""
        facts = ModelFacts(
            head=self.head.id,
            vertices=len(self.head.template),
            shapes=self.head.shape_count,
            expressions=self.head.expression_count,
            gaussians=len(self.layout),
            resolution=self.config.resolution,
            encoder=self.config.encoder,
        )
        return model_card(facts, self._folder, repo_id)

    def _write_folder(self, folder: Path) -> None:
        if self._folder is None:
            self.head.save(folder / self.config.head)
        elif self._folder.resolve() != folder.resolve():
            others = shutil.ignore_patterns(CONFIG_FILE, CARD_FILE, NETWORK_FILE, PRIOR_FILE, ".*")
            try:
                shutil.copytree(self._folder, folder, dirs_exist_ok=True, ignore=others)
            except OSError as error:
                raise OutputError(
                    f"The model cannot be written to {folder} ({error}); choose another place."
                ) from error
        if self.network is not None:
            save_network(self.network, folder / NETWORK_FILE, self.head, self.layout)
        if self.prior is not None:
            save_prior(self.prior.network, folder / PRIOR_FILE, self.head, self.layout)
        write_text(folder / CONFIG_FILE, json.dumps(_as_json(self.config), indent=2) + "\n")

    @classmethod
    def _read_folder(cls, folder: Path, head: HeadModel | None) -> SpatialAvatar:
        config = read_config(folder / CONFIG_FILE)
        read = {NETWORK_FILE} if config.network is not None else set()
        read |= {PRIOR_FILE} if config.prior is not None else set()
        unread = sorted({path.name for path in folder.glob("*.safetensors")} - read)
        if unread:
            raise FormatError(
                f"The model in {folder} has weights that it does not use: {', '.join(unread)}; remove them."
            )
        head = head or HeadModel.load(folder / config.head)
        layout = build_layout(head, config.resolution)
        network, prior = None, None
        if config.network is not None:
            network = load_network(folder / NETWORK_FILE, config.network, head, layout)
        if config.prior is not None:
            prior = load_prior(folder / PRIOR_FILE, config.prior, head, layout)
        return cls(config, head, folder, network, prior)


def read_config(path: Path) -> GeneratorConfig:
    """Read a model's configuration, strictly: a key too few or too many means that it is not ours to run.

    Raises:
        MissingAssetError: there is no such file.
        FormatError: it cannot be read, or lacks a key, or holds an unknown one.
    """
    if not path.is_file():
        raise MissingAssetError(f"There is no model at {path.parent}: point to a folder that holds {path.name}.")
    try:
        if path.stat().st_size > _MAX_CONFIG_BYTES:
            raise ValueError("it is too large")
        raw: dict[str, Any] = dict(parse_json(path.read_bytes()))
        kind, version = raw.pop("format", None), raw.pop("version", None)
    except (OSError, ValueError, TypeError) as error:
        raise FormatError(f"{path} is not a configuration of a model or is damaged; fetch it again.") from error
    if kind != MODEL_FORMAT:
        raise FormatError(f"{path} is not the configuration of a SpatialAvatar model; give the folder of one.")
    if type(version) is not int or version not in (1, 2, 3, MODEL_VERSION):
        raise FormatError(
            f"{path} is of version {str(version)[:40]}, this release reads versions up to {MODEL_VERSION}; update the "
            "package."
        )
    network = None
    if version == 1:
        if raw.pop("encoder", None) != "none":
            raise FormatError(f"{path} is of version 1 and has an encoder, which that had not; fetch it again.")
    elif version == 2 or raw.get("network", {}) is not None:
        values = raw.pop("network", None)
        values = upgraded_network(values) if version == 2 else values
        encoder = values.pop("encoder", None) if isinstance(values, dict) else None
        encoder = _strictly(EncoderConfig, encoder, f"network's encoder of {path}")
        network = _strictly(NetworkConfig, {**(values or {}), "encoder": encoder}, f"network of {path}")
    else:
        raw.pop("network")
    constants = raw.pop("base", None)
    constants = completed_base(constants) if version < 3 else with_later_constants(constants)
    base = _strictly(BaseConfig, constants, f"base of {path}")
    if version < MODEL_VERSION:
        raw.setdefault("prior", None)
    if raw.get("prior") is not None:
        raw["prior"] = _strictly(PriorConfig, raw["prior"], f"prior of {path}")
    return _strictly(GeneratorConfig, {**raw, "base": base, "network": network}, str(path))


def _as_json(config: GeneratorConfig) -> dict[str, Any]:
    """What :func:`read_config` reads."""
    return {"format": MODEL_FORMAT, "version": MODEL_VERSION, **dataclasses.asdict(config)}


def _strictly(kind: type[_Config], values: Any, where: str) -> _Config:
    """A configuration from exactly its own keys; tables become the configurations in it."""
    known = {field.name for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    given = set(values) if isinstance(values, dict) else set()
    faults = [f"lacks {name}" for name in sorted(known - given)]
    faults += [f"has the unknown key {name}" for name in sorted(given - known)]
    if faults:
        raise FormatError(f"The {where} {', '.join(faults)}; take the release of the package that it was made with.")
    pairs: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
    for field in dataclasses.fields(kind):  # type: ignore[arg-type]
        inner = field.default_factory
        if isinstance(inner, type) and dataclasses.is_dataclass(inner) and not isinstance(pairs[field.name], inner):
            pairs[field.name] = _strictly(inner, pairs[field.name], f"{field.name} in the {where}")
    return kind(**pairs)


def _distance_from_rest(view: SourceView) -> float:
    """Distance of a photo from a closed mouth and a frontal head, radians; the least is the avatar's reference."""
    params = view.params
    return float(params.jaw.abs().sum() + params.rotation.norm() + params.neck.norm())
