"""Text from untrusted files, escaped for the place where it is shown.

Names, warnings and facts in an avatar or a model come from its author. A terminal obeys escape sequences, and a
card on the Hub is rendered as HTML. Both functions keep ordinary text unchanged.
"""

from __future__ import annotations

import html
import re

# Control characters (C0 without tab and newline, DEL, C1), line separators, and the marks that reverse the direction
# of writing, by which a name can be displayed as another.
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_MARKDOWN = re.compile(r"([\\`*\[\]|~#]|(?<!\w)_|_(?!\w))")  # an underscore inside a word is only itself


def for_terminal(text: str) -> str:
    r"""Show control characters as escapes (``\x1b``), so that a terminal prints them instead of obeying them."""
    return _CONTROLS.sub(lambda match: _escaped(match[0]), text)


def for_json(text: str) -> str:
    """Finished JSON with the control characters that JSON permits written as its own escapes; it parses as before."""
    return _CONTROLS.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def for_markdown(text: str, *, length: int = 300) -> str:
    """One line of plain text for a Markdown table or paragraph, without HTML, links or other markup.

    Args:
        text: what to show.
        length: characters after which it is cut.
    """
    line = " ".join(_CONTROLS.sub(" ", text).split())
    line = line if len(line) <= length else line[: length - 1] + "…"
    return _MARKDOWN.sub(r"\\\1", html.escape(line, quote=False))


def for_code(text: str, *, length: int = 300) -> str:
    """One line for a Markdown code span, which ends at a backtick; in a table a bar would end the cell."""
    line = " ".join(_CONTROLS.sub(" ", text).split()).replace("`", "'").replace("|", "/")
    return line if len(line) <= length else line[: length - 1] + "…"


def _escaped(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
