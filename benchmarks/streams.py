"""From a motion packet to a rendered picture: the time a live drive by UDP takes, and what the packets cost to read.

PYTHONPATH=. python benchmarks/streams.py me.safetensors

A sender in a process of its own plays an example motion at 30 frames a second over the loop-back. The time is taken
from the arrival of a frame's last packet to the picture in memory.
"""

import argparse
import multiprocessing
import time
from pathlib import Path

import numpy as np

from spatialavatar.avatar import Avatar
from spatialavatar.driving import DriveConfig, drive_frames
from spatialavatar.live import StreamPoses
from spatialavatar.motion import load_motion
from spatialavatar.streams import SCHEMES, MotionReceiver, MotionSender, StreamAddress, file_frames
from tests.support.ports import free_port

TAKE = Path("examples/motions/expressions.json")
RATE = 30.0
FRAMES = 80


def play(address: StreamAddress) -> None:
    frames = list(file_frames(load_motion(TAKE)))
    start = time.perf_counter()
    with MotionSender(address) as sender:
        for index in range(10 * FRAMES):
            time.sleep(max(0.0, start + index / RATE - time.perf_counter()))
            sender.send(frames[index % len(frames)])


def reading(kind: str) -> float:
    """Milliseconds to decode a frame."""
    protocol, frame = SCHEMES[kind], next(file_frames(load_motion(TAKE)))
    packets, decoder = protocol.encode(frame, 0.0), protocol.decoder()
    start = time.perf_counter()
    for _ in range(200):
        for packet in packets:
            decoder.decode(packet)
    return 1000 * (time.perf_counter() - start) / 200


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("avatar", type=Path)
    avatar = Avatar.load(parser.parse_args().avatar)
    config = DriveConfig()
    print("| protocol | packets, bytes a frame | read, ms | packet to picture, ms: median | 95 % | CPU, ms |")
    print("|---|---|---:|---:|---:|---:|")
    for kind in SCHEMES:
        address = StreamAddress(kind, "127.0.0.1", free_port())
        poses = StreamPoses(avatar.head, address.protocol.from_camera)
        times: list[float] = []
        busy = 0.0
        sender = multiprocessing.get_context("spawn").Process(target=play, args=(address,), daemon=True)
        with MotionReceiver(address) as receiver:
            sender.start()
            for arrival in receiver.arrivals(1.0):
                if arrival is None:
                    continue
                begun = time.thread_time()
                next(drive_frames(avatar, poses.track(arrival.frame, arrival.at), config))
                busy += time.thread_time() - begun
                times.append(1000 * (time.perf_counter() - arrival.at))
                if len(times) == FRAMES:
                    break
        sender.kill()
        sender.join()
        packets = address.protocol.encode(next(file_frames(load_motion(TAKE))), 0.0)
        warm = np.array(times[10:])
        size = f"{len(packets)}, {sum(map(len, packets))}"
        print(
            f"| {address.protocol.title} | {size} | {reading(kind):.2f} | {np.median(warm):.0f} | "
            f"{np.percentile(warm, 95):.0f} | {1000 * busy / FRAMES:.0f} |"
        )


if __name__ == "__main__":
    main()
