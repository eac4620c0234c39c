"""Generate a corpus with real Monte-Carlo annotation: digit images, a fallible solver, K continuations.

pictures (of handwritten digits) ─▶ tasks, solver.ask (questions) ─▶ annotation.attempt (rollouts)
    ├─▶ annotation.annotate (MC scores) ─▶ shard_files (records, shards)      the corpus
    └─▶ held_out (true step labels), on digits that no shard shows            benchmark and candidates

`corpus.write_corpus` runs it all.
"""
