"""Measure expression transfer from clips to avatars of portraits; docs/results/tracking.md states the results.

    PYTHONPATH=. python benchmarks/transfer.py --portraits a.jpg b.jpg --clips one.mp4 two.mp4
    PYTHONPATH=. python benchmarks/transfer.py --portraits a.jpg b.jpg --driver c.jpg

Clip n drives the avatar of portrait n modulo the number of portraits, relative and with measured gains, as ``drive``
does. Scores of the landmark network on the clip's frames and on the renders are compared by group, in evenly spaced
frames. ``--driver`` renders the clip from an avatar of that portrait with known weights: one sweep of each expression
with pauses between, half closed lids and winks among them.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch

from spatialavatar import pipeline
from spatialavatar.avatar import Avatar
from spatialavatar.driving import DriveConfig, avatar_gains, portrait_view, retarget
from spatialavatar.evaluation.transfer import GROUPS, group_scores, transfer, transfer_over_clips
from spatialavatar.head.arkit import ARKIT_52, ARKIT_INDEX
from spatialavatar.media import VideoWriter
from spatialavatar.records import Camera, HeadParams, as_uint8_image
from spatialavatar.render import render
from spatialavatar.threads import one_torch_thread
from spatialavatar.tracking import track_video
from spatialavatar.tracking.photos import shared_networks

WINK = "wink"
"""Blink of the left eye less that of the right; measured beside the groups of ``spatialavatar.evaluation.transfer``."""
WINK_STD = 0.04
SIZE, FRAMING = 256, 0.85
FPS = 12.5
SWEEP, BLINK, PAUSE = 9, 5, 2  # frames
SWEEPS: tuple[dict[str, float], ...] = (
    {"jawOpen": 0.8},
    {"mouthSmile": 0.9},
    {"mouthPucker": 1.0},
    {"mouthFunnel": 1.0, "mouthPucker": 0.3, "jawOpen": 0.25},
    {"mouthStretch": 1.0, "mouthLowerDown": 0.4, "jawOpen": 0.1},
    {"eyeBlink": 1.0},
    {"eyeBlinkLeft": 1.0},
    {"eyeBlinkRight": 1.0},
    {"eyeBlink": 0.5, "eyeLookDown": 0.5},
    {"eyeBlink": 1.0},
    {"browInnerUp": 1.2, "browOuterUp": 1.2},
    {"browDown": 1.0},
    {"eyeLookOutLeft": 0.7, "eyeLookInRight": 0.7},
    {"eyeLookInLeft": 0.7, "eyeLookOutRight": 0.7},
    {"eyeLookUp": 0.6},
    {"eyeLookDown": 0.6},
    {"jawOpen": 0.3, "mouthSmile": 0.4},
    {"mouthFunnel": 0.5, "jawOpen": 0.15},
    {"mouthPucker": 0.6},
    {"jawOpen": 0.5, "mouthStretch": 0.4},
)


def known_weights() -> torch.Tensor:
    """(T, 52) weights of the sweeps."""
    rows = []
    for units in SWEEPS:
        peak = torch.tensor([next((w for kind, w in units.items() if name.startswith(kind)), 0.0) for name in ARKIT_52])
        count = BLINK if units == {"eyeBlink": 1.0} else SWEEP
        rows += [peak * float(np.sin(turn)) ** 1.5 for turn in np.linspace(0, np.pi, count).clip(0, np.pi - 1e-9)]
        rows += [torch.zeros(52)] * PAUSE
    return torch.stack(rows)


def write_driver(avatar: Avatar, path: Path, size: int = 384) -> None:
    """Render the sweeps of an avatar whose head moves a little."""
    weights = known_weights()
    count = len(weights)
    expression, jaw, eyes = avatar.head.from_arkit(weights)
    camera, home = portrait_view(avatar, size, 0.8)
    time = torch.arange(count) / FPS
    params = avatar.head.neutral(count).replace(
        shape=avatar.shape,
        expression=expression,
        jaw=jaw,
        eyes=eyes,
        translation=home.expand(count, 3),
        rotation=torch.stack([0.04 * torch.sin(1.3 * time), 0.1 * torch.sin(0.9 * time), 0.0 * time], 1),
    )
    with VideoWriter(path, (size, size), FPS) as writer:
        for index in range(count):
            writer.write(picture(avatar, params, camera, index))


def picture(avatar: Avatar, params: HeadParams, camera: Camera, index: int) -> np.ndarray:
    """(H, W, 3) uint8 render of one frame."""
    with torch.inference_mode(), one_torch_thread():
        image, _ = render(avatar.pose(avatar.with_torso(params[index])), camera, torch.full((3,), 0.8))
    return as_uint8_image(image)


def measure(clip: Path, avatar: Avatar, frames: int) -> dict[str, dict[str, float]]:
    """The figures of one clip, by group."""
    networks = shared_networks()
    track = track_video(clip, avatar.head, networks=networks)
    evidence = track.require_evidence()
    driver = series(evidence.blendshapes.numpy(), evidence.require_landmarks().numpy())
    seen = (track.confidence > 0).numpy()
    usable = seen.nonzero()[0]
    wanted = usable[np.linspace(0, len(usable) - 1, min(frames, len(usable))).round().astype(int)]
    gains = avatar_gains(avatar, track)
    params, camera = retarget(track, avatar, DriveConfig(size=SIZE, framing=FRAMING), gains)
    found = {int(frame): networks.landmarker.locate(picture(avatar, params, camera, int(frame))) for frame in wanted}
    faces = {frame: face for frame, face in found.items() if face is not None}
    shown = series(np.stack([f.blendshapes for f in faces.values()]), np.stack([f.points for f in faces.values()]))
    shots = sorted(faces)
    figures = transfer(driver, seen, shown, shots)
    return figures | wink_figures(driver[WINK][shots], shown[WINK])


def series(scores: np.ndarray, points: np.ndarray) -> dict[str, np.ndarray]:
    """The series (T,) of the groups and of winks."""
    wink = scores[:, ARKIT_INDEX["eyeBlinkLeft"]] - scores[:, ARKIT_INDEX["eyeBlinkRight"]]
    return group_scores(scores, points) | {WINK: wink}


def wink_figures(wanted: np.ndarray, got: np.ndarray) -> dict[str, dict[str, float]]:
    """The figures of winks, where the driver's eyes differ."""
    if wanted.std() < WINK_STD:
        return {}
    change = (got - np.median(got)) - (wanted - np.median(wanted))
    r = float(np.corrcoef(wanted, got)[0, 1])
    mae, mae_change = float(np.abs(got - wanted).mean()), float(np.abs(change).mean())
    return {WINK: {"r": r, "amplitude": float(got.std() / wanted.std()), "mae": mae, "mae_change": mae_change}}


def print_table(clips: list[dict[str, dict[str, float]]]) -> None:
    """One row for each group: figures over the clips."""
    print("| group | clips | r | amplitude | MAE of the change | lag, frames |\n|---|---|---|---|---|---|")
    groups = transfer_over_clips(clips)
    winks = [clip[WINK] for clip in clips if WINK in clip]
    if winks:
        figures = {name: float(np.mean([w[name] for w in winks])) for name in ("r", "mae_change")}
        middle = float(np.median([w["amplitude"] for w in winks]))
        groups[WINK] = {"clips": len(winks), "amplitude": middle, **figures}
    for name in (*GROUPS, WINK):
        if name in groups:
            row = groups[name]
            lag = f"{row['lag']:.2f}" if "lag" in row else "-"
            cells = f"{row['r']:.2f} | {row['amplitude']:.2f} | {row['mae_change']:.3f} | {lag}"
            print(f"| {name} | {row['clips']:.0f} | {cells} |")
    means = [float(np.mean([row[f] for row in groups.values()])) for f in ("r", "amplitude", "mae_change")]
    print(f"| mean of the groups | | {means[0]:.3f} | {means[1]:.2f} | {means[2]:.3f} | |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--portraits", type=Path, nargs="+", required=True)
    parser.add_argument("--clips", type=Path, nargs="*", default=[])
    parser.add_argument("--driver", type=Path, nargs="*", default=[])
    parser.add_argument("--frames", type=int, default=24)
    args = parser.parse_args()
    avatars = [pipeline.generate(path, polish=0, bust=False, scene=False) for path in args.portraits]
    with tempfile.TemporaryDirectory() as folder:
        clips = list(args.clips)
        for portrait in args.driver:
            clips.append(Path(folder) / f"{portrait.stem}.mp4")
            write_driver(pipeline.generate(portrait, polish=0, bust=False, scene=False), clips[-1])
        results = []
        for number, clip in enumerate(clips):
            results.append(measure(clip, avatars[number % len(avatars)], args.frames))
            wink = results[-1].get(WINK, {}).get("r", float("nan"))
            print(
                f"{clip.stem}: blink r {results[-1].get('blink', {}).get('r', float('nan')):.2f}, wink r {wink:.2f}",
                flush=True,
            )
    print_table(results)


if __name__ == "__main__":
    main()
