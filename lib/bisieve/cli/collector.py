"""Let Python's garbage collector run seldom in the process of a command."""

import atexit
import gc

_THRESHOLDS = (100_000, 20, 20)  # Python's own: 700 (2,000 from 3.12 on), 10, 10


def collect_seldom() -> None:
    """Collect garbage less often in this process, and none at its end.

    What is imported is no garbage: half a million objects of torch, transformers and Ray, which the collector
    would look through again and again while they are made, and twice when the process ends: of the 5 seconds
    of a core that imports and end of a training take, 1.5.
    """
    gc.set_threshold(*_THRESHOLDS)
    atexit.register(gc.freeze)  # at its end Python collects what is not frozen
