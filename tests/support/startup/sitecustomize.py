"""On PYTHONPATH of all that the tests start: Ray's daemons and workers, too, import for a second and more."""

import atexit
import gc

gc.set_threshold(100_000, 20, 20)  # as `bisieve.cli.process` does for commands
atexit.register(gc.freeze)
