"""A person without a photo, for synthetic heads."""

from __future__ import annotations

import numpy as np

from spatialavatar.synthetic.anatomy import anatomy
from spatialavatar.synthetic.people import Person


def plain_person() -> Person:
    """Somebody of the mean shape and of one colour."""
    facts = anatomy()
    tone = np.array([0.7, 0.5, 0.4])
    albedo = np.broadcast_to(tone, (len(facts.surface), 3)).astype(np.float32)
    return Person("plain", np.zeros(facts.mesh.model.shape_count, np.float32), albedo, tone)
