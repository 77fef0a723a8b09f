"""Reading the text of JSON and CSV files: encoding, size and nesting are checked before anything is parsed."""

from __future__ import annotations

import codecs
import json
from pathlib import Path
from typing import Any, Final

from spatialavatar.errors import FormatError, InputError
from spatialavatar.motion.schema import MAX_FRAMES, MAX_TEXT_BYTES, MAX_VALUES

_MAX_JSON_LISTS: Final = 4 * MAX_FRAMES  # a frame takes at most three brackets in the formats that are read


def read_text(path: Path) -> str:
    """The text of a file in UTF-8 or UTF-16, which spreadsheets write.

    Raises:
        InputError: there is no such file, it is too large, or it is not text.
    """
    if not path.is_file():
        raise InputError(f"There is no motion file at {path}.")
    try:
        with path.open("rb") as file:
            data = file.read(MAX_TEXT_BYTES + 1)
    except OSError as error:
        raise InputError(f"{path.name} cannot be read ({error.strerror}); check the file.") from None
    if len(data) > MAX_TEXT_BYTES:
        raise InputError(f"{path.name} is larger than {MAX_TEXT_BYTES // 1024**2} MB; split the motion.")
    try:
        return data.decode(_encoding(data))
    except UnicodeDecodeError:
        raise InputError(f"{path.name} cannot be read as text; give a .json or .csv motion file.") from None


def _encoding(data: bytes) -> str:
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    start = data[:64]  # the first line names fields in ASCII, of which UTF-16 makes every second byte 0
    if len(start) >= 4 and not any(start[1::2]) and all(start[::2]):
        return "utf-16-le"
    if len(start) >= 4 and not any(start[::2]) and all(start[1::2]):
        return "utf-16-be"
    return "utf-8-sig"


def parse_json(text: str, name: str) -> Any:
    """The value that ``text`` states; whole numbers come as floats.

    Raises:
        FormatError: it is not JSON, or nested too deeply.
        InputError: it states too many numbers or lists.
    """
    if text.count(",") > MAX_VALUES or text.count("[") + text.count("{") > _MAX_JSON_LISTS:
        raise InputError(
            f"{name} states more than {MAX_VALUES} numbers or {_MAX_JSON_LISTS} lists; split it into motions of at "
            f"most {MAX_FRAMES} frames."
        )
    try:
        # float, so that a whole number of any length is read in linear time and becomes at most infinite.
        return json.loads(text, parse_int=float)
    except (ValueError, RecursionError):
        raise FormatError(f"{name} is not valid JSON; export the motion again.") from None
