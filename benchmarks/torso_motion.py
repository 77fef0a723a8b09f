"""How far the bust of an avatar is from the torso in the frames of a clip, and how much a better motion could gain.

    python benchmarks/torso_motion.py CLIP...    # prints markdown

The avatar is made from a clip's first frame and follows its tracked head. In every tenth frame, rendered clothes are
compared with those of the frame, as they are and after the rigid motion in the picture that fits them best.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import cv2
import numpy as np
import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT)]

from benchmarks.report import table  # noqa: E402
from spatialavatar.avatar import NECK_SHARE  # noqa: E402
from spatialavatar.pipeline import default_model  # noqa: E402
from spatialavatar.records import CLOTHES, Track  # noqa: E402
from spatialavatar.tracking import track_video  # noqa: E402

STRIDE, FRAMES = 10, 62
MIN_PIXELS = 500  # pixels of clothes


def psnr(first: np.ndarray, second: np.ndarray, mask: np.ndarray) -> float:
    return float(-10.0 * np.log10(((first - second)[mask] ** 2).mean()))


def fitted(rendered: np.ndarray, frame: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, float]:
    """The rendered picture after the rigid motion that fits the frame best, and the motion of the mask's middle."""
    motion = np.eye(2, 3, dtype=np.float32)
    grey = [cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY) for picture in (frame, rendered)]
    stop = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 60, 1e-4)
    _, motion = cv2.findTransformECC(*grey, motion, cv2.MOTION_EUCLIDEAN, stop, mask.astype(np.uint8), 5)
    middle = np.argwhere(mask)[:, ::-1].mean(0)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    size = (frame.shape[1], frame.shape[0])
    moved = cv2.warpAffine(rendered, motion, size, flags=flags, borderMode=cv2.BORDER_REPLICATE)
    return moved, float(np.linalg.norm(motion[:, :2] @ middle + motion[:, 2] - middle))


def measure(track: Track) -> np.ndarray:
    """(F, 3) for each compared frame: PSNR as it is and after the motion, dB, and the motion, pixels."""
    avatar = default_model().generate(track[0:1], polish=0)
    pictures, rows = track.require_pictures(), []
    params = avatar.with_torso(track.params, NECK_SHARE)
    segments = pictures.require_segments()
    for index in range(0, len(track), STRIDE):
        image, alpha = avatar.render(params[index], track.camera)
        rendered, frame = image.numpy(), pictures.images[index].numpy().astype(np.float32) / 255.0
        clothes = (segments[index] == CLOTHES) & (pictures.mattes[index] > 200) & (alpha > 0.9)
        mask = cv2.erode(clothes.numpy().astype(np.uint8), np.ones((9, 9), np.uint8)) > 0
        if mask.sum() < MIN_PIXELS:
            continue
        try:
            moved, motion = fitted(rendered, frame, mask)
        except cv2.error:  # no motion was found
            continue
        rows.append((psnr(rendered, frame, mask), psnr(moved, frame, mask), motion))
    return np.array(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", type=Path, nargs="+")
    rows = []
    for clip in parser.parse_args().clips:
        track = track_video(clip, default_model().head, with_images=True, max_frames=FRAMES)
        with torch.inference_mode():
            first, *others = measure(track)
        means = np.mean(others, 0)
        cells = [first[0], means[0], means[1], np.median(np.array(others)[:, 2])]
        rows.append([clip.stem, *(f"{value:.1f}" for value in cells)])
    header = ["clip", "its photo, dB", "other frames, dB", "moved to fit, dB", "motion, median, px of 512"]
    print(table(header, rows))


if __name__ == "__main__":
    main()
