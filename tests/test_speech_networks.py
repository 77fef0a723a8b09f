"""Networks that users download: LAM-A2E and Audio2Face-3D, as small files with the same inputs and outputs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from spatialavatar.errors import FormatError, MissingAssetError
from spatialavatar.head.arkit import ARKIT_INDEX
from spatialavatar.speech import SpeechDriver, load_listener

onnx = pytest.importorskip("onnx", reason="onnx is not installed: pip install onnx")
pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402 - after the check that it is there

JAW_OPEN, CLOSE = ARKIT_INDEX["jawOpen"], ARKIT_INDEX["mouthClose"]


def write_graph(path: Path, nodes, inputs, outputs, constants) -> Path:
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in (*inputs, *outputs)]
    tensors = [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()]
    graph = helper.make_graph(nodes, "small", values[: len(inputs)], values[len(inputs) :], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    return path


def small_lam(path: Path, samples: int | str = "samples", output: str = "blendshapes", units: int = 52) -> Path:
    """A graph whose jawOpen is the loudness of each thirtieth of a second, and whose other units are 0."""
    place = np.zeros((1, units), np.float32)
    place[0, JAW_OPEN % units] = 1.0
    nodes = [
        helper.make_node("Abs", ["audio_waveform"], ["loud"]),
        helper.make_node("Unsqueeze", ["loud", "one"], ["channel"]),
        helper.make_node("AveragePool", ["channel"], ["mean"], kernel_shape=[533], strides=[533]),
        helper.make_node("Transpose", ["mean"], ["frames"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["frames", "place"], [output]),
    ]
    constants = {"one": np.array([1], np.int64), "place": place}
    return write_graph(path, nodes, [("audio_waveform", [1, samples])], [(output, [1, "frames", units])], constants)


def small_audio2face(folder: Path) -> Path:
    """Three vertices: the first skin value, the window's middle sample, moves the first one down, as jawOpen does."""
    folder.mkdir(exist_ok=True)
    nodes = [
        helper.make_node("Slice", ["input", "start", "end", "axis"], ["middle"]),
        helper.make_node("ReduceSum", ["emotion", "axis"], ["mood"], keepdims=1),
        helper.make_node("Mul", ["mood", "zero"], ["nothing"]),
        helper.make_node("Concat", ["middle", "nothing", "nothing"], ["result"], axis=2),
    ]
    constants = {
        "start": np.array([400], np.int64), "end": np.array([401], np.int64), "axis": np.array([2], np.int64),
        "zero": np.zeros(1, np.float32),
    }  # fmt: skip
    inputs = [("input", [1, 1, 800]), ("emotion", [1, 1, 5])]
    write_graph(folder / "network.onnx", nodes, inputs, [("result", [1, 1, 3])], constants)
    info = {
        "params": {"implicit_emotion_len": 3, "default_emotion": [0.0, 1.0], "num_shapes_skin": 2},
        "audio_params": {"buffer_len": 800, "buffer_ofs": 400, "samplerate": 16000},
    }
    (folder / "network_info.json").write_text(json.dumps(info))
    neutral = np.array([[0, 0, 0], [10, 0, 0], [0, 10, 0]], np.float32)
    jaw, close = np.zeros((2, 3, 3), np.float32)
    jaw[0, 1], close[1, 2] = -1.0, 1.0
    matrix = np.stack([jaw, np.zeros_like(jaw)])
    np.savez(folder / "model_data.npz", shapes_mean_skin=neutral, shapes_matrix_skin=matrix)
    names = np.array([b"neutral", b"jawOpen", b"mouthClose"])
    np.savez(
        folder / "bs_skin.npz", neutral=neutral, poseNames=names, frontalMask=np.arange(3, dtype=np.int32),
        jawOpen=jaw, mouthClose=close,
    )  # fmt: skip
    settings = {"bsSolveActivePoses": [1, 1], "strengthL2regularization": 0.0, "templateBBSize": 1.0}
    (folder / "bs_skin_config.json").write_text(json.dumps({"blendshape_params": settings}))
    return folder


@pytest.fixture
def beat() -> np.ndarray:
    """Two seconds whose loudness is 0.8 in the second half second, else 0."""
    sound = np.zeros(32_000, np.float32)
    sound[8000:16_000] = 0.8
    return sound


@pytest.mark.parametrize("samples", ["samples", 16_000])
def test_lam_moves_the_jaw_when_the_sound_does(beat, samples, tmp_path):
    driver = SpeechDriver(30.0, load_listener(small_lam(tmp_path / "lam.onnx", samples)))
    frames = np.concatenate([driver.feed(beat), driver.finish()])
    assert frames.shape == (60, 52)
    wanted = np.zeros(60)
    wanted[15:30] = 0.8
    assert np.abs(frames[:, JAW_OPEN] - wanted)[[*range(14), *range(17, 28), *range(32, 60)]].max() < 0.01
    assert np.abs(np.delete(frames, JAW_OPEN, 1)).max() == 0


def test_audio2face_solves_for_the_weights_that_move_the_skin(beat, tmp_path):
    driver = SpeechDriver(30.0, load_listener(small_audio2face(tmp_path / "a2f")))
    frames = np.concatenate([driver.feed(beat), driver.finish()])
    assert frames.shape == (60, 52)
    np.testing.assert_allclose(frames[16:29, JAW_OPEN], 0.8, atol=1e-3)
    np.testing.assert_allclose(frames[:14, JAW_OPEN], 0.0, atol=1e-3)
    assert np.abs(np.delete(frames, JAW_OPEN, 1)).max() < 1e-6


def test_mouth_close_of_audio2face_contains_its_jaw_open(beat, tmp_path):
    folder = small_audio2face(tmp_path / "a2f")
    with np.load(folder / "bs_skin.npz") as old:
        arrays = dict(old) | {"jawOpen": old["mouthClose"], "mouthClose": old["jawOpen"]}
    np.savez(folder / "bs_skin.npz", **arrays)
    frames = SpeechDriver(30.0, load_listener(folder)).feed(beat)
    np.testing.assert_allclose(frames[20, [JAW_OPEN, CLOSE]], 0.8, atol=1e-3)


@pytest.mark.parametrize("kind", ["lam", "audio2face"])
def test_frames_do_not_depend_on_how_the_sound_is_cut(beat, kind, tmp_path):
    path = small_lam(tmp_path / "lam.onnx") if kind == "lam" else small_audio2face(tmp_path / "a2f")
    whole, parts = SpeechDriver(25.0, load_listener(path)), SpeechDriver(25.0, load_listener(path))
    expected = np.concatenate([whole.feed(beat), whole.finish()])
    found = [parts.feed(beat[start : start + 777]) for start in range(0, len(beat), 777)]
    np.testing.assert_allclose(np.concatenate([*found, parts.finish()]), expected, atol=1e-6)


def test_files_that_are_missing_are_named(tmp_path):
    with pytest.raises(MissingAssetError, match=r"lam\.onnx is missing; download LAM-A2E"):
        load_listener(tmp_path / "lam.onnx")
    folder = small_audio2face(tmp_path / "a2f")
    for name in ("bs_skin_config.json", "bs_skin.npz", "model_data.npz", "network_info.json", "network.onnx"):
        (folder / name).unlink()
        with pytest.raises(MissingAssetError, match=name.replace(".", r"\.")):
            load_listener(folder)


@pytest.mark.parametrize(
    ("change", "words"),
    [({"output": "weights"}, "cannot be run as LAM"), ({"units": 51}, "output has shape"), ({"samples": 400}, "9,600")],
)
def test_another_network_is_refused_in_one_sentence(change, words, tmp_path):
    with pytest.raises(FormatError, match=words):
        load_listener(small_lam(tmp_path / "other.onnx", **change))


def test_a_file_that_is_no_network_is_refused_in_one_sentence(tmp_path):
    (tmp_path / "a.onnx").write_bytes(b"nothing")
    with pytest.raises(FormatError, match=r"a\.onnx is not a network that can be run"):
        load_listener(tmp_path / "a.onnx")


@pytest.mark.parametrize("name", ["model_data.npz", "bs_skin.npz", "network_info.json", "bs_skin_config.json"])
@pytest.mark.parametrize("content", [b"", b"{}", b"PK\x03\x04 cut"])
def test_a_damaged_folder_is_refused_in_one_sentence(name, content, tmp_path):
    folder = small_audio2face(tmp_path / "a2f")
    (folder / name).write_bytes(content)
    with pytest.raises(FormatError, match="is damaged"):
        load_listener(folder)


def test_pickles_in_a_folder_are_not_run(tmp_path):
    folder = small_audio2face(tmp_path / "a2f")
    with np.load(folder / "bs_skin.npz") as old:
        np.savez(folder / "bs_skin.npz", **dict(old) | {"poseNames": np.array(["neutral", "jawOpen"], object)})
    with pytest.raises(FormatError, match="is damaged"):
        load_listener(folder)
