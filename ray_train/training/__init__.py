"""A training run: the driver, the workers and the training loop of each rank."""
