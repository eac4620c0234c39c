"""All contact with stores: listings, reads that end whole, writes, retries, locks, images."""
