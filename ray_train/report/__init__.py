"""Pages about a training run and about an evaluation, for `bisieve report`."""
