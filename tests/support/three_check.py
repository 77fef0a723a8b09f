"""What three.js loads from a GLB: npm's ``three`` in Chromium, both where this machine has them."""

from __future__ import annotations

import functools
import shutil
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.support.chromium import launched, until

_MODULES = Path(__file__).parents[2] / "node_modules" / "three"

_PAGE = """<!doctype html><meta charset="utf-8"><canvas id="c" width="256" height="256"></canvas>
<script type="importmap">
{"imports": {"three": "/three/build/three.module.js", "three/addons/": "/three/examples/jsm/"}}
</script>
<script type="module">
import * as THREE from "three";
import { GLTFLoader } from "three/addons/loaders/GLTFLoader.js";
const gltf = await new GLTFLoader().loadAsync("/head.glb");
const meshes = [];
gltf.scene.traverse((thing) => { if (thing.isSkinnedMesh) meshes.push(thing); });
const renderer = new THREE.WebGLRenderer({ canvas: document.getElementById("c"), preserveDrawingBuffer: true });
const camera = new THREE.PerspectiveCamera(20, 1, 0.1, 10);
camera.position.set(0, 0, 1.2);
const scene = new THREE.Scene();
scene.add(gltf.scene);
const pixels = () => {
  renderer.render(scene, camera);
  const data = new Uint8Array(256 * 256 * 4), gl = renderer.getContext();
  gl.readPixels(0, 0, 256, 256, gl.RGBA, gl.UNSIGNED_BYTE, data);
  return data;
};
const difference = (a, b) => {
  let count = 0;
  for (let i = 0; i < a.length; i += 4) count += Math.abs(a[i] - b[i]) > 12;
  return count;
};
const rest = pixels();
for (const mesh of meshes) {
  const index = (mesh.morphTargetDictionary || {})["jawOpen"];
  if (index !== undefined) mesh.morphTargetInfluences[index] = 1;
}
const opened = pixels();
for (const mesh of meshes) if (mesh.morphTargetInfluences) mesh.morphTargetInfluences.fill(0);
gltf.scene.getObjectByName("neck").rotation.y = 0.4;
const turned = pixels();
window.found = {
  meshes: meshes.map((mesh) => mesh.name), bones: meshes[0].skeleton.bones.map((bone) => bone.name),
  morphs: Object.keys(meshes.find((mesh) => mesh.name === "head").morphTargetDictionary),
  covered: difference(rest, new Uint8Array(rest.length)),
  opened: difference(rest, opened),
  turned: difference(rest, turned),
};
</script>"""


def in_three(path: Path, folder: Path) -> dict[str, Any]:
    """Meshes, bones and morphs, and how many of 65,536 pixels show the head, and change by jaw and neck.

    Args:
        path: of the GLB.
        folder: an empty one, which is served.
    """
    if not _MODULES.is_dir():
        pytest.skip("needs npm's three: npm install --no-save three")
    (folder / "index.html").write_text(_PAGE, encoding="utf-8")
    shutil.copy(path, folder / "head.glb")
    (folder / "three").symlink_to(_MODULES.resolve())
    handler = functools.partial(SimpleHTTPRequestHandler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            with launched() as browser:
                page = browser.new_page()
                page.goto(f"http://127.0.0.1:{server.server_port}/index.html")
                until(page, "window.found !== undefined")
                return page.evaluate("window.found")
        finally:
            server.shutdown()
