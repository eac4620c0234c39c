"""What a scan must know beside the split."""

from dataclasses import dataclass, field

from bisieve.reading import Reading


@dataclass(frozen=True)
class ScanOptions:
    """The parameters that decide what a record becomes."""

    alpha: float  # of the score, paper §4
    threshold: float = 0.0  # a step is positive when its score exceeds it
    reading: Reading = field(default_factory=Reading)
