"""All contact with stores: listing, complete reads, atomic writes, retries, locks and images."""
