"""Shards, which are files of records: listing, splits, layouts, sequential reads and reads by span."""
