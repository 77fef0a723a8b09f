"""Commands that talk to the Hub: ``papers info``, ``papers load``, ``push``."""

from __future__ import annotations

import argparse
import textwrap
from pathlib import Path
from typing import Any

from spatialavatar.cli.commands import Commands
from spatialavatar.cli.output import Outcome
from spatialavatar.hub.constants import PAPER_ID
from spatialavatar.progress import Progress

_GROUP = "On the Hub"
_PAGE = "avatar.html"


def declare(commands: Commands) -> None:
    """Add the commands of this module."""
    command = commands.add(
        _GROUP,
        "papers info",
        _papers_info,
        "Describe a paper and list the models, Spaces and datasets linked to it",
        "papers info",
    )
    command.add_argument("paper", nargs="?", default=PAPER_ID, metavar="ID", help="arXiv id, default: %(default)s")
    command.add_argument("--token", help="access token, default: the one that 'hf auth login' stored")

    command = commands.add(
        _GROUP,
        "papers load",
        _papers_load,
        "Fetch the first model linked to a paper that this program can run",
        f"papers load {PAPER_ID}",
    )
    command.add_argument("paper", nargs="?", default=PAPER_ID, metavar="ID", help="arXiv id, default: %(default)s")
    command.add_argument("--token", help="access token, default: the one that 'hf auth login' stored")

    command = commands.add(
        _GROUP,
        "push",
        _push,
        "Upload an avatar to a repository of yours, private by default",
        "push me.safetensors you/your-avatar",
    )
    command.add_argument("avatar", type=Path, metavar="AVATAR", help="a file that 'generate' or 'refine' wrote")
    command.add_argument("repo_id", metavar="REPO_ID", help="you/name")
    command.add_argument("--public", action="store_true", help="make the repository public; ask the person shown first")
    command.add_argument(
        "--page", action="store_true", help=f"also upload {_PAGE}, which other pages can embed (docs/guide/embed.md)"
    )
    command.add_argument(
        "--token", help="access token with write permission, default: the one that 'hf auth login' stored"
    )


def _papers_info(options: argparse.Namespace, progress: Progress) -> Outcome:
    from spatialavatar.hub.papers import paper_facts

    progress(0.0, f"Looking up {options.paper}")
    facts = paper_facts(options.paper, options.token)
    return Outcome([facts["id"]], facts, _described(facts))


def _papers_load(options: argparse.Namespace, progress: Progress) -> Outcome:
    from spatialavatar.generator import SpatialAvatar
    from spatialavatar.hub.papers import fetch_model_of

    progress(0.0, f"Fetching a model of {options.paper}")
    model_id, folder = fetch_model_of(options.paper, token=options.token)
    model = SpatialAvatar.from_pretrained(folder)
    facts = {
        "model": model_id,
        "revision": folder.name,  # the Hub's cache names a snapshot by its commit
        "folder": folder,
        "head": model.head.id,
        "gaussians": len(model.layout),
        "encoder": model.config.encoder,
    }
    use = f"Make an avatar with it: spatialavatar generate me.jpg --model {model_id} --revision {folder.name}"
    return Outcome([folder], facts, f"{model_id}\n{folder}", notes=[use])


def _push(options: argparse.Namespace, progress: Progress) -> Outcome:
    from spatialavatar.avatar import Avatar
    from spatialavatar.export import save_html

    avatar = Avatar.load(options.avatar)
    progress(0.0, f"Uploading to {options.repo_id}")
    address = avatar.push_to_hub(
        options.repo_id,
        private=not options.public,
        token=options.token,
        beside=(lambda folder: save_html(avatar, folder / _PAGE)) if options.page else None,
    )
    facts = {"repo_id": options.repo_id, "commit": address, "private": not options.public}
    notes = []
    if options.page:
        facts["page"] = f"{address.replace('/commit/', '/resolve/')}/{_PAGE}"
        notes.append(f"Embed it as docs/guide/embed.md shows: {facts['page']}")
        if not options.public:
            notes.append(
                "A page in a private repository cannot be embedded; push with --public, or make it public on the Hub."
            )
    return Outcome([address], facts, notes=notes)


def _described(facts: dict[str, Any]) -> str:
    """A paper and its links as text."""
    by = [", ".join(facts["authors"]), facts.get("published_at"), facts["url"]]
    lines = [facts.get("title") or facts["id"], *(part for part in by if part)]
    if "summary" in facts:
        lines += ["", textwrap.fill(facts["summary"], 96)]
    for kind in ("models", "Spaces", "datasets"):
        repos = facts[f"linked_{kind.lower()}"]
        lines += ["", f"Linked {kind}:" if repos else f"No linked {kind}."]
        width = max((len(repo["id"]) for repo in repos), default=0)
        for repo in repos:
            counts = [f"{repo[key]:,} {key}" for key in ("downloads", "likes") if key in repo]
            lines.append(f"  {repo['id']:<{width}}  {', '.join(counts)}".rstrip())
    return "\n".join(lines)
