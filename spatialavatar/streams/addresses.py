"""Addresses of motion streams, such as ``osc://:39539``, and the protocol that each names."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from spatialavatar.errors import InputError
from spatialavatar.streams import ifacialmocap, livelink, vmc
from spatialavatar.streams.frames import MotionFrame

LOOPBACK: Final = "127.0.0.1"
"""The host where an address names none: only programs of this machine reach it."""

_PATTERN: Final = re.compile(r"([a-z]+)://(\[[^\]/]*\]|[^:/\[\]]*)(?::([0-9]{1,5}))?/?")


class Decoder(Protocol):
    """Packets of one protocol to frames; it raises FormatError for anything else."""

    def decode(self, packet: bytes) -> MotionFrame | None:
        """The frame that the packet completes, if it completes one."""
        ...


@dataclass(frozen=True)
class StreamProtocol:
    """How a protocol is read and written.

    Attributes:
        title: its name.
        port: its usual port.
        decoder: makes the state of a receiver.
        encode: packets of a frame at a number of seconds since the sender's start.
        from_camera: whether the head's pose is relative to the sender's camera, which stands anywhere, and not to the
            direction in which the performer looks at rest.
        packets: how many packets a second are read; one frame is many packets in VMC, and one packet elsewhere.
    """

    title: str
    port: int
    decoder: Callable[[], Decoder]
    encode: Callable[[MotionFrame, float], list[bytes]]
    from_camera: bool
    packets: int


SCHEMES: Final = {
    "osc": StreamProtocol("VMC (OSC)", vmc.PORT, vmc.VmcDecoder, vmc.encode, from_camera=False, packets=10_000),
    "livelink": StreamProtocol(
        "Live Link Face", livelink.PORT, livelink.LiveLinkDecoder, livelink.encode, from_camera=True, packets=500
    ),
    "ifacialmocap": StreamProtocol(
        "iFacialMocap", ifacialmocap.PORT, ifacialmocap.IFacialMocapDecoder, ifacialmocap.encode, True, packets=500
    ),
}
"""The protocol of each scheme of an address."""


@dataclass(frozen=True)
class StreamAddress:
    """A protocol, a host and a port.

    Attributes:
        scheme: a key of ``SCHEMES``.
        host: a name or an IP address; to receive, that of the interface.
        port: the UDP port.
    """

    scheme: str
    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> StreamAddress:
        """The address in ``text``: ``osc://host:port``; host and port may be left out.

        Raises:
            InputError: the protocol is unknown, or the text is no such address.
        """
        scheme = text.partition("://")[0]
        if scheme not in SCHEMES:
            raise InputError(f"{text[:80]!r} names no supported protocol; use {_listed()}.")
        match = _PATTERN.fullmatch(text)
        port = 0 if match is None else int(match[3]) if match[3] else SCHEMES[scheme].port
        if match is None or not 1 <= port <= 65535:
            raise InputError(f"{text[:80]!r} is not an address of a motion stream; give one like {_example(scheme)}.")
        return cls(scheme, match[2].strip("[]") or LOOPBACK, port)

    @property
    def protocol(self) -> StreamProtocol:
        """How its packets are read and written."""
        return SCHEMES[self.scheme]

    def resolved(self) -> tuple[socket.AddressFamily, tuple[str, int]]:
        """Address family, and IP address with port.

        Raises:
            InputError: the host is unknown.
        """
        try:
            found = socket.getaddrinfo(self.host, self.port, type=socket.SOCK_DGRAM)
        except (OSError, UnicodeError):
            raise InputError(
                f"The host {self.host[:80]} is unknown; give an IP address such as {LOOPBACK}, or correct the name."
            ) from None
        family, *_, place = min(found, key=lambda one: one[0] != socket.AF_INET)
        return family, (str(place[0]), int(place[1]))

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"


def is_stream(text: str) -> bool:
    """Whether ``text`` has the form of an address with a scheme, right or wrong, and so names no file."""
    return re.match(r"[a-z]+://", text) is not None


def _listed() -> str:
    return ", ".join(_example(scheme) for scheme in SCHEMES)


def _example(scheme: str) -> str:
    return f"{scheme}://:{SCHEMES[scheme].port}"
