"""Synthetic heads with skin, strand hair, clothes and light, and ground truth on all sides, made from a seed."""

from __future__ import annotations

from spatialavatar.synthetic.heads import SynthesisConfig, SyntheticHead, synthesize
from spatialavatar.synthetic.people import Person, example_people, read_people
from spatialavatar.synthetic.truth import SurfaceTruth, measure_truth
from spatialavatar.synthetic.views import View, phone_camera, render_view

__all__ = [
    "Person",
    "SurfaceTruth",
    "SynthesisConfig",
    "SyntheticHead",
    "View",
    "example_people",
    "measure_truth",
    "phone_camera",
    "read_people",
    "render_view",
    "synthesize",
]
