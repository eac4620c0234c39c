"""A truly Monte-Carlo-annotated corpus: handwritten digits, a fallible solver, K sampled continuations.

The way of the data: ``digits`` (real images) → ``pictures`` (what a question shows) → ``questions`` →
``solver`` (attempts with mistakes and mends) → ``annotation`` (MC scores) → ``records`` → ``shards``;
``benchmark`` takes the solver's true step labels instead, on digits that the shards never show.
"""
