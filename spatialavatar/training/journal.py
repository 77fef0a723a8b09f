"""The values of a training run by step: lines of JSON, and the boards that draw them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from spatialavatar.errors import missing_extra
from spatialavatar.files import write_text

REDRAWN: Final = "redrawn.jsonl"
LOG: Final = "log.jsonl"
HELD_OUT: Final = "held_out.jsonl"


class Journal:
    """Writes values by step as lines of JSON, to TensorBoard if it is installed, and to Trackio if it is wanted."""

    def __init__(self, out: Path, done: int, project: str = "") -> None:
        """Open the files and boards of a run; lines after its checkpoint are removed, because they are written again.

        Args:
            out: folder of the run.
            done: steps in the checkpoint.
            project: of Trackio; the run there has the name of the folder; "" for none.

        Raises:
            MissingAssetError: a project is named and Trackio is not installed.
        """
        self._out = out
        self._trackio = _trackio(project, out) if project else None
        for name in (LOG, HELD_OUT, REDRAWN):
            lines = read_lines(out / name)
            if lines:
                kept = [line for line in lines if json.loads(line)["step"] <= done]
                write_text(out / name, "".join(f"{line}\n" for line in kept))
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            self._board = None
        else:
            self._board = SummaryWriter(str(out / "tensorboard"), purge_step=done + 1)

    def write(self, name: str, step: int, facts: Mapping[str, Any]) -> None:
        """Add the values of one step to a file; numbers go to the boards too."""
        with open(self._out / name, "a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **facts}, ensure_ascii=False) + "\n")
        numbers = {f"{Path(name).stem}/{key}": value for key, value in facts.items() if isinstance(value, (int, float))}
        if self._board:
            for key, value in numbers.items():
                self._board.add_scalar(key, value, step)
            self._board.flush()
        if self._trackio:
            self._trackio.log(numbers, step=step)

    def close(self) -> None:
        """Send the remaining values to the boards."""
        if self._trackio:
            self._trackio.finish()


def _trackio(project: str, out: Path) -> Any:
    """Trackio with the run open; a run of that name goes on."""
    try:
        import trackio
    except ImportError as error:
        raise missing_extra("The key trackio of the configuration", "trackio") from error
    trackio.init(project=project, name=out.name, resume="allow", embed=False)
    return trackio


def read_lines(path: Path) -> list[str]:
    """The lines of a text file, or none if it does not exist."""
    return path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
