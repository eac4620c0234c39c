"""The scoring pipeline, from shards to a published index, independent of the engine that runs it.

``engine`` defines the interface of an engine; `bisieve.local.engine` and `bisieve.spark.engine` implement it.

run.score_corpus      list shards ──▶ scan_tasks.scan_corpus ──▶ ranked_files.write_ranked ──▶ publish
rank.rank_index       an existing index ──▶ ranked_files.write_ranked ──▶ publish; reads no shard
rank.select_on        an existing index ──▶ ranked_files.ranked_parts ──▶ the best rollouts; writes nothing
"""
