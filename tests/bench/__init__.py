"""The benchmark of scoring: `scoring.toml` says what is compared and what has to hold; `run.py` does it."""
