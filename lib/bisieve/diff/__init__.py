"""Two cuts compared: which rollouts both have, which entered, which left, and why.

    index A ─┐ by source: rows ──▶ partners ──▶ reasons ──▶ counts, examples, rows
    index B ─┘

One source is in memory at a time, about 200 bytes of each of its rollouts.
"""
