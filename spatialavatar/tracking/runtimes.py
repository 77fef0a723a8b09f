"""Files of the pretrained networks, and the two runtimes that execute them on the CPU.

The runtimes are imported when the first network is opened, so that importing the package stays quick.
"""

from __future__ import annotations

import io
import os
import threading
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from spatialavatar import hub
from spatialavatar.errors import FormatError, MissingAssetError


def network_file(name: str, weights_dir: Path | str | None = None) -> Path:
    """Path of a network file.

    Args:
        name: file name inside ``networks/``.
        weights_dir: the weights folder; None takes :func:`spatialavatar.hub.weights_dir`.

    Raises:
        MissingAssetError: where it is not there.
    """
    if weights_dir is None:
        return hub.asset(f"networks/{name}")
    path = Path(weights_dir) / "networks" / name
    if not path.is_file():
        raise MissingAssetError(f"The network file {name} is missing from {path.parent}; fetch the weights again.")
    return path


def bundle_member(path: Path, member: str) -> bytes:
    """The bytes of one graph inside a ``.task`` bundle (a zip file).

    Raises:
        FormatError: where the bundle is damaged.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(path.read_bytes())) as bundle:
            return bundle.read(member)
    except (zipfile.BadZipFile, KeyError) as error:
        raise FormatError(f"The network bundle {path} is damaged; fetch the weights again.") from error


class LiteRTNetwork:
    """A TensorFlow Lite graph with one input, run by LiteRT. Safe to call from several threads, one at a time."""

    def __init__(self, model: bytes, threads: int = 1) -> None:
        """Open the graph.

        Args:
            model: the flat buffer.
            threads: CPU threads of one run.

        Raises:
            MissingAssetError: where the runtime is not installed.
            FormatError: where the buffer is not a graph.
        """
        try:
            from ai_edge_litert.interpreter import Interpreter
        except ImportError as error:
            raise MissingAssetError("The package ai-edge-litert is missing; run pip install ai-edge-litert.") from error
        try:
            self._interpreter: Any = Interpreter(model_content=model, num_threads=threads)
            self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise FormatError("A network file is damaged; fetch the weights again.") from error
        self._input = self._interpreter.get_input_details()[0]["index"]
        self._outputs = [detail["index"] for detail in self._interpreter.get_output_details()]
        self._lock = threading.Lock()

    def __call__(self, tensor: np.ndarray) -> list[np.ndarray]:
        """Run on one float32 tensor of the graph's input shape; the outputs in the graph's order, copied."""
        with self._lock:
            self._interpreter.set_tensor(self._input, np.ascontiguousarray(tensor, dtype=np.float32))
            self._interpreter.invoke()
            return [self._interpreter.get_tensor(index) for index in self._outputs]


class OnnxNetwork:
    """An ONNX graph with one input and one output, run by onnxruntime on the CPU. Safe to call from several threads."""

    def __init__(self, path: Path, threads: int = 1) -> None:
        """Open the graph at ``path`` with ``threads`` CPU threads.

        Raises:
            MissingAssetError: where the runtime is not installed.
            FormatError: where the file is not a graph.
        """
        os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # recent builds send usage reports
        try:
            import onnxruntime
        except ImportError as error:
            raise MissingAssetError("The package onnxruntime is missing; run pip install onnxruntime.") from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # leave the cores to the renderer
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # the runtime's own exceptions share no public base class
            raise FormatError(f"The network file {path} is damaged; fetch the weights again.") from error
        self._input = self._session.get_inputs()[0].name

    def __call__(self, tensor: np.ndarray) -> np.ndarray:
        """Run on one float32 tensor."""
        return np.asarray(self._session.run(None, {self._input: np.ascontiguousarray(tensor, dtype=np.float32)})[0])
