"""The protocols of the literature: the sources of an avatar, and the frames it is compared with. One module a protocol.

An avatar is driven by the tracked pose and expression of the target frame, fitted with the avatar's identity; nothing
else of a target is used. Frames without a face that can be tracked are not measured, and are counted.

To add a protocol, write its module, name it in ``config.PROTOCOL_NAMES`` and add it to :data:`PROTOCOLS`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from spatialavatar.errors import InputError
from spatialavatar.evaluation.datasets import Clip
from spatialavatar.evaluation.protocols.config import PROTOCOL_NAMES, Bench, BenchConfig
from spatialavatar.evaluation.protocols.cross_reenactment import cross_reenactment
from spatialavatar.evaluation.protocols.expressive import expressive
from spatialavatar.evaluation.protocols.k_source import k_source
from spatialavatar.evaluation.protocols.multi_view import multi_view
from spatialavatar.evaluation.protocols.refined import held_out_from, refined
from spatialavatar.evaluation.protocols.self_reenactment import self_reenactment
from spatialavatar.evaluation.protocols.turned import turned
from spatialavatar.progress import Progress

__all__ = ["PROTOCOLS", "PROTOCOL_NAMES", "Bench", "BenchConfig", "held_out_from", "measure"]

Protocol = Callable[[Clip, Bench, Sequence[Clip], Progress], dict[str, Any]]
"""Measures a clip, given the run, the whole set and a progress callback; returns the content of the clip's file."""

PROTOCOLS: Final[dict[str, Protocol]] = {
    "self": self_reenactment,
    "cross": cross_reenactment,
    "k-source": k_source,
    "refined": refined,
    "multi-view": multi_view,
    "turned": turned,
    "expressive": expressive,
}


def measure(clip: Clip, bench: Bench, clips: Sequence[Clip], progress: Progress) -> dict[str, Any]:
    """Measure one clip; JSON-ready results (docs/reference/formats.md has the schema).

    Args:
        clip: the clip.
        bench: the run.
        clips: the whole set, for the protocol that needs another clip.
        progress: called with (fraction, message).

    Raises:
        InputError: the clip cannot be read or is not fit for the protocol.
        NoFaceError: no face is seen.
    """
    if not clip.recordings:
        raise InputError(" ".join(clip.notes) or f"{clip.name} holds nothing that can be read.")
    return PROTOCOLS[bench.config.protocol](clip, bench, clips, progress)
