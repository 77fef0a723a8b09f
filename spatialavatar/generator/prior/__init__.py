"""A learned prior of whole heads, which predicts hair, sides and back that no photo shows.

A small network on a spherical map of the head (``sphere``) reads what the photos show (``observation``) and predicts
hair mask, shell height, colours relative to those of the seen hair and skin, and strand directions (``network``).
``applying`` uses them: heights are the prior of the outline's solve, colours complete what no photo shows (``colors``),
directions carry strands (``strands``, ``strand_gaussians``). ``spatialavatar.training.prior`` trains it on synthetic
heads.
"""
