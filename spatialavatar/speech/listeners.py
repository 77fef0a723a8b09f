"""The speech networks, by the file or folder that the user gives."""

from __future__ import annotations

from pathlib import Path

from spatialavatar.speech.driver import LipListener, SpeechListener


def load_listener(path: str | Path | None = None) -> SpeechListener:
    """Load a speech network.

    Args:
        path: None for the network that ships, an ``.onnx`` file for LAM-A2E, or a folder of NVIDIA Audio2Face-3D;
            docs/guide/speech.md gives the links.

    Raises:
        MissingAssetError: a file is missing.
        FormatError: it is a different network, or damaged.
    """
    if path is None:
        return LipListener()
    path = Path(path)
    if path.is_dir():
        from spatialavatar.speech.audio2face import Audio2FaceListener

        return Audio2FaceListener(path)
    from spatialavatar.speech.lam import LamListener

    return LamListener(path)
