"""Checkpoints from which any number of workers can resume a run, and the claim on its output folder."""
