"""Output of a command: the result on stdout; progress, notes and errors on stderr."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from spatialavatar.cli.process import print_error, stderr_is_terminal
from spatialavatar.text import for_json, for_terminal

Form = Literal["text", "json", "quiet"]


@dataclass(frozen=True)
class Outcome:
    """The result of a command, in three forms.

    Attributes:
        ids: what was made or found: paths, Hub ids, one a line with ``-q``.
        facts: the same and more for ``--json``: one object, snake_case; null values are left out.
        text: for people; by default the ids.
        notes: sentences for stderr.
    """

    ids: Sequence[str | Path]
    facts: Mapping[str, Any]
    text: str = ""
    notes: Sequence[str] = ()

    def show(self, form: Form, notes: bool = True) -> None:
        """Print it, with or without the notes."""
        if notes:
            for sentence in self.notes:
                print_error(sentence)
        if form == "json":
            print(json_object(self.facts))
        elif form == "text" and self.text:
            print(for_terminal(self.text))
        else:
            for item in self.ids:
                print(item)


def json_object(facts: Mapping[str, Any]) -> str:
    """The facts as JSON without nulls; a file name that is not UTF-8 has escapes, so that the text is still valid."""
    given = _without_nulls(facts)
    text = for_json(json.dumps(given, indent=2, ensure_ascii=False))
    return text if not _has_surrogates(text) else json.dumps(given, indent=2)


def _has_surrogates(text: str) -> bool:
    return any("\ud800" <= character <= "\udfff" for character in text)


def _without_nulls(value: Any) -> Any:
    """The value with paths as text, and without the nulls and non-numbers in its objects, however deep."""
    if isinstance(value, Mapping):
        return {key: _without_nulls(part) for key, part in value.items() if not _is_nothing(part)}
    if isinstance(value, (list, tuple)):
        return [_without_nulls(part) for part in value]
    return str(value) if isinstance(value, Path) else value


def _is_nothing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and not math.isfinite(value))  # JSON has neither NaN nor infinity


def table(facts: Mapping[str, Any], indent: str = "") -> str:
    """Names and values in two columns; an object inside is a block of its own, indented."""
    width = max((len(key) for key in facts), default=0)
    lines = []
    for key, value in facts.items():
        if isinstance(value, Mapping):
            lines += [f"{indent}{_line(key)}:", table(value, indent + "  ")]
        elif value is not None:
            text = ", ".join(str(part) for part in value) if isinstance(value, (list, tuple)) else str(value)
            lines.append(f"{indent}{_line(key):<{width}}  {_line(text)}")
    return "\n".join(lines)


def _line(text: str) -> str:
    """The text on one line: a value with line breaks could pass for further rows."""
    return text.replace("\n", "\\n")


def fail(sentence: str) -> int:
    """Print the sentence on stderr, on one line; returns the exit status."""
    print_error(f"spatialavatar: {' '.join(sentence.split())}")
    return 1


class ProgressBar:
    """Shows (fraction, message) on stderr where that is a terminal; elsewhere only each new stage, one line each."""

    def __init__(self, quiet: bool) -> None:
        self._quiet = quiet
        self._terminal = stderr_is_terminal()
        self._stage = ""
        self._bar: Any = None

    def __enter__(self) -> Callable[[float, str], None]:
        return self._show

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def _show(self, fraction: float, message: str) -> None:
        if self._quiet:
            return
        if self._terminal:
            with suppress(OSError):  # the terminal is gone; the work goes on
                if self._bar is None:
                    self._bar = _bar()
                self._bar.set_description_str(for_terminal(message), refresh=False)
                self._bar.update(max(0.0, min(fraction, 1.0) - self._bar.n))
            return
        stage = message.rstrip("0123456789 %/.").removesuffix(" of").rstrip("0123456789 ")
        if stage != self._stage:
            self._stage = stage
            print_error(message)


def _bar() -> Any:
    from tqdm import tqdm

    layout = "{desc:<36.36}{percentage:4.0f}%|{bar}| {elapsed}"
    return tqdm(total=1.0, bar_format=layout, leave=False, file=sys.stderr)
