"""A pickle as inert data: every instruction is interpreted here, and no class of the pickle is instantiated.

A pickle is a program for a stack machine. The standard ``Unpickler`` runs it: it executes every import, call, hash and
assignment of the program, and a list of permitted names is not enough to make that safe (a permitted ``dtype`` with a
forged state crashes the process). This interpreter therefore returns plain containers and :class:`Instance` records
that describe the objects which the program would have constructed. It calls nothing, hashes only strings, and does a
bounded amount of work: each instruction costs no more than the bytes and stack entries that it consumes.
"""

from __future__ import annotations

import codecs
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

MAX_INSTRUCTIONS: Final = 2_000_000
_MAX_INTEGER_BYTES: Final = 16
_HIGHEST_PROTOCOL: Final = 5

_BUILTINS: Final = {
    *("list", "dict", "tuple", "set", "frozenset", "int", "float", "complex", "bool", "str", "object"),
    *("bytes", "bytearray", "unicode", "long"),
}
_SPARSE: Final = {f"{layout}_{kind}" for layout in ("csc", "csr", "coo") for kind in ("matrix", "array")}
_CODECS: Final = ("latin1", "latin-1", "iso-8859-1", "utf-8", "utf8", "ascii")


class Refused(Exception):
    """The pickle names something that no model file needs."""


class Damaged(Exception):
    """The pickle is not a valid program, or exceeds the limits of this interpreter."""


class Global(NamedTuple):
    """A class or function by name."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass(eq=False, repr=False)
class Instance:
    """An object that the pickle describes: the result of calling ``origin``.

    Attributes:
        origin: the class or function.
        arguments: the positional arguments of the call.
        state: the state that the pickle restores afterwards; None without one.
    """

    origin: Global
    arguments: tuple[Any, ...]
    state: Any = None


def is_opaque(origin: Global) -> bool:
    """Whether it is a class of chumpy or a sparse matrix of SciPy, whose state contains arrays."""
    package = origin.module.split(".")
    return package[0] == "chumpy" or (package[:2] == ["scipy", "sparse"] and origin.name in _SPARSE)


def is_numpy(origin: Global, submodule: str, name: str) -> bool:
    """Whether it is the function ``name`` of NumPy's core, before or after its renaming in 2.0."""
    return origin.name == name and origin.module in (f"numpy.core.{submodule}", f"numpy._core.{submodule}")


def interpret(data: bytes) -> Any:
    """Interpret a pickle of protocol 0 to 5.

    Returns:
        None, bool, int, float, str, bytes, list, tuple, dict with string keys, :class:`Global` or :class:`Instance`.
        Byte strings of Python 2 are str, one character a byte. Containers can be shared and can contain themselves.

    Raises:
        Refused: the pickle names a class or function that is not permitted.
        Damaged: it is not a pickle, is cut off, or exceeds the limits.
    """
    machine = _Machine(data)
    try:
        for _ in range(MAX_INSTRUCTIONS):
            code = machine.take(1)
            if code == b".":
                return machine.pop()
            instruction = _INSTRUCTIONS.get(code)
            if instruction is None:
                raise Damaged(f"it has the unknown instruction {code!r}")
            instruction(machine)
    except (ValueError, IndexError, KeyError, TypeError) as error:
        raise Damaged("an instruction in it has no valid argument") from error
    raise Damaged(f"it has more than {MAX_INSTRUCTIONS:,} instructions")


class _Machine:
    """The stack, the marks on it, the memo, and the position in the program."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0
        self._marks: list[int] = []
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def take(self, count: int) -> bytes:
        """The next ``count`` bytes."""
        start = self._position
        self._position += count
        if self._position > len(self._data):
            raise Damaged("it is cut off")
        return self._data[start : self._position]

    def number(self, width: int) -> int:
        """The next unsigned integer of ``width`` bytes."""
        return int.from_bytes(self.take(width), "little")

    def sized(self, width: int) -> bytes:
        """The bytes that follow their own length, an integer of ``width`` bytes."""
        return self.take(self.number(width))

    def line(self) -> str:
        """The text up to the end of the line, one character a byte."""
        end = self._data.find(b"\n", self._position)
        if end < 0:
            raise Damaged("it is cut off")
        text = self._data[self._position : end].decode("latin1")
        self._position = end + 1
        return text

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def pop(self) -> Any:
        if len(self.stack) <= (self._marks[-1] if self._marks else 0):
            raise Damaged("an instruction in it has no operand")
        return self.stack.pop()

    def mark(self) -> None:
        self._marks.append(len(self.stack))

    def pop_to_mark(self) -> list[Any]:
        """The values above the last mark."""
        start = self._marks.pop()
        values = self.stack[start:]
        del self.stack[start:]
        return values

    def memoise(self, index: int) -> None:
        self.memo[index] = self.stack[-1]


def _permitted(module: str, name: str) -> Global:
    """The class or function of this name.

    Raises:
        Refused: it is not permitted.
    """
    found = Global(module, name)
    permitted = (
        is_opaque(found)
        or (module in ("builtins", "__builtin__") and name in _BUILTINS)
        or (module in ("copyreg", "copy_reg") and name in ("_reconstructor", "__newobj__"))
        or found in (("collections", "OrderedDict"), ("_codecs", "encode"), ("numpy", "ndarray"), ("numpy", "dtype"))
        or is_numpy(found, "multiarray", "_reconstruct")
        or is_numpy(found, "multiarray", "scalar")
        or is_numpy(found, "numeric", "_frombuffer")
    )
    if not permitted:
        raise Refused(str(found))
    return found


def _called(origin: Any, arguments: Any) -> Any:
    """The record of a call, or an empty dictionary if the call would return one."""
    if not (isinstance(origin, Global) and isinstance(arguments, tuple)):
        raise Damaged("it calls something that has no name")
    if origin.name in ("_reconstructor", "__newobj__"):
        made = arguments[0] if arguments else None
        if not (isinstance(made, Global) and is_opaque(made)):
            raise Refused(f"an object of {made if isinstance(made, Global) else 'no class'}")
        return Instance(made, arguments[1:])
    if origin.name == "encode":
        codec = arguments[1] if len(arguments) > 1 else "latin1"
        if not isinstance(codec, str) or codec.lower() not in _CODECS:
            raise Refused("a codec that is not one of text")
    if origin.name in ("OrderedDict", "dict") and not arguments:
        return {}
    return Instance(origin, arguments)


def _set_items(machine: _Machine, pairs: list[Any]) -> None:
    """Put keys and values, which alternate, into the dictionary below them."""
    target = machine.stack[-1]
    if isinstance(target, dict):
        for key, value in zip(pairs[::2], pairs[1::2]):
            if isinstance(key, str):  # the hash of a nested tuple can take for ever; nothing looks for one
                target[key] = value
    elif not isinstance(target, Instance):
        raise Damaged("it puts an item into something that is not a dictionary")


def _extend(machine: _Machine, values: list[Any]) -> None:
    """Append to the list below; contents of sets and other objects are not needed."""
    target = machine.stack[-1]
    if isinstance(target, list):
        target.extend(values)
    elif not isinstance(target, Instance):
        raise Damaged("it appends to something that is not a list")


def _build(machine: _Machine) -> None:
    state = machine.pop()
    target = machine.stack[-1]
    if not isinstance(target, Instance):
        raise Damaged("it restores the state of something that has none")
    target.state = state


def _global(machine: _Machine) -> None:
    module = machine.line()
    machine.push(_permitted(module, machine.line()))


def _stack_global(machine: _Machine) -> None:
    name, module = machine.pop(), machine.pop()
    if not (isinstance(name, str) and isinstance(module, str)):
        raise Damaged("it names a class that has no name")
    machine.push(_permitted(module, name))


def _reduce(machine: _Machine) -> None:
    arguments = machine.pop()
    machine.push(_called(machine.pop(), arguments))


def _new_object(machine: _Machine, keywords: bool) -> None:
    if keywords:
        machine.pop()
    arguments = machine.pop()
    machine.push(_called(machine.pop(), arguments))


def _integer(text: str) -> int | bool:
    """The argument of INT and LONG; protocol 0 writes the truth values as 00 and 01."""
    if text in ("00", "01"):
        return text == "01"
    return int(_short(text).removesuffix("L"))


def _short(text: str) -> str:
    """The digits of a number, whose conversion takes the square of their count."""
    if len(text) > 3 * _MAX_INTEGER_BYTES:
        raise Damaged("it has a number of too many digits")
    return text


def _long(data: bytes) -> int:
    if len(data) > _MAX_INTEGER_BYTES:
        raise Damaged("it has a number of too many digits")
    return int.from_bytes(data, "little", signed=True)


def _quoted(text: str) -> str:
    """The argument of STRING: a literal of Python 2."""
    if len(text) < 2 or text[0] != text[-1] or text[0] not in "'\"":
        raise Damaged("it has a string without quotation marks")
    return codecs.escape_decode(text[1:-1].encode("latin1"))[0].decode("latin1")  # type: ignore[attr-defined]


def _tuple_of(machine: _Machine, count: int) -> None:
    values = [machine.pop() for _ in range(count)]
    machine.push(tuple(reversed(values)))


def _pushing(value: Callable[[_Machine], Any]) -> Callable[[_Machine], None]:
    """The instruction that pushes ``value(machine)``."""
    return lambda machine: machine.push(value(machine))


def _protocol(machine: _Machine) -> None:
    if machine.number(1) > _HIGHEST_PROTOCOL:
        raise Damaged("it is of a newer protocol")


_SET: Final = Global("builtins", "set")

# Names as in Python's pickletools, where each instruction is described.
_INSTRUCTIONS: Final[dict[bytes, Callable[[_Machine], Any]]] = {
    b"\x80": _protocol,
    b"\x95": lambda m: m.take(8),  # FRAME: its length is only a hint
    b"(": _Machine.mark,
    b"0": lambda m: m.pop(),
    b"1": _Machine.pop_to_mark,
    b"2": _pushing(lambda m: m.stack[-1]),  # DUP
    # Constants and numbers.
    b"N": _pushing(lambda m: None),
    b"\x88": _pushing(lambda m: True),
    b"\x89": _pushing(lambda m: False),
    b"I": _pushing(lambda m: _integer(m.line())),
    b"L": _pushing(lambda m: _integer(m.line())),
    b"J": _pushing(lambda m: _long(m.take(4))),
    b"K": _pushing(lambda m: m.number(1)),
    b"M": _pushing(lambda m: m.number(2)),
    b"\x8a": _pushing(lambda m: _long(m.sized(1))),
    b"\x8b": _pushing(lambda m: _long(m.sized(4))),
    b"F": _pushing(lambda m: float(_short(m.line()))),
    b"G": _pushing(lambda m: _double(m.take(8))),
    # Text and bytes.
    b"S": _pushing(lambda m: _quoted(m.line())),
    b"U": _pushing(lambda m: m.sized(1).decode("latin1")),
    b"T": _pushing(lambda m: m.sized(4).decode("latin1")),
    b"V": _pushing(lambda m: m.line().encode("latin1").decode("raw-unicode-escape")),
    b"\x8c": _pushing(lambda m: m.sized(1).decode("utf-8", "surrogatepass")),
    b"X": _pushing(lambda m: m.sized(4).decode("utf-8", "surrogatepass")),
    b"\x8d": _pushing(lambda m: m.sized(8).decode("utf-8", "surrogatepass")),
    b"C": _pushing(lambda m: m.sized(1)),
    b"B": _pushing(lambda m: m.sized(4)),
    b"\x8e": _pushing(lambda m: m.sized(8)),
    b"\x96": _pushing(lambda m: m.sized(8)),  # BYTEARRAY8
    # Containers.
    b"]": _pushing(lambda m: []),
    b"l": _pushing(_Machine.pop_to_mark),
    b"a": lambda m: _extend(m, [m.pop()]),
    b"e": lambda m: _extend(m, m.pop_to_mark()),
    b")": _pushing(lambda m: ()),
    b"t": _pushing(lambda m: tuple(m.pop_to_mark())),
    b"\x85": lambda m: _tuple_of(m, 1),
    b"\x86": lambda m: _tuple_of(m, 2),
    b"\x87": lambda m: _tuple_of(m, 3),
    b"}": _pushing(lambda m: {}),
    b"d": lambda m: _dictionary(m, m.pop_to_mark()),
    b"s": lambda m: _set_items(m, [m.pop(), m.pop()][::-1]),
    b"u": lambda m: _set_items(m, m.pop_to_mark()),
    b"\x8f": _pushing(lambda m: Instance(_SET, ())),
    b"\x90": lambda m: _extend(m, m.pop_to_mark()),  # ADDITEMS
    b"\x91": lambda m: (m.pop_to_mark(), m.push(Instance(_SET, ()))),  # FROZENSET
    # Memo.
    b"p": lambda m: m.memoise(_integer(m.line())),
    b"q": lambda m: m.memoise(m.number(1)),
    b"r": lambda m: m.memoise(m.number(4)),
    b"\x94": lambda m: m.memoise(len(m.memo)),
    b"g": _pushing(lambda m: m.memo[_integer(m.line())]),
    b"h": _pushing(lambda m: m.memo[m.number(1)]),
    b"j": _pushing(lambda m: m.memo[m.number(4)]),
    # Classes and objects.
    b"c": _global,
    b"\x93": _stack_global,
    b"R": _reduce,
    b"b": _build,
    b"\x81": lambda m: _new_object(m, keywords=False),
    b"\x92": lambda m: _new_object(m, keywords=True),
}


def _dictionary(machine: _Machine, pairs: list[Any]) -> None:
    machine.push({})
    _set_items(machine, pairs)


def _double(data: bytes) -> float:
    return struct.unpack(">d", data)[0]
