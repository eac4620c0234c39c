"""Where something came from: shards → index → run → checkpoint or model → evaluation → pointer."""
