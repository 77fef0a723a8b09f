"""Running a protocol over a folder of clips: resumable, parallel, in shards that can be merged.

Each clip's results are written to ``clips/NAME.json`` when they are ready; clips that were measured with the same
configuration and code are not measured again. A clip that fails is recorded with its reason, and the others continue.
"""

from __future__ import annotations

import fnmatch
import multiprocessing
import os
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from spatialavatar.errors import InputError, SpatialAvatarError
from spatialavatar.evaluation import metrics
from spatialavatar.evaluation.datasets import Clip, read_clips
from spatialavatar.evaluation.protocols import Bench, BenchConfig, measure
from spatialavatar.evaluation.results import CLIPS, RESULTS, SCHEMA, conclude, read_clip, read_run, write_json
from spatialavatar.evaluation.run_facts import RunSubject, run_facts
from spatialavatar.files import atomic_output, make_folder
from spatialavatar.hub.transfer import fetch
from spatialavatar.progress import Progress, no_progress

__all__ = ["RESULTS", "SCHEMA", "RunOptions", "merge", "run"]


@dataclass(frozen=True)
class RunOptions:
    """Which clips of a data set a run measures, with which model, and how.

    Attributes:
        layout: of the folder; by default the first that fits.
        only: patterns, separated by commas, of which the name of a clip must match one, such as "london_*".
        name: of the data set, for the tables; by default the folder's.
        shard: (i, n): only every n-th clip, from the i-th on, both from 1.
        jobs: clips measured in parallel, each by a process of its own.
        model: a folder or a repository of the Hub, to measure another model than the one that ships.
        revision: of the repository.
        base: leave the model's network out.
    """

    layout: str | None = None
    only: str = "*"
    name: str | None = None
    shard: tuple[int, int] = (1, 1)
    jobs: int = 1
    model: str | Path | None = None
    revision: str | None = None
    base: bool = False


def run(
    folder: str | Path,
    out: str | Path,
    config: BenchConfig,
    options: RunOptions = RunOptions(),
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Measure the clips of a folder and write tables and a report.

    Args:
        folder: the data set.
        out: folder of the results; those of an interrupted run are used again.
        config: what to measure.
        options: which clips, with which model.
        progress: called with (fraction, message).

    Returns:
        The content of ``results.json``, and under ``clips`` that of the clips' files.

    Raises:
        InputError: the folder cannot be used, no clip matches, or ``out`` holds another run's results.
        FormatError: results in ``out`` are damaged.
        MissingAssetError: a package, a weight file or the model is missing.
        OutputError: ``out`` cannot be written.
    """
    number, count = options.shard
    if not 1 <= number <= count:
        raise InputError(f"There is no shard {number} of {count}; give i/n with i from 1 to n.")
    metrics.require()
    progress = progress or no_progress
    folder, out = Path(folder), Path(out)
    patterns = options.only.split(",")
    clips = [
        clip
        for clip in read_clips(folder, options.layout)
        if any(fnmatch.fnmatch(clip.name, pattern) for pattern in patterns)
    ]
    if not clips:
        raise InputError(f"No clip in {folder} matches {options.only!r}; leave the pattern out to see their names.")
    mine = clips[number - 1 :: count]
    model = None if options.model is None else fetch(options.model, revision=options.revision)
    start = _Start(config, out / CLIPS, clips, model, options.base)
    name = options.name or folder.resolve().name
    facts = run_facts(config, RunSubject(name, options.layout, options.only, len(clips), model, options.base))
    facts["model"] = None if options.model is None else str(options.model)
    _check_same_run(out, facts)
    paths = {clip.name: out / CLIPS / f"{clip.file_name}.json" for clip in mine}
    waiting = [clip for clip in mine if not _is_measured(paths[clip.name], facts["key"])]
    for done, result in enumerate(_measured(waiting, start, options.jobs, progress), 1):
        result["key"] = facts["key"]
        write_json(paths[result["clip"]], result)
        progress(done / len(waiting), f"{result['clip']}: {result['status']}")
    return conclude(out, facts)


def merge(folders: Sequence[str | Path], out: str | Path) -> dict[str, Any]:
    """Join the results of several shards into one table and report.

    Raises:
        InputError: a folder holds no results, or those of a different run than the first.
        FormatError: results are damaged.
        OutputError: ``out`` cannot be written.
    """
    out = Path(out)
    facts: dict[str, Any] | None = None
    for folder in map(Path, folders):
        run_of_folder = read_run(folder)
        if facts is not None and run_of_folder["key"] != facts["key"]:
            raise InputError(f"{folder} was measured with another configuration or code than {folders[0]}.")
        facts = facts or run_of_folder
        make_folder(out / CLIPS)
        for path in sorted((folder / CLIPS).glob("*")):
            if folder.resolve() != out.resolve() and path.is_file() and not path.name.startswith("."):
                with atomic_output(out / CLIPS / path.name) as temporary:
                    shutil.copyfile(path, temporary)
    if facts is None:
        raise InputError("There is nothing to merge; give the folders that the shards wrote.")
    return conclude(out, facts)


def _is_measured(path: Path, key: str) -> bool:
    """Whether the results of an earlier run are complete; a clip that failed is measured again."""
    if not path.is_file():
        return False
    result = read_clip(path)
    return result.get("key") == key and result["status"] == "measured"


def _check_same_run(out: Path, facts: dict[str, Any]) -> None:
    """Refuse to mix two runs in one folder."""
    for path in sorted((out / CLIPS).glob("*.json")):
        if read_clip(path).get("key") != facts["key"]:
            raise InputError(
                f"{out} holds results of another configuration, data set or version of the code; give another --out."
            )


# -- measuring --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Start:
    """Input of a worker process that measures clips.

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
    make_folder(start.folder)
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
        except BaseException:
            # Ctrl-C reaches every process of a terminal, SIGTERM only this one: a worker would finish its clip first.
            for worker in multiprocessing.active_children():
                worker.terminate()
            raise
        finally:
            pool.shutdown(cancel_futures=True)


def _share(progress: Progress, done: int, count: int, name: str) -> Progress:
    return lambda fraction, message: progress((done + fraction) / count, f"{name}: {message}")


_WORKER: list[tuple[Bench, Sequence[Clip]]] = []


def _start_worker(start: _Start, threads: int) -> None:
    """Open model and networks once for each process."""
    from spatialavatar.pipeline import load_model
    from spatialavatar.tracking.networks import Networks

    torch.set_num_threads(threads)
    model = load_model(start.model, base=start.base)
    _WORKER[:] = [(Bench(start.config, model, Networks(threads=threads), start.folder), start.clips)]


def _measure_one(clip: Clip, progress: Progress = no_progress) -> dict[str, Any]:
    """One clip's results, or the reason why there are none."""
    bench, clips = _WORKER[0]
    started = time.perf_counter()
    try:
        result = measure(clip, bench, clips, progress)
    except SpatialAvatarError as error:
        result = {"clip": clip.name, "status": "failed", "reason": str(error), "notes": list(clip.notes)}
    except Exception as error:  # a failure of one clip must not stop the others
        reason = f"Something went wrong that should not have ({type(error).__name__}: {error})."
        result = {"clip": clip.name, "status": "failed", "reason": reason, "notes": list(clip.notes)}
    return result | {"seconds": round(time.perf_counter() - started, 1), "memory_gb": _peak_memory()}


def _peak_memory() -> float | None:
    """Largest resident memory of this process so far, GB; None if the system does not report it."""
    try:
        import resource
    except ImportError:
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9, 2)
