"""Resources and prompts of the MCP server; its tools are the endpoints."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final

import gradio as gr

from spatialavatar.app.endpoints import ENDPOINTS
from spatialavatar.errors import InputError
from spatialavatar.examples import MOTIONS, example_motion
from spatialavatar.head.arkit import ARKIT_52

_SHORT: Final = 5  # frames of an example motion that a resource shows, as a short sample
_NAMES: Final = {label.lower().replace(" ", "-"): label for label in MOTIONS}


@gr.mcp.resource("spatialavatar://guide", mime_type="text/markdown")
def guide() -> str:
    """Which tools there are, what each returns, and in which order to call them."""
    lines = [
        "# SpatialAvatar",
        "",
        "Call `generate` with one to four photos of one person, then `drive` with its avatar; `refine` on a video of",
        "the person in between makes the avatar sharper. Pass a result on by its address. Ask the people who are shown",
        "for their consent first; set `consent` to true only if they gave it.",
        "",
    ]
    for endpoint in ENDPOINTS:
        names = ", ".join(f"`{value.name}`" for value in endpoint.values)
        results = ", ".join(value.label for value in endpoint.returns)
        lines += [f"* `{endpoint.name}`: {endpoint.summary} Takes {names}. Returns {results}."]
    return "\n".join(lines)


@gr.mcp.resource("spatialavatar://units", mime_type="text/plain")
def units() -> str:
    """The names of the 52 ARKit units of a motion file, one a line; weights run from 0 to 1."""
    return "\n".join(ARKIT_52)


@gr.mcp.resource("spatialavatar://motions/{name}", mime_type="text/plain")
def motion(name: str) -> str:
    """The start of an example motion file, to write one of the same form for `drive`.

    Args:
        name: talk, look-around or make-faces.
    """
    if name not in _NAMES:
        raise gr.Error(str(InputError(f"There is no example motion of that name; choose {', '.join(_NAMES)}.")))
    content: dict[str, Any] = json.loads(example_motion(_NAMES[name]).read_text(encoding="utf-8"))
    return json.dumps(
        {key: value[:_SHORT] if isinstance(value, list) and key != "names" else value for key, value in content.items()}
    )


@gr.mcp.prompt()
def create_avatar(photos: str) -> str:
    """Create an avatar of a person and look at it.

    Args:
        photos: addresses of one to four photos of one person, separated by spaces.
    """
    return (
        f"Create an avatar from these photos: {photos}. Ask whether every person shown agrees, and stop if not. Then "
        "call generate with consent set to true, show the returned picture, and report what the facts state about the "
        "photos."
    )


@gr.mcp.prompt()
def animate_avatar(avatar: str, performance: str) -> str:
    """Animate an avatar from a description of a performance.

    Args:
        avatar: address of an avatar file.
        performance: what the face does, for instance: looks left, winks, then smiles.
    """
    return (
        f"Animate the avatar {avatar} so that it does this: {performance}. Read spatialavatar://units and "
        "spatialavatar://motions/talk, write a motion file of that form at 25 frames a second, ask whether the person "
        "shown agrees, and stop if not. Then call drive with the file as motion and consent set to true, and show the "
        "video."
    )


ASSISTANTS: Final[tuple[Callable[..., str], ...]] = (guide, units, motion, create_avatar, animate_avatar)
"""The resources and prompts; gradio serves each as an endpoint too."""


def add_assistants() -> None:
    """Add every resource and prompt to the Blocks that is being built."""
    for function in ASSISTANTS:
        gr.api(function, api_name=function.__name__, queue=False)
