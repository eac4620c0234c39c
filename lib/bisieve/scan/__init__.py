"""A split of a shard in, Arrow batches out; no engine is known here."""
