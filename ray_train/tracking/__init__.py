"""Trackers, which receive the metrics of a run: one module each, chosen with ``--track``."""
