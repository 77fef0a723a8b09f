"""The files of an evaluation: one JSON a clip, their means in ``results.json``, tables and a page."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from spatialavatar.errors import FormatError, InputError
from spatialavatar.evaluation import metrics, report
from spatialavatar.evaluation.protocols import BenchConfig
from spatialavatar.evaluation.transfer import transfer_over_clips
from spatialavatar.files import atomic_output

SCHEMA: Final = "spatialavatar.evaluation/1"
RESULTS: Final = "results.json"
CLIPS: Final = "clips"
_TIMES: Final = {"render_ms", "avatar_seconds", "seconds", "memory_gb"}  # differ from run to run
_MAX_BYTES: Final = 256 << 20  # of a clip's file; ten minutes of video are 10 MB

# The parts of a file that are read, as types: see _fits.
_NUMBER: Final = (int, float)
_RUN: Final = {
    "key": str,
    "dataset": str,
    "only": str,
    "clips": int,
    "version": str,
    "commit": (str, type(None)),
    "base": bool,
    "model": (str, type(None)),
    "config": dict,
    "machine": {"processor": str, "cores": (int, type(None))},
}
_CLIP: Final = {
    "clip": str,
    "status": str,
    "notes": [str],
    "seconds": _NUMBER,
    "memory_gb": (*_NUMBER, type(None)),
}
_FAILED: Final = {**_CLIP, "reason": str}
_TRANSFER: Final = {str: {str: _NUMBER}}  # of a method; results of older versions have none
_MEASURED: Final = {
    **_CLIP,
    "fps": _NUMBER,
    "methods": {str: {"means": {str: _NUMBER}, "frames": [dict]}},
    "worst": [(int, str)],
    "files": [str],
}


def conclude(out: Path, run_facts: dict[str, Any]) -> dict[str, Any]:
    """Write ``results.json``, the tables and the page from the clips in ``out`` that belong to the run.

    Returns:
        The content of ``results.json``, with that of the clips' files under ``clips``.

    Raises:
        FormatError: a clip's file is damaged.
        OutputError: ``out`` cannot be written.
    """
    clips = [read_clip(path) for path in sorted((out / CLIPS).glob("*.json"))]
    clips = [clip for clip in clips if clip.get("key") == run_facts["key"]]
    _note_other_rates(clips)
    measured = [clip for clip in clips if clip["status"] == "measured"]
    methods = {method: _mean(measured, method) for method in _methods(measured)}
    config = run_facts["config"]
    content = {
        "schema": SCHEMA,
        "command": _command(run_facts),
        "results": [
            {
                "dataset": run_facts["dataset"],
                "protocol": f"{config['protocol']}, {method}",
                "metrics": {name: value for name, value in row["means"].items() if name not in _TIMES},
                "times": {name: value for name, value in row["means"].items() if name in _TIMES},
                "clips": row["clips"],
                "frames": row["frames"],
            }
            | ({"transfer": row["transfer"]} if row["transfer"] else {})
            for method, row in methods.items()
        ],
        "run": run_facts,
        "missing": run_facts["clips"] - len(clips),
        "failed": {clip["clip"]: clip["reason"] for clip in clips if clip["status"] == "failed"},
        "digest": digest(clips),
        "digest_all": digest(clips, added=True),
        "seconds": round(sum(clip["seconds"] for clip in clips), 1),
        "memory_gb": max((clip["memory_gb"] or 0.0 for clip in clips), default=0.0),
    }
    write_json(out / RESULTS, content)  # without the clips, so that it is small enough to be stored with a model
    content["clips"] = clips
    report.write_tables(out, content)
    report.write_page(out, content)
    return content


def _command(run_facts: dict[str, Any]) -> str:
    """The command line that gives these results."""
    words = [f"spatialavatar bench {run_facts['config']['protocol']} {run_facts['dataset']}"]
    default = {field.name: field.default for field in dataclasses.fields(BenchConfig)}
    for name, value in run_facts["config"].items():
        if name != "protocol" and value != default[name]:
            words.append(f"--{name.replace('_', '-')} {value}")
    if run_facts["model"]:
        words.append(f"--model {run_facts['model']}")
    if run_facts["base"]:
        words.append("--base")
    if run_facts["only"] != "*":
        words.append(f"--only '{run_facts['only']}'")
    return " ".join([*words, "--out DIR"])


def _note_other_rates(clips: Sequence[dict[str, Any]]) -> None:
    """Add a note to clips whose frame rate is not the most frequent one of the set."""
    rates = Counter(clip["fps"] for clip in clips if clip.get("fps"))
    if len(rates) < 2:
        return
    usual = rates.most_common(1)[0][0]
    for clip in clips:
        sentence = f"It has {clip.get('fps')} frames per second, where most clips of the set have {usual}."
        if clip.get("fps") not in (None, 0.0, usual) and sentence not in clip["notes"]:
            clip["notes"].append(sentence)


def _methods(clips: Iterable[dict[str, Any]]) -> list[str]:
    return list(dict.fromkeys(method for clip in clips for method in clip["methods"]))


def _mean(clips: Sequence[dict[str, Any]], method: str) -> dict[str, Any]:
    """Means over clips of the means over their frames: each clip counts the same."""
    having = [clip["methods"][method] for clip in clips if method in clip["methods"]]
    means = {}
    for name in metrics.METRICS:
        values = [one["means"][name] for one in having if name in one["means"]]
        if values:
            mean = max(values) if name == "aspect" else statistics.fmean(values)
            means[name] = round(mean, metrics.METRICS[name].digits)
    return {
        "means": means,
        "clips": len(having),
        "frames": sum(len(one["frames"]) for one in having),
        "transfer": transfer_over_clips([one.get("transfer", {}) for one in having]),
    }


def digest(clips: Sequence[dict[str, Any]], added: bool = False) -> str:
    """A hash of the figures except times: equal for two runs with equal figures.

    Args:
        clips: contents of the clips' files.
        added: include the figures of ``metrics.ADDED``, which results of older versions do not have.
    """
    left_out = _TIMES | {"key"} | (set() if added else metrics.ADDED)

    def timeless(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: timeless(part) for key, part in value.items() if key not in left_out}
        return [timeless(part) for part in value] if isinstance(value, list) else value

    text = json.dumps(sorted((timeless(clip) for clip in clips), key=lambda clip: clip["clip"]), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file; it appears whole or not at all."""
    with atomic_output(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def read_run(folder: Path) -> dict[str, Any]:
    """The facts of the run whose results are in a folder.

    Raises:
        InputError: there are none.
        FormatError: they are damaged.
    """
    content = _read_json(folder / RESULTS)
    run = content.get("run")
    damaged = FormatError(f"The results in {folder / RESULTS} are damaged; delete the file and run again.")
    if not isinstance(run, dict) or not _fits(run, _RUN):
        raise damaged
    try:
        BenchConfig(**run["config"])
    except (TypeError, InputError) as error:
        raise damaged from error
    return run


def read_clip(path: Path) -> dict[str, Any]:
    """The results of one clip.

    Raises:
        InputError: there are none.
        FormatError: they are damaged.
    """
    clip = _read_json(path)
    shape = {"measured": _MEASURED, "failed": _FAILED}.get(str(clip.get("status")))
    if (
        shape is None
        or not _fits(clip, shape)
        or (shape is _MEASURED and not all(_fits(m.get("transfer", {}), _TRANSFER) for m in clip["methods"].values()))
    ):
        raise FormatError(f"The results in {path} are damaged; delete the file and run again.")
    return clip


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise InputError(f"There are no results at {path}; give a folder that 'spatialavatar bench' wrote.")
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise ValueError("too large")
        content = json.loads(path.read_text(encoding="utf-8"))  # figures may be NaN, which JSON does not have
        if not isinstance(content, dict):
            raise ValueError("not an object")
    except (ValueError, RecursionError, OSError) as error:
        raise FormatError(f"The results in {path} are damaged; delete the file and run again.") from error
    return content


def _fits(value: Any, shape: Any) -> bool:
    """Whether a JSON value has a shape: a type, a tuple of types, a list of one shape, or an object.

    An object's shape has a shape for each key that must be there, or one for the values of all keys under ``str``.
    """
    if isinstance(shape, Mapping):
        if not isinstance(value, dict):
            return False
        if str in shape:
            return all(_fits(key, str) and _fits(part, shape[str]) for key, part in value.items())
        return all(key in value and _fits(value[key], part) for key, part in shape.items())
    if isinstance(shape, list):
        return isinstance(value, list) and all(_fits(part, shape[0]) for part in value)
    types = shape if isinstance(shape, tuple) else (shape,)
    if type(value) not in types:
        return False
    if isinstance(value, str):
        return not any("\ud800" <= character <= "\udfff" for character in value)  # cannot be written again
    return not isinstance(value, int) or abs(value) < 1 << 53
