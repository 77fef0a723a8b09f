"""What Blender finds in a GLB, where its Python module is installed: ``pip install bpy`` (its code is GPL)."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

_SCRIPT = """
import json, sys
import bpy

bpy.ops.wm.read_factory_settings(use_empty=True)
bpy.ops.import_scene.gltf(filepath=sys.argv[1])
armature = next(thing for thing in bpy.data.objects if thing.type == "ARMATURE")
meshes = {thing.name: thing for thing in bpy.data.objects if thing.type == "MESH" and thing.find_armature() == armature}

def heights():
    bpy.context.view_layer.update()
    graph = bpy.context.evaluated_depsgraph_get()
    posed = {name: thing.evaluated_get(graph) for name, thing in meshes.items()}
    return {name: min((thing.matrix_world @ v.co).z for v in thing.data.vertices) for name, thing in posed.items()}

rest = heights()
shapes = {name: thing.data.shape_keys for name, thing in meshes.items()}
keys = {name: [] if shape is None else [key.name for key in shape.key_blocks][1:] for name, shape in shapes.items()}
bone = armature.pose.bones["jaw"]
bone.rotation_mode = "XYZ"
bone.rotation_euler = (0.3, 0.0, 0.0)
turned = heights()
bone.rotation_euler = (0.0, 0.0, 0.0)
meshes["teeth_lower"].data.shape_keys.key_blocks["jawOpen"].value = 1.0
opened = heights()
print("BLENDER " + json.dumps({"bones": [bone.name for bone in armature.data.bones], "keys": keys,
      "turned": {k: turned[k] - rest[k] for k in rest}, "opened": {k: opened[k] - rest[k] for k in rest}}))
"""


def in_blender(path: Path) -> dict[str, Any]:
    """Bones, shape keys of each mesh, and by how much the lowest point of each mesh rises, metres.

    ``turned``: with the bone ``jaw`` turned by 0.3 about x; ``opened``: with ``jawOpen`` of the lower teeth at 1.
    """
    if importlib.util.find_spec("bpy") is None:
        pytest.skip("needs Blender's module: pip install bpy")
    done = subprocess.run([sys.executable, "-c", _SCRIPT, str(path)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("BLENDER ")]
    return json.loads(line.removeprefix("BLENDER "))
