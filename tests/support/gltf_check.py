"""The Khronos glTF validator, where this machine has it."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

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
