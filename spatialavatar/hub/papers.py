"""The models, Spaces and datasets that the Hub links to a paper, and fetching the first model among them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from spatialavatar.errors import InputError, MissingAssetError
from spatialavatar.hub.constants import CONFIG_FILE, LIBRARY, MODEL_FORMAT, PAPER_ID
from spatialavatar.hub.transfer import Token, fetch, hub_api, hub_errors, status_of
from spatialavatar.strict_json import parse_json


def paper_facts(paper_id: str = PAPER_ID, token: Token = None) -> dict[str, Any]:
    """The Hub's record of a paper, JSON-ready, without nulls.

    Args:
        paper_id: of arXiv, or an address that ends in one.
        token: a token, to include private models of its account.

    Raises:
        MissingAssetError: the Hub has no such paper or is out of reach.
    """
    paper = _paper(paper_id, token)
    published = getattr(paper, "published_at", None)
    facts = {
        "id": paper.id,
        "title": paper.title,
        "authors": [author.name for author in paper.authors or ()],
        "published_at": published.date().isoformat() if published else None,
        "summary": " ".join(paper.summary.split()) if paper.summary else None,
        "upvotes": paper.upvotes,
        "url": f"https://arxiv.org/abs/{paper.id}",
        "linked_models": [_linked(model) for model in _links(paper, "models")],
        "linked_spaces": [_linked(space) for space in _links(paper, "spaces")],
        "linked_datasets": [_linked(dataset) for dataset in _links(paper, "datasets")],
    }
    return {key: value for key, value in facts.items() if value is not None}


def fetch_model_of(paper_id: str = PAPER_ID, *, token: Token = None) -> tuple[str, Path]:
    """The first model linked to the paper that this package can load: its Hub id, and the folder it was fetched to.

    Raises:
        MissingAssetError: there is no such paper, no linked model is of this library, or it cannot be fetched.
        FormatError: a file of the model is damaged.
    """
    paper = _paper(paper_id, token)
    for model in _links(paper, "models"):
        if LIBRARY not in (getattr(model, "library_name", None), *(model.tags or ())):
            continue
        config = fetch(model.id, token=token, files=[CONFIG_FILE]) / CONFIG_FILE
        if config.is_file() and _format(config) == MODEL_FORMAT:  # avatars are of this library too
            return model.id, fetch(model.id, token=token)
    raise MissingAssetError(
        f"No model linked to the paper {paper.id} is one of {LIBRARY}; see 'spatialavatar papers info {paper.id}'."
    )


def _paper(paper_id: str, token: Token) -> Any:
    name = paper_id.rstrip("/").rpartition("/")[2].removeprefix("arXiv:")
    if not name or not all(part.isdigit() for part in name.partition("v")[0].split(".")):
        raise InputError(f"{paper_id!r} is not an arXiv id; give one such as {PAPER_ID}.")
    try:
        return hub_api(token).paper_info(name.partition("v")[0])
    except hub_errors() as error:
        if status_of(error) == 404:
            raise MissingAssetError(f"The Hub has no paper {name}; check the id.") from error
        raise MissingAssetError(
            f"The paper {name} cannot be looked up; the Hub is out of reach, try again later."
        ) from error


def _links(paper: Any, kind: str) -> list[Any]:
    return list(getattr(paper, f"linked_{kind}", None) or ())


def _linked(repo: Any) -> dict[str, Any]:
    names = ("id", "library_name", "pipeline_tag", "sdk", "downloads", "likes", "private")
    facts = {name: getattr(repo, name, None) for name in names}
    return {name: value for name, value in facts.items() if value is not None}


def _format(config: Path) -> str:
    try:
        return str(parse_json(config.read_bytes()).get("format", ""))
    except (OSError, ValueError, AttributeError):
        return ""
