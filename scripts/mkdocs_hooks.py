"""Hooks of the documentation site: a few reStructuredText forms of docstrings become Markdown."""

from __future__ import annotations

import re
from typing import Any

_ROLE = re.compile(r":(?:class|func|meth|mod|data|attr):<code>~?(?:[\w.]*\.)?(\w+)</code>")


def on_page_content(html: str, **_: Any) -> str:
    """Show ``:class:`a.b.Name``` as ``Name``, and a paragraph that ends in two colons with one."""
    return _ROLE.sub(r"<code>\1</code>", html).replace("::</p>", ":</p>")
