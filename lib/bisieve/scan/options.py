"""What a scan must know beside the split."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ScanOptions:
    """The parameters that decide what a record becomes."""

    alpha: float  # of the score, paper §4
    threshold: float = 0.0  # a step is positive when its score exceeds it
    source_field: str | None = None  # None: the source is the shard's file stem
