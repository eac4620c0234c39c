"""The public API: score a corpus, open its index, select from it, compare and check.

    score(inputs, url) ──▶ Index ──select(fraction)──▶ Selection ──write_jsonl, rollouts, to_pandas──▶ …
    open_index(url) ─────▶ Index ──rerank, compare, check_gate──▶ …

The commands call these functions. What ``bisieve`` itself does not export may change in any version.
"""
