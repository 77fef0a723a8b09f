"""Write ``config.json`` and the card (``README.md``) of the default model in ``weights/``.

The configuration is this tree's constants, the card comes from the template, the manifest and, where there are
some, the evaluations' ``results*.json``. Run it after a change to any of these, then ``scripts/update_manifest.py``.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT)]

from spatialavatar.generator import GeneratorConfig, SpatialAvatar  # noqa: E402
from spatialavatar.head import HeadModel  # noqa: E402


def main() -> None:
    folder = ROOT / "weights"
    model = SpatialAvatar(GeneratorConfig(), HeadModel.load(folder / "head"), folder)
    (folder / "README.md").unlink(missing_ok=True)  # save_pretrained keeps a card that is there
    model.save_pretrained(folder)


if __name__ == "__main__":
    main()
