"""Calibrated multi-view sets of synthetic heads, in the layout that GaussianAvatars uses for NeRSemble's rigs.

Each head is a folder of pictures, exact mattes and classes, the lists of frames with their cameras, its parameters and
its truth. A folder is made under a hidden name and renamed when it is whole, so that an interrupted run continues.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from spatialavatar import __version__
from spatialavatar.errors import InputError, OutputError
from spatialavatar.files import make_folder, write_text
from spatialavatar.generator.silhouette.mesh import build_field, outline_mesh
from spatialavatar.progress import Progress, no_progress, part
from spatialavatar.provenance import STATEMENT, safetensors_metadata, save_png
from spatialavatar.records import Camera, as_uint8_image
from spatialavatar.synthetic.anatomy import anatomy
from spatialavatar.synthetic.arrays import Array
from spatialavatar.synthetic.heads import SynthesisConfig, SyntheticHead, synthesize
from spatialavatar.synthetic.people import Person, example_people, read_people
from spatialavatar.synthetic.truth import measure_truth
from spatialavatar.synthetic.views import phone_camera, render_drawn, sample_background
from spatialavatar.tensor_files import write_safetensors
from spatialavatar.threads import one_torch_thread

SET: Final = "set.json"
LICENCE: Final = "LICENCE.txt"
_TRAIN, _VAL = "transforms_train.json", "transforms_val.json"
_CV_TO_GL: Final = np.diag([1.0, -1.0, -1.0, 1.0])
_YAWS: Final = (0, 30, -30, 60, -60, 180, 100, -100, 15, -15, 45, -45, 140, -140, 80, -80)
"""Degrees of the cameras, in the order in which they are added; the mean of the first few looks at the face."""
_HELD_OUT: Final = 4
"""Every fourth camera is held out; of fewer cameras the last."""

MAX_VIEWS: Final = 64
SIZES: Final = (64, 4096)


@dataclass(frozen=True)
class SetConfig:
    """Contents of a set; a set can only be continued with the same values.

    Attributes:
        count: number of heads.
        seed: of the first head; the others follow.
        views: cameras around each head.
        size: pixels a side.
    """

    count: int
    seed: int = 0
    views: int = 8
    size: int = 512

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            InputError: one of them is out of range.
        """
        for name, low, high in (("count", 1, 10**6), ("seed", 0, 2**31), ("views", 2, MAX_VIEWS), ("size", *SIZES)):
            value = getattr(self, name)
            if type(value) is not int or not low <= value <= high:
                raise InputError(f"The {name} of a set is {value!r}; give a whole number from {low} to {high}.")


@dataclass(frozen=True)
class HeadSet:
    """A finished set.

    Attributes:
        folders: of the heads.
        made: number of heads that this call made; the others were there.
        people: names of the people whose skin was used.
    """

    folders: list[Path]
    made: int
    people: list[str]


def make_set(
    out: str | Path, config: SetConfig, faces: str | Path | None = None, progress: Progress | None = None
) -> HeadSet:
    """Write a set, or its missing parts.

    Args:
        out: its folder.
        config: its contents.
        faces: folder of photos of faces whose skin is used; by default the example portraits.
        progress: called with (fraction, message).

    Raises:
        InputError: the photos cannot be used, or the folder holds a set of other values.
        OutputError: the folder cannot be written.
    """
    out, report = Path(out), progress or no_progress
    facts = _facts(config, faces)
    _check_same_set(out, facts)
    with one_torch_thread():
        if faces is None:
            report(0.0, "Reading the skin of the example portraits")
            people: Sequence[Person] = example_people()
        else:
            people = read_people(faces, out / ".faces", part(report, 0.0, 0.1))
        names = [person.name for person in people]
        write_text(make_folder(out) / SET, facts)
        write_text(out / LICENCE, _licence(names, faces is not None))
        folders, made = [], 0
        for number in range(config.count):
            report(0.1 + 0.9 * number / config.count, f"Head {number + 1} of {config.count}")
            folder = out / f"head-{config.seed + number:08d}"
            if not (folder / _TRAIN).is_file():
                _write_whole(folder, synthesize(config.seed + number, people, SynthesisConfig()), config)
                made += 1
            folders.append(folder)
    return HeadSet(folders, made, names)


def _facts(config: SetConfig, faces: str | Path | None) -> str:
    """The values that all heads of a set share, as JSON; the number of heads may grow."""
    facts = {
        "format": "spatialavatar.synthetic",
        "version": 1,
        "software": f"SpatialAvatar {__version__}",
        "head": anatomy().mesh.model.id,
        "views": config.views,
        "size": config.size,
        "faces": None if faces is None else Path(faces).name,
    }
    return json.dumps(facts, indent=1)


def _check_same_set(out: Path, facts: str) -> None:
    """Refuse to continue a set of other values, or to write among other files."""
    path = out / SET
    if path.is_file():
        if path.read_text(encoding="utf-8") != facts:
            raise InputError(
                f"{out} holds heads of other views, sizes, faces or another version; choose another folder."
            )
    elif out.is_dir() and any(not child.name.startswith(".") for child in out.iterdir()):
        raise InputError(f"{out} holds other files and is not a set of synthetic heads; choose an empty folder.")


def _write_whole(folder: Path, head: SyntheticHead, config: SetConfig) -> None:
    """Write one head under a hidden name, then rename it."""
    hidden = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(hidden, ignore_errors=True)
    try:
        _write_head(hidden, head, config)
        hidden.rename(folder)
    except OSError as error:
        if (folder / _TRAIN).is_file():  # another process was faster
            return
        if isinstance(error, OutputError):
            raise
        raise OutputError(f"{folder} cannot be written ({error.strerror}); choose another place.") from error
    finally:
        shutil.rmtree(hidden, ignore_errors=True)


def rig(head: SyntheticHead, views: int, size: int) -> list[Camera]:
    """The cameras around a head, a phone's each; the first looks at the face."""
    rng = np.random.default_rng([head.seed, 29])
    cameras = []
    for number in range(views):
        yaw = _YAWS[number % len(_YAWS)] + (rng.normal(0.0, 4.0) if number else rng.normal(0.0, 1.0))
        cameras.append(phone_camera(float(yaw), float(rng.uniform(-12.0, 18.0)), rng, size))
    return cameras


def _write_head(folder: Path, head: SyntheticHead, config: SetConfig) -> None:
    """Pictures of the head with its expression and at rest, in all cameras."""
    rng = np.random.default_rng([head.seed, 31])
    background = sample_background(rng, config.size)
    model = anatomy().mesh.model
    rest = model.neutral().replace(shape=head.shape)
    cameras, frames = rig(head, config.views, config.size), []
    for instant, params in enumerate((rest, head.params)):
        scene = head.gaussians(params)
        for number, camera in enumerate(cameras):
            view = render_drawn(scene, camera, background)
            name = f"{instant:05d}_{number:02d}.png"
            save_png(folder / "images" / name, as_uint8_image(torch.from_numpy(view.image)))
            save_png(folder / "fg_masks" / name, as_uint8_image(torch.from_numpy(view.matte)))
            save_png(folder / "classes" / name, view.segments)
            frames.append(rig_entry(name, instant, number, camera))
    _write_truth(folder / "truth.safetensors", head)
    held_out = {n for n in range(config.views) if n % _HELD_OUT == _HELD_OUT - 1} or {config.views - 1}
    write_text(folder / "head.json", json.dumps({"seed": head.seed, **head.traits}, indent=1))
    for name, wanted in ((_VAL, True), (_TRAIN, False)):
        listed = [frame for frame in frames if (frame["camera_index"] in held_out) == wanted]
        write_text(folder / name, json.dumps({"frames": listed}, indent=1))


def _write_truth(path: Path, head: SyntheticHead) -> None:
    """The parameters and the truth over the rest mesh along its smoothed normals."""
    facts = anatomy()
    config = facts.surface.config.silhouette
    rest = head.rest()
    field = build_field(outline_mesh(facts.mesh.model, config.face_mask), rest, rest, config)
    truth = measure_truth(head, field.flat, field.directions)
    arrays: dict[str, Array] = {
        "heights": truth.heights.astype(np.float32),
        "directions": field.directions.astype(np.float32),
        "colors": truth.colors.astype(np.float16),
        "albedo": truth.albedo.astype(np.float16),
        "skin": head.albedo.astype(np.float16),
        "hair": truth.hair.astype(np.float16),
        "strands": truth.strands.astype(np.float16),
    }
    tensors = {name: torch.from_numpy(np.ascontiguousarray(values)) for name, values in arrays.items()}
    tensors |= {name: value.contiguous() for name, value in vars(head.params).items()}
    write_safetensors(path, tensors, {**safetensors_metadata(), "head": facts.mesh.model.id})


def rig_entry(name: str, instant: int, number: int, camera: Camera) -> dict[str, Any]:
    """The list's entry of one picture; camera to world with OpenGL's axes."""
    matrix = np.linalg.inv(camera.world_to_camera.double().numpy()) @ _CV_TO_GL
    intrinsics = camera.intrinsics.tolist()
    return {
        "file_path": f"images/{name}",
        "fg_mask_path": f"fg_masks/{name}",
        "timestep_index": instant,
        "camera_index": number,
        "transform_matrix": matrix.tolist(),
        "fl_x": intrinsics[0][0],
        "fl_y": intrinsics[1][1],
        "cx": intrinsics[0][2],
        "cy": intrinsics[1][2],
        "w": camera.width,
        "h": camera.height,
    }


def _licence(names: Sequence[str], own: bool) -> str:
    """Origin and licence of the set."""
    source = (
        "The skin is taken from photos that the maker of the set chose; their licences and the rights of the people in "
        "them hold for this set too."
        if own
        else "The skin is taken from the example portraits of SpatialAvatar; their licences (examples/portraits) and "
        "the rights of the people in them hold."
    )
    return (
        f"{STATEMENT}\n\nThe head model and the hair are CC0; everything but the skin is drawn from random numbers.\n"
        f"{source}\n\nPhotos: {', '.join(names)}.\n"
    )
