"""Measuring avatars: metrics, data sets, protocols, and the ``bench`` command that runs them.

docs/guide/measure.md says how to run it and what every figure means.
"""
