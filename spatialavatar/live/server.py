"""Serves an avatar's web page and its motion to this machine: http://127.0.0.1:8765/?motion&transparent in OBS.

A WebSocket at ``/motion`` sends the newest frame to every page. Browsers may read it from the server's own page and
from origins that were allowed; pages of other sites receive neither page nor motion, even with the right address.
"""

from __future__ import annotations

import errno
import ipaddress
import socket
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from spatialavatar.errors import InputError, missing_extra

if TYPE_CHECKING:
    from websockets.http11 import Request, Response
    from websockets.sync.server import ServerConnection

MOTION_PATH: Final = "/motion"
_MAX_CLIENTS: Final = 16
_LARGEST_MESSAGE: Final = 1024  # bytes that a client may send; nothing that it sends is read
_PING: Final = 10.0  # seconds between looks whether a client is still there


@dataclass(frozen=True)
class ServerPlace:
    """Where the server listens, and who may read.

    Attributes:
        host: a name or an IP address of this machine.
        port: the TCP port.
        origins: origins of other pages that may read the motion, such as https://example.org; "null" allows every
            page that was opened from a file, and those of sites that hide their origin.
    """

    host: str = "127.0.0.1"
    port: int = 8765
    origins: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check the origins.

        Raises:
            InputError: one is none.
        """
        for origin in self.origins:
            if origin == "null":  # of files
                continue
            parts = urlsplit(origin)
            if (
                parts.scheme not in ("http", "https")
                or not parts.netloc
                or origin != f"{parts.scheme}://{parts.netloc}"
            ):
                raise InputError(
                    f"{origin[:80]!r} is not an origin; give one like https://example.org, without a path."
                )

    def address(self) -> str:
        """The page's address for a browser of this machine."""
        host = "127.0.0.1" if self.host in ("0.0.0.0", "::") else self.host
        return f"http://[{host}]:{self.port}/" if ":" in host else f"http://{host}:{self.port}/"


class LiveServer:
    """A page and a stream of messages; use it as a context manager, and :meth:`publish` every frame."""

    def __init__(self, page: str, place: ServerPlace) -> None:
        """Bind the port.

        Args:
            page: the HTML of the page.
            place: where to listen.

        Raises:
            MissingAssetError: the package websockets is missing.
            InputError: the host is unknown or not of this machine, or the port is taken or not allowed.
        """
        try:
            from websockets.sync.server import serve
        except ImportError:
            raise missing_extra("The live page", "live") from None
        self.place = place
        self._page = page.encode("utf-8")
        self._message: tuple[int, bytes] = (0, b"")
        self._changed = threading.Condition()
        self._closed = False
        self._clients = threading.Semaphore(_MAX_CLIENTS)
        try:
            socket.getaddrinfo(place.host, place.port)
            self._server = serve(
                self._send_frames,
                place.host,
                place.port,
                process_request=self._respond,
                compression=None,
                max_size=_LARGEST_MESSAGE,
            )
        except (OSError, UnicodeError) as error:
            raise InputError(_refusal(place, error)) from None
        self._thread = threading.Thread(target=self._server.serve_forever, name="live server", daemon=True)

    def __enter__(self) -> LiveServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._server.shutdown()
        self._thread.join()

    def publish(self, message: bytes) -> None:
        """Send a message to every page; one that is slower gets the newest only."""
        with self._changed:
            self._message = (self._message[0] + 1, message)
            self._changed.notify_all()

    def _newer(self, number: int) -> tuple[int, bytes] | None:
        """The newest message, once its number exceeds ``number``; None when it is time to look after the client."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._message[0] > number, _PING)
            return self._message if self._message[0] > number else None

    def _send_frames(self, client: ServerConnection) -> None:
        """Serve one WebSocket until it is closed."""
        from websockets.exceptions import ConnectionClosed

        if not self._clients.acquire(blocking=False):
            client.close(1013, "too many pages")
            return
        try:
            number = 0
            with suppress(ConnectionClosed, OSError):
                while not self._closed:
                    newest = self._newer(number)
                    if newest is None:
                        client.ping()
                    else:
                        number = newest[0]
                        client.send(newest[1])
        finally:
            self._clients.release()

    def _respond(self, _client: ServerConnection, request: Request) -> Response | None:
        """The page, a refusal, or None to let a WebSocket open."""
        host, path = request.headers.get("Host", ""), urlsplit(request.path).path
        if not self._is_own_host(host):
            return _answer(403, "Forbidden", b"This server answers to its IP address or localhost only.\n")
        if path == "/":
            return _answer(200, "OK", self._page, "text/html; charset=utf-8")
        if path != MOTION_PATH:
            return _answer(404, "Not Found", b"There are / and /motion.\n")
        origin = request.headers.get("Origin")
        if origin is not None and origin != f"http://{host}" and origin not in self.place.origins:
            return _answer(403, "Forbidden", b"This origin may not read the motion.\n")
        return None

    def _is_own_host(self, host: str) -> bool:
        """Whether a Host header is an IP address or localhost.

        A name of a foreign site that leads to this machine (DNS rebinding) is neither.
        """
        with suppress(ValueError):
            name = urlsplit(f"//{host}").hostname or ""
            if name in ("localhost", self.place.host):
                return True
            ipaddress.ip_address(name)
            return True
        return False


def _answer(status: int, reason: str, body: bytes, kind: str = "text/plain; charset=utf-8") -> Response:
    from websockets.datastructures import Headers
    from websockets.http11 import Response

    fields: Sequence[tuple[str, Any]] = (
        ("Content-Type", kind),
        ("Content-Length", str(len(body))),
        ("Cache-Control", "no-store"),
        ("X-Content-Type-Options", "nosniff"),
        ("X-Frame-Options", "SAMEORIGIN"),
        ("Cross-Origin-Resource-Policy", "same-origin"),
        ("Connection", "close"),
    )
    return Response(status, reason, Headers(fields), body)


def _refusal(place: ServerPlace, error: OSError | UnicodeError) -> str:
    number = getattr(error, "errno", None)
    if isinstance(error, (socket.gaierror, UnicodeError)):
        return f"The host {place.host[:80]} is unknown; give 127.0.0.1, or an IP address of this machine."
    if number == errno.EADDRINUSE:
        return f"The port {place.port} is in use by another program; close that, or choose another --port."
    if number in (errno.EACCES, errno.EPERM):
        return f"This user may not listen at port {place.port}; choose a --port above 1023."
    return f"This machine has no interface {place.host[:80]}; give 127.0.0.1, or 0.0.0.0 for the whole network."
