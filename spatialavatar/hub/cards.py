"""The cards of the model and of an avatar, composed from templates in this folder and from measured facts.

Only the model's card contains the paper's arXiv id, by which the Hub lists paper, model and Space on each other's page.
An avatar's card names its model instead, so that no person's avatar is listed on the paper's page.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any

from spatialavatar import __version__
from spatialavatar.errors import FormatError
from spatialavatar.hub.constants import DEFAULT_MODEL_ID, DEFAULT_REVISION, LIBRARY, PREVIEW_FILE
from spatialavatar.hub.integrity import MANIFEST_NAME, read_manifest
from spatialavatar.strict_json import parse_json
from spatialavatar.text import for_code, for_markdown

RESULTS_FILES = "results*.json"
_TASK = "image-to-3d"
_COLUMNS = ("what", "trained_on", "licence", "source")


@dataclass(frozen=True)
class ModelFacts:
    """The facts of a model's card.

    Attributes:
        head: id of its head model.
        vertices: V of the head.
        shapes: S, identity coefficients of the head.
        expressions: E, expression coefficients of the head.
        gaussians: N of the UV layout.
        resolution: U, texels a side of the UV layout.
        encoder: name of the network's encoder, or "none".
    """

    head: str
    vertices: int
    shapes: int
    expressions: int
    gaussians: int
    resolution: int
    encoder: str


@dataclass(frozen=True)
class AvatarFacts:
    """What an avatar's card states.

    Attributes:
        head: id of its head model.
        gaussians: N of its UV layout.
        resolution: U, texels a side of the UV layout.
        photos: number of photos it was made from; None where it is not recorded.
        refined: whether it was refined on a video.
    """

    head: str
    gaussians: int
    resolution: int
    photos: int | None
    refined: bool


def model_card(model: ModelFacts, folder: Path | None, repo_id: str | None = None) -> str:
    """Compose a model's card, front matter included.

    Args:
        model: the facts that the card states.
        folder: the model's folder, whose MANIFEST.json lists files and licences and whose results*.json contain
            measured metrics; None for a model without a folder.
        repo_id: the repository that the card's example loads; by default this project's model.

    Raises:
        FormatError: the manifest or the results cannot be read.
    """
    from huggingface_hub import ModelCardData

    results = _results(folder)
    data = ModelCardData(
        license="apache-2.0",
        library_name=LIBRARY,
        pipeline_tag=_TASK,
        tags=["3d-gaussian-splatting", "head-avatar", "talking-head", "arxiv:2606.15659"],
        model_name="SpatialAvatar-0" if results else None,
        eval_results=_evaluations(results) or None,
    )
    fields = {
        "model_id": repo_id or DEFAULT_MODEL_ID,
        "revision": DEFAULT_REVISION if repo_id in (None, DEFAULT_MODEL_ID) else "main",
        "head": for_markdown(model.head),
        "vertices": f"{model.vertices:,}",
        "shapes": str(model.shapes),
        "expressions": str(model.expressions),
        "gaussians": f"{model.gaussians:,}",
        "resolution": str(model.resolution),
        "encoder": for_markdown(model.encoder),
        "metrics": _metrics(results),
        "files": _files(folder),
    }
    return _card(data, "model_card.md", fields)


def avatar_card(avatar: AvatarFacts, file: str, repo_id: str | None = None) -> str:
    """Compose an avatar's card, front matter included.

    Args:
        avatar: the facts that the card states.
        file: name of the avatar file beside the card.
        repo_id: the repository that the card's example loads.
    """
    from huggingface_hub import ModelCardData

    data = ModelCardData(
        license="other",
        license_name="terms-of-the-person-shown",
        library_name=LIBRARY,
        pipeline_tag=_TASK,
        base_model=DEFAULT_MODEL_ID,
        tags=["3d-gaussian-splatting", "head-avatar", "avatar", "synthetic"],
        inference=False,
    )
    fields = {
        "title": (repo_id or "Avatar").rpartition("/")[2],
        "preview": PREVIEW_FILE,
        "repo_id": repo_id or "you/your-avatar",
        "file": file,
        "model_url": f"https://huggingface.co/{DEFAULT_MODEL_ID}",
        "version": __version__,
        "photos": _photos(avatar.photos),
        "steps": "generated, then refined on a video" if avatar.refined else "generated",
        "head": for_markdown(avatar.head),
        "gaussians": f"{avatar.gaussians:,}",
        "resolution": str(avatar.resolution),
    }
    return _card(data, "avatar_card.md", fields)


def _photos(count: int | None) -> str:
    return "photos" if count is None else "one photo" if count == 1 else f"{count} photos"


def _card(data: Any, template: str, fields: Mapping[str, str]) -> str:
    text = Path(__file__).with_name(template).read_text(encoding="utf-8")
    return f"---\n{data.to_yaml()}\n---\n\n{Template(text).substitute(fields)}"


def _files(folder: Path | None) -> str:
    """A table of the shipped files: licence, origin, what they were trained on."""
    if folder is None or not (folder / MANIFEST_NAME).is_file():
        return "This model comes without a manifest; ask whoever made it for the origin of its files."
    rows = ["| file | what | trained on | licence | from |", "|---|---|---|---|---|"]
    for entry in read_manifest(folder / MANIFEST_NAME):
        name = for_code(str(entry.get("path", "")).removeprefix("weights/"))
        cells = [for_markdown(str(entry.get(key) or "not known")) for key in _COLUMNS]
        rows.append(f"| `{name}` | {' | '.join(cells)} |")
    return "\n".join(rows)


def _results(folder: Path | None) -> list[dict[str, Any]]:
    """What evaluations wrote: one dict per dataset and protocol, with its metrics, command and source."""
    rows = []
    for path in sorted(folder.glob(RESULTS_FILES)) if folder else ():
        try:
            rows += _rows(parse_json(path.read_bytes()))
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise FormatError(
                f"{path.name} is not an evaluation's result ({error!r}); run the evaluation again."
            ) from error
    return rows


def _rows(content: Any) -> list[dict[str, Any]]:
    """The rows of one file of results, each with the command and the source that they share.

    Raises:
        ValueError, KeyError, TypeError, AttributeError: it is not a file of results.
    """
    source = {name: content.get("source", {}).get(name) for name in ("name", "url")}
    texts = (content.get("command"), *source.values())
    if not all(text is None or isinstance(text, str) for text in texts):
        raise TypeError("the command and the source are text")
    return [
        {
            "command": content.get("command"),
            "source": source,
            "dataset": str(row["dataset"]),
            "name": str(row.get("dataset_name", row["dataset"])),
            "protocol": str(row["protocol"]),
            "metrics": {str(name): float(value) for name, value in row["metrics"].items()},
        }
        for row in content["results"]
    ]


def _evaluations(results: Sequence[Mapping[str, Any]]) -> list[Any]:
    """The results as the Hub's ``model-index`` has them."""
    from huggingface_hub import EvalResult

    return [
        EvalResult(
            task_type=_TASK,
            task_name=row["protocol"],
            dataset_type=row["dataset"],
            dataset_name=row["name"],
            dataset_config=row["protocol"],  # distinguishes two results on one dataset
            metric_type=metric,
            metric_name=metric,
            metric_value=value,
            source_name=row["source"].get("name") if row["source"].get("url") else None,
            source_url=row["source"].get("url"),
        )
        for row in results
        for metric, value in row["metrics"].items()
    ]


def _metrics(results: Sequence[Mapping[str, Any]]) -> str:
    """The results as a table for people, and the commands that made them."""
    if not results:
        return "Not evaluated yet: a table stands here once an evaluation has written its results beside this card."
    names = list(dict.fromkeys(name for row in results for name in row["metrics"]))
    lines = [f"| data | protocol | {' | '.join(map(for_markdown, names))} |", f"|---|---|{'---:|' * len(names)}"]
    for row in results:
        values = " | ".join(f"{row['metrics'][name]:g}" if name in row["metrics"] else "" for name in names)
        lines.append(f"| {for_markdown(row['name'])} | {for_markdown(row['protocol'])} | {values} |")
    commands = dict.fromkeys(row["command"] for row in results if row["command"])
    measured = [f"* `{for_code(str(command), length=1000)}`" for command in commands]
    return "\n".join(lines + (["", "Measured with:", ""] if commands else []) + measured)
