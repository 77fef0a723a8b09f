"""Stage 1: photos to Gaussians."""

from spatialavatar.generator.base import BaseResult, build_base
from spatialavatar.generator.config import BaseConfig, GeneratorConfig
from spatialavatar.generator.model import SpatialAvatar

__all__ = ["BaseConfig", "BaseResult", "GeneratorConfig", "SpatialAvatar", "build_base"]
