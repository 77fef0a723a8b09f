"""Speech to motion: what a sound file or a stream of sound says becomes ARKit weights of the lips and the jaw.

:class:`SpeechDriver` takes sound as it arrives; :func:`speech_motion` takes a file. docs/guide/speech.md is the guide.
"""

from spatialavatar.speech.driver import LATENCY, LipListener, SpeechDriver, SpeechListener
from spatialavatar.speech.features import SAMPLE_RATE
from spatialavatar.speech.motion import SpeechStream, motion_of, phoneme_motion, speech_motion
from spatialavatar.speech.network import Heard
from spatialavatar.speech.visemes import VISEME_RATE, VISEMES, Phoneme

__all__ = [
    "LATENCY",
    "SAMPLE_RATE",
    "VISEMES",
    "VISEME_RATE",
    "Heard",
    "LipListener",
    "Phoneme",
    "SpeechDriver",
    "SpeechListener",
    "SpeechStream",
    "motion_of",
    "phoneme_motion",
    "speech_motion",
]
