# PYTHON_ARGCOMPLETE_OK
"""The command ``bisieve``, also as ``python -m bisieve``; it imports all others where Ctrl-C is caught."""

import sys


def run() -> int:
    """Run the command line and return its exit code; Ctrl-C while it is imported ends with one line, too."""
    try:
        from bisieve.cli.main import main
    except KeyboardInterrupt:
        print("bisieve: interrupted; nothing half-written was made visible", file=sys.stderr)
        return 130
    return main()


if __name__ == "__main__":
    sys.exit(run())
