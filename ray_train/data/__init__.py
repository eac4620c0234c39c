"""From a selection to batches: which rollouts, in which order, as what tensors."""
