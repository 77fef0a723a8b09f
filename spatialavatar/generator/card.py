"""The model card, from ``card_template.md`` and the manifest of the files a model comes with."""

from __future__ import annotations

import json
from pathlib import Path
from string import Template

from huggingface_hub import ModelCardData

from spatialavatar.generator.config import GeneratorConfig
from spatialavatar.head import HeadModel

_TEMPLATE = Path(__file__).with_name("card_template.md")


def model_card(config: GeneratorConfig, head: HeadModel, gaussians: int, folder: Path | None) -> str:
    """The text of the card, front matter included.

    Args:
        config: of the model.
        head: its head model.
        gaussians: N of its layout.
        folder: the model's folder, whose MANIFEST.json lists files and licences; None for a model that has none.
    """
    data = ModelCardData(
        license="apache-2.0",
        library_name="spatialavatar",
        pipeline_tag="image-to-3d",
        tags=["3d-gaussian-splatting", "head-avatar", "talking-head", "arxiv:2606.15659"],
    )
    fields = {
        "head": head.id,
        "vertices": f"{len(head.template):,}",
        "shapes": str(head.shape_count),
        "expressions": str(head.expression_count),
        "gaussians": f"{gaussians:,}",
        "resolution": str(config.resolution),
        "encoder": config.encoder,
        "files": _files(folder),
    }
    body = Template(_TEMPLATE.read_text(encoding="utf-8")).substitute(fields)
    return f"---\n{data.to_yaml()}\n---\n\n{body}"


def _files(folder: Path | None) -> str:
    """A table of the shipped files with licence and origin."""
    path = folder / "MANIFEST.json" if folder else None
    if path is None or not path.is_file():
        return "This model comes without a manifest; ask whoever made it for the origin of its files."
    rows = ["| file | what | licence | from |", "|---|---|---|---|"]
    for entry in json.loads(path.read_text(encoding="utf-8"))["files"]:
        name = entry["path"].removeprefix("weights/")
        rows.append(f"| `{name}` | {entry['what']} | {entry['licence']} | {entry['source']} |")
    return "\n".join(rows)
