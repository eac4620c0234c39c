"""A training run: driver, workers, and what keeps them in step."""
