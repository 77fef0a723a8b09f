"""A reader of GLB files, and the Khronos glTF validator, where this machine has it."""

from __future__ import annotations

import json
import shutil
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

_SCRIPT = """
const validator = require("gltf-validator"), fs = require("fs");
validator.validateBytes(new Uint8Array(fs.readFileSync(process.argv[1])))
  .then((report) => console.log(JSON.stringify(report.issues.messages)));
"""


def gltf_issues(path: Path) -> list[dict[str, Any]]:
    """What the validator reports about a GLB; ``severity`` is 0 for errors, 1 for warnings, 2 for information.

    It is npm's ``gltf-validator``, looked for as node does from the checkout: ``npm install --no-save gltf-validator``.
    """
    node = shutil.which("node")
    if node is None:
        pytest.skip("needs node")
    root = Path(__file__).parents[2]
    command = [node, "-e", _SCRIPT, str(path)]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=60)
    if "Cannot find module" in done.stderr:
        pytest.skip("needs npm's gltf-validator: npm install --no-save gltf-validator")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def read_glb(data: bytes) -> tuple[dict[str, Any], Callable[[int], np.ndarray]]:
    """The description in a GLB and a reader of its accessors."""
    magic, version, length, size, kind = struct.unpack("<4sII I4s", data[:20])
    assert (magic, version, length, kind) == (b"glTF", 2, len(data), b"JSON")
    described = json.loads(data[20 : 20 + size])
    binary_size, kind = struct.unpack("<I4s", data[20 + size : 28 + size])
    binary = data[28 + size :]
    assert (binary_size, kind) == (len(binary), b"BIN\0")

    def array(index: int) -> np.ndarray:
        accessor = described["accessors"][index]
        view = described["bufferViews"][accessor["bufferView"]]
        width = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT4": 16}[accessor["type"]]
        dtype = {5126: "<f4", 5125: "<u4", 5121: "u1"}[accessor["componentType"]]
        return np.frombuffer(binary, dtype, accessor["count"] * width, view["byteOffset"]).reshape(-1, width)

    return described, array
