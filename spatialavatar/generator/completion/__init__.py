"""Colours of every texel from those that the photos show.

``complete`` runs the steps in order: ``mirror_fill`` (the other half of the head), ``smooth_fill`` (its neighbours),
``eyes`` and ``mouth`` (anatomy). A step takes colours and how well they are known, and returns both, so that another
source of colours, such as a learned one, is one more step.
"""
