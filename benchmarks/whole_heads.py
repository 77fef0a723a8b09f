"""Turned views of synthetic heads, with and without the prior of whole heads; docs/results/prior.md has the figures.

PYTHONPATH=. python benchmarks/whole_heads.py HEADS --out heads.json, where HEADS was made by ``spatialavatar synth``.

One picture of a head is the photo; the avatar is rendered in the set's other cameras. The tracked head is laid on the
true one by a similarity between their landmarks, so errors of pose do not count.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file

from spatialavatar.avatar import Avatar
from spatialavatar.evaluation.cutting import crop_of
from spatialavatar.evaluation.datasets import Calibration, Recording
from spatialavatar.evaluation.datasets.gaussian_avatars import gaussian_avatars
from spatialavatar.evaluation.evaluator import Evaluator, Target
from spatialavatar.evaluation.rig import cropped_intrinsics
from spatialavatar.media import read_image
from spatialavatar.pipeline import default_model
from spatialavatar.records import Camera, HeadParams, Track
from spatialavatar.render import render
from spatialavatar.tracking import track_photos
from spatialavatar.tracking.fit import Observations, fit_landmarks
from spatialavatar.tracking.networks import Networks

BINS = ((0, 30), (30, 60), (60, 100), (100, 181))
FACE_YAW = 60.0
INSTANT = 1  # with the head's expression


def yaw_of(calibration: Calibration) -> float:
    """Degrees to the subject's left."""
    rotation, shift = calibration.world_to_camera[:3, :3], calibration.world_to_camera[:3, 3]
    eye = -rotation.T @ shift
    return float(np.degrees(np.arctan2(eye[0], eye[2])))


def similarity(points: np.ndarray, onto: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    """Scale, rotation and shift that lay (N, 3) points on others with the least squares (Umeyama 1991)."""
    a, b = points - points.mean(0), onto - onto.mean(0)
    left, values, right = np.linalg.svd(b.T @ a)
    signs = np.array([1.0, 1.0, np.sign(np.linalg.det(left @ right))])
    rotation = left * signs @ right
    scale = float((values * signs).sum() / (a**2).sum())
    return scale, rotation, onto.mean(0) - scale * rotation @ points.mean(0)


class Subject:
    """One head of a set: its pictures and its true landmarks."""

    def __init__(self, folder: Path, evaluator: Evaluator, head) -> None:
        truth = load_file(folder / "truth.safetensors")
        params = HeadParams(**{name: truth[name] for name in HeadParams.neutral(1, 1).__dict__})
        self.points = head.landmarks(head.vertices(params))[0].double().numpy()
        self.recordings = sorted(gaussian_avatars(folder)[0].recordings, key=lambda r: int(r.name))
        self.evaluator = evaluator

    def picture(self, recording: Recording) -> np.ndarray:
        """What a camera sees, (H, W, 3) uint8."""
        return read_image(recording.frames[INSTANT])

    def target(self, recording: Recording) -> Target:
        """A camera's picture with the head's true matte and classes."""
        path, calibration = recording.frames[INSTANT], recording.require_calibration()
        matte, classes = (read_image(path.parents[1] / kind / path.name)[..., 0] for kind in ("fg_masks", "classes"))
        seen = self.points @ calibration.world_to_camera[:3, :3].T + calibration.world_to_camera[:3, 3]
        pixels = seen @ calibration.intrinsics.T
        return self.evaluator.target(read_image(path), matte, classes, pixels[:, :2] / pixels[:, 2:])


def placed(track: Track, source: Calibration, avatar: Avatar, points: np.ndarray):
    """The avatar's parameters in the photo and the similarity that lays it on the true head."""
    evidence, head = track.require_evidence(), avatar.head
    intrinsics = cropped_intrinsics(source, crop_of(track))
    observed = Observations(
        points=evidence.require_landmarks(),
        blendshapes=evidence.blendshapes,
        principal_point=intrinsics[:2, 2],
        focal=intrinsics[:1, 0],
    )
    params = fit_landmarks(head, observed, shape=avatar.shape).params[0]
    mine = head.landmarks(head.vertices(params.replace(shape=avatar.shape)))[0].double().numpy()
    return params, similarity(mine, points)


def measure(subject: Subject, number: int, models, networks: Networks) -> Iterator[dict]:
    source = subject.recordings[number]
    tracks = track_photos([subject.picture(source)], models["with"].head, networks=networks)
    others = [r for r in subject.recordings if r is not source]
    targets = [subject.target(recording) for recording in others]
    for name, model in models.items():
        avatar = model.generate(tracks, polish=0, bust=False)
        params, (scale, rotation, shift) = placed(tracks[0], source.require_calibration(), avatar, subject.points)
        gaussians = avatar.pose(params)
        for recording, target in zip(others, targets):
            calibration = recording.require_calibration()
            turn, move = calibration.world_to_camera[:3, :3], calibration.world_to_camera[:3, 3]
            world = torch.eye(4)
            world[:3, :3] = torch.from_numpy(turn @ rotation)
            world[:3, 3] = torch.from_numpy((turn @ shift + move) / scale)
            rows, columns = target.region.shape
            camera = Camera(torch.from_numpy(calibration.intrinsics).float(), world, columns, rows)
            with torch.inference_mode():
                image, _ = render(gaussians, camera, torch.ones(3))
            shown = target.masked(image)
            yaw = yaw_of(calibration)
            away = abs((yaw - yaw_of(source.require_calibration()) + 180.0) % 360.0 - 180.0)
            scores = subject.evaluator.pictures(shown, target)
            scores["csim"] = float("nan")
            if abs(yaw) < FACE_YAW and target.face is not None:
                face = subject.evaluator.face(shown)
                if face is not None:
                    scores["csim"] = float(face.identity @ target.face.identity)
            yield {"source": number, "model": name, "yaw": yaw, "away": away, **scores}


def table(rows: Sequence[dict]) -> None:
    for source in sorted({row["source"] for row in rows}):
        for low, high in BINS:
            for name in ("without", "with"):
                picked = [r for r in rows if r["source"] == source and r["model"] == name and low <= r["away"] < high]
                if picked:
                    means = {
                        key: np.nanmean([r[key] for r in picked]) if any(r[key] == r[key] for r in picked) else np.nan
                        for key in ("lpips", "csim", "psnr_person", "ssim")
                    }
                    text = ", ".join(f"{key} {value:.4f}" for key, value in means.items())
                    print(f"camera {source}, {low}-{high} degrees away, {name}: {len(picked)} views, {text}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("heads", type=Path)
    parser.add_argument("--cameras", type=int, nargs="+", default=[0, 1], help="of the photos")
    parser.add_argument("--out", type=Path, default=Path("whole_heads.json"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    networks = Networks()
    evaluator, model = Evaluator(networks), default_model()
    models = {"without": model.with_prior(None), "with": model}
    rows = []
    for folder in sorted(options.heads.glob("head-*")):
        subject = Subject(folder, evaluator, model.head)
        for camera in options.cameras:
            try:
                new = [{"head": folder.name, **row} for row in measure(subject, camera, models, networks)]
            except Exception as error:
                print(f"{folder.name}, camera {camera}: {error}")
                continue
            rows += new
            for name in models:
                mean = np.mean([r["lpips"] for r in new if r["model"] == name])
                print(f"{folder.name}, camera {camera}, {name}: LPIPS {mean:.4f}", flush=True)
            options.out.write_text(json.dumps(rows))
    table(rows)


if __name__ == "__main__":
    main()
