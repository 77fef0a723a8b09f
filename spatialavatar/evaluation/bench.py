"""Running a protocol over a folder of clips: resumable, parallel, in shards that can be merged.

Each clip's results go to ``clips/NAME.json`` as soon as they are there; whatever was measured with the same
configuration and code is not measured again. What goes wrong with a clip is written down, and the others are measured.
"""

from __future__ import annotations

import dataclasses
import fnmatch
import hashlib
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from importlib import metadata
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final

import torch

from spatialavatar import __version__, hub
from spatialavatar.errors import FormatError, InputError, SpatialAvatarError
from spatialavatar.evaluation import metrics, report
from spatialavatar.evaluation.datasets import Clip, read_clips
from spatialavatar.evaluation.protocols import Bench, BenchConfig, measure
from spatialavatar.files import atomic_output
from spatialavatar.hub.transfer import fetch
from spatialavatar.progress import Progress, silent

SCHEMA: Final = "spatialavatar.evaluation/1"
RESULTS: Final = "results.json"
_CLIPS: Final = "clips"
_TIMES: Final = {"render_ms", "avatar_seconds", "seconds", "memory_gb"}  # differ from run to run
_PACKAGES: Final = ("torch", "numpy", "scipy", "numba", "onnxruntime", "ai-edge-litert", "opencv-python-headless")


def run(
    folder: str | Path,
    out: str | Path,
    config: BenchConfig,
    *,
    layout: str | None = None,
    only: str = "*",
    jobs: int = 1,
    shard: tuple[int, int] = (1, 1),
    name: str | None = None,
    model: str | Path | None = None,
    revision: str | None = None,
    base: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Measure the clips of a folder and write tables and a report.

    Args:
        folder: the data set.
        out: where results go, and where those of an interrupted run lie.
        config: what to measure.
        layout: of the folder; by default the first that fits.
        only: patterns, separated by commas, of which the name of a clip must match one, such as "london_*".
        jobs: clips measured at a time, each by a process of its own.
        shard: (i, n): only every n-th clip, from the i-th on, both from 1.
        name: of the data set, for the tables; by default the folder's.
        model: a folder or a repository of the Hub, to measure another model than the one that ships.
        revision: of the repository.
        base: leave the model's network out.
        progress: called with (fraction, message).

    Returns:
        The content of ``results.json``, and under ``clips`` that of the clips' files.

    Raises:
        InputError: the folder cannot be used, no clip matches, or ``out`` holds another run's results.
        MissingAssetError: a package, a weight file or the model is missing.
        OutputError: ``out`` cannot be written.
    """
    number, count = shard
    if not 1 <= number <= count:
        raise InputError(f"There is no shard {number} of {count}; give i/n with i from 1 to n.")
    metrics.require()
    progress = progress or silent
    folder, out = Path(folder), Path(out)
    patterns = only.split(",")
    clips = [clip for clip in read_clips(folder, layout) if any(fnmatch.fnmatch(clip.name, one) for one in patterns)]
    if not clips:
        raise InputError(f"No clip in {folder} matches {only!r}; leave the pattern out to see their names.")
    mine = clips[number - 1 :: count]
    start = _Start(config, out / _CLIPS, clips, None if model is None else fetch(model, revision=revision), base)
    run_facts = _facts(start, name or folder.resolve().name, layout, only)
    run_facts["model"] = None if model is None else str(model)
    _check_same_run(out, run_facts)
    paths = {clip.name: out / _CLIPS / f"{clip.file_name}.json" for clip in mine}
    waiting = [clip for clip in mine if _read_result(paths[clip.name], run_facts["key"]) is None]
    for done, result in enumerate(_measured(waiting, start, jobs, progress), 1):
        result["key"] = run_facts["key"]
        _write_json(paths[result["clip"]], result)
        progress(done / len(waiting), f"{result['clip']}: {result['status']}")
    return _conclude(out, run_facts)


def merge(folders: Sequence[str | Path], out: str | Path) -> dict[str, Any]:
    """Join the results of several shards into one table and report.

    Raises:
        InputError: a folder holds no results, or results of another run than the first.
        OutputError: ``out`` cannot be written.
    """
    out = Path(out)
    facts: dict[str, Any] | None = None
    for folder in map(Path, folders):
        content = _read_json(folder / RESULTS)
        if facts is not None and content["run"]["key"] != facts["key"]:
            raise InputError(f"{folder} was measured with another configuration or code than {folders[0]}.")
        facts = facts or content["run"]
        (out / _CLIPS).mkdir(parents=True, exist_ok=True)
        for path in sorted((folder / _CLIPS).iterdir()):
            if folder.resolve() != out.resolve() and not path.name.startswith("."):
                with atomic_output(out / _CLIPS / path.name) as temporary:
                    shutil.copyfile(path, temporary)
    if facts is None:
        raise InputError("There is nothing to merge; give the folders that the shards wrote.")
    return _conclude(out, facts)


# -- measuring --------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class _Start:
    """What a process has to know to measure clips.

    Attributes:
        config: what to measure.
        folder: where a clip's results go.
        clips: the whole set.
        model: folder of the model; None for the one that ships.
        base: whether its network is left out.
    """

    config: BenchConfig
    folder: Path
    clips: Sequence[Clip]
    model: Path | None
    base: bool


def _measured(waiting: Sequence[Clip], start: _Start, jobs: int, progress: Progress) -> Iterator[dict[str, Any]]:
    """The results of clips, in the order in which they are ready."""
    if not waiting:
        return
    start.folder.mkdir(parents=True, exist_ok=True)
    if jobs <= 1 or len(waiting) == 1:
        _start_worker(start, os.cpu_count() or 1)
        for done, clip in enumerate(waiting):
            yield _measure_one(clip, _share(progress, done, len(waiting), clip.name))
        return
    threads = max(1, (os.cpu_count() or 1) // jobs)
    # A fresh process for each worker: torch's and the networks' threads do not survive a fork.
    with ProcessPoolExecutor(
        min(jobs, len(waiting)), get_context("spawn"), initializer=_start_worker, initargs=(start, threads)
    ) as pool:
        futures = [pool.submit(_measure_one, clip) for clip in waiting]
        try:
            for future in as_completed(futures):
                yield future.result()
        except BrokenProcessPool as error:
            raise InputError(
                "A process was killed, most likely for lack of memory; run again with fewer --jobs: what was measured "
                "is kept."
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)


def _share(progress: Progress, done: int, count: int, name: str) -> Progress:
    return lambda fraction, message: progress((done + fraction) / count, f"{name}: {message}")


_WORKER: list[tuple[Bench, Sequence[Clip]]] = []


def _start_worker(start: _Start, threads: int) -> None:
    """Open model and networks once for each process."""
    from spatialavatar.pipeline import chosen_model
    from spatialavatar.tracking.networks import Networks

    torch.set_num_threads(threads)
    model = chosen_model(start.model, base=start.base)
    _WORKER[:] = [(Bench(start.config, model, Networks(threads=threads), start.folder), start.clips)]


def _measure_one(clip: Clip, progress: Progress = silent) -> dict[str, Any]:
    """One clip's results, or why there are none."""
    bench, clips = _WORKER[0]
    started = time.perf_counter()
    try:
        result = measure(clip, bench, clips, progress)
    except SpatialAvatarError as error:
        result = {"clip": clip.name, "status": "failed", "reason": str(error), "notes": list(clip.notes)}
    except Exception as error:  # whatever one clip does, the others are measured
        reason = f"Something went wrong that should not have ({type(error).__name__}: {error})."
        result = {"clip": clip.name, "status": "failed", "reason": reason, "notes": list(clip.notes)}
    return result | {"seconds": round(time.perf_counter() - started, 1), "memory_gb": _peak_memory()}


def _peak_memory() -> float | None:
    """Largest resident memory of this process so far, GB; None where the system does not tell."""
    try:
        import resource
    except ImportError:
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9, 2)


# -- writing down -----------------------------------------------------------------------------------------------------


def _facts(start: _Start, name: str, layout: str | None, only: str) -> dict[str, Any]:
    """What has to be known to make the run again."""
    # Not the results that lie beside the weights: else one run would change the next one's key.
    files = [entry for entry in hub.manifest() if "/results" not in entry["path"]]
    weights = hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()[:16]
    facts = {
        "dataset": name,
        "layout": layout or "found",
        "only": only,
        "clips": len(start.clips),
        "config": dataclasses.asdict(start.config),
        "version": __version__,
        "commit": _commit(),
        "weights": weights,
        "model_content": None if start.model is None else _content(start.model),  # and not where it lies
        "base": start.base,
    }
    key = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]
    return {"key": key, **facts, "packages": _versions(), "machine": _machine()}


def _content(model: Path) -> str:
    """A hash of what decides a model's avatars: its configuration and its tensors, those of its head model too."""
    digest = hashlib.sha256()
    for path in sorted([*model.rglob("*.json"), *model.rglob("*.safetensors")]):
        if not path.name.startswith("results"):
            digest.update(path.relative_to(model).as_posix().encode() + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]


def _commit() -> str | None:
    """The checkout's commit, with a plus sign where files differ from it; None for an installed package."""
    root = Path(__file__).resolve().parents[2]
    try:
        asked = [
            subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True, check=True).stdout.strip()
            for words in (["rev-parse", "--show-toplevel", "HEAD"], ["status", "--porcelain", "--", "spatialavatar"])
        ]
    except (OSError, subprocess.CalledProcessError):
        return None
    top, commit = asked[0].split("\n")
    if Path(top).resolve() != root:
        return None  # a repository around an installed package
    return commit + ("+" if asked[1] else "")


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def _machine() -> dict[str, Any]:
    processor = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = info.read_text(encoding="utf-8", errors="replace").splitlines()
        processor = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), processor)
    return {
        "processor": processor,
        "cores": os.cpu_count(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "system": platform.system(),
    }


def _conclude(out: Path, run_facts: dict[str, Any]) -> dict[str, Any]:
    """Write results.json, the tables and the page from all clips that lie in ``out``."""
    clips = [_read_json(path) for path in sorted((out / _CLIPS).glob("*.json"))]
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
            for method, row in methods.items()
        ],
        "run": run_facts,
        "missing": run_facts["clips"] - len(clips),
        "failed": {clip["clip"]: clip["reason"] for clip in clips if clip["status"] == "failed"},
        "digest": _digest(clips),
        "seconds": round(sum(clip["seconds"] for clip in clips), 1),
        "memory_gb": max((clip["memory_gb"] or 0.0 for clip in clips), default=0.0),
    }
    _write_json(out / RESULTS, content)  # without the clips, so that it can lie beside a model's weights
    content["clips"] = clips
    report.write_tables(out, content)
    report.write_page(out, content)
    return content


def _command(run_facts: dict[str, Any]) -> str:
    """The command line that makes these results."""
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
    """Name the clips whose frame rate is not the usual one of the set."""
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
    return {"means": means, "clips": len(having), "frames": sum(len(one["frames"]) for one in having)}


def _digest(clips: Sequence[dict[str, Any]]) -> str:
    """A hash of all figures but times: equal for two runs that measured the same."""

    def timeless(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: timeless(part) for key, part in value.items() if key not in _TIMES | {"key"}}
        return [timeless(part) for part in value] if isinstance(value, list) else value

    text = json.dumps(sorted((timeless(clip) for clip in clips), key=lambda clip: clip["clip"]), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _read_result(path: Path, key: str) -> dict[str, Any] | None:
    """What was measured before; None where there is nothing, or it failed and is to be tried again."""
    if not path.is_file():
        return None
    result = _read_json(path)
    return result if result.get("key") == key and result["status"] == "measured" else None


def _check_same_run(out: Path, run_facts: dict[str, Any]) -> None:
    """Refuse to mix two runs in one folder."""
    for path in sorted((out / _CLIPS).glob("*.json")):
        if _read_json(path).get("key") != run_facts["key"]:
            raise InputError(
                f"{out} holds results of another configuration, data set or version of the code; give another --out."
            )


def _write_json(path: Path, content: Any) -> None:
    with atomic_output(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise InputError(f"There are no results at {path}; give a folder that 'spatialavatar bench' wrote.")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise FormatError(f"The results in {path} are damaged; delete the file and run again.") from error
