"""Receives motion packets by UDP in a separate thread and keeps the newest frame.

Packets are not trusted: they have a maximum size and a maximum rate, damaged ones are counted and dropped, and while
one sender is active, packets of other machines are ignored.
"""

from __future__ import annotations

import errno
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from spatialavatar.errors import FormatError, InputError
from spatialavatar.streams.addresses import StreamAddress
from spatialavatar.streams.frames import MotionFrame

MAX_PACKET: Final = 8192
"""Bytes of the largest packet that is read; those of the protocols have up to 3,000."""

_SILENCE: Final = 2.0  # seconds after which another machine may take over
_POLL: Final = 0.2  # seconds between looks whether the receiver was closed


@dataclass(frozen=True)
class StreamCounts:
    """What arrived.

    Attributes:
        packets: packets of the sender that were read.
        frames: frames that they completed.
        damaged: packets that were no motion, or too large.
        ignored: packets beyond the largest rate, or of other machines.
    """

    packets: int = 0
    frames: int = 0
    damaged: int = 0
    ignored: int = 0


@dataclass(frozen=True)
class Arrival:
    """A frame and when it came.

    Attributes:
        number: the frame's number, from 1.
        at: when its last packet arrived, ``time.perf_counter()``.
        frame: the frame.
    """

    number: int
    at: float
    frame: MotionFrame


class MotionReceiver:
    """Listens at an address; use it as a context manager.

    Attributes:
        address: where it listens.
    """

    def __init__(self, address: StreamAddress) -> None:
        """Bind the port.

        Raises:
            InputError: the host is unknown or not of this machine, or the port is taken or not allowed.
        """
        self.address = address
        family, place = address.resolved()
        self._socket = socket.socket(family, socket.SOCK_DGRAM)
        try:
            self._socket.bind(place)
        except OSError as error:
            self._socket.close()
            raise InputError(_refusal(address, error)) from None
        self._socket.settimeout(_POLL)
        self._decoder = address.protocol.decoder()
        self._newest: Arrival | None = None
        self._counts = StreamCounts()
        self._sender: tuple[str, float] | None = None  # IP address, and when it was heard last
        self._second, self._in_second = 0, 0
        self._changed = threading.Condition()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._listen, name="motion receiver", daemon=True)

    def __enter__(self) -> MotionReceiver:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the thread and free the port."""
        self._closed.set()
        if self._thread.is_alive():
            self._thread.join()
        self._socket.close()

    @property
    def counts(self) -> StreamCounts:
        """What has arrived so far."""
        with self._changed:
            return self._counts

    def newer(self, number: int, seconds: float) -> Arrival | None:
        """The newest frame, once its number exceeds ``number``; None if none comes within ``seconds``."""
        with self._changed:
            self._changed.wait_for(lambda: self._newest is not None and self._newest.number > number, seconds)
            return self._newest if self._newest is not None and self._newest.number > number else None

    def arrivals(self, tick: float) -> Iterator[Arrival | None]:
        """Yield the newest frame each time that there is one, and None whenever ``tick`` seconds pass without."""
        number = 0
        while not self._closed.is_set():
            arrival = self.newer(number, tick)
            number = number if arrival is None else arrival.number
            yield arrival

    def _listen(self) -> None:
        while not self._closed.is_set():
            try:
                packet, (host, *_) = self._socket.recvfrom(MAX_PACKET + 1)
            except TimeoutError:
                continue
            except OSError:  # Windows reports a packet that is too large this way
                if not self._closed.is_set():
                    self._count(damaged=1)
                    time.sleep(0.001)
                continue
            self._take(packet, str(host), time.perf_counter())

    def _take(self, packet: bytes, host: str, at: float) -> None:
        if not self._admitted(host, at):
            self._count(ignored=1)
            return
        try:
            if len(packet) > MAX_PACKET:
                raise FormatError("The packet is too large.")
            frame = self._decoder.decode(packet)
        except FormatError:
            self._count(damaged=1)
            return
        self._sender = (host, at)
        self._count(packets=1, frame=frame, at=at)

    def _admitted(self, host: str, at: float) -> bool:
        """Whether the packet is the sender's, and within the largest rate."""
        if int(at) != self._second:
            self._second, self._in_second = int(at), 0
        self._in_second += 1
        others = self._sender is not None and self._sender[0] != host and at - self._sender[1] < _SILENCE
        return not others and self._in_second <= self.address.protocol.packets

    def _count(
        self, packets: int = 0, damaged: int = 0, ignored: int = 0, frame: MotionFrame | None = None, at: float = 0.0
    ) -> None:
        with self._changed:
            counts = self._counts
            frames = counts.frames + (frame is not None)
            self._counts = replace(
                counts,
                packets=counts.packets + packets,
                frames=frames,
                damaged=counts.damaged + damaged,
                ignored=counts.ignored + ignored,
            )
            if frame is not None:
                self._newest = Arrival(frames, at, frame)
                self._changed.notify_all()


def _refusal(address: StreamAddress, error: OSError) -> str:
    """One sentence about a port that cannot be bound."""
    if error.errno == errno.EADDRINUSE:
        return f"The port {address.port} is in use by another program; close that, or send to another port."
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"This user may not listen at port {address.port}; use one above 1023."
    return (
        f"This machine has no interface {address.host[:80]}; leave the host out to hear programs of this machine, or "
        "give 0.0.0.0 to hear phones in the network."
    )
