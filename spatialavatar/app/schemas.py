"""JSON schemas of the values that endpoints take and return."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gradio.data_classes import FileData


def _inlined(schema: Any, definitions: Mapping[str, Any]) -> Any:
    """A schema without references, which MCP clients look for in another place, and without texts for developers."""
    if isinstance(schema, list):
        return [_inlined(part, definitions) for part in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return _inlined(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    return {key: _inlined(value, definitions) for key, value in schema.items() if key not in ("$defs", "description")}


FILE: Mapping[str, Any] = _inlined(FileData.model_json_schema(), FileData.model_json_schema()["$defs"])
FILES: Mapping[str, Any] = {"type": "array", "items": FILE, "title": "ListFiles"}
NUMBER: Mapping[str, Any] = {"type": "number"}
WHOLE: Mapping[str, Any] = {"type": "integer"}
FLAG: Mapping[str, Any] = {"type": "boolean"}
TEXT: Mapping[str, Any] = {"type": "string"}
FACTS: Mapping[str, Any] = {"type": "object", "additionalProperties": {}}


def one_of(options: Sequence[Any]) -> dict[str, Any]:
    """The schema of a value that is one of some."""
    return {"enum": list(options)}
