"""Pages about a training run, an evaluation and a sweep, for `bisieve report`."""
