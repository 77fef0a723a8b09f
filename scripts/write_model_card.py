"""Write the card of the model in a folder (by default ``weights/``) as its README.md."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT)]

from spatialavatar.generator import SpatialAvatar  # noqa: E402


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "weights"
    card = SpatialAvatar.from_pretrained(folder).card()
    (folder / "README.md").write_text(card, encoding="utf-8")


if __name__ == "__main__":
    main()
