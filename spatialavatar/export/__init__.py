"""Avatars as files for other programs."""

from spatialavatar.export.ply import save_ply

__all__ = ["save_ply"]
