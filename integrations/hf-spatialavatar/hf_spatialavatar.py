"""SpatialAvatar as an extension of the ``hf`` command."""

from __future__ import annotations

import sys


def main() -> int:
    """Run the command line of SpatialAvatar; the exit code."""
    from spatialavatar.cli import main as run

    return run(sys.argv[1:])


if __name__ == "__main__":
    raise SystemExit(main())
