"""The commands ``bisieve train``, ``evaluate``, ``submit``, ``promote`` and ``lineage``, one per module."""
