"""Build the npm package from the web page's own scripts and integrations/npm, into a folder for ``npm pack``.

python scripts/build_npm.py [FOLDER]

The engine, the player and the mapping of motion are those of spatialavatar/export/web; nothing is kept twice.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from spatialavatar import __version__  # noqa: E402
from spatialavatar.head.arkit import ARKIT_52  # noqa: E402

WEB = ROOT / "spatialavatar" / "export" / "web"
PACKAGE = ROOT / "integrations" / "npm"
EXPORTS = (
    *("ENGINE_SOURCE", "Engine", "FLOATS", "ROW", "VERTEX", "FRAGMENT", "Puppet", "Viewer", "viewOf"),
    *("followed", "followStream", "loadAvatar", "readMotion", "SPEECH_SOURCE", "Speaker"),
)
# readMotion and motion.js use this function of the engine, which the player does not.
SHARED = "const { transposed } = SpatialAvatarEngine;"


def core() -> str:
    """One module of the page's scripts: engine and speech as code and as the text of their workers, player, motion."""
    workers = {name: (WEB / f"{name}.js").read_text(encoding="utf-8") for name in ("engine", "speech")}
    parts = ["// Built by scripts/build_npm.py from spatialavatar/export/web."]
    for name, source in workers.items():
        code = source.partition("\nif (typeof WorkerGlobalScope")[0]  # the worker's part runs in the worker only
        parts += [code.replace('"use strict";\n', ""), f"const {name.upper()}_SOURCE = {json.dumps(source)};"]
    parts += [
        *((WEB / f"{name}.js").read_text(encoding="utf-8") for name in ("player", "motion", "speaker")),
        SHARED,
        (PACKAGE / "src" / "load.js").read_text(encoding="utf-8"),
        f"export {{ {', '.join(EXPORTS)} }};",
    ]
    return "\n".join(parts) + "\n"


def build(folder: Path) -> Path:
    """Write the package to ``folder``, which is emptied first, and return it."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(PACKAGE / "src", folder, ignore=shutil.ignore_patterns("load.js"))
    shutil.copytree(PACKAGE / "examples", folder / "examples")
    (folder / "core.js").write_text(core(), encoding="utf-8")
    units = "\n".join(f'  | "{name}"' for name in ARKIT_52)
    types = folder / "index.d.ts"
    types.write_text(types.read_text(encoding="utf-8").replace("@@UNITS@@", units), encoding="utf-8")
    description = json.loads((PACKAGE / "package.json").read_text(encoding="utf-8")) | {"version": __version__}
    (folder / "package.json").write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")
    shutil.copy(PACKAGE / "README.md", folder)
    shutil.copy(ROOT / "LICENSE", folder)
    return folder


def main() -> None:
    """Build the package."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", default=ROOT / "build" / "npm")
    print(build(parser.parse_args().folder))


if __name__ == "__main__":
    main()
