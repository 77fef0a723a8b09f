"""A user's own FLAME file: read without running it, posed as smplx poses it, refused with a sentence where damaged."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.sparse import coo_matrix, csc_matrix, csr_matrix
from scipy.spatial import ConvexHull

from spatialavatar.errors import FormatError, InputError
from spatialavatar.head import HeadModel, build_layout
from spatialavatar.head.arkit import ARKIT_INDEX
from spatialavatar.head.flame import load_flame
from spatialavatar.records import HeadParams

VERTICES = 120


@pytest.fixture
def values() -> dict[str, Any]:
    """A small model in FLAME's form: a symmetric ball with two balls for eyes, random directions."""
    rng = np.random.default_rng(3)
    half = rng.normal(size=(40, 3))
    half[:, 0] = np.abs(half[:, 0]) + 0.05
    skull = np.concatenate([half, half * [-1, 1, 1]])
    skull *= 0.1 / np.linalg.norm(skull, axis=1, keepdims=True)
    eye = rng.normal(size=(20, 3))
    eye *= 0.012 / np.linalg.norm(eye, axis=1, keepdims=True)
    left, right = eye + np.array([0.03, 0.03, 0.09]), eye * [-1, 1, 1] + np.array([-0.03, 0.03, 0.09])
    faces = [ConvexHull(part).simplices + start for part, start in ((skull, 0), (left, 80), (right, 100))]
    weights = np.zeros((VERTICES, 5))
    weights[:80, :3] = rng.dirichlet(np.ones(3), 80)
    weights[80:100, 3] = weights[100:, 4] = 1.0
    regressor = np.zeros((5, VERTICES))
    regressor[0, :80], regressor[1, 10:20], regressor[2, 20:30] = 1 / 80, 0.1, 0.1
    regressor[3, 80:100], regressor[4, 100:] = 1 / 20, 1 / 20
    return {
        "v_template": np.concatenate([skull, left, right]),
        "f": np.concatenate(faces).astype(np.uint32),
        "shapedirs": 1e-3 * rng.normal(size=(VERTICES, 3, 400)),
        "posedirs": 1e-3 * rng.normal(size=(VERTICES, 3, 36)),
        "J_regressor": csc_matrix(regressor),
        "kintree_table": np.array([[2**32 - 1, 0, 1, 1, 1], [0, 1, 2, 3, 4]], np.uint32),
        "weights": weights,
        "bs_style": "lbs",
    }


@pytest.fixture
def chumpy() -> Iterator[type]:
    """A stand-in for chumpy's array class while pickles are written; it is gone again when they are read."""
    module = types.ModuleType("chumpy.ch")

    class Ch:
        def __init__(self, x: NDArray[np.float64]) -> None:
            self.x = x
            self._dirty_vars = {"x"}

    Ch.__module__, Ch.__qualname__ = "chumpy.ch", "Ch"
    module.Ch = Ch  # type: ignore[attr-defined]
    sys.modules["chumpy"], sys.modules["chumpy.ch"] = types.ModuleType("chumpy"), module
    yield Ch
    sys.modules.pop("chumpy", None)
    sys.modules.pop("chumpy.ch", None)


def written(folder: Path, values: dict[str, Any], protocol: int = 2) -> Path:
    path = folder / "FLAME_NEUTRAL.pkl"
    path.write_bytes(pickle.dumps(values, protocol=protocol))
    return path


def random_params(head: HeadModel, frames: int = 3) -> HeadParams:
    draw = torch.Generator().manual_seed(1)

    def normal(*size: int, scale: float) -> torch.Tensor:
        return scale * torch.randn(size, generator=draw)

    return HeadParams(
        shape=normal(head.shape_count, scale=1.0),
        expression=normal(frames, head.expression_count, scale=1.0),
        rotation=normal(frames, 3, scale=0.5),
        translation=normal(frames, 3, scale=0.2),
        neck=normal(frames, 3, scale=0.3),
        jaw=normal(frames, 3, scale=0.3),
        eyes=normal(frames, 6, scale=0.3),
    )


# -- reading ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_a_pickle_of_plain_arrays_is_read(tmp_path: Path, values: dict[str, Any], protocol: int) -> None:
    head = load_flame(written(tmp_path, values, protocol))
    assert (head.shape_count, head.expression_count) == (300, 100)
    np.testing.assert_allclose(head.template, values["v_template"], atol=1e-7)
    np.testing.assert_allclose(head.expression_basis[7], values["shapedirs"][..., 307], atol=1e-8)
    np.testing.assert_allclose(head.pose_correctives[5], values["posedirs"][..., 5], atol=1e-8)
    np.testing.assert_allclose(head.joint_regressor, values["J_regressor"].toarray(), atol=1e-8)


def test_chumpy_arrays_are_read_without_chumpy(tmp_path: Path, values: dict[str, Any], chumpy: type) -> None:
    wrapped = values | {key: chumpy(values[key]) for key in ("v_template", "shapedirs", "posedirs", "weights")}
    path = written(tmp_path, wrapped)
    del sys.modules["chumpy.ch"], sys.modules["chumpy"]
    head = load_flame(path)
    np.testing.assert_allclose(head.shape_basis[3], values["shapedirs"][..., 3], atol=1e-8)
    np.testing.assert_allclose(head.skinning_weights, values["weights"], atol=1e-7)
    assert not any(name.startswith("chumpy") for name in sys.modules)


@pytest.mark.parametrize("layout", [csc_matrix, csr_matrix, coo_matrix, lambda m: m.toarray()])
def test_the_joint_regressor_may_be_sparse_in_any_layout(tmp_path: Path, values: dict[str, Any], layout: Any) -> None:
    head = load_flame(written(tmp_path, values | {"J_regressor": layout(values["J_regressor"])}))
    np.testing.assert_allclose(head.joint_regressor, values["J_regressor"].toarray(), atol=1e-8)


def test_an_npz_and_a_folder_are_read_like_the_pickle(tmp_path: Path, values: dict[str, Any]) -> None:
    from_pickle = load_flame(written(tmp_path, values))
    arrays = values | {"J_regressor": values["J_regressor"].toarray()}
    np.savez(tmp_path / "flame.npz", **arrays)
    assert load_flame(tmp_path / "flame.npz").id == from_pickle.id == load_flame(tmp_path).id


def test_a_converted_head_survives_the_file(tmp_path: Path, values: dict[str, Any]) -> None:
    head = load_flame(written(tmp_path, values))
    head.save(tmp_path / "head")
    again = HeadModel.load(tmp_path / "head")
    assert again.id == head.id
    params = random_params(head)
    assert (again.vertices(params) - head.vertices(params)).abs().max() < 1e-4  # bases are stored in half precision


# -- refusing ---------------------------------------------------------------------------------------------------------


class Malicious:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"{sys.executable} -c \"open(r'{self.marker}', 'w')\"",)


@pytest.mark.parametrize("key", ["v_template", "comment"])
def test_a_pickle_that_would_run_a_command_is_refused_unrun(tmp_path: Path, values: dict[str, Any], key: str) -> None:
    marker = tmp_path / "ran"
    path = written(tmp_path, values | {key: Malicious(marker)})
    with pytest.raises(FormatError, match=r"system.*nothing of it was run"):
        load_flame(path)
    assert not marker.exists()
    pickle.loads(path.read_bytes())  # the file is a real attack on an ordinary reader
    assert marker.exists()


@pytest.mark.parametrize(
    "program",
    [
        b"cbuiltins\neval\n(S'1'\ntR.",
        b"cbuiltins\ngetattr\n(cnumpy\nndarray\nS'tofile'\ntR.",
        b"cnumpy\nload\n(S'x'\ntR.",
        b"cnumpy.testing\nrundocs\n(tR.",
        b"cscipy.sparse\nload_npz\n(S'x'\ntR.",
        b"ccopyreg\n_reconstructor\n(cbuiltins\ndict\ncbuiltins\nobject\nNtR.",
        b"c_codecs\nencode\n(S'x'\nS'rot13'\ntR.",
    ],
)
def test_no_global_outside_the_list_is_reached(tmp_path: Path, program: bytes) -> None:
    (tmp_path / "flame.pkl").write_bytes(program)
    with pytest.raises(FormatError, match="never needs"):
        load_flame(tmp_path / "flame.pkl")


@pytest.mark.parametrize("content", [b"", b"not a pickle", pickle.dumps([1, 2]), pickle.dumps({"a": 1})[:-3]])
def test_a_file_that_is_no_model_gives_one_sentence(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "flame.pkl").write_bytes(content)
    with pytest.raises(FormatError) as caught:
        load_flame(tmp_path / "flame.pkl")
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no FLAME file at .*nowhere\.pkl"):
        load_flame(tmp_path / "nowhere.pkl")
    with pytest.raises(InputError, match=r"FLAME_NEUTRAL\.pkl"):
        load_flame(tmp_path)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"weights": None}, "lacks weights"),
        ({"v_template": np.full((VERTICES, 3), np.nan)}, "v_template .* not finite"),
        ({"shapedirs": np.zeros((VERTICES, 3, 150))}, "150 shape directions"),
        ({"posedirs": np.zeros((VERTICES, 3, 207))}, "posedirs .* not a FLAME head model"),
        ({"f": np.full((4, 3), VERTICES)}, "faces .* do not exist"),
        ({"kintree_table": np.array([[-1, 0, 1, 2, 3], [0, 1, 2, 3, 4]])}, "not connected as in FLAME"),
        ({"J_regressor": "none"}, "J_regressor .* not an array of numbers"),
    ],
)
def test_wrong_contents_are_named(
    tmp_path: Path, values: dict[str, Any], change: dict[str, Any], sentence: str
) -> None:
    changed = {key: value for key, value in (values | change).items() if value is not None}
    with pytest.raises(FormatError, match=sentence):
        load_flame(written(tmp_path, changed))


def test_an_npz_with_objects_is_refused(tmp_path: Path, values: dict[str, Any]) -> None:
    np.savez(tmp_path / "flame.npz", **values)  # the sparse matrix becomes an object array
    with pytest.raises(FormatError, match="plain arrays"):
        load_flame(tmp_path / "flame.npz")


def test_a_truncated_model_is_read_when_its_split_is_given(tmp_path: Path, values: dict[str, Any]) -> None:
    path = written(tmp_path, values | {"shapedirs": values["shapedirs"][..., :150]})
    head = load_flame(path, shape_count=100)
    assert (head.shape_count, head.expression_count) == (100, 50)


# -- what the file lacks ----------------------------------------------------------------------------------------------


def write_obj(path: Path, faces: NDArray[np.int64], uv: NDArray[np.float64]) -> None:
    lines = [f"vt {u:.6f} {v:.6f}" for u, v in uv.reshape(-1, 2)]
    for row, face in enumerate(faces):
        turned = [(k + row) % 3 for k in range(3)]  # an OBJ may start a face at another corner
        lines.append("f " + " ".join(f"{face[k] + 1}/{3 * row + k + 1}" for k in turned))
    path.write_text("\n".join(lines))


def test_uvs_come_from_the_template_mesh_or_the_texture_archive(tmp_path: Path, values: dict[str, Any]) -> None:
    path, faces = written(tmp_path, values), values["f"].astype(np.int64)
    uv = np.random.default_rng(0).random((len(faces), 3, 2)).round(6)
    write_obj(tmp_path / "template.obj", faces, uv)
    corners = np.arange(3 * len(faces)).reshape(-1, 3)
    np.savez(tmp_path / "texture.npz", vt=uv.reshape(-1, 2), ft=corners)
    expected = np.stack([uv[..., 0], 1 - uv[..., 1]], -1)  # v runs down
    for name in ("template.obj", "texture.npz"):
        np.testing.assert_allclose(load_flame(path, uv=tmp_path / name).uv, expected, atol=1e-6)


def test_uvs_of_another_mesh_are_refused(tmp_path: Path, values: dict[str, Any]) -> None:
    path = written(tmp_path, values)
    (tmp_path / "other.obj").write_text("vt 0 0\nvt 1 0\nvt 0 1\nf 1/1 2/2 3/3\n")
    with pytest.raises(FormatError, match=r"head_template\.obj"):
        load_flame(path, uv=tmp_path / "other.obj")


def test_without_uvs_the_head_poses_but_takes_no_gaussians(tmp_path: Path, values: dict[str, Any]) -> None:
    head = load_flame(written(tmp_path, values))
    assert torch.isfinite(head.vertices(head.neutral())).all()
    with pytest.raises(FormatError, match="add a UV template"):
        build_layout(head, 64)


def test_eyes_are_found_by_what_their_joints_move(tmp_path: Path, values: dict[str, Any]) -> None:
    head = load_flame(written(tmp_path, values))
    assert set(head.part_vertices("eye_left").nonzero().ravel().tolist()) <= set(range(80, 100))
    assert (head.template[head.part_vertices("eye_left"), 0] > 0).all()


def test_mirror_twins_are_each_others(tmp_path: Path, values: dict[str, Any]) -> None:
    head = load_flame(written(tmp_path, values))
    twin = head.mirror_vertices
    assert torch.equal(twin[twin], torch.arange(VERTICES))
    np.testing.assert_allclose(head.template[twin], head.template * torch.tensor([-1.0, 1.0, 1.0]), atol=1e-7)


def test_without_a_reference_arkit_drives_jaw_and_eyes_only(tmp_path: Path, values: dict[str, Any]) -> None:
    head = load_flame(written(tmp_path, values))
    scores = torch.zeros(1, 52)
    scores[0, [ARKIT_INDEX["jawOpen"], ARKIT_INDEX["eyeLookUpLeft"], ARKIT_INDEX["mouthSmileLeft"]]] = 1.0
    expression, jaw, eyes = head.from_arkit(scores)
    assert expression.abs().max() == 0
    assert jaw[0, 0] > 0.2
    assert eyes[0, 0] < -0.3
    assert eyes[0, 3:].abs().max() == 0


def test_a_users_expression_map_is_taken(tmp_path: Path, values: dict[str, Any]) -> None:
    path, given = written(tmp_path, values), np.random.default_rng(2).normal(size=(52, 100))
    np.savez(tmp_path / "map.npz", arkit_to_expression=given)
    np.testing.assert_allclose(load_flame(path, expressions=tmp_path / "map.npz").arkit_to_expression, given, rtol=1e-6)
    np.savez(tmp_path / "map.npz", arkit_to_expression=given[:, :50])
    with pytest.raises(FormatError, match="arkit_to_expression"):
        load_flame(path, expressions=tmp_path / "map.npz")


@pytest.fixture(scope="module")
def open_head(repository: Path) -> HeadModel:
    return HeadModel.load(repository / "weights" / "head")


@pytest.fixture(scope="module")
def open_head_as_flame(open_head: HeadModel, tmp_path_factory: pytest.TempPathFactory) -> HeadModel:
    """The open head's skin and eyes written as a FLAME file, larger and elsewhere, and read with it as reference."""
    kept = ~open_head.part_faces("tongue", "teeth_upper", "teeth_lower")
    used, faces = np.unique(open_head.faces[kept].numpy(), return_inverse=True)
    expression_count = open_head.expression_count
    directions = np.zeros((10 + expression_count, len(used), 3))
    directions[10:] = open_head.expression_basis[:, used].numpy() * 1.04
    regressor = open_head.joint_regressor[:, used].numpy()
    values = {
        "v_template": 1.04 * open_head.template[used].numpy() + [0.0, -0.03, 0.01],
        "f": faces.reshape(-1, 3),
        "shapedirs": directions.transpose(1, 2, 0),
        "posedirs": np.zeros((len(used), 3, 36)),
        "J_regressor": regressor / regressor.sum(1, keepdims=True),
        "kintree_table": np.array([[-1, 0, 1, 1, 1], [0, 1, 2, 3, 4]]),
        "weights": open_head.skinning_weights[used].numpy(),
    }
    path = written(tmp_path_factory.mktemp("flame"), values)
    return load_flame(path, reference=open_head, shape_count=10)


def test_parts_are_carried_over_from_the_reference(open_head: HeadModel, open_head_as_flame: HeadModel) -> None:
    kept = ~open_head.part_faces("tongue", "teeth_upper", "teeth_lower")
    same = open_head_as_flame.face_parts == open_head.face_parts[kept]
    assert same.float().mean() > 0.97


def test_units_are_carried_over_from_the_reference(open_head: HeadModel, open_head_as_flame: HeadModel) -> None:
    scores = torch.zeros(1, 52)
    scores[0, ARKIT_INDEX["mouthSmileLeft"]] = 1.0
    wanted = open_head.from_arkit(scores)[0]
    found = open_head_as_flame.from_arkit(scores)[0]
    moved = torch.tensordot(found - wanted, open_head_as_flame.expression_basis, 1)[0].norm(dim=-1)
    whole = torch.tensordot(wanted, open_head_as_flame.expression_basis, 1)[0].norm(dim=-1)
    assert moved.max() < 0.15 * whole.max()


# -- smplx ------------------------------------------------------------------------------------------------------------


def test_it_poses_as_smplx_does(tmp_path: Path, values: dict[str, Any]) -> None:
    smplx = pytest.importorskip("smplx", reason="smplx is an optional extra: pip install -e '.[flame]'")
    head = load_flame(written(tmp_path, values))
    (tmp_path / "flame_static_embedding.pkl").write_bytes(
        pickle.dumps({"lmk_face_idx": np.arange(51), "lmk_b_coords": np.full((51, 3), 1 / 3)}, protocol=2)
    )
    params = random_params(head)
    frames = len(params)
    model = smplx.FLAME(str(tmp_path), num_betas=300, num_expression_coeffs=100, batch_size=frames)
    posed = model(
        betas=params.shape.expand(frames, -1),
        expression=params.expression,
        global_orient=params.rotation,
        neck_pose=params.neck,
        jaw_pose=params.jaw,
        leye_pose=params.eyes[:, :3],
        reye_pose=params.eyes[:, 3:],
        transl=params.translation,
    ).vertices.detach()
    assert (posed - head.vertices(params)).abs().max() < 1e-5


def test_the_converter_ends_with_one_sentence_and_status_one(tmp_path: Path, repository: Path) -> None:
    script, missing = repository / "scripts" / "convert_flame.py", tmp_path / "no.pkl"
    command = [sys.executable, str(script), str(missing), "--uv", str(tmp_path / "no.obj"), "-o", str(tmp_path / "out")]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert result.stderr.startswith("error: There is no FLAME file at ")
    assert "Traceback" not in result.stderr
