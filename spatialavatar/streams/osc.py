"""Packets of Open Sound Control 1.0: messages and bundles, with the argument types that motion protocols use.

The reader treats packets as untrusted: sizes must be positive and inside the packet, and bundles nest
four levels at most, so every packet is read in time proportional to its length.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import Final

from spatialavatar.errors import FormatError

Argument = int | float | str | bool | None
Message = tuple[str, tuple[Argument, ...]]
"""Address and arguments."""

_BUNDLE: Final = b"#bundle\0"
_AT_ONCE: Final = b"\0\0\0\0\0\0\0\1"  # the time tag of a bundle that is due when it arrives
_DEEPEST: Final = 4
_NUMBERS: Final = {
    "i": struct.Struct(">i"),
    "f": struct.Struct(">f"),
    "h": struct.Struct(">q"),
    "d": struct.Struct(">d"),
}
_CONSTANTS: Final = {"T": True, "F": False, "N": None}


def read_packet(data: bytes) -> Iterator[Message]:
    """The messages of a packet in their order; time tags are not read.

    Raises:
        FormatError: the packet is damaged.
    """
    return map(read_message, split_packet(data))


def split_packet(data: bytes, depth: int = 0) -> Iterator[bytes]:
    """The messages of a packet in their order, as they are.

    Raises:
        FormatError: a bundle is damaged.
    """
    if not data.startswith(_BUNDLE):
        yield data
        return
    if depth == _DEEPEST:
        raise FormatError("The OSC bundle is nested too deep.")
    at = len(_BUNDLE) + len(_AT_ONCE)
    if at > len(data):
        raise FormatError("The OSC bundle is cut short.")
    while at < len(data):
        size = int.from_bytes(data[at : at + 4], "big", signed=True)
        at += 4
        if size <= 0 or at + size > len(data):
            raise FormatError("The OSC bundle is cut short.")
        yield from split_packet(data[at : at + size], depth + 1)
        at += size


def read_message(data: bytes) -> Message:
    """One message.

    Raises:
        FormatError: it is damaged, or has an argument of an unsupported type.
    """
    address, at = _read_text(data, 0)
    if not address.startswith("/"):
        raise FormatError("The packet is not an OSC message.")
    if at == len(data):
        return address, ()
    types, at = _read_text(data, at)
    if not types.startswith(","):
        raise FormatError("The OSC message has no types.")
    arguments: list[Argument] = []
    for kind in types[1:]:
        if kind in _NUMBERS:
            number = _NUMBERS[kind]
            if at + number.size > len(data):
                raise FormatError("The OSC message is cut short.")
            arguments.append(number.unpack_from(data, at)[0])
            at += number.size
        elif kind in "sS":
            text, at = _read_text(data, at)
            arguments.append(text)
        elif kind in _CONSTANTS:
            arguments.append(_CONSTANTS[kind])
        else:
            raise FormatError("The OSC message has an argument of an unknown type.")
    return address, tuple(arguments)


def _read_text(data: bytes, at: int) -> tuple[str, int]:
    """A text that ends with a zero, and where the next field, at a multiple of four bytes, begins."""
    end = data.find(b"\0", at)
    if end < 0:
        raise FormatError("A text of the OSC message does not end.")
    try:
        return data[at:end].decode("utf-8"), min(len(data), (end // 4 + 1) * 4)
    except UnicodeDecodeError:
        raise FormatError("A text of the OSC message is not UTF-8.") from None


def write_message(address: str, *arguments: int | float | str) -> bytes:
    """A message of integers (i), floats (f) and texts (s)."""
    types, body = ",", b""
    for argument in arguments:
        if isinstance(argument, str):
            types, body = types + "s", body + _padded(argument)
        elif isinstance(argument, int):
            types, body = types + "i", body + _NUMBERS["i"].pack(argument)
        else:
            types, body = types + "f", body + _NUMBERS["f"].pack(argument)
    return _padded(address) + _padded(types) + body


def write_bundles(messages: Sequence[bytes], largest: int) -> Iterator[bytes]:
    """Bundles of at most ``largest`` bytes that hold the messages in their order."""
    bundle = _BUNDLE + _AT_ONCE
    for message in messages:
        element = len(message).to_bytes(4, "big") + message
        if len(bundle) + len(element) > largest and len(bundle) > 16:
            yield bundle
            bundle = _BUNDLE + _AT_ONCE
        bundle += element
    yield bundle


def _padded(text: str) -> bytes:
    data = text.encode("utf-8")
    return data + b"\0" * (4 - len(data) % 4)
