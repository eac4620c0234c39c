"""Turn a selection into batches: sampling order, fetching, images, labels, tokenization and packing."""
