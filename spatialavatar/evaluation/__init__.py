"""Evaluation of avatars: metrics, data sets, protocols, and the ``bench`` command that runs them.

docs/guide/measure.md shows the command; docs/reference/evaluation.md defines protocols and metrics.
"""
