"""Write ``config.json`` and the card (``README.md``) of the default model in ``weights/``.

The base's configuration is this tree's constants; network and prior are those that lie in ``weights/`` already, or
those of finished runs. The card comes from the template, the manifest and, where there are some, the evaluations'
``results*.json``. Run it after a change to any of these, then ``scripts/update_manifest.py``.

    python scripts/write_model_card.py
    python scripts/write_model_card.py --network runs/open/model --without-residual
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT)]

from spatialavatar.generator import GeneratorConfig, SpatialAvatar  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--network", type=Path, metavar="FOLDER", help="a model whose network becomes the default's")
    parser.add_argument(
        "--without-residual", action="store_true", help="of that network, silence the residual head: avatars stay small"
    )
    parser.add_argument("--prior", type=Path, metavar="FOLDER", help="a model whose prior becomes the default's")
    options = parser.parse_args()

    folder = ROOT / "weights"
    shipped = SpatialAvatar.from_pretrained(folder)
    trained = SpatialAvatar.from_pretrained(options.network) if options.network else shipped
    if options.without_residual and trained.network is not None:
        trained.network.residual.reset()
    prior = SpatialAvatar.from_pretrained(options.prior).prior if options.prior else shipped.prior
    config = replace(GeneratorConfig(), network=trained.config.network, prior=None if prior is None else prior.config)
    model = SpatialAvatar(config, shipped.head, folder, trained.network, prior)
    (folder / "README.md").unlink(missing_ok=True)  # save_pretrained keeps a card that is there
    model.save_pretrained(folder)


if __name__ == "__main__":
    main()
