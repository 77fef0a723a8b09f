"""Runs the app as on ZeroGPU, with a simulated scheduler; prints the results as JSON.

The module ``spaces`` is the real one: it forks, pickles, schedules and releases. Simulated are the scheduler's four
addresses and, since there is no CUDA here, its calls of torch at the start of a worker. test_zero_gpu.py runs it in a
separate process, because ``spaces`` reads the environment at import.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlparse

LOG: list[tuple[str, dict[str, str], float]] = []


class Scheduler(BaseHTTPRequestHandler):
    """Grants every request for a GPU."""

    def do_POST(self) -> None:
        """Record the request and grant it."""
        address = urlparse(self.path)
        LOG.append((address.path, {k: v[0] for k, v in parse_qs(address.query).items()}, time.monotonic()))
        grant = {"idle": False, "nvidiaIndex": 0, "nvidiaUUID": "GPU-0", "allowToken": f"token-{len(LOG)}"}
        body = json.dumps(grant if address.path == "/schedule" else {}).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Write no log."""


def pretend_zero_gpu(folder: Path) -> None:
    """Start the scheduler and patch ``spaces`` and torch to use it."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Scheduler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    (folder / "cgroup").write_text("0::/x\n")
    os.environ |= {
        "SPACES_ZERO_GPU": "true",
        "SPACES_ZERO_DEVICE_API_URL": f"http://127.0.0.1:{server.server_port}",
        "ZEROGPU_PROC_SELF_CGROUP_PATH": str(folder / "cgroup"),
        "ZEROGPU_OFFLOAD_DIR": str(folder / "tensors"),
        "GRADIO_TEMP_DIR": str(folder / "cache"),
        "GRADIO_ANALYTICS_ENABLED": "False",
    }
    import torch

    torch.version.cuda = "12.8"
    torch._C._cuda_init = lambda: None
    torch.cuda._is_in_bad_fork = in_bad_fork
    import spaces  # noqa: F401
    from spaces.zero import wrappers

    wrappers.torch.init = lambda uuid: None
    wrappers.torch.move = lambda callback=None: None


def in_bad_fork() -> bool:
    """Torch's answer before CUDA has run; a module function, because another process imports it by name."""
    return False


def seconds_requested() -> float:
    """Seconds that the last work requested from the scheduler."""
    return float([values["durationSeconds"] for path, values, _ in LOG if path == "/schedule"][-1])


def wait_for_release(since: float) -> float:
    """Seconds from ``since`` until the last grant is given back."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if LOG[-1][0] == "/release":
            return LOG[-1][2] - since
        time.sleep(0.01)
    raise TimeoutError("the GPU was never given back")


def main(folder: Path, avatar: str, short: str, long: str) -> dict[str, Any]:
    """Drive the avatar by a short motion over the app, fail once, and stop once in a long motion."""
    pretend_zero_gpu(folder)
    import gradio as gr
    from gradio_client import Client, handle_file

    from spatialavatar.app import backend
    from spatialavatar.app.api import launch_arguments
    from spatialavatar.app.page import build_demo

    backend.load_models()
    demo = build_demo()
    _, url, _ = demo.launch(prevent_thread_lock=True, quiet=True, **launch_arguments())
    client = Client(url, verbose=False, download_files=str(folder / "downloads"))

    job = client.submit(
        avatar=handle_file(avatar), consent=True, motion=handle_file(short), size=256, api_name="/drive"
    )
    messages = set()
    while not job.done():
        messages |= {unit.desc for unit in job.status().progress_data or []}
        time.sleep(0.01)
    video, facts = job.result()
    result: dict[str, Any] = {
        "messages": sorted(str(text) for text in messages),
        "frames": facts["frames"],
        "bytes": Path(video).stat().st_size,
        "seconds_short": seconds_requested(),
        "main": os.getpid(),
        "workers": [int(values["pid"]) for path, values, _ in LOG if path == "/allow"],
        "where": client.predict(api_name="/info")["where"],
    }
    wait_for_release(0.0)

    request = backend.DriveRequest(avatar, short, str(folder), size=256)
    try:
        list(backend.render_steps(request, str(folder / "none.safetensors"), None, 5, 0.0))
    except gr.Error as error:
        result["error"] = error.message
    wait_for_release(0.0)

    steps = backend.drive_steps(backend.DriveRequest(avatar, long, str(folder), size=256))
    for step in steps:
        if step.message.startswith("Rendering frame"):
            break
    result |= {"seconds_long": seconds_requested(), "stopped_at": step.message}
    stopped = time.monotonic()
    steps.close()
    result |= {"freed_after": wait_for_release(stopped), "left": sorted(p.name for p in folder.glob("*driven*"))}
    client.close()
    demo.close()
    return result


if __name__ == "__main__":
    print("RESULT " + json.dumps(main(Path(sys.argv[1]), *sys.argv[2:])), flush=True)
    for worker in multiprocessing.active_children():  # they would keep this process's output open
        worker.kill()
    os._exit(0)
