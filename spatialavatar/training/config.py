"""A training run as a TOML file; ``configs/`` has one for each phase."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from spatialavatar.errors import FormatError, InputError, missing_extra
from spatialavatar.generator.config import BaseConfig
from spatialavatar.generator.config_files import upgraded_base, upgraded_network
from spatialavatar.generator.network import NetworkConfig
from spatialavatar.training.optimisation import Phase

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

_Record = TypeVar("_Record")

_PRESETS: Final[dict[str, dict[str, Callable[[], Any]]]] = {
    "network": {"small": NetworkConfig.small, "paper": NetworkConfig.paper},
    "phase": {"monocular": Phase.monocular, "multi_view": Phase.multi_view},
}
_MAX_BYTES: Final = 1 << 20
_MAX_NUMBER: Final = 1 << 40
_MAX_VALUES: Final = {
    "size": 2048,
    "resolution": 2048,
    "targets": 1024,
    "micro_batch": 1024,
    "workers": 1024,
    "eval_views": 100_000,
    "seed": (1 << 63) - 1,
}
_STEP_INVARIANT: Final = (
    "out",
    "micro_batch",
    "workers",
    "cache",
    "log_every",
    "save_every",
    "eval_every",
    "eval_views",
    "trackio",
)
"""Keys that may differ when a run continues, because they change no step."""


@dataclass(frozen=True)
class TrainingConfig:
    """One phase of training. Paths are relative to the working directory.

    Attributes:
        out: folder of the run: checkpoint, logs, sheets and the trained network.
        shards: folders of shards.
        phase: optimiser, schedule, losses.
        network: sizes.
        base: constants of the base avatar, which the network corrects.
        start: the ``model/network.safetensors`` of another run: the initial weights, and the reference of L2-SP; "" for
            none.
        head: folder of a head model; "" for the shipped one.
        held_out: name patterns of the people excluded from training and used for evaluation.
        alone: whether people with a single picture are used, as source and target at once.
        seed: of all random draws.
        size: pixels a side of renders and targets.
        zoom: largest random enlargement of targets. A target is a window of the picture, so that small renders contain
            the detail of large ones. 1 is the whole picture, as in the paper.
        tint: largest random reduction of each colour channel of an example, as a share, equal in sources and targets.
            It varies the light of photos of one studio. 0 is none, as in the paper.
        turned: share of targets that are renders of the base avatar from a random side. They constrain the network
            where no photo shows the head from the side. 0 is none, as in the paper.
        resolution: texels a side of the UV layout.
        targets: per example. They share one base, which takes most of the time of an example.
        micro_batch: examples per forward pass of the network; memory grows with it.
        workers: processes that prepare examples, per training process.
        cache: folder for computed bases, useful for photo sets with few views per person; "" for none.
        ema: decay of the averaged weights, which are evaluated and saved.
        log_every: steps between log lines.
        save_every: steps between checkpoints.
        eval_every: steps between evaluations; 0 is never.
        eval_views: largest number of evaluated views per held-out person.
        trackio: name of a Trackio project that receives the logged values; "" for none.
    """

    out: str
    shards: tuple[str, ...]
    phase: Phase = field(default_factory=Phase.monocular)
    network: NetworkConfig = field(default_factory=NetworkConfig.small)
    base: BaseConfig = field(default_factory=BaseConfig)
    start: str = ""
    head: str = ""
    held_out: tuple[str, ...] = ()
    alone: bool = False
    seed: int = 0
    size: int = 512
    zoom: float = 1.0
    tint: float = 0.0
    turned: float = 0.0
    resolution: int = 256
    targets: int = 1
    micro_batch: int = 1
    workers: int = 0
    cache: str = ""
    ema: float = 0.999
    log_every: int = 10
    save_every: int = 500
    eval_every: int = 2000
    eval_views: int = 2
    trackio: str = ""

    def __post_init__(self) -> None:
        if not self.shards or not self.out:
            raise InputError("A run needs a folder of its own (out) and at least one folder of shards.")
        _check_numbers(self)
        share = self.phase.cross_camera
        if share is not None and not (isinstance(share, (int, float)) and 0.0 <= share <= 1.0):
            raise InputError(f"The phase's cross_camera is {_short(share)}; give a share from 0 to 1.")
        at_least_one = ("size", "resolution", "targets", "micro_batch", "log_every", "save_every", "eval_views")
        wrong = [name for name in at_least_one if getattr(self, name) < 1]
        wrong += [name for name in ("iterations", "batch") if getattr(self.phase, name) < 1]
        if wrong:
            raise InputError(f"In a training configuration {', '.join(wrong)} must be at least 1.")
        if not 1.0 <= self.zoom <= 8.0:
            raise InputError(f"The zoom of training targets is {self.zoom}; give 1 (the whole picture) to 8.")
        if not 0.0 <= self.tint < 1.0:
            raise InputError(f"The tint of examples is {self.tint}; give 0 (none) to less than 1.")
        if not 0.0 <= self.turned < 1.0:
            raise InputError(f"The share of turned targets is {self.turned}; give 0 (none) to less than 1.")
        if not 0.0 < self.phase.regularised <= 1.0:
            raise InputError(f"The share of examples that are regularised is {self.phase.regularised}; give 0 to 1.")
        if self.size < 64:
            raise InputError("Pictures of less than 64 pixels a side cannot be compared; give a larger size.")
        known = {"optimiser": ("adam", "adamw"), "schedule": ("linear", "cosine"), "precision": ("fp32", "bf16")}
        for name, values in known.items():
            if getattr(self.phase, name) not in values:
                raise InputError(f"The phase's {name} is {getattr(self.phase, name)!r}; give {' or '.join(values)}.")

    def facts(self) -> str:
        """Return the values that determine every step, as JSON; runs with equal values and shards are the same run."""
        return step_facts(self, _STEP_INVARIANT)


def step_facts(config: DataclassInstance, without: Collection[str]) -> str:
    """The fields of a dataclass except ``without``, as JSON: runs with equal values make the same steps."""
    values = {name: value for name, value in dataclasses.asdict(config).items() if name not in without}
    return json.dumps(values, indent=1, sort_keys=True)


def require_keys(values: Mapping[str, Any], names: Sequence[str], path: str | Path) -> None:
    """Check that the table of a configuration file has keys.

    Raises:
        FormatError: a key is missing.
    """
    missing = [name for name in names if name not in values]
    if missing:
        raise FormatError(f"{path} lacks {' and '.join(missing)}; add it.")


def read_toml(path: str | Path) -> dict[str, Any]:
    """The table of a TOML file.

    Raises:
        InputError: the file does not exist.
        FormatError: the file is not TOML.
        MissingAssetError: Python is older than 3.11 and the package tomli is not installed.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"There is no configuration at {path}; take one of configs/.")
    try:
        import tomllib
    except ImportError:
        try:
            import tomli as tomllib
        except ImportError as error:
            raise missing_extra("Training", "train") from error
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise ValueError("it is too large")
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        reason = str(error) if len(str(error)) < 200 else "a value is damaged"
        raise FormatError(f"{path} is not a TOML file ({reason}); correct it.") from error
    except RecursionError as error:
        raise FormatError(f"{path} is not a TOML file (it is nested too deeply); correct it.") from error


def read_training_config(path: str | Path) -> TrainingConfig:
    """Read a configuration. ``preset`` in [phase] and [network] selects the defaults that the other keys override.

    Raises:
        InputError: the file does not exist, or a value is out of range.
        FormatError: the file is not TOML, or has an unknown key or a value of the wrong type.
        MissingAssetError: Python is older than 3.11 and the package tomli is not installed.
    """
    path = Path(path)
    values = read_toml(path)
    for name in (*_PRESETS, "base"):
        if not isinstance(values.get(name, {}), dict):
            raise FormatError(f"{name} in {path} is {_short(values[name])}; write a table, [{name}].")
    for name, presets in _PRESETS.items():
        table = dict(values.get(name, {}))
        table = upgraded_network(table) if name == "network" else table
        preset = table.pop("preset", next(iter(presets)))
        if not isinstance(preset, str) or preset not in presets:
            raise FormatError(f"{path} names the preset {_short(preset)} of {name}; there are {', '.join(presets)}.")
        values[name] = changed(presets[preset](), table, f"[{name}] of {path}")
    if "base" in values:
        values["base"] = upgraded_base(values["base"])
    blank = TrainingConfig(out="run", shards=("shards",))
    require_keys(values, ("out", "shards"), path)
    ready = {name: values.pop(name) for name in _PRESETS}
    return changed(dataclasses.replace(blank, **ready), values, str(path))


def changed(record: _Record, values: dict[str, Any], where: str) -> _Record:
    """Return a copy of a dataclass with some fields changed; tables change nested dataclasses.

    Raises:
        FormatError: a key is unknown, or a value of the wrong type; ``where`` names the table in the message.
    """
    known = {one.name for one in dataclasses.fields(record)}  # type: ignore[arg-type]
    unknown = sorted(set(values) - known)
    if unknown:
        raise FormatError(f"{where} has the unknown key {', '.join(unknown)}; correct or remove it.")
    changes = {}
    for name, value in values.items():
        current = getattr(record, name)
        if dataclasses.is_dataclass(current) and isinstance(value, dict):
            changes[name] = changed(current, value, f"{name} in {where}")
            continue
        value = tuple(value) if isinstance(value, list) else value
        accepted = (int, float) if isinstance(current, float) else type(current)
        fits = isinstance(value, accepted) and isinstance(value, bool) == isinstance(current, bool)
        if isinstance(current, tuple) and isinstance(value, tuple) and current:
            fits = all(type(part) is type(current[0]) for part in value)
        if current is not None and not fits:
            raise FormatError(f"{name} in {where} is {_short(value)}; give a value like {current!r}.")
        changes[name] = value
    return dataclasses.replace(record, **changes)  # type: ignore[type-var]


def _check_numbers(config: TrainingConfig) -> None:
    """Refuse numbers that are not finite, negative counts, and sizes beyond the memory of any machine.

    Raises:
        InputError: a number is out of range.
    """
    for where, values in _tables("", dataclasses.asdict(config)):
        for name, value in values.items():
            for number in value if isinstance(value, (list, tuple)) else [value]:
                if isinstance(number, bool) or not isinstance(number, (int, float)):
                    continue
                most = _MAX_VALUES.get(name, _MAX_NUMBER) if not where else _MAX_NUMBER
                if not -most <= number <= most or (not where and number < 0):
                    raise InputError(f"{where}{name} is {_short(number)}; give a number from 0 to {most}.")


def _tables(where: str, values: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Iterate over the tables of a configuration, each with the prefix of its keys."""
    yield where, values
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _tables(f"{where}{name}.", value)


def _short(value: object) -> str:
    """Return a value as text of at most 60 characters."""
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= _MAX_NUMBER**3:
        return "a very large number"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
