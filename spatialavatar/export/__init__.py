"""Avatars as files for other programs."""

from spatialavatar.export.html import save_html
from spatialavatar.export.ply import save_ply

__all__ = ["save_html", "save_ply"]
