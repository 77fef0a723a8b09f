"""``python -m spatialavatar``."""

import sys

from spatialavatar.cli import main

if __name__ == "__main__":
    sys.exit(main())
