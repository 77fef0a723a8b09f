"""The bust: the torso of one photo as Gaussians that move with the root joint."""

from spatialavatar.generator.bust.build import with_bust

__all__ = ["with_bust"]
