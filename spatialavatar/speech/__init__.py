"""Speech to motion: convert a sound file or a stream of sound to ARKit weights of the lips and the jaw.

:class:`SpeechDriver` takes sound as it arrives; :func:`speech_motion` takes a file. docs/guide/speech.md is the guide.
"""

from spatialavatar.speech.conversation import Conversation
from spatialavatar.speech.driver import LATENCY, LipListener, SpeechDriver, SpeechListener
from spatialavatar.speech.features import SAMPLE_RATE
from spatialavatar.speech.listeners import load_listener
from spatialavatar.speech.liveliness import Liveliness
from spatialavatar.speech.motion import SpeechStream, phoneme_motion, speech_motion, utterance_motion
from spatialavatar.speech.network import Heard
from spatialavatar.speech.performer import FaceFrames, SpeechPerformer, idle_motion, motion_of
from spatialavatar.speech.prosody import Prosody
from spatialavatar.speech.visemes import VISEME_RATE, VISEMES, Phoneme

__all__ = [
    "LATENCY",
    "SAMPLE_RATE",
    "VISEMES",
    "VISEME_RATE",
    "Conversation",
    "FaceFrames",
    "Heard",
    "LipListener",
    "Liveliness",
    "Phoneme",
    "Prosody",
    "SpeechDriver",
    "SpeechListener",
    "SpeechPerformer",
    "SpeechStream",
    "idle_motion",
    "load_listener",
    "motion_of",
    "phoneme_motion",
    "speech_motion",
    "utterance_motion",
]
