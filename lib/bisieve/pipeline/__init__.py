"""Shards to index: what every engine does, said once.

``engine`` is what is asked of an engine; there are two, `bisieve.local.engine` and `bisieve.spark.engine`.
"""
