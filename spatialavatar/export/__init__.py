"""Avatars as files for other programs."""

from spatialavatar.export.frames import held_pose
from spatialavatar.export.glb import save_glb
from spatialavatar.export.html import save_html
from spatialavatar.export.lam import save_lam_zip
from spatialavatar.export.ply import save_ply
from spatialavatar.export.splat import save_splat
from spatialavatar.export.spz import save_spz

__all__ = ["held_pose", "save_glb", "save_html", "save_lam_zip", "save_ply", "save_splat", "save_spz"]
