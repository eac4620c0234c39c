# PYTHON_ARGCOMPLETE_OK
"""``python -m bisieve``: the same as the command ``bisieve``."""

import sys

from bisieve.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
