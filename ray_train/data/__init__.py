"""From a cut to batches: which rollouts, in which order, as what tensors."""
