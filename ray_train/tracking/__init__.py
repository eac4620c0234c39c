"""Where the curves of a run go: a file for each tracker, chosen with ``--track``."""
