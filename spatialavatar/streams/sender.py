"""Sends motion frames by UDP to another program."""

from __future__ import annotations

import socket
import time

from spatialavatar.errors import InputError, OutputError
from spatialavatar.streams.addresses import StreamAddress
from spatialavatar.streams.frames import MotionFrame


class MotionSender:
    """Sends to one address; use it as a context manager.

    Attributes:
        address: where it sends to.
        frames: frames sent so far.
    """

    def __init__(self, address: StreamAddress) -> None:
        """Prepare the socket.

        Raises:
            InputError: the host is unknown.
        """
        self.address = address
        self.frames = 0
        family, self._place = address.resolved()
        self._socket = socket.socket(family, socket.SOCK_DGRAM)
        self._start = time.perf_counter()

    def __enter__(self) -> MotionSender:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def send(self, frame: MotionFrame) -> None:
        """Send a frame. That nobody listens is no error: UDP has no answer.

        Raises:
            OutputError: this machine has no way to the host.
        """
        for packet in self.address.protocol.encode(frame, time.perf_counter() - self._start):
            try:
                self._socket.sendto(packet, self._place)
            except ConnectionError:
                continue  # Windows reports that nobody listened to the packet before
            except OSError as error:
                raise OutputError(
                    f"Nothing can be sent to {self.address} ({error.strerror or error}); check the address and the "
                    "network."
                ) from error
        self.frames += 1


def sending_address(text: str) -> StreamAddress:
    """The address after ``--send``.

    Raises:
        InputError: it is none, or names every interface instead of a host.
    """
    address = StreamAddress.parse(text)
    if address.host in ("0.0.0.0", "::"):
        raise InputError(f"{text!r} names no host to send to; give one like {address.scheme}://192.168.1.20.")
    return address
