"""The benchmark of a training step: three ways to put the same rollouts through the same model."""
