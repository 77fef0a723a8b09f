"""The values of endpoints as gradio components that the page does not show.

Gradio's own components fetch addresses without a limit and answer a wrong value with a stack trace.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlparse

import httpx
from gradio.components.base import Component
from gradio.data_classes import FileData
from gradio.utils import get_upload_folder, is_in_or_equal
from gradio_client.utils import is_http_url_like, strip_invalid_filename_characters
from safehttpx import AsyncSecureTransport, async_validate_url

from spatialavatar.app.sessions import FETCHED
from spatialavatar.files import atomic_output

_FETCH_SECONDS = 60.0
_SECRET = secrets.token_bytes(16)  # so that the path of a copy cannot be derived from its address


class Parameter(Component):
    """A value that programs send or receive.

    Files arrive as paths in gradio's upload folder. A path elsewhere, or a value that is not a file, arrives as an
    empty path, so that the checks can refuse it with a sentence.
    """

    EVENTS: ClassVar[list[Any]] = []

    def __init__(
        self,
        schema: Mapping[str, Any],
        label: str = "",
        value: Any = None,
        most_bytes: int = 0,
        render: bool = True,
        visible: bool = True,
        **_: Any,
    ) -> None:
        """Describe a value.

        Args:
            schema: its JSON schema.
            label: what it is, in plain words.
            value: the default.
            most_bytes: the largest file that is fetched from an address.
            render, visible: as of every component.
        """
        self._schema = dict(schema)
        self._most_bytes = most_bytes
        super().__init__(value=value, label=label, render=render, visible=visible)

    def get_block_name(self) -> str:
        """The name of gradio's own component that is not shown."""
        return "api"

    def api_info(self) -> dict[str, Any]:
        """The schema."""
        return self._schema

    def example_payload(self) -> Any:
        """The default: no path would be a valid example of a file."""
        return self.value

    def example_value(self) -> Any:
        """As :meth:`example_payload`."""
        return self.value

    def preprocess(self, payload: Any) -> Any:
        """The value that a program sent, files as paths."""
        kind = self._schema.get("title")
        if payload is None or kind not in ("FileData", "ListFiles"):
            return payload
        if kind == "ListFiles":
            return [self._path_of(item) for item in (payload if isinstance(payload, list) else [payload])]
        return self._path_of(payload)

    def _path_of(self, payload: Any) -> str:
        path = payload.get("path") if isinstance(payload, dict) else payload
        if not isinstance(path, str) or "\0" in path:
            return ""
        if is_http_url_like(path):  # in a list, MCP clients' addresses come as they are
            path = asyncio.run(self.async_move_resource_to_block_cache(path)) or ""
        return path if path and is_in_or_equal(path, get_upload_folder()) else ""

    def postprocess(self, value: Any) -> Any:
        """The value for a program, files with the facts that gradio's clients need."""
        if value is not None and self._schema.get("title") == "FileData":
            return FileData(path=str(value), orig_name=Path(value).name, size=Path(value).stat().st_size)
        return value

    async def async_move_resource_to_block_cache(self, url_or_file_path: str | Path | None) -> str | None:
        """Fetch an address up to the largest file; where that fails, the returned path has no file."""
        if url_or_file_path is None or not is_http_url_like(str(url_or_file_path)):
            return await super().async_move_resource_to_block_cache(url_or_file_path)
        address = str(url_or_file_path)
        if own := _own_file(address):
            return own
        name = strip_invalid_filename_characters(Path(urlparse(address).path).name) or "file"
        key = hashlib.blake2b(address.encode(), key=_SECRET, digest_size=16).hexdigest()
        path = Path(get_upload_folder()) / f"{FETCHED}{key}" / name
        if not path.exists():
            try:
                await _fetch(address, path, self._most_bytes)
            except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError):
                return str(path)
        self.temp_files.add(str(path))
        return str(path)


def _own_file(address: str) -> str | None:
    """The path of a file that this server serves, so that programs can pass on the address of a result.

    Only the path counts, whatever the host: a path in the upload folder cannot be guessed.
    """
    _, marker, path = urlparse(address).path.partition("/gradio_api/file=")
    inside = bool(marker) and is_in_or_equal(path, get_upload_folder()) and Path(path).is_file()
    return path if inside else None


async def _fetch(address: str, path: Path, most_bytes: int) -> None:
    """Write the file at a public address to ``path``; addresses of private networks are refused.

    Raises:
        ValueError: the address is not public, or the file is larger than ``most_bytes``.
        httpx.HTTPError: it cannot be reached.
        OSError: it cannot be written.
    """
    verified = await async_validate_url(httpx.URL(address).host)
    async with (
        httpx.AsyncClient(transport=AsyncSecureTransport(verified), timeout=_FETCH_SECONDS) as client,
        client.stream("GET", address) as response,
    ):
        if response.status_code != httpx.codes.OK:
            raise ValueError(f"status {response.status_code}")
        written = 0
        with atomic_output(path) as temporary, temporary.open("wb") as file:
            async for chunk in response.aiter_bytes():
                written += len(chunk)
                if written > most_bytes:
                    raise ValueError("too large")
                file.write(chunk)
