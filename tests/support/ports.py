"""Ports of this machine for tests."""

from __future__ import annotations

import socket


def free_port() -> int:
    """A UDP port of the loop-back that nobody uses."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])
