"""NVIDIA Audio2Face-3D (the regression networks, versions 2.x), as a folder that the user downloads.

The folder is a repository such as ``nvidia/Audio2Face-3D-v2.3.1-Claire`` of the Hub, under NVIDIA's Open Model License.
Of it are read:

* ``network.onnx``: inputs ``input`` (1, 1, samples) and ``emotion`` (1, 1, E), output ``result`` (1, 1, R);
* ``network_info.json``: sizes of these, and the neutral emotion;
* ``model_data.npz``: ``shapes_mean_skin`` (V, 3) and ``shapes_matrix_skin`` (S, V, 3), with which the first S values of
  the result become positions of the skin;
* ``bs_skin.npz``: ``neutral`` (V, 3), ``poseNames``, ``frontalMask``, and the offsets (V, 3) of each ARKit unit;
* ``bs_skin_config.json``: the units that are solved for, and the strength of the regularisation.

The weights of a frame are the non-negative least-squares solution whose offsets match the skin's. NVIDIA's
``mouthClose`` contains ``jawOpen`` (see its documentation), so its weight is added to that of ``jawOpen``.
"""

from __future__ import annotations

import math
import zipfile
from pathlib import Path
from typing import Any, Final

import numpy as np

from spatialavatar.errors import FormatError, MissingAssetError
from spatialavatar.head.arkit import ARKIT_52, ARKIT_INDEX
from spatialavatar.npy_header import read_npy_header
from spatialavatar.speech.features import SAMPLE_RATE
from spatialavatar.speech.windows import MAX_WINDOW, Graph, WindowListener
from spatialavatar.strict_json import parse_json

_WHAT: Final = "a folder of Audio2Face-3D 2.x"
_MAX_BYTES: Final = 2 << 30  # of one array
_MAX_JSON: Final = 1 << 20


class Audio2FaceListener(WindowListener):
    """Runs Audio2Face-3D on one window a frame; a frame is complete after half a window, 0.26 seconds."""

    rate = 30.0
    hop = SAMPLE_RATE / 30.0
    group = 1

    def __init__(self, folder: Path) -> None:
        """Open the network and the basis of its poses.

        Raises:
            MissingAssetError: a file or onnxruntime is missing.
            FormatError: a file is damaged or of an unsupported version.
        """
        self._graph = Graph(folder / "network.onnx", ("input", "emotion"), _WHAT)
        info = _json(folder / "network_info.json")
        sound, sizes = _table(info, "audio_params", folder), _table(info, "params", folder)
        self.size = _size(sound, "buffer_len", folder, MAX_WINDOW)
        self.before = _size(sound, "buffer_ofs", folder, self.size) - round(self.hop / 2)
        if _size(sound, "samplerate", folder, 1 << 20) != SAMPLE_RATE:
            raise FormatError(f"The network in {folder} does not take 16 kHz sound; give {_WHAT}.")
        explicit = sizes.get("default_emotion")
        if not isinstance(explicit, list) or not all(isinstance(value, int | float) for value in explicit):
            raise _damaged(folder)
        implicit = _size(sizes, "implicit_emotion_len", folder, 4096)
        self._emotion = np.array([0.0] * implicit + explicit, np.float32)[None, None]
        self._skin = _size(sizes, "num_shapes_skin", folder, 4096)
        self._load_basis(folder)
        super().__init__()
        self.hear(np.zeros(self.size, np.float32))  # checks the model's output shape before any work

    def hear(self, window: np.ndarray) -> np.ndarray:
        """Weights (1, 52) of a window."""
        from scipy.optimize import nnls

        result = self._graph.run("result", {"input": window[None, None], "emotion": self._emotion}).ravel()
        if len(result) < self._skin:
            raise FormatError(f"The network's result has {len(result)} values; its folder names {self._skin} and more.")
        right = self._constant + self._linear @ result[: self._skin]
        # The normal equations as a small least-squares problem: |L' w - L^-1 b|.
        solved, _ = nnls(self._factor.T, np.linalg.solve(self._factor, right))
        weights = np.zeros((1, len(ARKIT_52)), np.float32)
        weights[0, self._units] = solved
        weights[0, ARKIT_INDEX["jawOpen"]] += weights[0, ARKIT_INDEX["mouthClose"]]
        return weights.clip(0.0, 1.0)

    def _load_basis(self, folder: Path) -> None:
        """Read the basis, and reduce the solve of a frame to products of small matrices."""
        shapes = _arrays(folder / "model_data.npz", ("shapes_mean_skin", "shapes_matrix_skin"))
        head = _arrays(folder / "bs_skin.npz", ("neutral", "poseNames", "frontalMask"))
        settings = _table(_json(folder / "bs_skin_config.json"), "blendshape_params", folder)
        names = [name.decode() if isinstance(name, bytes) else str(name) for name in head["poseNames"].ravel().tolist()]
        names = [name for name in names if name != "neutral"]
        active = settings.get("bsSolveActivePoses")
        if not isinstance(active, list) or len(active) != len(names):
            active = [1] * len(names)
        solved = [name for name, flag in zip(names, active) if flag and name in ARKIT_INDEX]
        if not {"jawOpen", "mouthClose"} <= set(solved):
            raise _damaged(folder)
        poses = _arrays(folder / "bs_skin.npz", tuple(solved))
        neutral, mask = head["neutral"].astype(np.float64), head["frontalMask"].astype(np.int64).ravel()
        mean, matrix = shapes["shapes_mean_skin"], shapes["shapes_matrix_skin"]
        vertices = neutral.size // 3
        right_shapes = matrix.size == self._skin * 3 * vertices and mean.size == neutral.size
        if not right_shapes or not len(mask) or mask.min() < 0 or mask.max() >= vertices:
            raise _damaged(folder)
        neutral = neutral.reshape(vertices, 3)
        offsets = []
        for name in solved:
            if poses[name].size != neutral.size:
                raise _damaged(folder)
            pose = poses[name].reshape(vertices, 3).astype(np.float64)
            absolute = np.abs(pose).mean() > 0.5 * np.abs(neutral).mean()  # some exports store positions
            offsets.append((pose - neutral if absolute else pose)[mask].ravel())
        basis = np.stack(offsets)
        strength = settings.get("strengthL2regularization", 0.1)
        template = settings.get("templateBBSize", 0.0)
        extent = float(np.linalg.norm(np.ptp(neutral, 0)))
        scale = (extent / template) ** 2 if template else 1.0
        gram = basis @ basis.T
        gram += (float(strength) * scale + 1e-9 * np.trace(gram)) * np.eye(len(gram))
        self._factor = np.linalg.cholesky(gram)
        self._units = [ARKIT_INDEX[name] for name in solved]
        self._linear = basis @ matrix.reshape(self._skin, vertices, 3)[:, mask].reshape(self._skin, -1).T
        self._constant = basis @ (mean.reshape(vertices, 3)[mask] - neutral[mask]).ravel()


def _damaged(folder: Path) -> FormatError:
    return FormatError(f"The folder {folder} is not {_WHAT}, or is damaged; download it again.")


def _json(path: Path) -> dict[str, Any]:
    """The object in a small JSON file.

    Raises:
        MissingAssetError: there is no such file.
        FormatError: it holds something else.
    """
    try:
        with path.open("rb") as file:
            found = parse_json(file.read(_MAX_JSON))
    except OSError as error:
        raise MissingAssetError(f"The file {path} is missing; download the whole folder of Audio2Face-3D.") from error
    except ValueError as error:
        raise _damaged(path.parent) from error
    if not isinstance(found, dict):
        raise _damaged(path.parent)
    return found


def _table(holder: dict[str, Any], name: str, folder: Path) -> dict[str, Any]:
    found = holder.get(name)
    if not isinstance(found, dict):
        raise _damaged(folder)
    return found


def _size(holder: dict[str, Any], name: str, folder: Path, limit: int) -> int:
    found = holder.get(name)
    if not isinstance(found, int) or not 0 <= found <= limit:
        raise _damaged(folder)
    return found


def _arrays(path: Path, names: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Arrays of numbers or of texts in an ``.npz``; headers are checked first, and nothing is unpickled.

    Raises:
        MissingAssetError: there is no such file.
        FormatError: it is damaged, or lacks an array.
    """
    found = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for name in names:
                with archive.open(f"{name}.npy") as stream:
                    shape, _, dtype = read_npy_header(stream)
                if dtype.kind not in "fiuSU" or math.prod(shape) * dtype.itemsize > _MAX_BYTES:
                    raise _damaged(path.parent)
                with archive.open(f"{name}.npy") as stream:
                    found[name] = np.load(stream, allow_pickle=False)
    except FileNotFoundError as error:
        raise MissingAssetError(f"The file {path} is missing; download the whole folder of Audio2Face-3D.") from error
    except (OSError, ValueError, KeyError, zipfile.BadZipFile, EOFError) as error:
        raise _damaged(path.parent) from error
    if any(array.dtype.kind == "f" and not np.isfinite(array).all() for array in found.values()):
        raise _damaged(path.parent)
    return found
